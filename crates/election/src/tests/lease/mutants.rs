//! Each promise is broken in turn, on all nodes: an invariant must notice.

use super::{Broken, run_seeds};

/// So many seeds at most, until an invariant notices.
const SEEDS_MAX: u64 = 3_000;

const ALL: [Broken; 11] = [
    Broken::NoMargin,
    Broken::CountsFromAnswer,
    Broken::LeadsWhileHandingOver,
    Broken::HandsOverBeforeStandingDown,
    Broken::MindsTheViewOfBefore,
    Broken::OlderNews,
    Broken::PlainPut,
    Broken::UnknownIsUndone,
    Broken::HighestDoesNotReturn,
    Broken::FailsWithoutPause,
    Broken::WatchSkips,
];

#[test]
fn every_broken_promise_is_noticed() {
    let mut unnoticed = Vec::new();
    for broken in ALL {
        match run_seeds(0..SEEDS_MAX, Some(broken)).first {
            Some((seed, violation)) => println!("{broken:?}: seed {seed}: {violation}"),
            None => unnoticed.push(broken),
        }
    }
    assert!(unnoticed.is_empty(), "nothing notices {unnoticed:?}");
}
