//! Every time of the cluster, as a multiple of H, the heartbeat interval, with the rule that it belongs to.
//! `docs/election.md` tells the rules in order; `docs/architecture.md` has every way in which a leader is lost.

use std::time::Duration;

// ── Who is there ────────────────────────────────────────────────────────────────────────────────────────────────

/// Halves of H without a heartbeat that make a member suspect: three are missed, and the fourth is not due yet.
const SILENCE_HALVES: u32 = 7;
/// H by which a node whose own timers come late is more patient, at most.
pub const LATENESS_MAX: u32 = 2;
/// A node logs that its timers are in time again when they are late by at most H divided by this.
pub const IN_TIME_PARTS: u32 = 4;
/// H without reach that make a suspect member a dead one.
pub const DEAD: u32 = 10;
/// H that a dial may take, a heartbeat may be unanswered, and two dials may be apart.
pub const DIAL_MAX: u32 = 10;
/// H between two refreshments of the figures in the member list.
pub const FIGURES: u64 = 10;

/// So long a silence means that three heartbeats are missed.
pub fn silence_max(heartbeat: Duration) -> Duration {
    heartbeat * SILENCE_HALVES / 2
}

// ── Lanes that hold something ───────────────────────────────────────────────────────────────────────────────────

/// Looks at such a lane in each H.
pub const LOOKS_PER_HEARTBEAT: u32 = 2;
/// H that a silence may last longer for a node whose own timers were late: the answer may have come meanwhile.
pub const GRACE: u32 = 2;

// ── The leader is lost ──────────────────────────────────────────────────────────────────────────────────────────

/// H between two events after which a node takes the silence for its own, and starts its timers anew.
pub const LATE_WAKE_UP: u32 = 2;
/// H for which a leader whose lane was open may be heard without one.
pub const UNREACHED_AGAIN: u32 = 1;
/// The same for one whose lane was never open.
pub const UNREACHED_YET: u32 = 10;

// ── Seeking a leader ────────────────────────────────────────────────────────────────────────────────────────────

/// H that a node which has met no leader waits for the answers of all that it knows.
pub const BOOT: u32 = 5;
/// For each higher live id a node asks later by H divided by this, and by H at most.
pub const RANKS_PER_HEARTBEAT: u32 = 5;
/// Up to this part of H more, at random, so that no two candidates stay in lockstep.
pub const RANDOM_DELAY_MAX: f64 = 0.1;
/// H that a candidate waits for an answer.
pub const ANSWER: u32 = 2;
/// H after which a candidate that got a veto asks again.
pub const AFTER_VETO: u32 = 1;
/// H that a claim is awaited: by a node that gave way, by one that may not lead, by a leader that hands over.
pub const VICTORY: u32 = 3;
/// H after which a leader that stops, and found no successor, asks them all again.
pub const HAND_OVER_AGAIN: u32 = 1;
/// H of age from which a claim names no followers: the node has slept since.
pub const CLAIM_AGE_MAX: u32 = 2;
/// H that the look for another node with this one's id may take, and from one look to the next.
pub const TWIN: u32 = 10;

// ── The return of the highest id ────────────────────────────────────────────────────────────────────────────────

/// A higher id leads again when it has been healthy for so long, whatever H is.
pub const HEALTHY: Duration = Duration::from_secs(10);
