//! Session, user and app, from what the app's requests say.

use serde_json::Value;

use crate::attribution::{Attribution, User};
use crate::exchange::Start;

/// Reads the `x-threadtap-*` headers. The user is an id, or a JSON object with Reconify's user fields.
pub(super) fn of_request(start: &Start) -> Attribution {
    let header = |name| {
        let value = start.request_header(name).map(str::trim);
        value.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE_BYTES)
    };
    Attribution {
        session: header("x-threadtap-session").map(str::to_owned),
        session_timeout_minutes: header("x-threadtap-session-timeout")
            .and_then(|minutes| minutes.parse().ok()),
        user: header("x-threadtap-user").map(user),
        app: header("x-threadtap-app").map(str::to_owned),
    }
}

fn user(text: &str) -> User {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => User(fields),
        _ => User::from_id(text),
    }
}

/// More than any user object needs; keeps a hostile header out of every record.
const MAX_VALUE_BYTES: usize = 4096;
