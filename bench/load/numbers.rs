//! Random numbers with their answers, by a method that has nothing in common with the one under test: trial division
//! by the primes below 256, then Miller–Rabin to the first twelve primes, which decides every number below 2⁶⁴.

use std::cell::Cell;

/// A number, and whether it is prime.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub number: u64,
    pub is_prime: bool,
}

/// A table of them, dealt in turn.
pub struct Numbers {
    entries: Vec<Entry>,
    next: Cell<usize>,
}

impl Numbers {
    /// So many random numbers below 2⁶³.
    pub fn random(count: usize) -> Self {
        let small = small_primes();
        let entry = || {
            let number = rand::random::<u64>() >> 1;
            Entry { number, is_prime: is_prime(number, &small) }
        };
        Self { entries: std::iter::repeat_with(entry).take(count).collect(), next: Cell::new(0) }
    }

    pub fn pick(&self) -> Entry {
        let place = self.next.get();
        self.next.set((place + 1) % self.entries.len());
        self.entries[place]
    }

    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

fn small_primes() -> Vec<u64> {
    (2..256).filter(|n| (2..*n).all(|divisor| n % divisor != 0)).collect()
}

fn is_prime(n: u64, small_primes: &[u64]) -> bool {
    if n < 2 {
        return false;
    }
    match small_primes.iter().find(|prime| n.is_multiple_of(**prime)) {
        Some(prime) => n == *prime,
        None => small_primes[..12].iter().all(|base| passes_miller_rabin(n, *base)),
    }
}

fn passes_miller_rabin(n: u64, base: u64) -> bool {
    let twos = (n - 1).trailing_zeros();
    let mut x = power(base, (n - 1) >> twos, n);
    if x == 1 {
        return true;
    }
    for _ in 0..twos {
        if x == n - 1 {
            return true;
        }
        x = product(x, x, n);
    }
    false
}

fn product(a: u64, b: u64, n: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(n)) as u64
}

fn power(mut base: u64, mut exponent: u64, n: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, base, n);
        }
        base = product(base, base, n);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_what_resembles_them() {
        let small = small_primes();
        let primes = (0..10_000).filter(|n| is_prime(*n, &small)).count();
        assert_eq!(primes, 1229);
        // The largest below 2⁶³ and 2⁶⁴.
        assert!(is_prime(9_223_372_036_854_775_783, &small));
        assert!(is_prime(18_446_744_073_709_551_557, &small));
        // A strong pseudoprime to the first nine primes, and the square of a prime.
        assert!(!is_prime(3_825_123_056_546_413_051, &small));
        assert!(!is_prime(4_294_967_291 * 4_294_967_291, &small));
    }
}
