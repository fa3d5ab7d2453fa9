//! The table of all attacks.

use std::time::Duration;

use crate::siege::Outcome;

/// Prints what the columns are.
pub fn head() {
    println!(
        "{:<13} {:<50} {:>6} {:>6} {:>7} {:>8} {:>8} {:>8} {:>4} {:>5} {:>7} {:>5}",
        "attack",
        "",
        "made",
        "asked",
        "success",
        "p50 ms",
        "p99 ms",
        "worst ms",
        "MiB",
        "files",
        "suspect",
        "elect"
    );
}

/// Prints a line for an attack, and below it what is not as it must be.
pub fn row(id: &str, what: &str, outcome: &Outcome) {
    let tally = &outcome.tally;
    println!(
        "{id:<13} {what:<50} {:>6} {:>6} {:>5.1} % {:>8} {:>8} {:>8} {:>4} {:>5} {:>7} {:>5}",
        outcome.connections,
        tally.times.len() + tally.failures.len(),
        tally.success(),
        milliseconds(tally.within(500)),
        milliseconds(tally.within(990)),
        milliseconds(tally.within(1000)),
        outcome.memory,
        outcome.descriptors,
        outcome.changes.suspicions,
        outcome.changes.elections,
    );
    for problem in &outcome.problems {
        println!("{:<13} FAILED: {problem}", "");
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
