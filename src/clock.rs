//! The clock of a node.

use std::time::{Duration, SystemTime};

use primacy_election::Time;
use rustix::time::{ClockId, clock_gettime};

/// Time since the node started, and how to say it to people. On Linux it goes on while the machine is suspended.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// By the system's clock.
    started: Duration,
    started_at: SystemTime,
}

impl Default for Clock {
    /// A clock that starts now.
    fn default() -> Self {
        Self { started: since_boot(), started_at: SystemTime::now() }
    }
}

impl Clock {
    /// The time since it started.
    pub fn now(&self) -> Time {
        Time::at(since_boot().saturating_sub(self.started))
    }

    /// When a timer must fire for a time of this clock: at once if it is past. A suspension delays timers.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::now() + time.since(self.now())
    }

    /// Milliseconds since the Unix epoch at a time of this clock.
    pub fn epoch_ms(&self, time: Time) -> u64 {
        let at = self.started_at + time.elapsed();
        at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
    }
}

/// The milliseconds of a duration, as JSON and the wire carry them.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The clock that leases are counted by: like etcd's, it must go on during a suspension.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// It never goes back, and counts from a moment that is the same for as long as the machine runs.
fn since_boot() -> Duration {
    let time = clock_gettime(CLOCK);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_jump_of_the_clock_what_was_due_is_due_at_once() {
        let mut clock = Clock::default();
        let due = clock.now() + Duration::from_secs(100);
        let far = clock.instant(due) - tokio::time::Instant::now();
        assert!(far > Duration::from_secs(90), "{far:?}");
        // As if the machine had slept for an hour.
        clock.started -= Duration::from_secs(3600).min(clock.started);
        assert!(clock.now() > due);
        assert!(clock.instant(due) <= tokio::time::Instant::now());
        let next = clock.instant(clock.now() + Duration::from_secs(1)) - tokio::time::Instant::now();
        assert!(next <= Duration::from_secs(1), "{next:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_counts_suspensions() {
        // Where nothing was suspended yet both clocks say the same: `unshare --time --boottime 9999` parts them.
        let now = || clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs();
        let (before, read, after) = (now(), since_boot().as_secs(), now());
        assert!((before..=after).contains(&read), "{read} is not from {before} to {after}");
    }
}
