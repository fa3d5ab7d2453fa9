//! The kernels alone: `cargo bench -p primacy-prime`. Words are timed in lots of 1,000, inputs from a fixed seed,
//! beside the crates `machine-prime` and `num-prime`.

use std::{hint::black_box, sync::atomic::AtomicBool, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use num_bigint::BigUint;
use primacy_prime::{Number, check, is_prime};

const LOT: usize = 1000;

/// SplitMix64.
fn random_words() -> impl Iterator<Item = u64> {
    let mut state = 7_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

fn primes_of_bits(bits: u32) -> impl Iterator<Item = u64> {
    random_words().map(move |word| word >> (64 - bits) | 1 << (bits - 1)).filter(|word| is_prime(*word))
}

type Kernel = fn(u64) -> bool;

/// What is timed, by name: this crate's kernel, and those beside it.
const KERNELS: [(&str, Kernel); 3] = [
    ("primacy", is_prime),
    // Not its `is_prime_wc`, which passes some composites.
    ("machine-prime", |word| machine_prime::is_prime(word)),
    ("num-prime", num_prime::nt_funcs::is_prime64),
];

/// Words of one kind: a long list, for 1,000 repeated numbers would teach the branch predictor the answers.
fn words(criterion: &mut Criterion) {
    let many = 64 * LOT;
    let halves: Vec<u64> = primes_of_bits(32).take(2 * many).collect();
    words_of(criterion, "random 64-bit", random_words().take(many).collect());
    words_of(criterion, "random 63-bit", random_words().map(|word| word >> 1).take(many).collect());
    words_of(criterion, "63-bit prime", primes_of_bits(63).take(many).collect());
    words_of(criterion, "64-bit semiprime", halves.chunks(2).map(|pair| pair[0] * pair[1]).collect());
    words_of(criterion, "below 2^20", random_words().map(|word| word >> 44).take(many).collect());
}

/// Lot after lot of the list, the same for each kernel.
fn words_of(criterion: &mut Criterion, kind: &str, words: Vec<u64>) {
    let mut group = criterion.benchmark_group(kind);
    group.throughput(Throughput::Elements(LOT as u64));
    for (name, kernel) in KERNELS {
        let count = |lot: &[u64]| lot.iter().filter(|word| kernel(black_box(**word))).count();
        let mut lots = words.chunks(LOT).cycle();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| lots.next().unwrap_or_default(), count, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn long(criterion: &mut Criterion) {
    let stop = AtomicBool::new(false);
    let mut group = criterion.benchmark_group("long");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    // Primes of Proth's form k·2ᵉ + 1: their n + 1 is no power of two, hence the Lucas ladder is as long as n.
    for (factor, exponent) in [(3_u64, 66_u32), (3, 534), (5, 1947), (3, 3912), (5, 13_165)] {
        let prime = BigUint::from(factor) * BigUint::from(2_u8).pow(exponent) + 1_u8;
        let text = prime.to_string();
        let number: Number = text.parse().expect("decimal digits");
        group.bench_function(format!("prime of {} bits, {} digits", prime.bits(), text.len()), |bencher| {
            bencher.iter(|| check(black_box(&number), &stop));
        });
    }
    group.finish();
}

fn parsing(criterion: &mut Criterion) {
    let longest = "7".repeat(Number::DIGITS_MAX);
    let mut group = criterion.benchmark_group("parse");
    group.bench_function("19 digits", |bencher| {
        bencher.iter(|| black_box("9223372036854775783").parse::<Number>())
    });
    group.bench_function("10,000 digits", |bencher| bencher.iter(|| black_box(&longest).parse::<Number>()));
    group.finish();
}

criterion_group!(benches, words, long, parsing);
criterion_main!(benches);
