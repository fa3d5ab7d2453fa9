//! The sieve alone, on one core: `cargo bench -p primacy-prime --bench sieve`, beside the crate `primal-sieve` where that
//! can do the same, which is from 0 on.

use std::{hint::black_box, ops::RangeInclusive, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use primacy_prime::{count_primes, for_each_prime};

fn count(range: RangeInclusive<u64>) -> Option<u64> {
    count_primes(black_box(range), &|| true)
}

fn from_zero(criterion: &mut Criterion) {
    let numbers = 1_000_000_000;
    let mut group = criterion.benchmark_group("count 0 to 10^9");
    group.throughput(Throughput::Elements(numbers));
    group.bench_function("primacy", |bencher| bencher.iter(|| count(0..=numbers)));
    group.bench_function("primal-sieve", |bencher| {
        bencher.iter(|| primal_sieve::Sieve::new(black_box(numbers as usize)).prime_pi(numbers as usize));
    });
    group.finish();
}

fn at_heights(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count 10^8 numbers");
    group.throughput(Throughput::Elements(100_000_000));
    for exponent in [12, 15, 18] {
        let from = 10_u64.pow(exponent);
        group.bench_function(format!("from 10^{exponent}"), |bencher| {
            bencher.iter(|| count(from..=from + 99_999_999));
        });
    }
    group.finish();
}

fn list(criterion: &mut Criterion) {
    let from = 10_u64.pow(15);
    let mut group = criterion.benchmark_group("list 10^7 numbers from 10^15");
    group.throughput(Throughput::Elements(10_000_000));
    group.bench_function("primacy", |bencher| {
        bencher.iter(|| {
            let mut sum = 0_u64;
            for_each_prime(black_box(from..=from + 9_999_999), &|| true, |prime| {
                sum = sum.wrapping_add(prime)
            })
            .map(|()| sum)
        });
    });
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default().sample_size(10).measurement_time(Duration::from_secs(10))
}

criterion_group!(name = benches; config = settings(); targets = from_zero, at_heights, list);
criterion_main!(benches);
