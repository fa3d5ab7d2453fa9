//! The lease and the leader's key under seeded faults, in virtual time.
//!
//! ```text
//!   PRIMACY_SEEDS=20000 cargo test -p primacy-election lease::seeds               more seeds
//!   PRIMACY_SEED=123 cargo test -p primacy-election lease::replay -- --nocapture  one seed with its trace
//! ```
//! `LeaseState` and `Election` are the real ones. The task around them, the watch, and etcd are imitated event by event.
//! Every clock runs at its own rate, up to 10 % off. Not in it: an etcd that loses data, two leaders of etcd at once,
//! and how what is stored is written, which the node's own tests check against a real etcd.

mod crowd;
mod mutants;
mod node;
mod plan;
mod store;
mod world;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{Identity, Time, lease};
use plan::Plan;
use world::World;

/// A moment of the real time; those by the nodes' own clocks are of the type `Time`.
type WorldTime = Duration;

const SEEDS: u64 = 2_000;

/// What the shell around `LeaseState` may do wrong, or etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    NoMargin,
    CountsFromAnswer,
    LeadsWhileHandingOver,
    HandsOverBeforeStandingDown,
    MindsTheViewOfBefore,
    OlderNews,
    PlainPut,
    UnknownIsUndone,
    HighestDoesNotReturn,
    FailsWithoutPause,
    WatchSkips,
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// What came of some seeds: the first violation, and the figures of all.
#[derive(Default)]
struct Ran {
    first: Option<(u64, String)>,
    figures: world::Figures,
}

fn run_seeds(seeds: std::ops::Range<u64>, broken: Option<Broken>) -> Ran {
    let next = AtomicU64::new(seeds.start);
    let found = AtomicBool::new(false);
    let work = || {
        let mut ran = Ran::default();
        while !found.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                break;
            }
            let mut world = World::new(Plan { broken, ..Plan::random(seed) }, false);
            world.run();
            ran.figures.merge(&world.figures);
            if let Some(violation) = world.violation {
                found.store(true, Relaxed);
                ran.first = Some((seed, violation));
            }
        }
        ran
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let all = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    all.into_iter().fold(Ran::default(), |mut sum, ran| {
        sum.figures.merge(&ran.figures);
        sum.first = [sum.first, ran.first].into_iter().flatten().min();
        sum
    })
}

#[test]
fn seeds() {
    let count = from_environment("PRIMACY_SEEDS").unwrap_or(SEEDS);
    let start = from_environment("PRIMACY_FIRST_SEED").unwrap_or(0);
    let Ran { first, figures } = run_seeds(start..start + count, None);
    if let Some((seed, violation)) = first {
        panic!(
            "{violation}\nreplay: PRIMACY_SEED={seed} cargo test -p primacy-election lease::replay -- --nocapture"
        );
    }
    println!("{figures:#?}");
}

/// Prints the trace of `PRIMACY_SEED`.
#[test]
fn replay() {
    let Some(seed) = from_environment("PRIMACY_SEED") else { return };
    let mut world = World::new(Plan::random(seed), true);
    world.run();
    println!("{}", world.trace.unwrap_or_default());
    if let Some(violation) = world.violation {
        panic!("{violation}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42] {
        let traces = [(); 2].map(|()| {
            let mut world = World::new(Plan::random(seed), true);
            world.run();
            world.trace.unwrap()
        });
        assert!(traces[0].len() > 1_000);
        assert!(traces[0] == traces[1], "seed {seed} has two traces");
    }
}
