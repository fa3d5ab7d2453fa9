//! The mathematics against independent methods: sieves, deterministic Miller–Rabin, and numbers built to deceive.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use num_bigint::BigUint;
use primacy::prime::{Certainty, Number, NumberError, Verdict, check, is_prime};

const SEED: u64 = 0x005e_ed0f_9417_e5aa;

/// The first 13 primes: Miller–Rabin to the first 12 of them is exact below 2⁶⁴, to all below 3.3×10²⁴
/// (J. Sorenson, J. Webster, "Strong pseudoprimes to twelve prime bases", Math. Comp. 86, 2017).
const BASES: [u64; 13] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41];

// ── helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Exactly `bits` long.
    fn big(&mut self, bits: u64) -> BigUint {
        let words = (0..bits.div_ceil(32)).map(|_| self.next() as u32).collect();
        let top = BigUint::from(1_u8) << (bits - 1);
        BigUint::new(words) % &top + &top
    }
}

fn power_mod(base: u64, mut exponent: u64, modulus: u64) -> u64 {
    let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(modulus)) as u64;
    let (mut square, mut power) = (base % modulus, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    power
}

fn is_strong_pseudoprime_or_prime(n: u64, base: u64) -> bool {
    let twos = (n - 1).trailing_zeros();
    (0..twos).any(|two| power_mod(base, (n - 1) >> twos << two, n) == n - 1)
        || power_mod(base, (n - 1) >> twos, n) == 1
}

fn miller_rabin(n: u64) -> bool {
    if let Some(base) = BASES.iter().find(|base| n.is_multiple_of(**base)) {
        return n == *base;
    }
    n > 1 && BASES[..12].iter().all(|base| is_strong_pseudoprime_or_prime(n, *base))
}

fn big_miller_rabin(n: &BigUint, bases: &[u64]) -> bool {
    let one = BigUint::from(1_u8);
    let minus_one = n - &one;
    let twos = minus_one.trailing_zeros().unwrap();
    n.bit(0)
        && bases.iter().all(|base| {
            let mut power = BigUint::from(*base).modpow(&(&minus_one >> twos), n);
            power == one
                || (0..twos).any(|_| {
                    let is_minus_one = power == minus_one;
                    power = &power * &power % n;
                    is_minus_one
                })
        })
}

fn odd_primes_below(limit: usize) -> Vec<u64> {
    let mut is_composite = vec![false; limit];
    let mut primes = Vec::new();
    for n in (3..limit).step_by(2) {
        if !is_composite[n] {
            primes.push(n as u64);
            (n * n..limit).step_by(2 * n).for_each(|multiple| is_composite[multiple] = true);
        }
    }
    primes
}

/// A stretch of odd numbers to be sieved. It may end at the last `u64`.
struct Window {
    first: u64,
    is_composite: Vec<bool>,
}

impl Window {
    fn new(first: u64, odd_numbers: usize) -> Self {
        assert!(first % 2 == 1);
        Window { first, is_composite: vec![false; odd_numbers] }
    }

    fn cross_off(&mut self, prime: u64) {
        // The first odd multiple from `first` on, or the square: smaller multiples have a smaller factor.
        let rest = self.first % prime;
        let gap = if rest == 0 { 0 } else { prime - rest };
        let mut index = if gap % 2 == 0 { gap / 2 } else { (gap + prime) / 2 };
        if prime * prime > self.first {
            index = (prime * prime - self.first) / 2;
        }
        while let Some(flag) = self.is_composite.get_mut(index as usize) {
            *flag = true;
            index += prime;
        }
    }

    fn compare(&self) {
        for (index, is_composite) in self.is_composite.iter().enumerate() {
            let n = self.first + 2 * index as u64;
            assert_eq!(is_prime(n), !is_composite && n > 1, "{n}");
        }
    }
}

fn check_now(n: &str) -> Verdict {
    let number: Number = n.parse().unwrap();
    check(&number, &AtomicBool::new(false)).expect("nobody stopped it")
}

fn check_big(n: &BigUint) -> bool {
    let verdict = check_now(&n.to_string());
    // Which longer primes are proven, and whether the proofs hold, is tested in crates/prime/tests/evidence.rs.
    let must_be_proven = n.bits() <= 81 || !verdict.is_prime;
    assert!(verdict.certainty == Certainty::Proven || !must_be_proven, "{n}");
    verdict.is_prime
}

fn big(value: u64) -> BigUint {
    BigUint::from(value)
}

fn power_of_two(exponent: u64) -> BigUint {
    big(1) << exponent
}

// ── below 2⁶⁴ ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_number_below_2_to_the_24_agrees_with_a_sieve() {
    let mut window = Window::new(1, 1 << 23);
    odd_primes_below(1 << 12).iter().for_each(|prime| window.cross_off(*prime));
    window.compare();
    assert!((0..1 << 24).step_by(2).all(|n| is_prime(n) == (n == 2)));
}

#[test]
#[ignore = "a minute: scripts/test.sh runs it"]
fn every_odd_number_below_10_to_the_9_agrees_with_a_sieve() {
    // The last window ends a little after 10⁹.
    let primes = odd_primes_below(31_700);
    for first in (1..1_000_000_000).step_by(2 << 20) {
        let mut window = Window::new(first, 1 << 20);
        primes.iter().for_each(|prime| window.cross_off(*prime));
        window.compare();
    }
}

#[test]
fn windows_of_a_sieve_agree() {
    let primes = odd_primes_below((1 << 22) + 2000);
    for edge in [1_u64 << 28, 1 << 32, 4_759_123_141, 1 << 40, 1 << 44] {
        let mut window = Window::new((edge - 50_000) | 1, 50_000);
        primes.iter().for_each(|prime| window.cross_off(*prime));
        window.compare();
    }
}

#[test]
#[ignore = "a minute: scripts/test.sh runs it"]
fn windows_of_a_sieve_at_the_upper_edges_agree() {
    let length = 1 << 17;
    let mut windows = [
        Window::new((1 << 62) - length + 1, length as usize),
        Window::new((1 << 63) - length + 1, length as usize),
        Window::new(u64::MAX - 2 * (length - 1), length as usize),
    ];
    let small_primes = odd_primes_below((1 << 16) + 1);
    for first in (1..1_u64 << 32).step_by(2 << 20) {
        let mut base = Window::new(first, 1 << 20);
        small_primes.iter().for_each(|prime| base.cross_off(*prime));
        let odd = (first..).step_by(2).zip(&base.is_composite);
        for (prime, _) in odd.filter(|(n, is_composite)| *n > 1 && *n < 1 << 32 && !**is_composite) {
            windows.iter_mut().for_each(|window| window.cross_off(prime));
        }
    }
    windows.iter().for_each(Window::compare);
}

#[test]
fn edges_agree_with_miller_rabin() {
    for edge in [1_u64 << 31, 1 << 32, 1 << 53, 1 << 62, 1 << 63] {
        (edge - 1000..edge + 1000).for_each(|n| assert_eq!(is_prime(n), miller_rabin(n), "{n}"));
    }
    (u64::MAX - 2000..=u64::MAX).for_each(|n| assert_eq!(is_prime(n), miller_rabin(n), "{n}"));
}

#[test]
fn random_numbers_of_every_length_agree_with_miller_rabin() {
    let mut random = Random(SEED);
    for round in 0..3000 {
        for bits in 1..=64 {
            let n = random.next() >> (64 - bits) | 1 << (bits - 1);
            assert_eq!(is_prime(n), miller_rabin(n), "{n}, round {round}, seed {SEED:#x}");
        }
    }
}

#[test]
fn known_pseudoprimes_are_composite() {
    let strong_to_many_bases = [
        2047,
        1_373_653,
        25_326_001,
        3_215_031_751,
        2_152_302_898_747,
        3_474_749_660_383,
        341_550_071_728_321,
        3_825_123_056_546_413_051,
    ];
    let strong_lucas =
        [5459, 5777, 10_877, 16_109, 18_971, 22_499, 24_569, 25_199, 40_309, 58_519, 75_077, 97_439];
    let carmichael =
        [561, 1105, 1729, 2465, 2821, 6601, 8911, 10_585, 825_265, 321_197_185, 9_746_347_772_161];
    for n in strong_to_many_bases.into_iter().chain(strong_lucas).chain(carmichael) {
        assert!(!is_prime(n), "{n}");
        assert!(!miller_rabin(n), "{n}: the list is wrong");
    }
}

#[test]
fn chernicks_carmichael_numbers_are_composite() {
    let mut random = Random(SEED);
    let (mut found, limit) = (0, 240_000);
    for k in (0..400_000).map(|_| random.below(limit)).chain(1..2000) {
        let factors = [6 * k + 1, 12 * k + 1, 18 * k + 1];
        if factors.iter().all(|factor| miller_rabin(*factor)) {
            let n = factors[0] * factors[1] * factors[2];
            assert!(!is_prime(n), "{n} from k = {k}");
            found += 1;
        }
    }
    assert!(found > 100, "only {found}, seed {SEED:#x}");
}

#[test]
fn products_of_related_primes_are_composite() {
    let mut random = Random(SEED);
    let mut strong = 0;
    for round in 0..60_000 {
        let k = random.below(1 << (8 + round % 23)) + 2;
        for multiplier in [2, 3, 4] {
            let (smaller, larger) = (k + 1, multiplier * k + 1);
            if miller_rabin(smaller) && miller_rabin(larger) {
                let n = smaller * larger;
                assert!(!is_prime(n), "{n} = {smaller} * {larger}");
                strong += u32::from(is_strong_pseudoprime_or_prime(n, 2));
            }
        }
    }
    assert!(strong > 100, "only {strong} strong pseudoprimes to base 2, seed {SEED:#x}");
}

#[test]
fn squares_and_products_of_close_primes_are_composite() {
    for prime in odd_primes_below(100_000).into_iter().chain([4_294_967_291, 4_294_967_279, 3_037_000_493]) {
        assert!(!is_prime(prime * prime), "{prime} squared");
    }
    for composite in
        [1093 * 1093, 3511 * 3511, (1093 * 3511_u64).pow(2), 1093 * 1093 * 3511 * 3511 * 1_048_573]
    {
        assert!(!is_prime(composite), "{composite}");
    }
    assert!(!is_prime(4_294_967_291 * 4_294_967_279));
    assert!(!is_prime(4_294_967_291 * 4_294_967_291));
    assert!(
        is_prime(4_294_967_291) && is_prime(18_446_744_073_709_551_557) && is_prime(1093) && is_prime(3511)
    );
}

#[test]
fn short_and_negative_numbers_are_proven() {
    let proven = |is_prime| Verdict { is_prime, certainty: Certainty::Proven };
    let long_negative = format!("-{}", power_of_two(127) - 1_u8);
    for text in ["0", "1", "-1", "-2", "-7", "-18446744073709551557", &long_negative, "18446744073709551615"]
    {
        assert_eq!(check_now(text), proven(false), "{text}");
    }
    for text in ["2", "3", "17", "18446744073709551557"] {
        assert_eq!(check_now(text), proven(true), "{text}");
    }
}

// ── 2⁶⁴ and above ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn just_above_2_to_the_64_agrees_with_exact_miller_rabin() {
    for n in (0..6000_u64).map(|offset| power_of_two(64) + offset) {
        assert_eq!(check_big(&n), big_miller_rabin(&n, &BASES), "{n}");
    }
    let mut random = Random(SEED);
    for n in (0..3000).map(|round| random.big(65 + round % 16) | big(1)) {
        assert_eq!(check_big(&n), big_miller_rabin(&n, &BASES), "{n}, seed {SEED:#x}");
    }
}

#[test]
fn edges_of_machine_words_agree_with_miller_rabin() {
    for exponent in [127, 128, 129, 191, 192, 193, 256] {
        for offset in 0..300_u64 {
            for n in [power_of_two(exponent) + offset, power_of_two(exponent) - offset - 1_u8] {
                assert_eq!(check_big(&n), big_miller_rabin(&n, &BASES), "{n}");
            }
        }
    }
}

#[test]
fn random_long_numbers_agree_with_miller_rabin() {
    let mut random = Random(SEED);
    let mut primes = 0;
    for round in 0..1200 {
        let n = random.big(66 + round % 450) | big(1);
        let bases: Vec<u64> = (0..24).map(|_| random.below(1 << 60) + 2).collect();
        assert_eq!(check_big(&n), big_miller_rabin(&n, &bases), "{n}, seed {SEED:#x}");
        primes += u32::from(check_big(&n));
    }
    assert!(primes > 3, "only {primes} primes, seed {SEED:#x}");
}

#[test]
fn mersenne_numbers_and_their_neighbours() {
    for exponent in [89, 107, 127, 521, 607, 1279, 2203] {
        let mersenne = power_of_two(exponent) - 1_u8;
        assert!(check_big(&mersenne), "2^{exponent} - 1");
        assert!(!check_big(&(&mersenne - 2_u8)) || big_miller_rabin(&(&mersenne - 2_u8), &BASES));
        assert!(!check_big(&(&mersenne + 1_u8)) && !check_big(&(&mersenne - 1_u8)));
        assert!(!check_big(&(&mersenne + 2_u8)), "2^{exponent} + 1 is a multiple of 3");
    }
    for exponent in [67, 71, 73, 79, 83, 97, 101, 103, 109, 137, 139, 149, 257] {
        assert!(!check_big(&(power_of_two(exponent) - 1_u8)), "2^{exponent} - 1");
    }
}

#[test]
fn known_primes_of_many_shapes() {
    for (exponent, offset) in
        [(24, 7), (30, 57), (50, 151), (60, 7), (99, 289), (100, 267), (200, 357), (499, 153)]
    {
        assert!(check_big(&(big(10).pow(exponent) + offset as u64)), "10^{exponent} + {offset}");
    }
    for (factor, exponent) in [(3, 66), (3, 189), (3, 534), (5, 75), (5, 127), (7, 830), (5, 1947)] {
        assert!(check_big(&(big(factor) * power_of_two(exponent) + 1_u8)), "{factor} * 2^{exponent} + 1");
    }
    let factorial = |end: u64| (2..=end).map(big).product::<BigUint>();
    for (end, prime) in [(27, 1), (37, 1), (41, 1), (73, 1), (77, 1), (116, 1), (154, 1)] {
        assert!(check_big(&(factorial(end) + prime as u8)), "{end}! + 1");
    }
    for end in [30, 32, 33, 38, 94, 166] {
        assert!(check_big(&(factorial(end) - 1_u8)), "{end}! - 1");
    }
    let primorial = |end: usize| 2_u8 * odd_primes_below(end + 1).into_iter().map(big).product::<BigUint>();
    assert!(check_big(&(primorial(379) + 1_u8)) && check_big(&(primorial(1019) + 1_u8)));
    assert!(check_big(&(primorial(89) - 1_u8)) && check_big(&(primorial(317) - 1_u8)));
}

#[test]
#[ignore = "a minute: scripts/test.sh runs it"]
fn known_primes_of_thousands_of_digits() {
    assert!(check_big(&(big(10).pow(999) + 7_u8)));
    assert!(check_big(&(power_of_two(4423) - 1_u8)));
    assert!(check_big(&(big(5) * power_of_two(13_165) + 1_u8)));
    assert!(check_big(&(power_of_two(19_937) - 1_u8)));
    assert!(!check_big(&((power_of_two(4423) - 1_u8) * (power_of_two(4253) - 1_u8))));
}

#[test]
fn long_pseudoprimes_are_composite() {
    // The least strong pseudoprimes to the first 12 and 13 prime bases.
    assert!(!check_big(&"318665857834031151167461".parse().unwrap()));
    assert!(!check_big(&"3317044064679887385961981".parse().unwrap()));
    let mut random = Random(SEED);
    let mut strong = 0;
    for _ in 0..200_000 {
        let k = random.below(1 << 56) + (1 << 40);
        let (smaller, larger) = (k + 1, 2 * k + 1);
        if is_prime(smaller) && is_prime(larger) {
            let n = big(smaller) * larger;
            assert!(!check_big(&n), "{n}");
            strong += u32::from(big_miller_rabin(&n, &[2]));
        }
    }
    assert!(strong > 3, "only {strong} strong pseudoprimes to base 2, seed {SEED:#x}");
}

#[test]
fn long_carmichael_numbers_are_composite() {
    let mut random = Random(SEED);
    let mut found = 0;
    for _ in 0..100_000 {
        let k = random.below(1 << 56) + (1 << 20);
        if [6, 12, 18].iter().all(|multiple| is_prime(multiple * k + 1)) {
            let n = big(6 * k + 1) * (12 * k + 1) * (18 * k + 1);
            assert_eq!(big(2).modpow(&(&n - 1_u8), &n), big(1), "{n} is a pseudoprime by construction");
            assert!(!check_big(&n), "{n}");
            found += 1;
        }
    }
    assert!(found > 3, "only {found}, seed {SEED:#x}");
}

#[test]
fn squares_and_products_of_long_primes_are_composite() {
    let primes = [89, 107, 127, 521, 607].map(|exponent| power_of_two(exponent) - 1_u8);
    for first in &primes {
        for second in &primes {
            assert!(!check_big(&(first * second)), "{first} * {second}");
        }
    }
    assert!(!check_big(&(big(1093 * 1093) * 3511_u64 * 3511_u64 * (power_of_two(127) - 1_u8))));
}

#[test]
fn a_raised_stop_ends_the_longest_check_at_once() {
    // Without a small factor, so that the power loop runs: it would run for ten seconds and more.
    let exponents = [19_937, 11_213, 1279, 607, 127];
    let product: BigUint = exponents.iter().map(|exponent| power_of_two(*exponent) - 1_u8).product();
    let number: Number = product.to_string().parse().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let checking = scope.spawn(|| check(&number, &stop));
        thread::sleep(Duration::from_millis(300));
        assert!(!checking.is_finished());
        let raised = Instant::now();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(checking.join().unwrap(), None);
        assert!(raised.elapsed() < Duration::from_millis(100), "{:?}", raised.elapsed());
    });
}

// ── the domain type ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn numbers_are_displayed_as_they_were_written() {
    let longest = "9".repeat(Number::DIGITS_MAX);
    let longest_negative = format!("-{longest}");
    let limit = power_of_two(64).to_string();
    for text in ["0", "1", "17", "-1", "-10", "18446744073709551615", &limit, &longest, &longest_negative] {
        let number: Number = text.parse().unwrap();
        assert_eq!(number.to_string(), text);
        assert_eq!(number.as_str(), text);
        assert_eq!(number.clone(), number);
    }
}

#[test]
fn integers_become_numbers() {
    for value in [0, 1, 17, u64::MAX] {
        assert_eq!(Number::from(value), value.to_string().parse().unwrap());
        assert_eq!(Number::from(value).equivalent_word(), Some(value));
    }
    for value in [i64::MIN, -1, 0, 17, i64::MAX] {
        assert_eq!(Number::from(value), value.to_string().parse().unwrap());
    }
    assert_eq!(Number::from(-17_i64).equivalent_word(), Some(0));
    assert_eq!("18446744073709551616".parse::<Number>().unwrap().equivalent_word(), None);
}

#[test]
fn anything_else_is_refused_and_says_why() {
    let not_integers = [
        "-", "--1", "+7", "1e3", "1.0", "0x11", " 17", "17 ", "1 7", "1_000", "1,000", "17\n", "\0", "abc",
        "١٧", "１７", "-+1", "1-", "−1", "NaN", "½",
    ];
    for text in not_integers {
        let error = text.parse::<Number>().unwrap_err();
        assert!(matches!(error, NumberError::NotADecimalInteger { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("such as 1000 or -5"), "{error}");
    }
    for text in ["00", "017", "-01", "-00", &"0".repeat(20_000)] {
        assert!(matches!(text.parse::<Number>(), Err(NumberError::LeadingZeros { .. })), "{text:?}");
    }
    assert_eq!("".parse::<Number>(), Err(NumberError::Empty));
    assert_eq!("-0".parse::<Number>(), Err(NumberError::NegativeZero));
    for sign in ["", "-"] {
        let text = format!("{sign}1{}", "0".repeat(Number::DIGITS_MAX));
        assert_eq!(text.parse::<Number>(), Err(NumberError::TooLong { digits: Number::DIGITS_MAX + 1 }));
    }
}

#[test]
fn an_error_never_repeats_a_long_text() {
    for text in ["x".repeat(1_000_000), "0".repeat(1_000_000), "1".repeat(1_000_000)] {
        assert!(text.parse::<Number>().unwrap_err().to_string().len() < 200);
    }
}

#[test]
fn the_estimated_cost_grows_with_the_length() {
    let cost = |digits: usize| "7".repeat(digits).parse::<Number>().unwrap().estimated_cost_us();
    assert_eq!(cost(19), 0);
    assert_eq!(Number::from(-17_i64).estimated_cost_us(), 0);
    let costs: Vec<u64> = [20, 100, 500, 1000, 4000, 10_000].map(cost).to_vec();
    assert!(costs.is_sorted_by(|shorter, longer| shorter < longer), "{costs:?}");
}
