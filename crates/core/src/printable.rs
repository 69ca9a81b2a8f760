//! Makes untrusted text safe to print on a terminal: replaces characters that are invisible or
//! control the terminal.
//!
//! Content, names and the messages of backends are untrusted. Control characters operate a
//! terminal, bidirectional controls change how text appears, and invisible characters hide parts of
//! it.

use std::borrow::Cow;

/// The text with each unprintable character replaced by U+FFFD. This includes line breaks and tabs.
/// Emoji that are joined by U+200D are split.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unprintable) {
        Cow::Owned(text.replace(is_unprintable, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a character is a control (Cc), a format character (Cf), or a line or paragraph separator
/// (Zl, Zp), by its general category in Unicode 17.0 (`extracted/DerivedGeneralCategory.txt`). This
/// includes all bidirectional controls.
#[must_use]
pub fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{00ad}' | '\u{0600}'..='\u{0605}' | '\u{061c}' | '\u{06dd}' | '\u{070f}' | '\u{0890}'..='\u{0891}'
            | '\u{08e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;

    #[test]
    fn what_drives_or_deceives_a_terminal_is_replaced_and_all_else_stays() {
        let check = |text: &str, expected: &str| assert_eq!(printable(text), expected, "{text:?}");
        check("", "");
        check("Größe: 3 × 4, 漢字, עברית, 🙂\u{fe0f}", "Größe: 3 × 4, 漢字, עברית, 🙂\u{fe0f}");
        check("a\x1b[2Jb\u{9b}0mc\x07\0\x7f", "a�[2Jb�0mc���");
        check("a\r\nb\tc\u{85}d\u{2028}e\u{2029}f", "a��b�c�d�e�f");
        // The controls from the Trojan Source paper (CVE-2021-42574), and related marks.
        check("\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}", &"�".repeat(9));
        check("\u{200e}\u{200f}\u{061c}", "���");
        check("pass\u{200b}\u{200c}\u{2060}\u{feff}\u{ad}word", "pass�����word");
        check("tags\u{e0041}\u{e007f}", "tags��");
        check("👩\u{200d}🔬", "👩�🔬");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Compared with the tables of `regex-syntax`, which come from Unicode's own files.
        #[test]
        fn exactly_these_categories_are_unprintable(
            shown in string_regex(r"[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]").unwrap(),
            replaced in string_regex(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]").unwrap(),
        ) {
            prop_assert_eq!(printable(&shown), shown.as_str());
            prop_assert_eq!(printable(&replaced), "\u{fffd}");
        }
    }
}
