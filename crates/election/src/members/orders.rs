//! What is kept towards a peer: what its link is to do, and why a dial failed.

use std::time::Duration;

use thiserror::Error;

/// What is kept towards a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the leader watches it.
    #[default]
    Off,
    /// A lane on which it does work for us, and heartbeats.
    Work,
    /// A lane on which it, the leader, schedules for us.
    Schedule,
}

/// What the link to a peer is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// What to keep.
    pub wanted: Wanted,
    /// Counted up to have an open lane closed, and the peer dialled at once.
    pub redials: u64,
    /// Counted up to have the peer dialled at once if no lane is open.
    pub reconnect_hints: u64,
    /// Between two heartbeats.
    pub interval: Duration,
}

impl Orders {
    /// Whether a lane, or its dial, that was begun by these is to end by the others.
    pub fn are_ended_by(&self, other: &Self) -> bool {
        (self.wanted, self.redials) != (other.wanted, other.redials)
    }
}

/// Why a dial failed.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Unresolvable,
    /// No lane within the time.
    #[error("no answer in time")]
    TimedOut,
    /// It says that it is stopping.
    #[error("it is stopping")]
    Stopping,
    /// It does not know the cluster's token.
    #[error("the process at that address does not prove that it knows this cluster's token")]
    Unproven,
    /// It knows the token, and is not who is known by this address.
    #[error("the node at this address is not the one that was known there")]
    Misled,
    /// It is this node.
    #[error("it is this node itself")]
    Itself,
    /// It does not know this node's token.
    #[error("it refuses this node as a stranger: PRIMACY_TOKEN is not the same there")]
    Stranger,
    /// Anything else, such as a refusal of this node as a member.
    #[error("{0}")]
    Other(String),
}
