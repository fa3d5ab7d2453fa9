//! Text of others made harmless: the one rule for all that comes from outside and is shown, be it in a log, on a
//! terminal, on the page or in JSON. Pure.
//!
//! Names, addresses, reasons and messages of other processes are data. A character that would move a cursor, start a
//! line, change the direction of what follows or not be seen at all is written as its number, such as `\u{1b}`, and every
//! text has a bound. What is harmless stays as it is, so that the rule may be applied any number of times: where text
//! enters, and once more where it leaves.

use std::fmt::{self, Write};

use crate::limits::{LINE_CHARS_MAX, TEXT_CHARS_MAX};

/// What some editors put before a text in UTF-8; it is not a part of it.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest name of a node.
const NAME_BYTES_MAX: usize = 64;
/// The longest name, address or version that a node gives of itself.
const IDENTITY_BYTES_MAX: usize = 256;

/// Characters that Unicode does not count as controls, and that are not seen or move others: formats, fillers, separators
/// of lines, marks of direction, selectors of variants, tags.
const UNSEEN: [(char, char); 28] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{f0000}', '\u{10ffff}'),
];

/// Whether a character is shown as it is.
pub fn is_harmless(character: char) -> bool {
    let is_unseen = || UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&character));
    matches!(character, ' '..='~') || !(character.is_control() || is_unseen())
}

/// A name, an address, a reason: one line of at most [`TEXT_CHARS_MAX`] characters.
pub fn plain(text: &str) -> String {
    bounded(text, TEXT_CHARS_MAX)
}

/// A message: one line of at most [`LINE_CHARS_MAX`] characters.
pub fn line(text: &str) -> String {
    bounded(text, LINE_CHARS_MAX)
}

/// What is harmless of a text, the rest as numbers, and no more than so many characters of it; `…` stands for what is
/// left out.
pub fn bounded(text: &str, chars_max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(chars_max));
    // A String takes whatever is written.
    let _ = write_bounded(&mut shown, text, chars_max);
    shown
}

fn write_bounded(out: &mut impl Write, text: &str, chars_max: usize) -> fmt::Result {
    let mut room = chars_max;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let width = if is_harmless(character) { 1 } else { character.escape_unicode().len() };
        let is_last = characters.peek().is_none();
        if width + usize::from(!is_last) > room {
            return out.write_char('…');
        }
        room -= width;
        match width {
            1 => out.write_char(character)?,
            _ => write!(out, "{}", character.escape_unicode())?,
        }
    }
    Ok(())
}

/// What a node may be called: it is shown, logged and typed by people.
pub fn is_name(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_good)
}

/// Whether a text that a node gives of itself, such as an address, is harmless and short.
pub fn is_short(text: &str) -> bool {
    text.len() <= IDENTITY_BYTES_MAX && text.chars().all(is_harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_hides_or_reorders_is_written_as_its_number() {
        for (text, shown) in [
            ("", ""),
            ("worker1", "worker1"),
            ("Grüße, 東京, שלום, 🦀", "Grüße, 東京, שלום, 🦀"),
            ("a\u{fffd}b", "a\u{fffd}b"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9d}0;title\u{9c}", "\\u{9d}0;title\\u{9c}"),
            ("a\r\n2026 INFO forged", "a\\u{d}\\u{a}2026 INFO forged"),
            ("a\0b\tc\u{7f}d\u{85}e", "a\\u{0}b\\u{9}c\\u{7f}d\\u{85}e"),
            ("\u{202e}nimda\u{202c}", "\\u{202e}nimda\\u{202c}"),
            ("\u{2066}x\u{2069}\u{200e}\u{200f}\u{61c}", "\\u{2066}x\\u{2069}\\u{200e}\\u{200f}\\u{61c}"),
            ("wor\u{200b}ker\u{200d}1\u{feff}", "wor\\u{200b}ker\\u{200d}1\\u{feff}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("\u{e0001}\u{e0041}\u{e007f}", "\\u{e0001}\\u{e0041}\\u{e007f}"),
            ("\u{ad}\u{3164}\u{fe0f}\u{180e}", "\\u{ad}\\u{3164}\\u{fe0f}\\u{180e}"),
            ("\u{e000}\u{10ffff}", "\\u{e000}\\u{10ffff}"),
        ] {
            assert_eq!(line(text), shown, "{text:?}");
            assert_eq!(line(shown), shown, "it may be applied again");
        }
    }

    #[test]
    fn every_character_is_shown_as_it_is_or_as_its_number() {
        for character in '\0'..=char::MAX {
            let shown = bounded(&character.to_string(), 16);
            assert!(shown.chars().all(is_harmless), "{character:?} is shown as {shown:?}");
            assert!(shown.chars().eq([character]) || shown.chars().eq(character.escape_unicode()));
        }
    }

    #[test]
    fn no_text_is_longer_than_its_bound_and_what_is_left_out_is_seen() {
        for (text, chars_max, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("äöüß", 3, "äö…"),
            ("a\n", 6, "a\\u{a}"),
            ("ab\n", 6, "ab…"),
            ("\n\n", 5, "…"),
            ("a", 1, "a"),
            ("ab", 1, "…"),
        ] {
            assert_eq!(bounded(text, chars_max), shown, "{text:?}");
        }
        for long in ["x".repeat(1_000_000), "\u{1b}".repeat(1_000_000), "é".repeat(1_000_000)] {
            for (shown, chars_max) in [(plain(&long), TEXT_CHARS_MAX), (line(&long), LINE_CHARS_MAX)] {
                let count = shown.chars().count();
                assert!((chars_max - 8..=chars_max).contains(&count) && shown.ends_with('…'), "{count}");
                assert_eq!(bounded(&shown, chars_max), shown);
            }
        }
    }

    #[test]
    fn a_name_is_what_people_can_type() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for good in ["worker1", "a.b-c_D9", &longest] {
            assert!(is_name(good), "{good}");
        }
        let longer = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "a b", "a\n", "ä", "a:1", "a\u{200b}", &longer] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_a_node_says_of_itself_is_short_and_harmless() {
        let longest = "x".repeat(IDENTITY_BYTES_MAX);
        for good in ["", "127.0.0.1:50051", "[::1]:1", "0.1.0-dev", "bücher.example:1", &longest] {
            assert!(is_short(good), "{good}");
        }
        let longer = "x".repeat(IDENTITY_BYTES_MAX + 1);
        for bad in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "\u{e0041}", &longer] {
            assert!(!is_short(bad), "{bad:?}");
        }
    }
}
