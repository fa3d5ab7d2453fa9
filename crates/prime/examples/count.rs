//! Counts the primes of a range on some threads: `cargo run --release -p primacy-prime --example count 1 100000000000 2`.

use std::{
    ops::RangeInclusive,
    sync::Mutex,
    thread::{available_parallelism, scope},
    time::Instant,
};

use primacy_prime::{count_primes, segment_numbers};

/// Takes the next segment of what is left.
fn next(rest: &Mutex<Option<RangeInclusive<u64>>>) -> Option<RangeInclusive<u64>> {
    let mut rest = rest.lock().expect("no thread panics");
    let (from, to) = rest.take()?.into_inner();
    let end = to.min(from.saturating_add(segment_numbers(from) - 1));
    *rest = (end < to).then(|| end + 1..=to);
    Some(from..=end)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<u64>().expect("a number"));
    let from = arguments.next().expect("the first number");
    let to = arguments.next().expect("the last number");
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = arguments.next().map_or(cores, |threads| threads as usize);
    let (began, rest) = (Instant::now(), Mutex::new(Some(from..=to)));
    let count_some = || {
        let segments = std::iter::from_fn(|| next(&rest));
        segments.filter_map(|segment| count_primes(segment, &|| true)).sum::<u64>()
    };
    let count: u64 = scope(|scope| {
        let counting: Vec<_> = (0..threads).map(|_| scope.spawn(count_some)).collect();
        counting.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    println!("{count} in {:.3} s", began.elapsed().as_secs_f64());
}
