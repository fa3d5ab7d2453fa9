//! Who has a place at a listener. When many of the places are taken, a new connection takes one from the address that has
//! most of them: its connection that is idle for longest ends. So whoever opens thousands keeps nobody out, and until then
//! nobody loses a connection. When all are taken by connections that are not idle, the newest ones have one of a few
//! reserved places, at which only probes and peers are answered.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::extract::Request;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{address::Address, turn::Turn};
use crate::{
    gateway::{error::ApiError, listener::arrival::Arrival},
    limits::{
        CONNECTIONS_CROWDED, CONNECTIONS_MAX, CONNECTIONS_RESERVED, IDLE_LOOKED_AT_MAX, PLACE_TIMEOUT,
        REQUEST_COST,
    },
};

/// How many connections a listener has places for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Those of everybody.
    pub places: usize,
    /// Those beyond them.
    pub reserved: usize,
}

impl Room {
    /// As much as a listener ever takes.
    pub const MOST: Self = Self { places: CONNECTIONS_MAX, reserved: CONNECTIONS_RESERVED };

    /// What a listener takes of so many descriptors.
    pub fn within(descriptors: usize) -> Self {
        let reserved = (descriptors / 4).min(Self::MOST.reserved);
        Self { places: (descriptors - reserved).min(Self::MOST.places), reserved }
    }
}

/// Whether the request came on a connection beyond all places.
pub(in crate::gateway) fn is_crowded(request: &Request) -> bool {
    request.extensions().get().is_some_and(Arrival::is_crowded)
}

/// Refuses such a request with this code.
pub(in crate::gateway) fn refuse_crowded(request: &Request, code: Code) -> Result<(), ApiError> {
    if is_crowded(request) {
        let detail = "every connection that this node has a place for is in use; ask another node, or try again in a second";
        return Err(ApiError::new(code, detail));
    }
    Ok(())
}

/// The places of a listener.
#[derive(Debug)]
pub(in crate::gateway) struct Places {
    /// So many of everybody's may be taken before an address loses connections.
    crowded_from: usize,
    free: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
    count: AtomicU64,
}

/// The connections that have a place of everybody's, by their addresses and by numbers that are never used again.
#[derive(Debug, Default)]
struct Taken {
    by_address: HashMap<Address, BTreeMap<u64, Arc<Usage>>>,
    count: usize,
}

impl Taken {
    fn insert(&mut self, address: Address, number: u64, usage: Arc<Usage>) {
        self.by_address.entry(address).or_default().insert(number, usage);
        self.count += 1;
    }

    fn remove(&mut self, address: Address, number: u64) {
        let Some(connections) = self.by_address.get_mut(&address) else { return };
        if connections.remove(&number).is_some() {
            self.count -= 1;
        }
        if connections.is_empty() {
            self.by_address.remove(&address);
        }
    }

    /// The connection of the address with most of them that is idle for longest, of the oldest ones.
    fn idlest_of_largest(&self) -> Option<&Arc<Usage>> {
        let largest = self.by_address.values().max_by_key(|connections| connections.len())?;
        longest_idle(largest.values().take(IDLE_LOOKED_AT_MAX))
    }

    /// The connection that is idle for longest.
    fn idlest(&self) -> Option<&Arc<Usage>> {
        longest_idle(self.by_address.values().flat_map(BTreeMap::values))
    }
}

fn longest_idle<'a>(connections: impl Iterator<Item = &'a Arc<Usage>>) -> Option<&'a Arc<Usage>> {
    let idle = connections.filter_map(|usage| Some((usage.idle_since()?, usage)));
    idle.min_by_key(|(since, _)| *since).map(|(_, usage)| usage)
}

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Place {
    pub(in crate::gateway) usage: Arc<Usage>,
    permit: Mutex<OwnedSemaphorePermit>,
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
    address: Address,
    number: u64,
}

/// What a connection does.
#[derive(Debug)]
pub(in crate::gateway) struct Usage {
    is_reserved: AtomicBool,
    /// Requests that are not answered to the end.
    requests: AtomicUsize,
    /// What is left of its turn.
    pub(super) turn: Turn,
    /// There is more to write than the client has read.
    is_unread: AtomicBool,
    connected: Instant,
    /// Microseconds from then to the end of the last answer.
    answered: AtomicU64,
    leave: CancellationToken,
}

impl Places {
    pub(in crate::gateway) fn new(room: Room) -> Self {
        let [free, reserved] = [room.places, room.reserved].map(|places| Arc::new(Semaphore::new(places)));
        let (crowded_from, count) = (room.places.div_ceil(2).min(CONNECTIONS_CROWDED), AtomicU64::new(0));
        Self { crowded_from, free, reserved, taken: Arc::default(), count }
    }

    /// A place for a new connection; none if the reserved ones are taken too. `leave` tells the connection to end.
    pub(in crate::gateway) fn take(&self, from: IpAddr, leave: CancellationToken) -> Option<Place> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok();
        let is_reserved = free.is_none();
        let permit = free.or_else(|| Arc::clone(&self.reserved).try_acquire_owned().ok())?;
        let number = self.count.fetch_add(1, Relaxed);
        let (free, taken, usage) =
            (Arc::clone(&self.free), Arc::clone(&self.taken), Usage::new(is_reserved, leave));
        let (usage, permit, address) = (Arc::new(usage), Mutex::new(permit), from.into());
        let place = Place { usage, permit, free, taken, address, number };
        if !is_reserved {
            place.enter();
        }
        Some(place)
    }

    /// Tells an idle connection to end, if so many are taken that the next one needs its place, and if there is one.
    pub(in crate::gateway) fn make_room(&self) -> bool {
        let taken = lock(&self.taken);
        let of_largest = (taken.count >= self.crowded_from).then(|| taken.idlest_of_largest()).flatten();
        let is_full = self.free.available_permits() == 0;
        let idlest = of_largest.or_else(|| is_full.then(|| taken.idlest()).flatten());
        idlest.inspect(|usage| usage.leave.cancel()).is_some()
    }
}

impl Place {
    /// Returns when an idle connection has made room for this one, or none did so in time.
    pub(in crate::gateway) async fn settle_soon(&self) {
        let _ = timeout(PLACE_TIMEOUT, self.settle()).await;
    }

    /// Changes a reserved place for one of everybody's as soon as one is free.
    pub(in crate::gateway) async fn settle(&self) {
        if let Ok(permit) = Arc::clone(&self.free).acquire_owned().await {
            *lock(&self.permit) = permit;
            self.usage.is_reserved.store(false, Relaxed);
            self.enter();
        }
    }

    fn enter(&self) {
        lock(&self.taken).insert(self.address, self.number, Arc::clone(&self.usage));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).remove(self.address, self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    pub(super) fn new(is_reserved: bool, leave: CancellationToken) -> Self {
        Self {
            is_reserved: AtomicBool::new(is_reserved),
            requests: AtomicUsize::new(0),
            turn: Turn::new(),
            is_unread: AtomicBool::new(false),
            connected: Instant::now(),
            answered: AtomicU64::new(0),
            leave,
        }
    }

    pub(in crate::gateway) fn is_reserved(&self) -> bool {
        self.is_reserved.load(Relaxed)
    }

    /// There is more to write than the client has read, or there is not.
    pub(super) fn set_unread(&self, is_unread: bool) {
        self.is_unread.store(is_unread, Relaxed);
    }

    pub(in crate::gateway) fn is_idle(&self) -> bool {
        self.requests.load(Relaxed) == 0 && !self.is_unread.load(Relaxed)
    }

    /// Since when it has been idle; nothing if it is not, or was told to end.
    fn idle_since(&self) -> Option<Instant> {
        let answered = Duration::from_micros(self.answered.load(Relaxed));
        (self.is_idle() && !self.leave.is_cancelled()).then(|| self.connected + answered)
    }

    /// Counts a request until what is returned is dropped.
    pub(in crate::gateway) fn request(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Relaxed);
        self.turn.charge(REQUEST_COST);
        InUse(Arc::clone(self))
    }
}

/// A request that is not answered to the end.
pub(in crate::gateway) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        let since = self.0.connected.elapsed().as_micros();
        self.0.answered.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}
