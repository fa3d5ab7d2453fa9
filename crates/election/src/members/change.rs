//! What has become of members, and why: the history that people read.

use std::{sync::Arc, time::Duration};

use crate::{Status, Time};

/// A change of a member or of the leader.
#[derive(Debug, Clone)]
pub struct Change {
    /// When it was seen.
    pub at: Time,
    /// Whom it happened to.
    pub name: Arc<str>,
    /// What it became.
    pub kind: ChangeKind,
    /// Why.
    pub reason: String,
    /// How long the state before had lasted.
    pub duration: Duration,
}

/// What a member became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has another status.
    Status(Status),
    /// It leads.
    Leads,
    /// It led, and is not reached any more.
    LeaderLost,
}

impl ChangeKind {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(status) => status.as_str(),
            Self::Leads => "leader",
            Self::LeaderLost => "leader lost",
        }
    }
}

/// What is said of a leader or worker that was not heard in time.
pub const MISSED: &str = "it missed three heartbeats";
/// What is said of a process that another one has replaced.
pub(crate) const ANEW: &str = "it was started anew";
