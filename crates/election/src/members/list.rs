//! The member list, as a leader tells it.

use std::time::Duration;

use crate::Member;

/// The member list, as a leader's heartbeats carry it.
#[derive(Debug, Clone)]
pub struct MemberList {
    /// Counts its changes.
    pub version: u64,
    /// Its members; none if the receiver has them already.
    pub members: Vec<ListedMember>,
}

/// A member in such a list. Moments of the leader's clock say nothing elsewhere: `since` and `heard` are not looked at.
#[derive(Debug, Clone)]
pub struct ListedMember {
    /// What the leader knows of it.
    pub member: Member,
    /// How long before the leader had last heard of it.
    pub heard_ago: Option<Duration>,
}
