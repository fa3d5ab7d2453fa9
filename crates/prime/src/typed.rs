//! Numbers as people type them: digits, powers, sums.

use dashu_int::{IBig, UBig};
use thiserror::Error;

use crate::number::{Number, NumberError, excerpt};

/// Why a text that somebody typed is no number.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TypedError {
    /// It is neither digits nor powers and sums of them.
    #[error(
        "{excerpt:?} is not a number; write digits, such as 1000, or powers and sums of them, such as 1e12, 10^12 or 2^127-1"
    )]
    Malformed {
        /// The beginning of the text, at most 40 characters.
        excerpt: String,
    },
    /// It would have more than [`Number::DIGITS_MAX`] digits.
    #[error("{excerpt:?} has more than {max} digits, which is the most of a number", max = Number::DIGITS_MAX)]
    TooLong {
        /// The beginning of the text, at most 40 characters.
        excerpt: String,
    },
    /// It is digits, and they are wrong.
    #[error(transparent)]
    Digits(#[from] NumberError),
}

impl Number {
    /// A number as somebody typed it: decimal digits, `a^b`, `aeb` for a·10ᵇ, and sums and differences of these. Spaces between
    /// them do not matter.
    ///
    /// # Errors
    /// See [`TypedError`].
    ///
    /// ```
    /// use primacy_prime::Number;
    ///
    /// assert_eq!(Number::from_typed("1e12")?, Number::from(1_000_000_000_000_u64));
    /// assert_eq!(Number::from_typed("2^64 - 59")?, Number::from(18_446_744_073_709_551_557_u64));
    /// assert!(Number::from_typed("10^10000").is_err());
    /// # Ok::<(), primacy_prime::TypedError>(())
    /// ```
    pub fn from_typed(text: &str) -> Result<Number, TypedError> {
        let text = text.trim();
        if text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(text.parse()?);
        }
        let compact: String = text.chars().filter(|character| *character != ' ').collect();
        let sum = sum(&compact).ok_or_else(|| TypedError::Malformed { excerpt: excerpt(text) })?;
        let too_long = || TypedError::TooLong { excerpt: excerpt(text) };
        let value = sum.ok_or_else(too_long)?;
        value.to_string().parse().map_err(|_| too_long())
    }
}

/// What the text comes to; nothing if it is no sum, and nothing in it if it is too long.
fn sum(text: &str) -> Option<Option<IBig>> {
    let mut total = Some(IBig::ZERO);
    let mut rest = text;
    let mut is_first = true;
    while !rest.is_empty() {
        let (is_negative, term) = match (rest.strip_prefix('-'), rest.strip_prefix('+')) {
            (Some(term), _) => (true, term),
            (None, Some(term)) if !is_first => (false, term),
            (None, None) if is_first => (false, rest),
            _ => return None,
        };
        let end = term.find(['+', '-']).unwrap_or(term.len());
        let value = power(&term[..end])?.map(IBig::from);
        total =
            total.zip(value).map(|(total, value)| if is_negative { total - value } else { total + value });
        rest = &term[end..];
        is_first = false;
    }
    (!is_first).then_some(total)
}

/// Digits, `a^b` or `aeb`.
fn power(text: &str) -> Option<Option<UBig>> {
    let (base, exponent, is_scientific) = match text.split_once(['e', 'E']) {
        Some((base, exponent)) => (base, exponent, true),
        None => match text.split_once('^') {
            Some((base, exponent)) => (base, exponent, false),
            None => (text, "1", false),
        },
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(base) || !is_number(exponent) {
        return None;
    }
    // More digits than this are too many in any power, and an exponent of more can only belong to 0 or 1.
    let digits = base.trim_start_matches('0').len();
    let Ok(exponent) = exponent.parse::<usize>() else { return Some(None) };
    let factor = if is_scientific {
        exponent.saturating_add(digits)
    } else {
        exponent.saturating_mul(digits.max(2) - 1)
    };
    if digits > Number::DIGITS_MAX || factor > 4 * Number::DIGITS_MAX {
        return Some(None);
    }
    let base = UBig::from_str_radix(base, 10).ok()?;
    Some(Some(if is_scientific { base * UBig::from(10_u8).pow(exponent) } else { base.pow(exponent) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (typed, number) in [
            ("17", "17"),
            (" -5 ", "-5"),
            ("1e3", "1000"),
            ("12E2", "1200"),
            ("10^12", "1000000000000"),
            ("2^127-1", "170141183460469231731687303715884105727"),
            ("1e12 + 39", "1000000000039"),
            ("-2^3+1", "-7"),
            ("5-7", "-2"),
            ("2^0", "1"),
            ("0^0", "1"),
            ("0e5", "0"),
            ("1-1", "0"),
            ("10^9999-10^9999", "0"),
        ] {
            assert_eq!(
                Number::from_typed(typed).map(|number| number.to_string()),
                Ok(number.to_owned()),
                "{typed}"
            );
        }
        assert_eq!(Number::from_typed("10^9999").map(|number| number.text_len()), Ok(10_000));
        assert_eq!(Number::from_typed("10^10000-1").map(|number| number.text_len()), Ok(10_000));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for typed in [
            "abc", "1e", "^2", "1e-3", "2^^3", "1.5e3", "+", "1+", "--1", "1++1", "2^3^4", "1e3e4", "0x10",
            "1 000,5",
        ] {
            assert!(matches!(Number::from_typed(typed), Err(TypedError::Malformed { .. })), "{typed}");
        }
        for typed in ["10^10000", "1e10000", "9^99999999", "2^99999999999999999999", "1e99999999999"] {
            assert!(matches!(Number::from_typed(typed), Err(TypedError::TooLong { .. })), "{typed}");
        }
        assert!(matches!(Number::from_typed("017"), Err(TypedError::Digits(_))));
        assert!(matches!(Number::from_typed(""), Err(TypedError::Digits(_))));
    }
}
