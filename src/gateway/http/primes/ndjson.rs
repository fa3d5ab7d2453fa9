//! Numbers as lines in, and answers as lines out: usual lines by hand, for they come by the million; all others exactly
//! as `POST /prime` reads and writes them.

use std::{mem, sync::Arc};

use axum::body::Bytes;

use crate::{
    api::{
        error::ApiError,
        prime::{Outcome, PrimeAnswer},
        primes::{AnswerLine, BatchOutcome, LastLine, LineError, parse_item},
    },
    gateway::bulk::{
        Form,
        lines::{InputLine, Lines},
        window::{Answered, Window},
    },
    limits::{BULK_CHUNK_BYTES, LINE_BYTES_MAX},
    prime::Number,
};

/// Lines in and lines out.
#[derive(Debug, Default)]
pub(super) struct Ndjson {
    lines: Lines,
    answers: Answers,
    count: u64,
}

impl Form for Ndjson {
    type Piece = Bytes;
    type Chunk = Bytes;
    /// A body breaks when its client goes.
    const READS_ON: bool = false;

    fn feed(&mut self, piece: Bytes) {
        self.lines.feed(piece);
    }

    fn end_input(&mut self) {
        self.lines.end();
    }

    fn take(&mut self, window: &mut Window) {
        while window.has_room()
            && let Some(line) = self.lines.next_line()
        {
            match line {
                InputLine::Word(word) => window.push_word(word),
                InputLine::Text(text) => put_line(text, window),
                InputLine::Overlong => window.push_bad(overlong()),
            }
        }
    }

    fn has_more(&self) -> bool {
        self.lines.has_more()
    }

    fn write(&mut self, answered: Answered) {
        let out = &mut self.answers;
        match answered {
            Answered::Batch(_, batch, Ok(outcome)) => {
                self.count += batch.values.len() as u64;
                out.put_batch(&batch.values, &outcome);
            }
            Answered::Batch(lines, batch, Err(error)) => {
                self.count += batch.values.len() as u64;
                let error = ApiError::from(error);
                (0..batch.values.len()).for_each(|place| out.put_error(lines.at(place), &error));
            }
            Answered::One(_, number, Ok(outcome)) => {
                self.count += 1;
                out.put(&number, &outcome);
            }
            Answered::One(line, _, Err(error)) => {
                self.count += 1;
                out.put_error(line, &error.into());
            }
            Answered::Bad(line, error) => {
                self.count += 1;
                out.put_error(line, &error);
            }
        }
    }

    fn close(&mut self, ended: Result<(), ApiError>) {
        let error = ended.as_ref().err().map(ApiError::part);
        let last = LastLine { done: error.is_none(), count: self.count, error };
        self.answers.put_line(&AnswerLine::Last(last));
    }

    fn is_empty(&self) -> bool {
        self.answers.bytes.is_empty()
    }

    fn is_full(&self) -> bool {
        self.answers.bytes.len() >= BULK_CHUNK_BYTES
    }

    fn chunk(&mut self) -> Bytes {
        self.answers.take().into()
    }
}

fn put_line(line: &[u8], window: &mut Window) {
    match line.trim_ascii() {
        b"" => window.pass_blank(),
        item => match parse_item(item) {
            Ok(number) => window.push(number),
            Err(error) => window.push_bad(error),
        },
    }
}

fn overlong() -> ApiError {
    let digits = Number::DIGITS_MAX;
    ApiError::invalid(format!(
        "the line has more than {LINE_BYTES_MAX} bytes; write one number of at most {digits} digits a line"
    ))
}

/// Answers in JSON, each followed by a separator.
#[derive(Debug)]
pub(super) struct Answers {
    bytes: Vec<u8>,
    separator: u8,
    /// What follows the digits in the answer of a composite and of a prime, by whom it is.
    tails: [Vec<u8>; 2],
    tails_of: Arc<str>,
}

impl Default for Answers {
    fn default() -> Self {
        Self::new(b'\n')
    }
}

impl Answers {
    fn new(separator: u8) -> Self {
        Self { bytes: Vec::new(), separator, tails: Default::default(), tails_of: "".into() }
    }

    /// Answers after a beginning, of some so many bytes together.
    pub(super) fn begun(beginning: &[u8], separator: u8, bytes: usize) -> Self {
        let mut begun = Self { bytes: Vec::with_capacity(bytes), ..Self::new(separator) };
        begun.bytes.extend_from_slice(beginning);
        begun
    }

    /// All that is written, with an end instead of the last separator.
    pub(super) fn ended(mut self, end: &[u8]) -> Vec<u8> {
        if self.bytes.last() == Some(&self.separator) {
            self.bytes.pop();
        }
        self.bytes.extend_from_slice(end);
        self.bytes
    }

    /// What is written; the answers go on without it.
    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.bytes)
    }

    pub(super) fn put_batch(&mut self, values: &[u64], outcome: &BatchOutcome) {
        const HEAD: &[u8] = b"{\"number\":\"";
        const DIGITS_MAX: usize = 20;
        self.renew_tails(&outcome.processed_by);
        let [composite, prime] = &self.tails;
        self.bytes.reserve(values.len() * (HEAD.len() + DIGITS_MAX + composite.len()));
        let mut digits = itoa::Buffer::new();
        for (value, is_prime) in values.iter().zip(&outcome.are_prime) {
            self.bytes.extend_from_slice(HEAD);
            self.bytes.extend_from_slice(digits.format(*value).as_bytes());
            self.bytes.extend_from_slice(if *is_prime { prime } else { composite });
        }
    }

    fn renew_tails(&mut self, processed_by: &Arc<str>) {
        if self.tails_of == *processed_by && !self.tails[0].is_empty() {
            return;
        }
        // A string always serialises.
        let name = serde_json::to_string(&**processed_by).unwrap_or_default();
        self.tails = [false, true].map(|is_prime| {
            let tail =
                format!("\",\"is_prime\":{is_prime},\"processed_by\":{name},\"certainty\":\"proven\"}}");
            [tail.as_bytes(), &[self.separator]].concat()
        });
        self.tails_of = Arc::clone(processed_by);
    }

    pub(super) fn put(&mut self, number: &Number, outcome: &Outcome) {
        self.put_line(&AnswerLine::Answer(PrimeAnswer::new(number, outcome)));
    }

    fn put_error(&mut self, line: u64, error: &ApiError) {
        self.put_line(&AnswerLine::Error(LineError { line, error: error.part() }));
    }

    fn put_line(&mut self, line: &AnswerLine<'_>) {
        // A struct of strings and numbers always serialises, and a Vec takes it.
        let _ = serde_json::to_writer(&mut self.bytes, line);
        self.bytes.push(self.separator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_hand_are_those_of_a_single_check() {
        let values = [0, 17, 18_446_744_073_709_551_615];
        for name in ["worker1", "a \"name\" of ünusual\\ letters"] {
            let outcome = BatchOutcome { are_prime: vec![false, true, false], processed_by: name.into() };
            let mut by_hand = Answers::default();
            by_hand.put_batch(&values, &outcome);
            let mut one_by_one = Answers::default();
            for (value, is_prime) in values.iter().zip(outcome.are_prime) {
                one_by_one.put(&Number::from(*value), &Outcome::of_word(is_prime, name.into()));
            }
            assert_eq!(by_hand.take(), one_by_one.take());
        }
    }
}
