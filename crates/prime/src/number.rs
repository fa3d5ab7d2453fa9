//! The one domain type: an integer as its owner wrote it.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use dashu_int::IBig;
use thiserror::Error;

/// An integer of up to [`Number::DIGITS_MAX`] digits, negative or not, whose primality can be asked for.
///
/// It is made by [`FromStr`] from decimal text `0|-?[1-9][0-9]*`, or from a machine integer, and gives that text
/// back exactly. Parsing only reads the digits; a big integer is made when a check needs one. Cloning is cheap.
///
/// ```
/// use primacy_prime::Number;
///
/// let number: Number = "18446744073709551616".parse()?; // 2⁶⁴
/// assert_eq!(number.to_string(), "18446744073709551616");
/// assert_eq!(number.equivalent_word(), None);
/// assert!("1e3".parse::<Number>().is_err());
/// # Ok::<(), primacy_prime::NumberError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number(Repr);

/// One representation for each number, so that the derived equality is that of integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Repr {
    /// 0 to 2⁶⁴ − 1.
    Short(u64),
    /// Canonical decimal text of anything else.
    Text(Arc<str>),
}

/// Why a text is not a [`Number`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// No text at all.
    #[error("the number is empty; write a decimal integer such as 17 or -5")]
    Empty,
    /// Something other than digits after an optional minus sign.
    #[error(
        "{excerpt:?} is not a decimal integer; only the digits 0-9 are allowed, after an optional minus sign, such as 1000 or -5"
    )]
    NotADecimalInteger {
        /// The beginning of the text, at most 40 characters.
        excerpt: String,
    },
    /// Zeros before the first significant digit.
    #[error("{excerpt:?} has leading zeros; write the number without them, such as 17 instead of 017")]
    LeadingZeros {
        /// The beginning of the text, at most 40 characters.
        excerpt: String,
    },
    /// A zero with a minus sign.
    #[error("-0 is not allowed; write zero as 0")]
    NegativeZero,
    /// More than [`Number::DIGITS_MAX`] digits.
    #[error("the number has {digits} digits; at most {max} are allowed (17 has 2)", max = Number::DIGITS_MAX)]
    TooLong {
        /// How many digits there were, the sign not counted.
        digits: usize,
    },
}

impl Number {
    /// The most digits a number may have, the sign not counted.
    pub const DIGITS_MAX: usize = 10_000;

    /// The word whose primality is this number's: itself below 2⁶⁴, 0 for a negative number, which is not prime
    /// either, and `None` from 2⁶⁴ on.
    pub fn equivalent_word(&self) -> Option<u64> {
        match &self.0 {
            Repr::Short(word) => Some(*word),
            Repr::Text(text) => text.starts_with('-').then_some(0),
        }
    }

    /// The number itself, if it is one from 0 to 2⁶⁴ − 1.
    pub fn word(&self) -> Option<u64> {
        match &self.0 {
            Repr::Short(word) => Some(*word),
            Repr::Text(_) => None,
        }
    }

    /// The canonical decimal text.
    pub fn as_str(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Short(word) => Cow::Owned(word.to_string()),
            Repr::Text(text) => Cow::Borrowed(text),
        }
    }

    /// How many bytes the decimal text has.
    pub fn text_len(&self) -> usize {
        match &self.0 {
            Repr::Short(word) => word.checked_ilog10().unwrap_or(0) as usize + 1,
            Repr::Text(text) => text.len(),
        }
    }

    /// How far the two are from each other.
    ///
    /// ```
    /// use primacy_prime::Number;
    ///
    /// assert_eq!(Number::from(-5_i64).distance(&Number::from(7_u64)), Number::from(12_u64));
    /// ```
    pub fn distance(&self, other: &Self) -> Self {
        // The text is one of digits.
        let value = |number: &Self| IBig::from_str_radix(&number.as_str(), 10).unwrap_or_default();
        let distance = (value(self) - value(other)).to_string();
        let digits = distance.strip_prefix('-').unwrap_or(&distance);
        digits.parse::<u64>().map_or_else(|_| Self(Repr::Text(digits.into())), Self::from)
    }

    /// Roughly how long [`check`](super::check) takes on one core if the number is prime, in microseconds; 0 below
    /// 2⁶⁴. A composite number takes mostly a third of it or less, and next to nothing if it has a small factor. A prime beside a
    /// number with small factors takes up to 8/3 as long again, because it is proven.
    pub fn estimated_cost_us(&self) -> u64 {
        match (&self.0, self.equivalent_word()) {
            (Repr::Text(text), None) => super::long::estimated_cost_us(text.len() as u64),
            _ => 0,
        }
    }
}

impl FromStr for Number {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        refuse_bad_digits(text, digits)?;
        // The digits are good, so that only a minus sign or a value of 2⁶⁴ and above does not parse.
        match text.parse() {
            Ok(word) => Ok(Number(Repr::Short(word))),
            Err(_) => Ok(Number(Repr::Text(text.into()))),
        }
    }
}

fn refuse_bad_digits(text: &str, digits: &str) -> Result<(), NumberError> {
    if text.is_empty() {
        return Err(NumberError::Empty);
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotADecimalInteger { excerpt: excerpt(text) });
    }
    if text == "-0" {
        return Err(NumberError::NegativeZero);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(NumberError::LeadingZeros { excerpt: excerpt(text) });
    }
    if digits.len() > Number::DIGITS_MAX {
        return Err(NumberError::TooLong { digits: digits.len() });
    }
    Ok(())
}

/// What an error message may repeat of a text of any length.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some(_) => text.chars().take(CHARS_MAX - 1).chain(['…']).collect(),
    }
}

impl From<u64> for Number {
    fn from(word: u64) -> Self {
        Number(Repr::Short(word))
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        match u64::try_from(value) {
            Ok(word) => word.into(),
            Err(_) => Number(Repr::Text(value.to_string().into())),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Short(word) => fmt::Display::fmt(word, formatter),
            Repr::Text(text) => formatter.pad(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_representation_a_number() {
        assert_eq!("5".parse(), Ok(Number(Repr::Short(5))));
        assert_eq!("18446744073709551615".parse(), Ok(Number(Repr::Short(u64::MAX))));
        assert_eq!("18446744073709551616".parse(), Ok(Number(Repr::Text("18446744073709551616".into()))));
        assert_eq!("-7".parse(), Ok(Number::from(-7_i64)));
    }

    #[test]
    fn an_excerpt_is_short_and_cut_between_characters() {
        assert_eq!(excerpt("17a"), "17a");
        assert_eq!(excerpt(&"é".repeat(40)), "é".repeat(40));
        assert_eq!(excerpt(&"é".repeat(10_000)).chars().count(), 40);
    }
}
