//! The numbers beside a number that may be prime: those with small factors are sieved out.

use std::collections::VecDeque;

use dashu_int::{UBig, ops::BitTest};

use crate::{Number, sieve::for_each_prime};

/// How many numbers are sieved at a time.
const STRETCH: u64 = 1 << 15;

/// The numbers above or below a number that may be prime, the nearest first, up to [`Number::DIGITS_MAX`] digits and down to 2.
/// No prime is left out. Which of them are prime, [`check`](crate::check) decides.
///
/// ```
/// use primacy_prime::{Candidates, Direction, Number, is_prime};
///
/// let mut above = Candidates::new(&Number::from(113_u64), Direction::Next).filter_map(|number| number.word());
/// assert_eq!(above.find(|number| is_prime(*number)), Some(127));
/// let mut below = Candidates::new(&Number::from(2_u64), Direction::Previous);
/// assert_eq!(below.next(), None);
/// ```
#[derive(Debug)]
pub struct Candidates {
    origin: UBig,
    direction: Direction,
    /// The primes by which is sieved, and the remainder of the origin.
    primes: Vec<(u32, u32)>,
    /// The distance from the origin up to which was sieved.
    sieved_to: u64,
    /// The distances of those that are left.
    left: VecDeque<u64>,
}

/// On which side of a number a prime is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Above it: the next prime.
    Next,
    /// Below it: the one before.
    Previous,
}

impl Candidates {
    /// Those on a side of a number; above a negative one, those from 2 on.
    pub fn new(number: &Number, direction: Direction) -> Self {
        let origin = UBig::from_str_radix(&number.as_str(), 10).unwrap_or_default();
        let primes = remainders(&origin);
        Self { origin, direction, primes, sieved_to: 0, left: VecDeque::new() }
    }

    /// Sieves the next stretch; nothing if there is none.
    fn sieve(&mut self) -> Option<()> {
        let begin = self.sieved_to;
        let length = match self.direction {
            Direction::Next => STRETCH,
            Direction::Previous => below(&self.origin, begin).min(STRETCH),
        };
        if length == 0 {
            return None;
        }
        // The place of a distance in the stretch is that distance less the beginning, less one.
        let mut may_be_prime = vec![true; length as usize];
        let word = u64::try_from(&self.origin).ok();
        for (prime, remainder) in &self.primes {
            let (prime, remainder) = (u64::from(*prime), u64::from(*remainder));
            let first = match self.direction {
                Direction::Next => prime - (remainder + begin) % prime,
                Direction::Previous => prime - (prime - remainder + begin) % prime,
            };
            // The prime itself is left.
            let own = word.map(|word| word.abs_diff(prime));
            for distance in (first..=length).step_by(prime as usize) {
                if own != Some(begin + distance) {
                    may_be_prime[distance as usize - 1] = false;
                }
            }
        }
        let distances = (begin + 1..).zip(may_be_prime);
        self.left.extend(distances.filter_map(|(distance, may_be)| may_be.then_some(distance)));
        self.sieved_to += length;
        Some(())
    }
}

impl Iterator for Candidates {
    type Item = Number;

    fn next(&mut self) -> Option<Number> {
        while self.left.is_empty() {
            self.sieve()?;
        }
        let distance = self.left.pop_front()?;
        let number = match self.direction {
            Direction::Next => &self.origin + distance,
            Direction::Previous => &self.origin - distance,
        };
        match u64::try_from(&number) {
            Ok(0 | 1) => self.next(),
            Ok(word) => Some(word.into()),
            // It may have a digit too many.
            Err(_) => number.to_string().parse().ok(),
        }
    }
}

/// How many numbers from 2 on there are below the one at this distance below the origin.
fn below(origin: &UBig, distance: u64) -> u64 {
    let end = UBig::from(distance) + UBig::from(2_u8);
    if *origin < end { 0 } else { u64::try_from(origin - end).unwrap_or(u64::MAX) }
}

/// The primes by which numbers of this size are sieved, with what it leaves when it is divided by them. The longer the numbers,
/// the more a check costs, and the more primes are worth it.
fn remainders(number: &UBig) -> Vec<(u32, u32)> {
    let bits = number.bit_len() as u64;
    let primes_max = (bits * bits / 8).clamp(256, 1 << 20);
    let mut remainders = Vec::new();
    let (mut group, mut product) = (Vec::new(), 1_u64);
    // One division of the long number serves as many primes as fit a word together.
    let mut divide = |group: &mut Vec<u32>, product: u64| {
        let rest = number % product;
        remainders.extend(group.drain(..).map(|prime| (prime, (rest % u64::from(prime)) as u32)));
    };
    let mut add = |prime: u64| {
        if let Some(larger) = product.checked_mul(prime) {
            product = larger;
        } else {
            divide(&mut group, product);
            product = prime;
        }
        group.push(prime as u32);
    };
    // It is never told to stop.
    let _ = for_each_prime(2..=primes_max, &|| true, &mut add);
    divide(&mut group, product);
    remainders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_prime;

    fn first(candidates: Candidates) -> Option<u64> {
        candidates.filter_map(|number| number.word()).find(|number| is_prime(*number))
    }

    #[test]
    fn no_prime_is_left_out() {
        let primes: Vec<u64> = (0..200_000).filter(|number| is_prime(*number)).collect();
        let all: Vec<u64> = Candidates::new(&Number::from(0_u64), Direction::Next)
            .filter_map(|number| number.word())
            .take_while(|number| *number < 200_000)
            .filter(|number| is_prime(*number))
            .collect();
        assert_eq!(all, primes);
        let down: Vec<u64> = Candidates::new(&Number::from(200_000_u64), Direction::Previous)
            .filter_map(|number| number.word())
            .filter(|number| is_prime(*number))
            .collect();
        assert!(down.iter().rev().eq(&primes));
        for number in 0..2_000_u64 {
            let above = primes.iter().find(|prime| **prime > number).copied();
            let below = primes.iter().rev().find(|prime| **prime < number).copied();
            assert_eq!(first(Candidates::new(&number.into(), Direction::Next)), above, "{number}");
            assert_eq!(first(Candidates::new(&number.into(), Direction::Previous)), below, "{number}");
        }
    }

    #[test]
    fn it_goes_over_the_border_of_a_word_and_from_below_zero() {
        let border: Number = "18446744073709551616".parse().unwrap();
        assert_eq!(first(Candidates::new(&border, Direction::Previous)), Some(18_446_744_073_709_551_557));
        let mut above = Candidates::new(&Number::from(18_446_744_073_709_551_557_u64), Direction::Next);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let next = above.find(|number| crate::check(number, &stop).unwrap().is_prime).unwrap();
        assert_eq!(next.to_string(), "18446744073709551629");
        assert_eq!(first(Candidates::new(&Number::from(-100_i64), Direction::Next)), Some(2));
        assert_eq!(Candidates::new(&Number::from(-100_i64), Direction::Previous).next(), None);
    }

    #[test]
    fn it_ends_where_numbers_have_too_many_digits() {
        let last: Number = "9".repeat(Number::DIGITS_MAX).parse().unwrap();
        assert_eq!(Candidates::new(&last, Direction::Next).next(), None);
    }

    #[test]
    fn small_factors_are_gone() {
        let number: Number = format!("1{}", "0".repeat(300)).parse().unwrap();
        for candidate in Candidates::new(&number, Direction::Next).take(100) {
            let candidate = UBig::from_str_radix(&candidate.as_str(), 10).unwrap();
            assert!((2..1_000_u64).all(|divisor| &candidate % divisor != 0));
        }
    }
}
