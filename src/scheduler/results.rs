//! The newest answers, kept in a ring.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{api::results::Recorded, limits::RESULTS_KEPT};

/// The last 1,000 answers of this node.
///
/// Each slot has a lock of its own, so that those who record wait for nobody: two meet only after a whole round.
#[derive(Debug)]
pub struct Results {
    slots: Box<[Mutex<Option<Recorded>>]>,
    next: AtomicUsize,
}

impl Default for Results {
    fn default() -> Self {
        let slots = (0..RESULTS_KEPT).map(|_| Mutex::default()).collect();
        Self { slots, next: AtomicUsize::new(0) }
    }
}

impl Results {
    /// Remembers an answer, and forgets the one before the last 1,000.
    pub fn record(&self, result: Recorded) {
        let slot = self.next.fetch_add(1, Relaxed) % self.slots.len();
        *self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    /// The newest answers, the newest first: at most `limit`, and no more than `bytes_max` of numbers.
    pub fn newest(&self, limit: usize, bytes_max: usize) -> Vec<Recorded> {
        let end = self.next.load(Relaxed);
        let count = self.slots.len();
        let mut bytes = 0;
        let slots = (1..=count.min(limit)).map(|back| &self.slots[(end + count - back % count) % count]);
        // A slot that was taken and is not filled yet is passed over.
        slots
            .filter_map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .take_while(|result| {
                bytes += result.number.text_len();
                bytes <= bytes_max
            })
            .collect()
    }
}
