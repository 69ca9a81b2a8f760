//! Sets fields from optional settings.

use std::time::Duration;

use super::{Invalid, Size, Span};

/// Sets a duration.
pub fn set(target: &mut Duration, value: Option<Span>) {
    if let Some(Span(value)) = value {
        *target = value;
    }
}

/// Sets a number.
///
/// # Errors
/// If it is zero.
pub fn set_count<T: From<u8> + PartialEq>(
    key: &str,
    target: &mut T,
    value: Option<T>,
) -> Result<(), Invalid> {
    match value {
        Some(value) if value == T::from(0) => return Err(Invalid::new(key, "0", "use at least 1")),
        Some(value) => *target = value,
        None => {}
    }
    Ok(())
}

/// Sets a number of bytes.
///
/// # Errors
/// If it is zero.
pub fn set_size(key: &str, target: &mut usize, value: Option<Size>) -> Result<(), Invalid> {
    set_count(key, target, value.map(|Size(bytes)| usize::try_from(bytes).unwrap_or(usize::MAX)))
}
