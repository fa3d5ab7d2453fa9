//! Clients that ask some nodes without a pause, until they are told to stop. Every answer is checked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::harness::eventually;

#[derive(Default)]
pub struct Load {
    running: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<Tally>,
}

/// What was answered, and how.
#[derive(Debug, Default)]
pub struct Tally {
    pub by: BTreeMap<String, u64>,
    pub failures: Vec<String>,
    pub slowest: Duration,
}

impl Load {
    pub fn new() -> Self {
        Self { running: Arc::new(AtomicBool::new(true)), ..Self::default() }
    }

    /// Adds a client, which asks one random number after the other; `ask` checks the answer and says who gave it.
    pub fn add<F>(&mut self, ask: impl Fn(u64) -> F + Send + 'static)
    where
        F: Future<Output = Result<String, String>> + Send,
    {
        let (running, answered) = (Arc::clone(&self.running), Arc::clone(&self.answered));
        let mut random = StdRng::seed_from_u64(self.clients.len() as u64);
        self.clients.spawn(async move {
            let mut tally = Tally::default();
            while running.load(Relaxed) {
                // Of all lengths, and such as a signed integer holds.
                let number = random.next_u64() >> (1 + random.next_u32() % 50);
                let started = Instant::now();
                match ask(number).await {
                    Ok(by) => *tally.by.entry(by).or_default() += 1,
                    Err(error) => tally.failures.push(format!("{number}: {error}")),
                }
                tally.slowest = tally.slowest.max(started.elapsed());
                answered.fetch_add(1, Relaxed);
            }
            tally
        });
    }

    /// Waits until so many more were answered: the load is really there.
    pub async fn more(&self, count: u64) {
        let aim = self.answered.load(Relaxed) + count;
        eventually("the load is answered", || async { self.answered.load(Relaxed) >= aim }).await;
    }

    pub async fn stop(self) -> Tally {
        self.running.store(false, Relaxed);
        let mut total = Tally::default();
        for tally in self.clients.join_all().await {
            total.failures.extend(tally.failures);
            total.slowest = total.slowest.max(tally.slowest);
            for (name, count) in tally.by {
                *total.by.entry(name).or_default() += count;
            }
        }
        total
    }
}

impl Tally {
    pub fn answered(&self) -> u64 {
        self.by.values().sum()
    }
}
