//! Connections that were accepted and are not served yet. The address with most connections loses an idle one for each
//! that it opens, and then connects anew at once: 12,000 such connections a second took most of a node's time. So its
//! new connections wait here, where they cost a descriptor and no work, until the listener serves them one by one. This
//! part knows no clock and no socket.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use super::address::Address;
use crate::limits::PENDING_TIMEOUT;

/// What waits, by address.
#[derive(Debug)]
pub struct Pending<T> {
    by_address: HashMap<Address, VecDeque<(Instant, T)>>,
    /// The addresses, in the order in which they have their turns.
    turns: VecDeque<Address>,
    count: usize,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { by_address: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }
}

impl<T> Pending<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one of this address waits.
    pub fn has(&self, address: Address) -> bool {
        self.by_address.contains_key(&address)
    }

    /// One more waits.
    pub fn push(&mut self, address: Address, now: Instant, connection: T) {
        let waiting = self.by_address.entry(address).or_default();
        if waiting.is_empty() {
            self.turns.push_back(address);
        }
        waiting.push_back((now, connection));
        self.count += 1;
    }

    /// The next one: the newest of the address whose turn it is. Its client is there most likely, while those that an
    /// attacker has left behind are the oldest.
    pub fn pop(&mut self) -> Option<T> {
        let address = self.turns.pop_front()?;
        let (_, next) = self.take(address, VecDeque::pop_back)?;
        if self.by_address.contains_key(&address) {
            self.turns.push_back(address);
        }
        Some(next)
    }

    /// The oldest of the address of which most wait, which makes room for another connection.
    pub fn pop_oldest_of_largest(&mut self) -> Option<T> {
        let (address, _) = self.by_address.iter().max_by_key(|(_, waiting)| waiting.len())?;
        self.pop_oldest(*address)
    }

    /// One of the address whose turn it is, if it has waited for as long as it may.
    pub fn pop_overdue(&mut self, now: Instant) -> Option<T> {
        let address = *self.turns.front()?;
        let (since, _) = self.by_address.get(&address)?.front()?;
        (now.saturating_duration_since(*since) >= PENDING_TIMEOUT).then(|| self.pop_oldest(address)).flatten()
    }

    fn pop_oldest(&mut self, address: Address) -> Option<T> {
        let (_, oldest) = self.take(address, VecDeque::pop_front)?;
        if !self.by_address.contains_key(&address) {
            self.turns.retain(|turn| *turn != address);
        }
        Some(oldest)
    }

    fn take(
        &mut self,
        address: Address,
        end: impl FnOnce(&mut VecDeque<(Instant, T)>) -> Option<(Instant, T)>,
    ) -> Option<(Instant, T)> {
        let waiting = self.by_address.get_mut(&address)?;
        let taken = end(waiting)?;
        self.count -= 1;
        if waiting.is_empty() {
            self.by_address.remove(&address);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(last: u8) -> Address {
        IpAddr::from(Ipv4Addr::new(127, 0, 0, last)).into()
    }

    fn pending(connections: &[(u8, u32)], now: Instant) -> Pending<u32> {
        let mut pending = Pending::default();
        for (last, number) in connections {
            pending.push(address(*last), now, *number);
        }
        pending
    }

    #[test]
    fn addresses_take_turns_and_the_newest_of_each_comes_first() {
        let mut pending = pending(&[(1, 10), (1, 11), (1, 12), (2, 20), (3, 30)], Instant::now());
        assert_eq!(pending.len(), 5);
        let order: Vec<u32> = std::iter::from_fn(|| pending.pop()).collect();
        assert_eq!(order, [12, 20, 30, 11, 10]);
        assert!(pending.is_empty());
    }

    #[test]
    fn the_oldest_of_whom_most_wait_makes_room() {
        let mut pending = pending(&[(1, 10), (2, 20), (2, 21)], Instant::now());
        assert_eq!(pending.pop_oldest_of_largest(), Some(20));
        let mut others = [pending.pop_oldest_of_largest(), pending.pop_oldest_of_largest()];
        others.sort_unstable();
        assert_eq!(others, [Some(10), Some(21)], "of each address one is left");
        assert_eq!(pending.pop_oldest_of_largest(), None);
        assert_eq!((pending.pop(), pending.len()), (None, 0));
    }

    #[test]
    fn nothing_waits_for_longer_than_it_may() {
        let start = Instant::now();
        let mut pending = pending(&[(1, 10)], start);
        pending.push(address(1), start + PENDING_TIMEOUT / 2, 11);
        assert_eq!(pending.pop_overdue(start + PENDING_TIMEOUT / 2), None);
        assert_eq!(pending.pop_overdue(start + PENDING_TIMEOUT), Some(10));
        assert_eq!(pending.pop_overdue(start + PENDING_TIMEOUT), None);
        assert_eq!(pending.pop(), Some(11));
    }
}
