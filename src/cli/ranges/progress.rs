//! How far a count is: a bar, the count, the rate, the time left, and each worker's share.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::api::ranges::{NumberRange, WorkShares};

pub(super) struct CountBar {
    bar: ProgressBar,
    range: NumberRange,
    began: Instant,
}

impl CountBar {
    /// Shown, or kept for itself.
    pub(super) fn new(is_shown: bool, range: NumberRange) -> Self {
        let bar = match is_shown {
            false => ProgressBar::hidden(),
            true => ProgressBar::new(range.numbers()),
        };
        // How long it takes is known when something is done.
        set_template(&bar, "{bar:20} {percent}%, nothing counted yet");
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, range, began: Instant::now() }
    }

    pub(super) fn show(&self, counted_to: u64, count: u64, shares_of: &WorkShares) {
        let done = self.range.first(counted_to - self.range.from + 1).numbers();
        let rate = (done as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64;
        self.bar.set_position(done);
        self.bar.set_prefix(format!("{} primes, {} million numbers/s", HumanCount(count), rate / 1_000_000));
        self.bar.set_message(shares(shares_of));
        // Many workers take a line of their own, of which a narrow terminal shows the beginning.
        set_template(&self.bar, "{bar:20} {percent}%, {prefix}, {eta} left\n{wide_msg}");
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Who did how much, in per cent of what is done.
pub(super) fn shares(shares: &WorkShares) -> String {
    let total = shares.iter().map(|(_, numbers)| numbers as f64).sum::<f64>();
    let share = |(name, numbers): (&str, u64)| format!("{name} {:.0} %", 100.0 * numbers as f64 / total);
    shares.iter().map(share).collect::<Vec<_>>().join(", ")
}
