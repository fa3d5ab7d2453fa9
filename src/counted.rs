//! A count of what is held, which cannot be forgotten to be lowered.

use std::{
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A part of a counter, for as long as it lives. The counter is borrowed, or shared by an `Arc`.
#[derive(Debug)]
pub struct Counted<C: Deref<Target = AtomicU64>> {
    counter: C,
    count: u64,
}

impl<C: Deref<Target = AtomicU64>> Counted<C> {
    /// Counts so many.
    pub fn new(counter: C, count: u64) -> Self {
        Self::after(counter, count).0
    }

    /// The same, and what the counter was before.
    pub fn after(counter: C, count: u64) -> (Self, u64) {
        let before = counter.fetch_add(count, Relaxed);
        (Self { counter, count }, before)
    }
}

impl<C: Deref<Target = AtomicU64>> Drop for Counted<C> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.count, Relaxed);
    }
}
