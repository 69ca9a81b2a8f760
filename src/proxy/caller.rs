//! Tells callers apart without knowing who they are: a keyed hash of the credential a request carries.
//!
//! Only the hash leaves this module. Without the key it cannot be compared with the hash of a guessed credential.

use std::fmt;

use sha2::{Digest, Sha256};
use threadtap_http::head::Fields;

/// The key of the hash.
#[derive(Clone)]
pub struct CallerKey([u8; BLOCK_BYTES]);

impl CallerKey {
    /// Makes a key of a secret of any length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        if secret.len() > BLOCK_BYTES {
            block[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        Self(block)
    }

    /// Names whoever sent these lines: 16 hex digits, the same for the same credential. None without a credential.
    pub(super) fn caller(&self, fields: &Fields) -> Option<String> {
        let credential = CREDENTIALS.iter().find_map(|name| fields.get(name))?;
        let hash = self.hmac(credential);
        Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// HMAC-SHA256 (RFC 2104).
    fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let padded = |pad: u8| self.0.map(|byte| byte ^ pad);
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
        Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKey")
    }
}

const BLOCK_BYTES: usize = 64;
/// Where credentials are, in the order they count.
const CREDENTIALS: [&str; 4] = ["authorization", "api-key", "x-api-key", "ocp-apim-subscription-key"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_rfc_4231() {
        let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(CallerKey::new(b"Jefe").hmac(b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(CallerKey::new(&[0xaa; 131]).hmac(b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
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
