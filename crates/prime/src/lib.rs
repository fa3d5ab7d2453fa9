//! The mathematics: is a number prime, and which numbers of a range are?
//!
//! ```text
//! text ── Number ── below 2⁶⁴ ──▶ word: trial division, strong base-2, strong Lucas     proven
//!               └── 2⁶⁴ and up ─▶ long: the same on big integers, two congruences more, and a proof where it is cheap
//! range below 2⁶⁴ ──────────────▶ sieve: a segmented sieve of Eratosthenes              proven
//! ```
//! Pure computation: no I/O, no clock, no threads. Long work can be stopped between any two of its steps.

mod candidates;
mod evidence;
mod long;
mod number;
mod selfridge;
mod sieve;
mod typed;
mod word;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use candidates::{Candidates, Direction};
pub use evidence::{Evidence, Proof, ProofFactor, Witness};
pub use number::{Number, NumberError};
pub use sieve::{PrimeMap, Primes, count_primes, for_each_prime, range_cost_us, segment_numbers};
pub use typed::TypedError;
pub use word::is_prime;

/// How much a [`Verdict`] is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// A mathematical fact: see [`Evidence`].
    Proven,
    /// The number passed every test, and no cheap proof was found. No composite number is known to pass them.
    Probable,
}

/// The answer to "is it prime?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Whether the number is prime.
    pub is_prime: bool,
    /// Whether that is proven. Only a prime of 2⁶⁴ or above may be less than proven.
    pub certainty: Certainty,
}

/// Decides whether `number` is prime; `None` only if `stop` was raised before the answer was known.
///
/// Below 2⁶⁴ this takes under a microsecond and ignores `stop`. Above, it takes roughly what
/// [`Number::estimated_cost_us`] says, computes on the calling thread, and looks at `stop` at every step:
/// at 10,000 digits that is about every millisecond.
///
/// The method is the test of Baillie and PSW (R. Baillie, S. S. Wagstaff, "Lucas pseudoprimes", Math. Comp. 35,
/// 1980) with the strengthening of R. Baillie, A. Fiori, S. S. Wagstaff, "Strengthening the Baillie-PSW primality
/// test", Math. Comp. 90, 2021. Below 2⁶⁴ it is exact, see [`is_prime`]. A prime of more is proven as well where that is cheap,
/// see [`Proof`]: always below 3.3 × 10²⁴, always if it is one less than a power of two, and often up to some 40 digits.
///
/// ```
/// use primacy_prime::{Certainty, Verdict, check};
/// use std::sync::atomic::AtomicBool;
///
/// let number = "170141183460469231731687303715884105727".parse()?; // 2¹²⁷ − 1
/// let verdict = check(&number, &AtomicBool::new(false));
/// assert_eq!(verdict, Some(Verdict { is_prime: true, certainty: Certainty::Proven }));
/// # Ok::<(), primacy_prime::NumberError>(())
/// ```
pub fn check(number: &Number, stop: &AtomicBool) -> Option<Verdict> {
    Some(check_with_evidence(number, &|| !stop.load(Relaxed))?.0)
}

/// As [`check`], and says what the answer rests on, if the number is 2⁶⁴ or above and the answer is proven. It goes on as long
/// as `go_on`, called at every step, says so.
///
/// ```
/// use primacy_prime::{Evidence, Proof, check_with_evidence};
///
/// let number = "170141183460469231731687303715884105727".parse()?; // 2¹²⁷ − 1
/// let (_, evidence) = check_with_evidence(&number, &|| true).unwrap();
/// assert_eq!(evidence, Some(Evidence::Proof(Proof::LucasLehmer)));
/// # Ok::<(), primacy_prime::NumberError>(())
/// ```
pub fn check_with_evidence(number: &Number, go_on: &dyn Fn() -> bool) -> Option<(Verdict, Option<Evidence>)> {
    match number.equivalent_word() {
        Some(word) => Some((Verdict { is_prime: is_prime(word), certainty: Certainty::Proven }, None)),
        None => long::check(&long::from_decimal(&number.as_str()), go_on),
    }
}
