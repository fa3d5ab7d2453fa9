//! JSON bodies, and what stands in queries.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use primacy::{
    decoders::{NumberRange, accepts_lines, parse_end, parse_limit, parse_question, parse_questions},
    limits::{JSON_BULK_NUMBERS_MAX, PAGE_PRIMES_MAX},
    prime::Number,
};
use serde_json::value::RawValue;

use crate::{check, headers::values, numbers};

/// What one number is asked with is an object with that number and nothing else, as another reader of JSON finds it.
pub fn question(body: &[u8]) {
    let number = match parse_question(body) {
        Ok(number) => number,
        Err(error) => return check::refusal(error),
    };
    let fields = fields(body);
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["number"]);
    same(&number, fields["number"].get());
    for body in [format!("{{\"number\":{number}}}"), format!("\u{feff} {{\"number\" : \"{number}\"}} ")] {
        assert_eq!(parse_question(body.as_bytes()).ok().as_ref(), Some(&number));
    }
}

/// The same for many numbers, of which there are not too many.
pub fn questions(body: &[u8]) {
    let parsed = match parse_questions(body) {
        Ok(parsed) => parsed,
        Err(error) => return check::refusal(error),
    };
    assert!(parsed.len() <= JSON_BULK_NUMBERS_MAX);
    let fields = fields(body);
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["numbers"]);
    let items: Vec<Box<RawValue>> = serde_json::from_str(fields["numbers"].get()).expect("it is an array");
    assert_eq!(items.len(), parsed.len());
    parsed.iter().zip(&items).for_each(|(number, item)| same(number, item.get()));
    let texts: Vec<String> = parsed.iter().map(Number::to_string).collect();
    let body = format!("{{\"numbers\":[{}]}}", texts.join(","));
    assert_eq!(parse_questions(body.as_bytes()).ok(), Some(parsed));
}

fn fields(body: &[u8]) -> BTreeMap<String, Box<RawValue>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).expect("it is an object")
}

/// The number is what stands in JSON, as an integer or as a string.
pub fn same(number: &Number, json: &str) {
    let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    assert!(numbers::is_number(&text), "{text:?} was accepted");
    numbers::same(number, &text);
}

/// Lines: the first number, the last, the limit, and what is accepted. The ends are decimal digits below 2⁶⁴, the limit is one
/// from 1 on, and parts of a range make up the whole.
pub fn range(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next();
    let (from, to, limit, accept) = (next(), next(), next(), next().unwrap_or_default());
    let ends = [end("from", from), end("to", to)];
    if let [Some(from), Some(to)] = ends {
        match NumberRange::new(from, to) {
            Ok(range) => parts(range),
            Err(error) => {
                assert!(from > to);
                check::refusal(error);
            }
        }
    }
    let is_streamed = accepts_lines(&values(header::ACCEPT, accept.as_bytes()).unwrap_or_default());
    match parse_limit(limit, is_streamed) {
        Ok(parsed) => {
            assert_eq!(parsed, limit.map(|limit| digits(limit).expect("it is a number") as usize));
            assert!(parsed.is_none_or(|limit| limit > 0 && (is_streamed || limit <= PAGE_PRIMES_MAX)));
        }
        Err(error) => check::refusal(error),
    }
    let only_json = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
    assert!(!accepts_lines(&only_json));
}

/// An end of a range, which is taken exactly if it is a number.
fn end(name: &str, text: Option<&str>) -> Option<u64> {
    match parse_end(name, text) {
        Ok(end) => {
            assert_eq!(Some(end), text.and_then(digits));
            Some(end)
        }
        Err(error) => {
            assert_eq!(None, text.and_then(digits), "{text:?} was refused");
            check::refusal(error);
            None
        }
    }
}

/// What digits are worth, digit by digit.
fn digits(text: &str) -> Option<u64> {
    let worth = |worth: u64, byte: u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        worth.checked_mul(10)?.checked_add(digit)
    };
    text.bytes().try_fold(0, worth).filter(|_| !text.is_empty())
}

/// The range in a few parts: none is empty, each follows the one before, and the last one ends it.
fn parts(range: NumberRange) {
    let part_numbers = range.numbers() / 5 + 1;
    let (mut rest, mut begins) = (Some(range), range.from);
    while let Some(left) = rest {
        let part = left.first(part_numbers);
        assert!(part.from == begins && part.from <= part.to && part.numbers() <= part_numbers);
        rest = left.after(part);
        assert_eq!(rest.is_none(), part.to == range.to);
        begins = part.to.wrapping_add(1);
    }
}
