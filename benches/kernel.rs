//! The kernels alone: `cargo bench --bench kernel`. Words are timed in lots of 1,000, inputs from a fixed seed.

use std::{hint::black_box, sync::atomic::AtomicBool, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use num_bigint::BigUint;
use primacy::prime::{Number, check, is_prime};

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

fn words(criterion: &mut Criterion) {
    let random: Vec<u64> = random_words().take(64 * LOT).collect();
    let primes: Vec<u64> = primes_of_bits(63).take(LOT).collect();
    let halves: Vec<u64> = primes_of_bits(32).take(2 * LOT).collect();
    let semiprimes: Vec<u64> = halves.chunks(2).map(|pair| pair[0] * pair[1]).collect();

    let mut group = criterion.benchmark_group("word");
    group.throughput(Throughput::Elements(LOT as u64));
    let count = |lot: &[u64]| lot.iter().filter(|word| is_prime(black_box(**word))).count();
    // Lot after lot of a long list: 1,000 repeated numbers would teach the branch predictor the answers.
    let mut lots = random.chunks(LOT).cycle();
    group.bench_function("random 64-bit", |bencher| {
        bencher.iter_batched(|| lots.next().unwrap_or_default(), count, BatchSize::SmallInput);
    });
    group.bench_function("63-bit prime", |bencher| bencher.iter(|| count(&primes)));
    group.bench_function("64-bit semiprime", |bencher| bencher.iter(|| count(&semiprimes)));
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
