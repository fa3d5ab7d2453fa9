//! Places for clients that stay for as long as they like: those who watch, and bulks. Another one finds a place even
//! when all are taken: the address that has most of them loses its oldest one, unless the new one comes from there
//! itself.

use std::{
    collections::BTreeMap,
    future::ready,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::address::Address;

/// The places.
#[derive(Debug)]
pub struct Shares {
    max: usize,
    taken: Mutex<TakenShares>,
}

#[derive(Debug, Default)]
struct TakenShares {
    next: u64,
    /// The oldest first.
    by_number: BTreeMap<u64, (Address, CancellationToken)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    number: u64,
    lost: CancellationToken,
}

impl Shares {
    /// So many places.
    pub fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// A place for a client at this address, unless all are taken and nobody else has more. `lost` is cancelled when it
    /// goes to somebody else.
    pub fn enter(self: &Arc<Self>, from: IpAddr, lost: CancellationToken) -> Option<Share> {
        let (from, mut taken) = (Address::from(from), self.lock());
        if taken.by_number.len() >= self.max {
            let loser = taken.loser_to(from)?;
            if let Some((_, lost)) = taken.by_number.remove(&loser) {
                lost.cancel();
            }
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_number.insert(number, (from, lost.clone()));
        Some(Share { shares: Arc::clone(self), number, lost })
    }

    fn lock(&self) -> MutexGuard<'_, TakenShares> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TakenShares {
    /// The oldest place of the address that has most of them, if that has more than the one that comes would have.
    fn loser_to(&self, from: Address) -> Option<u64> {
        let mut counts = BTreeMap::<Address, usize>::new();
        for (address, _) in self.by_number.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let (largest, most) = counts.iter().max_by_key(|(_, count)| **count)?;
        let would_have = counts.get(&from).copied().unwrap_or_default() + 1;
        let oldest = self.by_number.iter().find(|(_, (address, _))| address == largest);
        (*most > would_have).then(|| oldest.map(|(number, _)| *number))?
    }
}

impl Share {
    /// Returns when somebody else has the place.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.lost.clone().cancelled_owned()
    }

    /// The place is held for as long as this is streamed over gRPC, which ends when somebody else has it.
    pub fn hold<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let detail = "all places for clients that watch are taken, and your address has most of them; watch another node";
        let lost = self.lost().map(move |()| Some(Err(Status::resource_exhausted(detail)))).into_stream();
        let items = items.map(Some).chain(stream::once(ready(None)));
        // It ends with the items, whether or not the place is lost.
        let held = stream::select(lost, items).take_while(|item| ready(item.is_some())).filter_map(ready);
        held.map(move |item| {
            let _ = &self;
            item
        })
        .boxed()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(shares: &Arc<Shares>, last: u8) -> Option<Share> {
        shares.enter(IpAddr::from([127, 0, 0, last]), CancellationToken::new())
    }

    #[test]
    fn who_has_most_places_loses_the_oldest_to_whoever_has_fewer() {
        let shares = Arc::new(Shares::new(4));
        let many: Vec<_> = (0..4).map(|_| enter(&shares, 1).unwrap()).collect();
        assert!(enter(&shares, 1).is_none(), "no place for more of the same");
        let others: Vec<_> = (2..=3).map(|last| enter(&shares, last).unwrap()).collect();
        let lost: Vec<bool> = many.iter().map(|place| place.lost.is_cancelled()).collect();
        assert_eq!(lost, [true, true, false, false], "the oldest ones");
        assert!(enter(&shares, 2).is_none(), "two of two are no more than it would have");
        drop(others);
        assert!(enter(&shares, 1).is_some(), "there is room again");
    }

    #[test]
    fn a_place_that_was_lost_is_not_given_back_twice() {
        let shares = Arc::new(Shares::new(2));
        let [first, second] = [1, 1].map(|last| enter(&shares, last).unwrap());
        let third = enter(&shares, 2).unwrap();
        drop(first);
        assert_eq!(shares.lock().by_number.len(), 2);
        drop((second, third));
        assert_eq!(shares.lock().by_number.len(), 0);
    }
}
