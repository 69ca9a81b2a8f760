//! Audio output of a choice. The transcript is kept, and a description of the sound.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::room::Room;
use crate::dialect::inline;
use crate::dialect::object::Object;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Audio {
    id: Option<String>,
    transcript: String,
    expires_at: Option<u64>,
    hash: Sha256,
    characters: usize,
    /// The description of its data, if a description arrived instead of data.
    described: Option<String>,
}

impl Audio {
    /// Adds a piece of it.
    pub(super) fn push(&mut self, piece: &Object<'_>, room: &mut Room) {
        if let Some(id) = piece.text("id").filter(|id| self.id.is_none() && room.take(id.len())) {
            self.id = Some(id.into_owned());
        }
        self.expires_at = piece.count("expires_at").or(self.expires_at);
        room.append(&mut self.transcript, &piece.text("transcript").unwrap_or_default());
        let data = piece.text("data").unwrap_or_default();
        if inline::is_description(&data) {
            self.described = Some(data.into_owned());
            return;
        }
        self.hash.update(data.as_bytes());
        self.characters += data.len();
    }

    /// The transcript.
    pub(super) fn transcript(&self) -> &str {
        &self.transcript
    }

    /// The audio in the API's form, with a description in place of its data, as [`inline`] makes
    /// them.
    pub(super) fn to_json(&self) -> Value {
        let digest = self.hash.clone().finalize();
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let own = || format!("[{} characters, sha256 {hash}]", self.characters);
        let data = self.described.clone().unwrap_or_else(own);
        json!({"id": self.id, "data": data, "transcript": self.transcript, "expires_at": self.expires_at})
    }
}
