//! What a run gave.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Reply, numbers::Entry, pace::Turn};

/// Steps within a doubling: a latency is known to 1.6 %.
const STEPS: u64 = 64;

/// Durations, in nanoseconds, counted in steps that grow with them.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let value = duration.as_nanos() as u64;
        let place = place_of(value);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The duration that this share of all does not exceed, in microseconds.
    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        place.map_or(0.0, |place| end_of(place).min(self.max) as f64 / 1e3)
    }
}

/// `STEPS` places for each doubling; below twice `STEPS` each value has one of its own.
fn place_of(value: u64) -> usize {
    let shift = (value / STEPS).checked_ilog2().unwrap_or(0);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a place.
fn end_of(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place / STEPS).max(1) - 1;
    ((place - shift * STEPS + 1) << shift) - 1
}

/// Counts, latencies, and who did the work.
pub struct Report {
    began: Instant,
    lasted: Duration,
    right: u64,
    wrong: u64,
    failed: u64,
    latency: Histogram,
    /// How late requests left by the fault of the load program itself.
    late: Histogram,
    shares: BTreeMap<String, u64>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            lasted: Duration::ZERO,
            right: 0,
            wrong: 0,
            failed: 0,
            latency: Histogram::default(),
            late: Histogram::default(),
            shares: BTreeMap::new(),
        }
    }
}

impl Report {
    /// A request leaves.
    pub fn sent(&mut self, turn: Turn) {
        if turn.waited {
            self.late.add(turn.due.elapsed());
        }
    }

    /// Its answer has come, or why it has not.
    pub fn answered(&mut self, turn: Turn, entry: Entry, reply: Result<Reply, String>) {
        self.latency.add(turn.due.elapsed());
        match reply {
            Ok(reply) => self.judge(entry, reply.is_prime, &reply.processed_by),
            Err(why) => self.fail(&why),
        }
    }

    /// An answer for this number.
    pub fn judge(&mut self, entry: Entry, is_prime: bool, processed_by: &str) {
        match self.shares.get_mut(processed_by) {
            Some(share) => *share += 1,
            None => drop(self.shares.insert(processed_by.to_owned(), 1)),
        }
        if is_prime == entry.is_prime {
            self.right += 1;
            return;
        }
        self.wrong += 1;
        self.tell(format_args!("wrong: {entry:?}, and {processed_by} says {is_prime}"));
    }

    fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.tell(format_args!("failed: {why}"));
    }

    /// The first few are enough.
    fn tell(&self, what: impl std::fmt::Display) {
        if self.wrong + self.failed <= 3 {
            eprintln!("load: {what}");
        }
    }

    pub fn finish(mut self) -> Self {
        self.lasted = self.began.elapsed();
        self
    }

    pub fn is_clean(&self) -> bool {
        self.right > 0 && self.wrong == 0 && self.failed == 0
    }

    pub fn to_json(&self) -> Value {
        json!({
            "right": self.right,
            "wrong": self.wrong,
            "failed": self.failed,
            "seconds": self.lasted.as_secs_f64(),
            "per_second": self.right as f64 / self.lasted.as_secs_f64(),
            "p50_us": self.latency.quantile_us(0.5),
            "p99_us": self.latency.quantile_us(0.99),
            "p999_us": self.latency.quantile_us(0.999),
            "max_us": self.latency.max as f64 / 1e3,
            "late_p999_us": self.late.quantile_us(0.999),
            "shares": self.shares,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_the_values_that_it_names() {
        for value in (0..100_000).chain([1 << 40, u64::MAX >> 1]) {
            let place = place_of(value);
            assert!(value <= end_of(place), "{value}");
            assert!(place == 0 || end_of(place - 1) < value, "{value}");
            assert!(end_of(place) - value <= value / STEPS, "{value} is only known as {}", end_of(place));
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.add(Duration::from_micros(us)));
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let quantile = histogram.quantile_us(share);
            assert!((exact..exact * 1.016).contains(&quantile), "{share}: {quantile}");
        }
    }
}
