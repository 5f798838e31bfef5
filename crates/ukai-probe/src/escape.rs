//! What a peer says is shown in terminals, logs, HTML and chat: nothing of it may steer them.

use std::fmt::Write;

/// The longest text of a peer that is kept: a line of a terminal twice over.
pub const TEXT_MAX: usize = 200;

/// Control and direction-changing characters escaped, and cut at [`TEXT_MAX`] characters.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for character in text.chars() {
        let shown = if is_harmful(character) { character.escape_default().to_string() } else { character.to_string() };
        length += shown.chars().count();
        if length >= TEXT_MAX {
            out.push('…');
            break;
        }
        out.push_str(&shown);
    }
    out
}

/// The same for bytes, which need not be UTF-8.
pub fn escape_bytes(bytes: &[u8]) -> String {
    // Four bytes are the longest character, so nothing beyond can be shown.
    let head = &bytes[..bytes.len().min(TEXT_MAX * 4)];
    escape(&String::from_utf8_lossy(head))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Control characters, line and paragraph separators, invisible characters and those that change the direction of
/// what follows (UAX #9).
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_untouched() {
        assert_eq!(escape("C=JP, O=迂回 株式会社, CN=Æ \"x\""), "C=JP, O=迂回 株式会社, CN=Æ \"x\"");
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_instead() {
        assert_eq!(escape("\u{1b}[31mred\r\n\0"), "\\u{1b}[31mred\\r\\n\\u{0}");
        assert_eq!(escape("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
    }

    #[test]
    fn long_text_is_cut() {
        let cut = escape(&"x".repeat(5_000));
        assert_eq!(cut.chars().count(), TEXT_MAX);
        assert!(cut.ends_with('…'));
        assert_eq!(escape(&"\u{1}".repeat(5_000)).chars().count(), 199 / 5 * 5 + 1);
    }

    #[test]
    fn bytes_need_not_be_text() {
        assert_eq!(escape_bytes(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(hex(&[0, 0x0f, 0xff]), "000fff");
    }
}
