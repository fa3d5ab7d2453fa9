//! Moments, apart from durations: a moment and an age cannot be mixed up.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// A moment, by the caller's clock: how long its node had run by then. The clock never goes back; it may stand still or
/// jump ahead, which is taken for a node that has slept.
///
/// ```
/// use primacy_election::Time;
/// use std::time::Duration;
///
/// let (noon, later) = (Time::at(Duration::from_secs(5)), Time::at(Duration::from_secs(7)));
/// assert_eq!(later.since(noon), Duration::from_secs(2));
/// assert_eq!(noon.since(later), Duration::ZERO, "an age is never negative");
/// assert_eq!(noon + Duration::from_secs(2), later);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// When the node started.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// Never.
    pub const MAX: Self = Self(Duration::MAX);

    /// So long after the start.
    #[inline]
    pub const fn at(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after the start.
    #[inline]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// From the earlier moment to this one; nothing if it is not earlier.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    /// The moment so long before, or the start.
    #[inline]
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
