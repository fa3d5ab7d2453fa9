//! Whose segment goes next: ranges take turns, whichever node they were asked of.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

/// Those who wait for a place at a worker.
#[derive(Debug, Default)]
pub struct Turns(Arc<TurnsShared>);

#[derive(Debug, Default)]
struct TurnsShared {
    line: Mutex<TurnLine>,
    /// RoomNotice when there may be a place again; whoever has the turn waits for it.
    room: Notify,
}

#[derive(Debug, Default)]
struct TurnLine {
    /// Whether somebody has the turn.
    is_taken: bool,
    waiting: WaitingRanges<oneshot::Sender<RangeTurn>>,
}

/// The right to take the next place. One has it at a time, and dropping it gives it to the next one.
#[derive(Debug)]
pub struct RangeTurn(Option<Arc<TurnsShared>>);

/// A place at a worker, until it is dropped.
#[derive(Debug)]
pub struct Place {
    // In this order: whoever is told finds the place free.
    _permit: Option<OwnedSemaphorePermit>,
    _told: RoomNotice,
}

/// Tells whoever has the turn, when it is dropped.
#[derive(Debug)]
struct RoomNotice(Arc<TurnsShared>);

/// What waits, by the id of its range: each range in order, and the ranges by turns.
#[derive(Debug)]
struct WaitingRanges<T>(VecDeque<(u64, VecDeque<T>)>);

impl Turns {
    /// Returns when it is the turn of this range, and of this one of those that wait for it.
    pub async fn next(&self, range_id: u64) -> RangeTurn {
        let turn = {
            let mut line = self.0.lock();
            if !line.is_taken {
                line.is_taken = true;
                return RangeTurn(Some(Arc::clone(&self.0)));
            }
            let (give, turn) = oneshot::channel();
            line.waiting.push(range_id, give);
            turn
        };
        // The line is never dropped while somebody waits in it.
        turn.await.unwrap_or(RangeTurn(None))
    }

    /// Returns when there may be a place again. Only for who has the turn.
    pub async fn room(&self, _: &RangeTurn) {
        self.0.room.notified().await;
    }

    /// A place that was taken, with whatever holds it.
    pub fn place(&self, permit: Option<OwnedSemaphorePermit>) -> Place {
        Place { _permit: permit, _told: RoomNotice(Arc::clone(&self.0)) }
    }
}

impl TurnsShared {
    fn lock(&self) -> MutexGuard<'_, TurnLine> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is next; if nobody is, the turn is free.
    fn next(&self) -> Option<oneshot::Sender<RangeTurn>> {
        let mut line = self.lock();
        let next = line.waiting.pop();
        line.is_taken = next.is_some();
        next
    }
}

impl Drop for RangeTurn {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        while let Some(give) = shared.next() {
            match give.send(RangeTurn(Some(Arc::clone(&shared)))) {
                Ok(()) => return,
                // That one has gone meanwhile.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl Drop for RoomNotice {
    fn drop(&mut self) {
        self.0.room.notify_one();
    }
}

impl<T> Default for WaitingRanges<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> WaitingRanges<T> {
    fn push(&mut self, range_id: u64, item: T) {
        match self.0.iter_mut().find(|(id, _)| *id == range_id) {
            Some((_, items)) => items.push_back(item),
            None => self.0.push_back((range_id, VecDeque::from([item]))),
        }
    }

    /// The first of the range whose turn it is; that range goes to the end.
    fn pop(&mut self) -> Option<T> {
        let (range_id, mut items) = self.0.pop_front()?;
        let first = items.pop_front();
        if !items.is_empty() {
            self.0.push_back((range_id, items));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn ranges_take_turns_and_each_keeps_its_order() {
        let mut waiting = WaitingRanges::default();
        for (range_id, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            waiting.push(range_id, item);
        }
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn a_turn_goes_on_to_the_next_that_still_waits() {
        let turns = Turns::default();
        let first = turns.next(1).now_or_never().unwrap();
        let mut given_up = Box::pin(turns.next(1));
        let mut waits = Box::pin(turns.next(2));
        assert!(given_up.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(first);
        let second = waits.now_or_never().unwrap();
        assert!(turns.next(3).now_or_never().is_none(), "one at a time");
        drop(second);
        // The one that waited for a moment has gone.
        assert!(turns.next(3).now_or_never().is_some());
    }

    #[test]
    fn a_turn_that_was_given_and_not_taken_goes_on() {
        let turns = Turns::default();
        let first = turns.next(1).now_or_never().unwrap();
        let mut waits = Box::pin(turns.next(1));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        drop(waits);
        assert!(turns.next(2).now_or_never().is_some());
    }

    #[test]
    fn who_has_the_turn_hears_of_a_place() {
        let turns = Turns::default();
        let turn = turns.next(1).now_or_never().unwrap();
        assert!(turns.room(&turn).now_or_never().is_none());
        drop(turns.place(None));
        assert!(turns.room(&turn).now_or_never().is_some());
    }
}
