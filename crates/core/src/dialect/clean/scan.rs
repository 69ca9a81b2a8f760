//! Finds tokens of a JSON text without parsing them.

use memchr::memchr2;

/// The text, and the current position in it.
#[derive(Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The current position.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The first byte of the next token. None at the end.
    pub(super) fn next_token(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Skips this many bytes.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Takes a token of one byte. None if the next token is a different one.
    pub(super) fn expect(&mut self, token: u8) -> Option<()> {
        if self.next_token()? != token {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Takes the separator before the next item of a list or an object, or its end. Returns whether
    /// there is another item. None if there is neither separator nor end.
    pub(super) fn goes_on(&mut self, end: u8, first: bool) -> Option<bool> {
        if self.next_token()? == end {
            self.at += 1;
            return Some(false);
        }
        if !first {
            self.expect(b',')?;
        }
        Some(true)
    }

    /// Takes a string whose quote is next. Returns the text between the quotes. None if the string
    /// does not end.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let begin = self.at + 1;
        let mut at = begin;
        loop {
            at += memchr2(b'"', b'\\', self.bytes.get(at..)?)?;
            if self.bytes[at] == b'"' {
                self.at = at + 1;
                return Some(&self.bytes[begin..at]);
            }
            // The escaped byte may be a quote.
            at += 2;
        }
    }

    /// Takes everything up to the next whitespace or token: a number or a word. Empty if it is not
    /// ASCII.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = &self.bytes[self.at..];
        let is_end = |byte: &u8| {
            matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"' | b' ' | b'\t' | b'\n' | b'\r')
        };
        let word = &rest[..rest.iter().position(is_end).unwrap_or(rest.len())];
        self.at += word.len();
        str::from_utf8(word).unwrap_or_default()
    }

    /// Skips any value. Brackets are counted but not matched. None if the value does not end.
    pub(super) fn skip_value(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.next_token()? {
                b'"' => _ = self.string()?,
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => self.at += 1,
                b',' | b':' => return None,
                _ => _ = self.word(),
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

/// Whether a word is a valid JSON number (RFC 8259 §6), of any size.
pub(super) fn is_number(word: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = word.strip_prefix('-').unwrap_or(word);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
