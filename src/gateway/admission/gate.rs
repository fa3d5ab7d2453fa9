//! Lets a bounded number in at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::counted::Counted;

/// Lets a bounded number in at once.
#[derive(Debug)]
pub struct Gate {
    inside: AtomicU64,
    /// Requests whose body is still arriving: they are counted, and have no place.
    arriving: AtomicU64,
    max: u64,
}

/// A place inside a [`Gate`], or one of those who arrive, until it is dropped.
pub type InFlightPass<'a> = Counted<&'a AtomicU64>;

impl Gate {
    /// A gate that lets in `max` at once.
    pub fn new(max: usize) -> Self {
        Self { inside: AtomicU64::new(0), arriving: AtomicU64::new(0), max: max as u64 }
    }

    /// A place inside, unless it is full.
    pub fn enter(&self) -> Option<InFlightPass<'_>> {
        let (pass, before) = Counted::after(&self.inside, 1);
        // A pass that comes too many leaves again by being dropped.
        (before < self.max).then_some(pass)
    }

    /// Counts somebody who arrives.
    pub fn arrive(&self) -> InFlightPass<'_> {
        Counted::new(&self.arriving, 1)
    }

    /// How many are inside or arrive.
    pub fn count(&self) -> u64 {
        self.inside.load(Relaxed) + self.arriving.load(Relaxed)
    }

    /// Whether nobody else is let in.
    pub fn is_full(&self) -> bool {
        self.inside.load(Relaxed) >= self.max
    }
}
