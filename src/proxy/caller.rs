//! Tells callers apart without knowing who they are, by a keyed hash of the credential in a
//! request.
//!
//! Only the hash leaves this module. Without the key, nobody can compare it with the hash of a
//! guessed credential.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use threadtap_http::head::Fields;

/// The key of the hash.
#[derive(Clone)]
pub struct CallerKey(Hmac<Sha256>);

impl CallerKey {
    /// Creates a key from a secret of any length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// Names the sender of these lines: 16 hex digits, the same for the same credential. Returns
    /// `None` without a credential.
    pub(super) fn caller(&self, fields: &Fields) -> Option<String> {
        let credential = CREDENTIALS.iter().find_map(|name| fields.get(name))?;
        let hash = self.0.clone().chain_update(credential).finalize().into_bytes();
        Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKey")
    }
}

/// The headers that carry credentials, in order of precedence.
const CREDENTIALS: [&str; 4] = ["authorization", "api-key", "x-api-key", "ocp-apim-subscription-key"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_named_by_the_hmac_of_rfc_4231() {
        let mut fields = Fields::default();
        fields.push("api-key", "what do ya want for nothing?");
        // Test case 2 of the RFC, the first eight bytes.
        assert_eq!(CallerKey::new(b"Jefe").caller(&fields).unwrap(), "5bdcc146bf60754e");
    }

    #[test]
    fn a_caller_is_known_by_its_credential_and_nothing_of_that_is_shown() {
        let key = CallerKey::new(b"secret");
        let headers = |name: &'static str, value: &'static str| {
            let mut fields = Fields::default();
            fields.push(name, value);
            fields
        };
        let a = key.caller(&headers("authorization", "Bearer sk-a")).unwrap();
        assert_eq!(a, key.caller(&headers("authorization", "Bearer sk-a")).unwrap());
        assert_ne!(a, key.caller(&headers("authorization", "Bearer sk-b")).unwrap());
        assert_ne!(a, CallerKey::new(b"other").caller(&headers("authorization", "Bearer sk-a")).unwrap());
        assert_ne!(key.caller(&headers("api-key", "k")), None);
        assert_eq!(key.caller(&Fields::default()), None);
        assert_eq!((a.len(), format!("{key:?}")), (16, "CallerKey".to_owned()));
    }
}
