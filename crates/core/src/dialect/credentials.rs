//! Credentials in bodies: which member names identify them, and what is kept instead.
//!
//! Values are not guessed, and texts are not searched: a prompt, a model's output and the arguments
//! of a call are kept as they are, whatever they contain. [`MASK`] replaces
//!
//! - every text or number under a name of [`MEMBERS`], in any spelling of case, `_` and `-`;
//! - every text within an object under a name of [`OBJECTS`], except its `type`;
//! - headers within an object under a name of [`HEADERS`], if their names say that they carry a
//!   credential;
//! - in a text that is a URL, under a name of a URL: the password, and values under a name of
//!   [`PARAMETERS`].
//!
//! An object in a JSON schema (below `properties`) describes a value, so it is not a credential.
//! The configuration can add names of members and parameters.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use memchr::memchr_iter;

/// Replaces a credential.
pub(super) const MASK: &str = "[masked]";

/// The names of credentials.
#[derive(Clone)]
pub struct Credentials {
    /// Names the configuration adds, in their plain form.
    added: Arc<[String]>,
    /// All names, indexed by their last letters.
    names: Arc<Names>,
}

/// What a member's name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    Credential,
    CredentialObject,
    Headers,
    /// The members of a JSON schema.
    Properties,
    Plain,
    Url,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        let Self { added, names: _ } = self;
        *added == other.added
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("added", &self.added).finish_non_exhaustive()
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::with(&[])
    }
}

impl Credentials {
    /// The known names, and additional ones.
    #[must_use]
    pub fn with(names: &[String]) -> Self {
        let added: Arc<[String]> = names.iter().map(|name| plain_form(name)).collect();
        let whole = MEMBERS.iter().chain(&OBJECTS).chain(&HEADERS).copied();
        let whole = whole.chain(added.iter().map(String::as_str)).map(|name| (name, true));
        let names = Names::of(whole.chain(URLS.iter().map(|end| (*end, false))));
        Self { added, names: Arc::new(names) }
    }

    /// Whether a JSON text has a member that may hold a credential, judging by its name. False is
    /// certain, as long as names are written without escapes. This runs on every body and every
    /// event, so it looks at the ends of names first.
    pub(super) fn may_stand_in(&self, json: &str) -> bool {
        let json = json.as_bytes();
        memchr_iter(b':', json).any(|colon| {
            let before = match &json[..colon] {
                [.., b'"'] => &json[..colon],
                before => before.trim_ascii_end(),
            };
            match before {
                // The quote is escaped, so this is JSON within a string.
                [.., b'\\', b'"'] => false,
                [text @ .., b'"'] => self.names.has(text),
                _ => false,
            }
        })
    }

    /// What a name says about its value.
    pub(super) fn sense(&self, name: &str) -> Sense {
        if name.len() > LONGEST_NAME {
            return Sense::Plain;
        }
        let name = plain_form(name);
        let name = name.as_str();
        if MEMBERS.contains(&name) || self.added.iter().any(|added| added == name) {
            Sense::Credential
        } else if OBJECTS.contains(&name) {
            Sense::CredentialObject
        } else if HEADERS.contains(&name) {
            Sense::Headers
        } else if name == "properties" {
            Sense::Properties
        } else if URLS.iter().any(|end| name.ends_with(end)) {
            Sense::Url
        } else {
            Sense::Plain
        }
    }

    /// The URL with its secret parts masked. None if it has none, or is not a URL.
    pub(super) fn masked_url(&self, url: &str) -> Option<String> {
        let (scheme, rest) = url.split_once("://")?;
        let (rest, fragment) =
            rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let authority = match authority.rsplit_once('@') {
            None => Cow::Borrowed(authority),
            Some((user, host)) => match user.split_once(':') {
                Some((user, _)) => Cow::Owned(format!("{user}:{MASK}@{host}")),
                None => Cow::Owned(format!("{MASK}@{host}")),
            },
        };
        let mut masked = format!("{scheme}://{authority}{path}");
        for (mark, pairs) in [('?', query), ('#', fragment)] {
            if let Some(pairs) = pairs {
                masked.push(mark);
                let pairs: Vec<_> = pairs.split('&').map(|pair| self.masked_pair(pair)).collect();
                masked.push_str(&pairs.join("&"));
            }
        }
        (masked != url).then_some(masked)
    }

    fn masked_pair<'a>(&self, pair: &'a str) -> Cow<'a, str> {
        match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() && self.is_parameter(name) => {
                Cow::Owned(format!("{name}={MASK}"))
            }
            _ => Cow::Borrowed(pair),
        }
    }

    fn is_parameter(&self, name: &str) -> bool {
        name.len() <= LONGEST_NAME
            && (PARAMETERS.contains(&plain_form(name).as_str()) || self.sense(name) == Sense::Credential)
    }
}

/// Names, indexed by their last letters.
struct Names {
    /// A bit for each place that has names.
    places: [u64; PLACES / 64],
    names: Vec<Name>,
}

struct Name {
    place: usize,
    plain_form: Box<[u8]>,
    /// Whether it is a whole name, not just the end of one.
    is_whole: bool,
}

impl Names {
    /// Names in their plain form, and whether each is a whole one.
    fn of<'a>(names: impl Iterator<Item = (&'a str, bool)>) -> Self {
        let names: Vec<Name> = names
            .map(|(name, is_whole)| Name {
                place: Self::place(format!("\"{name}").as_bytes()),
                plain_form: name.as_bytes().into(),
                is_whole,
            })
            .collect();
        let mut places = [0; PLACES / 64];
        for Name { place, .. } in &names {
            places[place / 64] |= 1 << (place % 64);
        }
        Self { places, names }
    }

    /// Whether one of them is the name at the end of a text, in any spelling. The name starts after
    /// a quote.
    fn has(&self, text: &[u8]) -> bool {
        let place = Self::place(text);
        self.places[place / 64] & (1 << (place % 64)) != 0
            && self.names.iter().any(|name| name.place == place && name.ends(text))
    }

    /// The place of the last three letters of the name that a text ends with, in either case. Other
    /// bytes share the places of letters.
    fn place(text: &[u8]) -> usize {
        let of = |letters: [u8; 3]| {
            letters.iter().rev().fold(0, |place, byte| place << 5 | usize::from(byte & 31)) % PLACES
        };
        match *text {
            [.., third, second, last]
                if third.is_ascii_alphabetic()
                    & second.is_ascii_alphabetic()
                    & last.is_ascii_alphabetic() =>
            {
                of([third, second, last])
            }
            _ => {
                let mut letters = letters_from_the_end(text);
                let [last, second, third] = [(); 3].map(|()| letters.next().unwrap_or_default());
                of([third, second, last])
            }
        }
    }
}

impl Name {
    /// Whether a text ends with this name.
    fn ends(&self, text: &[u8]) -> bool {
        let mut letters = letters_from_the_end(text);
        self.plain_form.iter().rev().all(|byte| letters.next() == Some(*byte))
            && (!self.is_whole || letters.next().is_none())
    }
}

/// The letters of the [plain form](plain_form) of the name that a text ends with, from last to
/// first.
fn letters_from_the_end(text: &[u8]) -> impl Iterator<Item = u8> {
    let name = text.iter().rev().take_while(|byte| **byte != b'"');
    name.filter(|byte| !b"_- .".contains(byte)).map(u8::to_ascii_lowercase)
}

/// Whether a header carries a credential, judging by its name.
pub(super) fn is_credential_header(name: &str) -> bool {
    let name = plain_form(name);
    ["auth", "cookie", "credential", "key", "password", "secret", "session", "signature", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// A name in lower case, without the characters that join its words.
fn plain_form(name: &str) -> String {
    name.chars()
        .filter(|letter| !"_- .".contains(*letter))
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

/// Three letters of five bits each.
const PLACES: usize = 1 << 15;
/// Longer than any of the names.
const LONGEST_NAME: usize = 64;

/// Members that hold a credential, in their plain form.
const MEMBERS: [&str; 43] = [
    // Headers that SDKs take from the body: `extra_headers` of OpenAI's, `headers` of MCP tools,
    // and the tool's own `authorization`
    // (https://platform.openai.com/docs/guides/tools-connectors-mcp).
    "authorization",
    "cookie",
    "ocpapimsubscriptionkey",
    "proxyauthorization",
    "setcookie",
    "subscriptionkey",
    "xapikey",
    "xgoogapikey",
    // LiteLLM's provider parameters (https://docs.litellm.ai/docs/completion/input,
    // docs/providers/bedrock, azure, vertex).
    "apikey",
    "awsaccesskeyid",
    "awssecretaccesskey",
    "awssessiontoken",
    "awswebidentitytoken",
    "azureadtoken",
    "azurepassword",
    "clientsecret",
    "vertexcredentials",
    "vertexaicredentials",
    // AWS's own spelling, in STS documents and the SDKs' configuration.
    "accesskeyid",
    "secretaccesskey",
    "sessiontoken",
    "securitytoken",
    // Azure OpenAI On Your Data
    // (https://learn.microsoft.com/azure/ai-services/openai/references/on-your-data), and Azure
    // Storage.
    "accesstoken",
    "accountkey",
    "connectionstring",
    "encodedapikey",
    "sastoken",
    "sharedaccesskey",
    "sharedaccesssignature",
    // OAuth 2.0 (RFC 6749 §5.1, RFC 8693) and OpenID Connect.
    "bearertoken",
    "clientassertion",
    "idtoken",
    "refreshtoken",
    // Common names.
    "apisecret",
    "apitoken",
    "authtoken",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secretkey",
    "signingkey",
    "webhooksecret",
];
/// Members whose objects hold nothing but a credential and its `type`.
const OBJECTS: [&str; 6] = [
    // `data_sources[].parameters.authentication` of Azure On Your Data: `key`, `key_id`,
    // `username`, …
    "authentication",
    "auth",
    // Vaults and MCP servers of agent APIs.
    "credential",
    "credentials",
    "secrets",
    // Google's service accounts, given as an object.
    "serviceaccount",
];
/// Members whose objects are headers.
const HEADERS: [&str; 5] = ["additionalheaders", "defaultheaders", "extraheaders", "headers", "httpheaders"];
/// The last words of member names that hold a URL.
const URLS: [&str; 6] = ["endpoint", "href", "link", "uri", "url", "urls"];
/// Query parameters that sign a URL.
const PARAMETERS: [&str; 15] = [
    // Azure's shared access signatures, functions and gateways.
    "code",
    "sig",
    "subscriptionkey",
    // AWS Signature Version 4, and CloudFront.
    "awsaccesskeyid",
    "signature",
    "xamzcredential",
    "xamzsecuritytoken",
    "xamzsignature",
    // Google Cloud Storage.
    "key",
    "xgoogcredential",
    "xgoogsignature",
    // Common names.
    "auth",
    "jwt",
    "secret",
    "token",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_every_spelling() {
        let credentials = Credentials::with(&["X-Internal".to_owned()]);
        for (name, expected) in [
            ("api_key", Sense::Credential),
            ("apiKey", Sense::Credential),
            ("API-KEY", Sense::Credential),
            ("x_internal", Sense::Credential),
            ("aws_secret_access_key", Sense::Credential),
            ("authentication", Sense::CredentialObject),
            ("extra_headers", Sense::Headers),
            ("image_url", Sense::Url),
            ("serverUrl", Sense::Url),
            ("token", Sense::Plain),
            ("max_tokens", Sense::Plain),
            ("prompt_cache_key", Sense::Plain),
            ("", Sense::Plain),
        ] {
            assert_eq!(credentials.sense(name), expected, "{name}");
        }
    }

    #[test]
    fn a_first_look_passes_over_no_name() {
        let credentials = Credentials::default();
        let spellings =
            |name: &str| [format!("{{\"{name}\":\"x\"}}"), format!("{{\"{}\":\"x\"}}", name.to_uppercase())];
        for name in MEMBERS.iter().chain(&OBJECTS).chain(&HEADERS).flat_map(|name| spellings(name)) {
            assert!(credentials.may_stand_in(&name), "{name}");
        }
        for name in [
            "api_key",
            "aws_access_key_id",
            "aws_web_identity_token",
            "azure_ad_token",
            "connection_string",
            "service_account",
            "set-cookie",
            "id_token",
            "access-token",
        ] {
            assert!(credentials.may_stand_in(&format!("{{\"{name}\":\"x\"}}")), "{name}");
        }
        for (json, expected) in [
            (r#"{"api_key" :"x"}"#, true),
            (r#"{"api_key_":"x"}"#, true),
            (r#"{"a.p.i.k.e.y":"x"}"#, true),
            (r#"{"image_url":{"url":"https://h"}}"#, true),
            (r#"{"arguments":"{\"api_key\":1}"}"#, false),
            (r#"{"text":"api_key: 1"}"#, false),
            (r#"":{"#, false),
            (":", false),
            ("", false),
        ] {
            assert_eq!(credentials.may_stand_in(json), expected, "{json}");
        }
        let delta = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","choices":[{"index":0,"delta":{"content":" Bern"},"logprobs":{"content":[{"token":" Bern","logprob":-0.1,"bytes":[1],"top_logprobs":[]}]},"finish_reason":null}],"usage":{"prompt_tokens":1}}"#;
        assert!(!credentials.may_stand_in(delta), "nothing of what streams are made of");
        for (added, json) in
            [("inner", r#"{"Inner":1}"#), ("x", r#"{"aX":1,"X":1}"#), ("é", r#"{"É":1,"é":1}"#)]
        {
            assert!(Credentials::with(&[added.to_owned()]).may_stand_in(json), "{added}");
        }
    }

    #[test]
    fn what_signs_a_url_is_masked_and_nothing_else() {
        let credentials = Credentials::default();
        for (url, expected) in [
            (
                "https://x.blob.core.windows.net/c/a.png?sv=2024&se=2026&sig=ab%2Bc%3D",
                Some("https://x.blob.core.windows.net/c/a.png?sv=2024&se=2026&sig=[masked]"),
            ),
            (
                "https://s3/b/k?X-Amz-Date=1&X-Amz-Signature=ab&X-Amz-Credential=c",
                Some("https://s3/b/k?X-Amz-Date=1&X-Amz-Signature=[masked]&X-Amz-Credential=[masked]"),
            ),
            (
                "https://h/p?access_token=t#token=u&x=1",
                Some("https://h/p?access_token=[masked]#token=[masked]&x=1"),
            ),
            ("https://user:pass@h/p", Some("https://user:[masked]@h/p")),
            ("https://ghp_abc@h", Some("https://[masked]@h")),
            ("https://h/p?page=2", None),
            ("https://h/a@b?sig=", None),
            ("data:image/png;base64,AAAA", None),
            ("", None),
        ] {
            assert_eq!(credentials.masked_url(url).as_deref(), expected, "{url}");
        }
    }
}
