//! Lets a bounded number in at once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Lets a bounded number in at once.
#[derive(Debug)]
pub struct Gate {
    inside: AtomicUsize,
    /// Those who are not there as a whole yet: they have no place, and take none from others.
    arriving: AtomicUsize,
    max: usize,
}

/// A place inside a [`Gate`], or one of those who arrive, until it is dropped.
#[derive(Debug)]
pub struct InFlightPass<'a>(&'a AtomicUsize);

impl Gate {
    /// A gate that lets in `max` at once.
    pub fn new(max: usize) -> Self {
        Self { inside: AtomicUsize::new(0), arriving: AtomicUsize::new(0), max }
    }

    /// A place inside, unless it is full.
    pub fn enter(&self) -> Option<InFlightPass<'_>> {
        let pass = InFlightPass(&self.inside);
        // A pass that comes too many leaves again by being dropped.
        (self.inside.fetch_add(1, Relaxed) < self.max).then_some(pass)
    }

    /// Counts somebody who arrives.
    pub fn arrive(&self) -> InFlightPass<'_> {
        self.arriving.fetch_add(1, Relaxed);
        InFlightPass(&self.arriving)
    }

    /// How many are inside or arrive.
    pub fn count(&self) -> usize {
        self.inside.load(Relaxed) + self.arriving.load(Relaxed)
    }

    /// Whether nobody else is let in.
    pub fn is_full(&self) -> bool {
        self.inside.load(Relaxed) >= self.max
    }
}

impl Drop for InFlightPass<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
