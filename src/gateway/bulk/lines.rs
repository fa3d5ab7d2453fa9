//! Numbers as lines: pieces of text into lines, wherever they are cut.

use std::mem;

use axum::body::Bytes;

use crate::{limits::LINE_BYTES_MAX, text::BYTE_ORDER_MARK};

/// Takes text apart into lines, one piece after the other.
#[derive(Debug, Default)]
pub struct Lines {
    piece: Bytes,
    /// How much of the piece is taken.
    taken: usize,
    /// The beginning of a line that did not end with its piece.
    begun: Vec<u8>,
    /// The last line that was put together of pieces.
    joined: Vec<u8>,
    /// The line that is being read is too long, and passed over.
    is_overlong: bool,
    /// A line has ended.
    is_past_first: bool,
}

/// A line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub enum InputLine<'a> {
    /// Nothing but 1 to 19 digits: by far the most lines are so, and are read by hand.
    Word(u64),
    /// Any other.
    Text(&'a [u8]),
    /// One of more than [`LINE_BYTES_MAX`] bytes, which are not kept.
    Overlong,
}

impl Lines {
    /// Takes a piece, when nothing is left of the one before.
    pub fn feed(&mut self, piece: impl Into<Bytes>) {
        (self.piece, self.taken) = (piece.into(), 0);
    }

    /// No piece follows: a last line may end without a newline.
    pub fn end(&mut self) {
        if self.is_overlong || !self.begun.is_empty() {
            self.feed(&b"\n"[..]);
        }
    }

    /// Whether something is left of the piece.
    pub fn has_more(&self) -> bool {
        self.taken < self.piece.len()
    }

    /// The next line of the piece; none if it has no more that are whole.
    pub fn next_line(&mut self) -> Option<InputLine<'_>> {
        let rest = &self.piece[self.taken..];
        if self.begun.is_empty()
            && !self.is_overlong
            && let Some((word, length)) = word_line(rest)
        {
            (self.taken, self.is_past_first) = (self.taken + length, true);
            return Some(InputLine::Word(word));
        }
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(length) => Some(self.end_line(length)),
            None => {
                self.begin_line();
                None
            }
        }
    }

    /// The rest of the piece begins a line, or goes on with one.
    fn begin_line(&mut self) {
        let rest = &self.piece[self.taken..];
        self.is_overlong |= self.begun.len() + rest.len() > LINE_BYTES_MAX;
        if self.is_overlong {
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(rest);
        }
        self.taken = self.piece.len();
    }

    /// Takes the line that ends after `length` more bytes.
    fn end_line(&mut self, length: usize) -> InputLine<'_> {
        let end = self.taken + length;
        let rest = &self.piece[self.taken..end];
        self.taken = end + 1;
        let is_first = !mem::replace(&mut self.is_past_first, true);
        mem::swap(&mut self.joined, &mut self.begun);
        self.begun.clear();
        if mem::take(&mut self.is_overlong) || self.joined.len() + rest.len() > LINE_BYTES_MAX {
            return InputLine::Overlong;
        }
        let line = if self.joined.is_empty() {
            rest
        } else {
            self.joined.extend_from_slice(rest);
            &self.joined
        };
        InputLine::Text(line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_first).unwrap_or(line))
    }
}

/// The number of a line that is nothing but 1 to 19 digits, which always fit a word, and the length of that line.
fn word_line(bytes: &[u8]) -> Option<(u64, usize)> {
    const DIGITS_MAX: usize = 19;
    let mut word = 0;
    for (place, byte) in bytes.iter().take(DIGITS_MAX + 1).enumerate() {
        match byte {
            b'0'..=b'9' if place < DIGITS_MAX => word = word * 10 + u64::from(byte - b'0'),
            b'\n' if place == 1 || (place > 1 && bytes[0] != b'0') => return Some((word, place + 1)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_line_is_read_by_hand_and_every_other_one_is_not() {
        for (line, word) in [
            ("0\n", 0),
            ("7\n17\n", 7),
            ("17\n", 17),
            ("9223372036854775783\n", 9_223_372_036_854_775_783),
            ("9999999999999999999\nx", 9_999_999_999_999_999_999),
        ] {
            let length = line.find('\n').unwrap() + 1;
            assert_eq!(word_line(line.as_bytes()), Some((word, length)), "{line:?}");
        }
        for other in [
            "",
            "\n",
            "17",
            "00\n",
            "017\n",
            "-5\n",
            "1e3\n",
            "17\r\n",
            " 17\n",
            "\"17\"\n",
            "18446744073709551615\n",
        ] {
            assert_eq!(word_line(other.as_bytes()), None, "{other:?}");
        }
    }

    fn read(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let (mut lines, mut read) = (Lines::default(), Vec::new());
        let mut take = |lines: &mut Lines| {
            while let Some(line) = lines.next_line() {
                read.push(match line {
                    InputLine::Word(word) => word.to_string(),
                    InputLine::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    InputLine::Overlong => "overlong".to_owned(),
                });
            }
            assert!(!lines.has_more());
        };
        for piece in pieces {
            lines.feed(piece);
            take(&mut lines);
        }
        lines.end();
        take(&mut lines);
        read
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_very_start_and_nowhere_else() {
        for (text, expected) in [
            ("\u{feff}17\n18\n", ["17", "18"]),
            ("\u{feff}\n\u{feff}18", ["", "\u{feff}18"]),
            ("17\n\u{feff}18\n", ["17", "\u{feff}18"]),
            ("\u{feff}\u{feff}17\n18", ["\u{feff}17", "18"]),
        ] {
            for size in 1..=text.len() {
                assert_eq!(
                    read(text.as_bytes().chunks(size).map(<[u8]>::to_vec)),
                    expected,
                    "{text:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn lines_are_the_same_wherever_they_are_cut() {
        let long = "1".repeat(LINE_BYTES_MAX);
        let text = format!("17\n\n018\r\n{long}\n{long}1\n20\nx\n 5 \n21");
        let expected = ["17", "", "018\r", &long, "overlong", "20", "x", " 5 ", "21"];
        for size in [1, 2, 3, 7, 1000, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, text.len()] {
            assert_eq!(read(text.as_bytes().chunks(size).map(<[u8]>::to_vec)), expected, "{size}");
        }
        let ended = text.clone() + "\n";
        assert_eq!(read([ended.into_bytes()].into_iter()), expected);
        assert_eq!(read([(long + "11").into_bytes()].into_iter()), ["overlong"]);
    }
}
