//! Calls of the Assistants API, which was shut down. OpenAI ended it on 2026-08-26 and has returned
//! 404 for its paths since. Azure follows. This module finds the remaining callers.

use http::StatusCode;

use crate::exchange::Start;

/// A call of an API that no longer exists, judging by its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SunsetCall {
    /// The upstream that refused it.
    pub upstream: String,
    /// The app, where it is known.
    pub app: Option<String>,
    /// The SDK's language (`x-stainless-lang`), `other` if this program does not know it, `none` if
    /// none is given.
    pub sdk: &'static str,
    /// The SDK's version (`x-stainless-package-version`) if it looks like one, else `other` or
    /// `none`.
    pub version: String,
}

impl SunsetCall {
    /// Checks a response to a request on one of the API's paths.
    pub(super) fn of(start: &Start, app: Option<String>) -> Option<Self> {
        if start.status != StatusCode::NOT_FOUND.as_u16() || !is_official(&start.upstream) {
            return None;
        }
        let sdk = match start.request_header("x-stainless-lang") {
            None => "none",
            Some(lang) => SDKS.into_iter().find(|known| *known == lang).unwrap_or("other"),
        };
        let version = match start.request_header("x-stainless-package-version") {
            None => "none",
            Some(version) if is_version(version) => version,
            Some(_) => "other",
        };
        let (upstream, version) = (start.upstream.to_string(), version.to_owned());
        Some(Self { upstream, app, sdk, version })
    }
}

/// Whether an upstream belongs to OpenAI or Azure, judging by the host at the start of its name.
fn is_official(upstream: &str) -> bool {
    let host = upstream.split([':', '/']).next().unwrap_or_default();
    HOSTS
        .iter()
        .any(|known| host == *known || host.strip_suffix(known).is_some_and(|rest| rest.ends_with('.')))
}

fn is_version(text: &str) -> bool {
    (1..=MAX_VERSION_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'))
}

const SDKS: [&str; 8] = ["csharp", "go", "java", "js", "kotlin", "php", "python", "ruby"];
const HOSTS: [&str; 5] = [
    "api.openai.com",
    "cognitiveservices.azure.com",
    "openai.azure.com",
    "openai.azure.us",
    "services.ai.azure.com",
];
const MAX_VERSION_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_a_whole() {
        for host in ["api.openai.com:443", "eu.api.openai.com:443/v1", "x.openai.azure.com:443"] {
            assert!(is_official(host), "{host}");
        }
        for host in ["api.openai.com.evil.test:443", "notapi.openai.com:443", "localhost:8080", ""] {
            assert!(!is_official(host), "{host}");
        }
    }
}
