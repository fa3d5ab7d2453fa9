//! The election under seeded faults, in virtual time.
//!
//! ```text
//!   PRIMACY_SEEDS=20000 cargo test -p primacy-election bully::seeds               more seeds
//!   PRIMACY_SEED=123 cargo test -p primacy-election bully::replay -- --nocapture  one seed with its trace
//!   PRIMACY_UPDATE_TRACES=1 cargo test -p primacy-election bully::scripts         the golden traces anew
//! ```
//! The machine is the real one; the driver, the links and the calls are imitated event by event.

mod faults;
mod growth;
mod invariants;
mod mutants;
mod network;
mod process;
mod scripts;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    Ballot, ChangeKind, Claim, ClaimVerdict, DialError, Effect, Election, Figures, HandOver, Identity,
    Judged, ListedMember, Member, MemberList, Orders, Peer, PeerAddress, PeerRequest, QuestionAnswer, Rule,
    Rules, Time, Wanted,
};
use faults::Plan;
use invariants::Violation;
use world::World;

/// A moment of the world's clock; those of the nodes, which start later, are of the type `Time`.
type WorldTime = Duration;

const SEEDS: u64 = 2_000;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Runs one seed; a panic is a violation too.
fn run(plan: Plan, traced: bool) -> (Option<Violation>, Option<String>) {
    let mut world = World::new(plan, traced);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        let violation = Violation::new("panic", world.now, "it panicked".to_owned());
        return (Some(violation), world.trace);
    }
    (world.violation, world.trace)
}

/// The first of these seeds that violates an invariant, on all cores.
fn first_violation(seeds: std::ops::Range<u64>, rules: Rules) -> Option<(u64, Violation)> {
    let next = AtomicU64::new(seeds.start);
    let found = AtomicBool::new(false);
    let work = || {
        let mut first = None;
        while !found.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                break;
            }
            let plan = Plan { rules, ..Plan::random(seed) };
            if let (Some(violation), _) = run(plan, false) {
                found.store(true, Relaxed);
                first = Some((seed, violation));
            }
        }
        first
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let firsts = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    firsts.into_iter().min_by_key(|(seed, _)| *seed)
}

/// Goes on past violations, and counts them.
#[test]
#[ignore = "to look for the most frequent kind"]
fn census() {
    let (start, count) = (
        from_environment("PRIMACY_FIRST_SEED").unwrap_or(0),
        from_environment("PRIMACY_SEEDS").unwrap_or(SEEDS),
    );
    let mut kinds = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for seed in start..start + count {
        if let (Some(violation), _) = run(Plan::random(seed), false) {
            kinds.entry(violation.invariant).or_default().push(seed);
        }
    }
    for (kind, seeds) in kinds {
        println!("{kind}: {} {:?}", seeds.len(), &seeds[..seeds.len().min(12)]);
    }
}

#[test]
fn seeds() {
    let count = from_environment("PRIMACY_SEEDS").unwrap_or(SEEDS);
    let start = from_environment("PRIMACY_FIRST_SEED").unwrap_or(0);
    if let Some((seed, Violation { invariant, at, text })) = first_violation(start..start + count, Rules::ALL)
    {
        panic!(
            "{invariant} is violated at {at:?}: {text}\nreplay: PRIMACY_SEED={seed} cargo test -p primacy-election bully::replay -- --nocapture"
        );
    }
}

/// Prints the trace of `PRIMACY_SEED`.
#[test]
fn replay() {
    let Some(seed) = from_environment("PRIMACY_SEED") else { return };
    let (violation, trace) = run(Plan::random(seed), true);
    println!("{}", trace.unwrap_or_default());
    if let Some(Violation { invariant, at, text }) = violation {
        panic!("{invariant} is violated at {at:?}: {text}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42] {
        let (_, first) = run(Plan::random(seed), true);
        let (_, second) = run(Plan::random(seed), true);
        assert!(first.as_ref().is_some_and(|trace| trace.len() > 1_000));
        assert!(first == second, "seed {seed} has two traces");
    }
}
