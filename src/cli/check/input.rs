//! The numbers of standard input.

use std::{io, mem};

use tokio::io::{AsyncReadExt, Stdin, stdin};

use crate::{
    gateway::bulk::lines::{InputLine, Lines},
    limits::LINE_BYTES_MAX,
    prime::{Number, NumberError},
};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct NumberInput {
    stdin: Stdin,
    buffer: Vec<u8>,
    lines: Lines,
    count: u64,
    bytes_read: u64,
    is_closed: bool,
}

impl NumberInput {
    pub(super) fn new() -> Self {
        let (stdin, buffer, lines) = (stdin(), Vec::new(), Lines::default());
        Self { stdin, buffer, lines, count: 0, bytes_read: 0, is_closed: false }
    }

    /// Reads what there is, when all before it is taken. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the system says; nothing is read after that.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        let read = self.stdin.read_buf(&mut self.buffer).await;
        if let Ok(1..) = read {
            self.bytes_read += self.buffer.len() as u64;
            self.lines.feed(mem::take(&mut self.buffer));
        } else {
            // Reading on after an error would return the same error for ever.
            self.is_closed = true;
            self.lines.end();
        }
        read.map(|_| ())
    }

    /// The next number, or what is wrong with its line; blank lines are passed over. Nothing when more must be read.
    pub(super) fn next(&mut self) -> Option<Result<Number, String>> {
        loop {
            let line = self.lines.next_line()?;
            self.count += 1;
            if let Some(number) = number(&line).transpose() {
                return Some(number.map_err(|error| format!("line {}: {error}", self.count)));
            }
        }
    }

    /// Whether there is nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.is_closed && !self.lines.has_more()
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

fn number(line: &InputLine<'_>) -> Result<Option<Number>, String> {
    let text = match line {
        InputLine::Word(word) => return Ok(Some(Number::from(*word))),
        InputLine::Text(text) => text,
        InputLine::Overlong => {
            let digits = Number::DIGITS_MAX;
            return Err(format!(
                "it has more than {LINE_BYTES_MAX} bytes; a number has at most {digits} digits"
            ));
        }
    };
    match str::from_utf8(text).map(str::trim) {
        Ok("") => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|error: NumberError| error.to_string()),
        Err(_) => Err("it is not UTF-8; write a decimal integer such as 17 or -5".to_owned()),
    }
}
