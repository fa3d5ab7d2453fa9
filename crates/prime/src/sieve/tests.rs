use std::{cell::Cell, ops::RangeInclusive};

use super::{
    NUMBERS, PrimeMap, SieveMethod, SieveWindow, WINDOW_BYTES_MAX, count_primes, for_each_prime,
    range_cost_us, segment_numbers,
};
use crate::is_prime;

fn list(range: RangeInclusive<u64>) -> Vec<u64> {
    let mut primes = Vec::new();
    for_each_prime(range, &|| true, |prime| primes.push(prime)).unwrap();
    primes
}

fn decided(range: RangeInclusive<u64>) -> Vec<u64> {
    range.filter(|number| is_prime(*number)).collect()
}

/// Where the parts meet: bytes, patterns, small and medium primes, blocks, squares of primes, halves of words, the end.
const EDGES: [u64; 16] = [
    0,
    30,
    1_849,
    2_209,
    4_096 * 4_096,
    (1 << 15) * NUMBERS,
    (1 << 18) * NUMBERS,
    WINDOW_BYTES_MAX * NUMBERS,
    1 << 32,
    (1 << 20) * (1 << 20),
    1_048_583 * 1_048_583,
    1_000_000_000_000_000,
    1 << 63,
    4_294_967_291 * 4_294_967_291,
    u64::MAX - 1_000,
    u64::MAX,
];

#[test]
fn both_ends_count_wherever_they_are() {
    for edge in EDGES {
        for (below, above) in [(0, 0), (0, 1), (1, 0), (7, 40), (60, 59), (1_000, 1_000)] {
            let range = edge.saturating_sub(below)..=edge.saturating_add(above);
            assert_eq!(list(range.clone()), decided(range.clone()), "{range:?}");
            assert_eq!(count_primes(range.clone(), &|| true), Some(decided(range).len() as u64));
        }
    }
}

#[test]
fn every_short_range_near_zero_is_right() {
    for from in 0..=70 {
        for to in 0..=70 {
            assert_eq!(list(from..=to), decided(from..=to), "{from}..={to}");
        }
    }
}

/// OEIS A006880.
#[test]
fn the_numbers_of_primes_below_powers_of_ten_are_known() {
    let known = [4, 25, 168, 1_229, 9_592, 78_498, 664_579, 5_761_455, 50_847_534];
    for (exponent, count) in (1..).zip(known) {
        assert_eq!(count_primes(0..=10_u64.pow(exponent), &|| true), Some(count), "10^{exponent}");
    }
}

/// By primesieve 11.0.
#[test]
fn windows_of_all_heights_are_known() {
    let known = [(1_000_000_000_000, 10_000_000, 361_726), (1_000_000_000_000_000, 100_000_000, 2_893_937)];
    for (from, numbers, count) in known {
        assert_eq!(count_primes(from..=from + numbers, &|| true), Some(count), "{from}");
    }
}

/// T. Oliveira e Silva, S. Herzog, S. Pardi, Math. Comp. 83, 2014: the largest gaps below 2⁶⁴.
#[test]
fn the_largest_gaps_are_seen() {
    for (from, gap) in [(1_425_172_824_437_699_411, 1_476), (18_361_375_334_787_046_697, 1_550)] {
        assert_eq!(list(from..=from + gap), [from, from + gap]);
    }
}

#[test]
fn both_methods_agree() {
    for from in [1 << 42, 1 << 50, 1 << 60] {
        let range = from..=from + 600_000;
        let count = |method| {
            let (first, last) = (range.start() / NUMBERS, range.end() / NUMBERS);
            let window = SieveWindow {
                first,
                bytes: (last - first + 1) as usize,
                range: range.clone(),
                method: Some(method),
            };
            let mut primes = 0;
            let mut visit = |_, block: &[u8]| {
                primes += block.iter().map(|byte| byte.count_ones()).sum::<u32>();
                Some(())
            };
            window.sieve(&|| true, &mut visit).unwrap();
            primes
        };
        let sieved = SieveMethod { primes_max: range.end().isqrt(), decides_the_rest: false, cost_ns: 0.0 };
        let decided = SieveMethod { primes_max: 1_000, decides_the_rest: true, cost_ns: 0.0 };
        assert_eq!(count(sieved), count(decided), "{from}");
    }
}

#[test]
fn the_method_depends_on_the_length_and_the_height() {
    let decides = |numbers: f64, end| SieveMethod::cheapest(numbers, end).decides_the_rest;
    assert!(decides(1_000.0, u64::MAX) && decides(1_000_000.0, 1 << 60));
    assert!(!decides(1e9, u64::MAX) && !decides(1e6, 1_000_000_000_000) && !decides(10.0, 1_000));
}

#[test]
fn it_stops_when_told_to() {
    for range in [0..=u64::MAX, u64::MAX - 1_000_000_000..=u64::MAX, u64::MAX - 1_000_000..=u64::MAX] {
        let looks = Cell::new(0);
        let go_on = || {
            looks.set(looks.get() + 1);
            looks.get() < 20
        };
        assert_eq!(count_primes(range, &go_on), None);
        assert_eq!(looks.get(), 20);
    }
}

#[test]
fn a_map_has_the_primes_of_its_range_and_no_other_bits() {
    for (from, to) in
        [(0, 0), (0, 100), (7, 7), (31, 61), (1_000_000, 1_003_000), (u64::MAX - 1_000, u64::MAX)]
    {
        let map = PrimeMap::sieve(from..=to, &|| true).unwrap();
        assert_eq!(map.iter().collect::<Vec<_>>(), decided(from..=to), "{from}..={to}");
        assert_eq!(map.count(), decided(from..=to).len() as u64);
        assert_eq!(PrimeMap::from_bytes(from..=to, map.bytes().to_vec()), Some(map.clone()));
        assert_eq!(PrimeMap::from_bytes(from..=to, [map.bytes(), &[0]].concat()), None);
    }
    assert!(PrimeMap::from_bytes(31..=61, vec![u8::MAX, 1]).is_some());
    assert_eq!(PrimeMap::from_bytes(37..=61, vec![u8::MAX, 1]), None, "a bit for 31");
    assert_eq!(PrimeMap::from_bytes(31..=61, vec![u8::MAX, 2]), None, "a bit for 67");
}

#[test]
fn segments_are_some_tenths_of_a_second_and_at_most_a_window() {
    for exponent in 0..20 {
        let from = 10_u64.pow(exponent);
        let numbers = segment_numbers(from);
        let cost_us = range_cost_us(&(from..=from.saturating_add(numbers - 1)));
        assert!(numbers <= WINDOW_BYTES_MAX * NUMBERS, "10^{exponent}: {numbers}");
        assert!((50_000..=5_000_000).contains(&cost_us), "10^{exponent}: {cost_us} us");
    }
}
