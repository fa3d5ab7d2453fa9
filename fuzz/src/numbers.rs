//! Numbers as text.

use primacy::{
    decoders::{ApiError, number_from_wire, number_to_wire},
    prime::Number,
};

use crate::check;

/// A number is accepted exactly if it is `0|-?[1-9][0-9]*` of at most 10,000 digits, and is the same text again.
pub fn number(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match text.parse::<Number>() {
        Ok(number) => {
            assert!(is_number(text), "{text:?} was accepted");
            same(&number, text);
        }
        Err(error) => {
            assert!(!is_number(text), "{text:?} was refused");
            check::refusal(ApiError::from(error));
        }
    }
}

/// The rule, read anew.
pub fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [b'0'] => text == "0",
        [b'1'..=b'9', rest @ ..] => digits.len() <= Number::DIGITS_MAX && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The number is what the text says, and the same after its way over the wire.
pub fn same(number: &Number, text: &str) {
    assert_eq!(number.to_string(), text);
    assert_eq!(number.as_str(), text);
    assert_eq!(number.text_len(), text.len());
    assert_eq!(number.word(), text.parse().ok());
    assert_eq!(number.equivalent_word(), if text.starts_with('-') { Some(0) } else { text.parse().ok() });
    assert_eq!(number_from_wire(&number_to_wire(number)).as_ref().ok(), Some(number));
}

/// What people type is a number of bounded length, or is refused with a text that can be shown. Digits mean themselves.
pub fn typed(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Number::from_typed(text) {
        Ok(number) => {
            let digits = number.to_string();
            assert!(is_number(&digits));
            assert_eq!(Number::from_typed(&digits), Ok(number));
        }
        Err(error) => {
            assert!(!is_number(text));
            assert!(error.to_string().chars().count() < 1000);
        }
    }
}
