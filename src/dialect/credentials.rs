//! Credentials that stand in bodies: by which names of members they are known, and what is kept in their place.
//!
//! Nothing is guessed from values, and nothing is looked for in texts: a prompt, an output of a model and the arguments of a call are
//! kept as they are, whatever was typed into them. [`MASK`] takes the place of
//!
//! - every text or number under a name of [`MEMBERS`], in any spelling of case, `_` and `-`;
//! - every text within an object under a name of [`OBJECTS`], except its `type`;
//! - headers within an object under a name of [`HEADERS`] whose names say that they carry a credential;
//! - in a text that is a URL, under a name of a URL: the password, and values under a name of [`PARAMETERS`].
//!
//! What a JSON schema describes (below `properties`) is an object and no credential. The configuration can add names of members and
//! parameters.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;

/// Takes the place of a credential.
pub(super) const MASK: &str = "[masked]";

/// Which names are those of credentials.
#[derive(Clone)]
pub struct Credentials {
    /// Names the configuration adds, in their plain form.
    added: Arc<[String]>,
    /// Finds what stands wherever a credential does.
    signs: Arc<AhoCorasick>,
}

/// What a member's name says of its value.
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
    /// The known names, and others.
    #[must_use]
    pub fn with(names: &[String]) -> Self {
        let signs = SIGNS.iter().map(|sign| (*sign).to_owned());
        let added_signs = names.iter().flat_map(|name| [format!("{name}\""), format!("{name}=")]);
        let signs = AhoCorasick::builder().ascii_case_insensitive(true).build(signs.chain(added_signs));
        let added = names.iter().map(|name| plain_form(name)).collect();
        Self { added, signs: Arc::new(signs.expect("a few short texts")) }
    }

    /// Whether a JSON text may hold a credential. False is certain, as long as names are written without escapes.
    pub(super) fn may_stand_in(&self, json: &str) -> bool {
        self.signs.is_match(json)
    }

    /// What a name says of the value it stands for.
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

    /// A URL without what signs it. None where nothing does, or it is no URL.
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

/// Whether a header carries a credential, by its name.
pub(super) fn is_credential_header(name: &str) -> bool {
    let name = plain_form(name);
    ["auth", "cookie", "credential", "key", "password", "secret", "session", "signature", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// A name in lower case, without what joins its words.
fn plain_form(name: &str) -> String {
    name.chars()
        .filter(|letter| !"_- .".contains(*letter))
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

/// Longer than any of the names.
const LONGEST_NAME: usize = 64;

/// Members that hold a credential, in their plain form.
const MEMBERS: [&str; 43] = [
    // Headers that SDKs take from the body: `extra_headers` of OpenAI's, `headers` of MCP tools, and the tool's own `authorization`
    // (https://platform.openai.com/docs/guides/tools-connectors-mcp).
    "authorization",
    "cookie",
    "ocpapimsubscriptionkey",
    "proxyauthorization",
    "setcookie",
    "subscriptionkey",
    "xapikey",
    "xgoogapikey",
    // LiteLLM's parameters of a provider (https://docs.litellm.ai/docs/completion/input, docs/providers/bedrock, azure, vertex).
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
    // Azure OpenAI On Your Data (https://learn.microsoft.com/azure/ai-services/openai/references/on-your-data), and Azure Storage.
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
    // What everybody writes.
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
    // `data_sources[].parameters.authentication` of Azure On Your Data: `key`, `key_id`, `username`, …
    "authentication",
    "auth",
    // Vaults and MCP servers of agents' APIs.
    "credential",
    "credentials",
    "secrets",
    // Google's service accounts, given as an object.
    "serviceaccount",
];
/// Members whose objects are headers.
const HEADERS: [&str; 5] = ["additionalheaders", "defaultheaders", "extraheaders", "headers", "httpheaders"];
/// The ends of names of members that hold a URL.
const URLS: [&str; 6] = ["endpoint", "href", "link", "uri", "url", "urls"];
/// Parameters of a URL's query that sign it.
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
    // Everybody else.
    "auth",
    "jwt",
    "secret",
    "token",
];
/// One of these stands in every text in which there is a credential by the names above.
const SIGNS: [&str; 34] = [
    "access_token",
    "accesstoken",
    "access-token",
    "_token\"",
    "-token\"",
    "apitoken\"",
    "authtoken\"",
    "bearertoken\"",
    "idtoken\"",
    "refreshtoken\"",
    "sastoken\"",
    "securitytoken\"",
    "sessiontoken\"",
    "azureadtoken\"",
    "identitytoken\"",
    "assertion\"",
    "auth\"",
    "authentication\"",
    "authorization\"",
    "cookie\"",
    "credential",
    "key\"",
    "keyid\"",
    "key_id\"",
    "key-id\"",
    "passphrase",
    "passw",
    "secret",
    "serviceaccount",
    "service_account",
    "signature",
    "string\"",
    "headers\"",
    "://",
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
    fn each_name_leaves_a_sign() {
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
        let delta = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","choices":[{"index":0,"delta":{"content":" Bern"},"logprobs":{"content":[{"token":" Bern","logprob":-0.1,"bytes":[1],"top_logprobs":[]}]},"finish_reason":null}],"usage":{"prompt_tokens":1}}"#;
        assert!(!credentials.may_stand_in(delta), "nothing of what streams are made of");
        assert!(Credentials::with(&["inner".to_owned()]).may_stand_in(r#"{"Inner":1}"#));
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
