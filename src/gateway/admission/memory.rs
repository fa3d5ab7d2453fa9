//! What callers make the node hold: bodies and messages that are not small, and the answers to large ones. They have a
//! bound together, and past half of it each address has a share: alone two thirds of all, and less the more addresses
//! there are, so that whoever comes next finds some.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::Body, response::Response};
use hyper::body::Body as _;
use thiserror::Error;
use tonic::Code;

use super::{Kept, address::Address};
use crate::{api::error::ApiError, limits::SMALL_BYTES_MAX};

/// The bytes that callers make the node hold.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    bytes: usize,
    by_address: HashMap<Address, usize>,
}

/// There is no room for what somebody sends.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error(
    "this node holds as many bytes as it may, for all callers together or for your address; try again in a second, or ask another node"
)]
pub struct Exhausted;

impl From<Exhausted> for ApiError {
    fn from(error: Exhausted) -> Self {
        Self::new(Code::ResourceExhausted, error.to_string())
    }
}

/// Marks an answer whose bytes are part of the program: however often they are sent, they are there once.
#[derive(Debug, Clone, Copy)]
pub struct InProgram;

/// So many bytes, held until this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Arc<Memory>,
    address: Address,
    bytes: usize,
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, holders: Mutex::default() }
    }

    /// The same answer, whose body counts as held until it has left.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn hold_answer(self: &Arc<Self>, from: IpAddr, answer: Response) -> Result<Response, Exhausted> {
        let bytes = answer.body().size_hint().exact().unwrap_or_default();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes <= SMALL_BYTES_MAX || answer.extensions().get::<InProgram>().is_some() {
            return Ok(answer);
        }
        let mut held = self.hold(from);
        held.grow(bytes)?;
        Ok(answer.map(|body| Body::new(Kept::new(body, held))))
    }

    /// Nothing yet, for somebody at this address.
    pub fn hold(self: &Arc<Self>, from: IpAddr) -> Held {
        Held { memory: Arc::clone(self), address: from.into(), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, address: Address, bytes: usize) -> Result<(), Exhausted> {
        let mut holders = self.lock();
        let (all, own) = (holders.bytes + bytes, holders.of(address) + bytes);
        let others = holders.by_address.len() - usize::from(holders.by_address.contains_key(&address));
        // 2 / (others + 3) of all: two thirds for an address alone, which the largest bulk takes.
        let share = self.bytes_max * 2 / (others + 3);
        if all > self.bytes_max || (all > self.bytes_max / 2 && own > share) {
            return Err(Exhausted);
        }
        holders.bytes = all;
        holders.by_address.insert(address, own);
        Ok(())
    }

    fn give_back(&self, address: Address, bytes: usize) {
        let mut holders = self.lock();
        holders.bytes -= bytes;
        match holders.of(address) - bytes {
            0 => holders.by_address.remove(&address),
            left => holders.by_address.insert(address, left),
        };
    }
}

impl Holders {
    fn of(&self, address: Address) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }
}

impl Held {
    /// Holds so many bytes altogether, or as many as before if those are more. A few bytes are not counted: what a place
    /// among the streams costs is more.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes > self.bytes && bytes > SMALL_BYTES_MAX {
            self.memory.take(self.address, bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.give_back(self.address, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn held(memory: &Arc<Memory>, last: u8, bytes: usize) -> Result<Held, Exhausted> {
        let mut held = memory.hold(IpAddr::from([127, 0, 0, last]));
        held.grow(bytes)?;
        Ok(held)
    }

    #[test]
    fn one_address_has_two_thirds_and_leaves_the_others_some() {
        let memory = Arc::new(Memory::new(48 * MIB));
        let mut many: Vec<Held> = Vec::new();
        while let Ok(more) = held(&memory, 1, MIB) {
            many.push(more);
        }
        assert_eq!(many.len(), 32, "two thirds of it, alone");
        let second = held(&memory, 2, 15 * MIB).unwrap();
        assert_eq!(held(&memory, 1, MIB).unwrap_err(), Exhausted, "now that is more than its share");
        let third = held(&memory, 3, MIB).unwrap();
        assert_eq!(held(&memory, 4, MIB).unwrap_err(), Exhausted, "there is no more");
        many.pop();
        assert_eq!(held(&memory, 1, MIB).unwrap_err(), Exhausted, "nor for who has most");
        let fourth = held(&memory, 4, MIB).unwrap();
        drop((many, second, third, fourth));
        let holders = memory.lock();
        assert_eq!((holders.bytes, holders.by_address.len()), (0, 0));
    }

    #[test]
    fn little_is_not_counted_and_growing_counts_what_is_new() {
        let memory = Arc::new(Memory::new(48 * MIB));
        let mut held = held(&memory, 1, SMALL_BYTES_MAX).unwrap();
        assert_eq!(memory.lock().bytes, 0);
        held.grow(MIB).unwrap();
        held.grow(MIB / 2).unwrap();
        held.grow(2 * MIB).unwrap();
        assert_eq!(memory.lock().bytes, 2 * MIB);
        assert_eq!(held.grow(33 * MIB), Err(Exhausted));
        assert_eq!(memory.lock().bytes, 2 * MIB, "what was refused is not held");
    }
}
