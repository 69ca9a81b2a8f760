//! Durations and sizes as text, such as `30s` and `64MiB`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A duration: a whole number and a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes: a whole number, with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Span {
    /// Parses it. None if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return None,
        };
        number.checked_mul(millis).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl Size {
    /// Parses it. None if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes).map(Self)
    }
}

/// A number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            parse: Self::parse,
            expected: "a duration such as \"250ms\", \"30s\", \"10m\", \"24h\" or \"7d\"",
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text {
            parse: Self::parse,
            expected: "a size such as \"512B\", \"16KiB\", \"64MiB\" or \"2GiB\"",
        })
    }
}

/// Parses a string with a unit.
struct Text<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(Span::parse(text), millis.map(|millis| Span(Duration::from_millis(millis))), "{text}");
        };
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("10 m", Some(600_000));
        check("24h", Some(86_400_000));
        check("7d", Some(604_800_000));
        for odd in
            ["", "5", "s", "-1s", "1.5s", "5 parsecs", "99999999999999999999s", "18446744073709551615d"]
        {
            check(odd, None);
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(Size::parse("512"), Some(Size(512)));
        assert_eq!(Size::parse("16KiB"), Some(Size(16 << 10)));
        assert_eq!(Size::parse("2 GiB"), Some(Size(2 << 30)));
        for odd in ["", "1MB", "x", "-1", "99999999999GiB"] {
            assert_eq!(Size::parse(odd), None, "{odd}");
        }
    }
}
