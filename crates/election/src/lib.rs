//! Who is there and who leads, for a cluster of some dozen nodes. Pure: there is no I/O, no clock and no runtime in it;
//! moments and events are arguments, and a seed gives the random delays.
//!
//! ```text
//!   your driver: one task, real time, real lanes                     the simulators in `tests`: seeds, virtual time
//!        │                                                                        │
//!        │  lanes and time   lane_up · lane_stopping · lane_down · dial_failed · acked · tick
//!        │  requests in      question · claimed · hand_over · heard   (they return the reply)
//!        │  replies in       met · answered · judged · hand_over_answered         │
//!        │  an etcd          recognise                                            │
//!        │  operators        stop · transfer                                      │
//!        ▼                                                                        ▼
//!   ┌────────────────────────────────────────────────────────────────────────────────┐
//!   │ Election  ── Bully: Seeking ⇄ Following ⇄ Leading                                │
//!   │     │     or Appointed: an etcd says who leads, as LeaseState knows it           │
//!   │     └── Membership (who is there)                                                │
//!   └────────────────────────────────────────────────────────────────────────────────┘
//!        │  drain_effects() · members().orders(peer) · claim() · leader() · next_deadline()
//!        ▼
//!   performed by the driver
//! ```
//!
//! # How to drive it
//!
//! An [`Election`] has four kinds of methods. *Events* come in, each with the moment of it; requests of others return
//! what to answer. After each event, perform what [`Election::drain_effects`] returns, and bring the links in line with
//! [`Membership::orders`] of each peer. *Deadlines*: call [`Election::tick`] at [`Election::next_deadline`], or a
//! little later, and read the deadline again after each event. *Getters* say who leads and who is there; put what
//! [`Election::claim`] returns into the heartbeats of a leader. Moments that are passed in never go back.
//!
//! A leader is a preference, not a prerequisite: no request waits for an election. A leader that is heard is replaced
//! only by its own hand-over; for the rest the highest id that is reached wins. `docs/election.md` tells why.
//!
//! ```
//! use primacy_election::{Effect, Election, Identity, PeerAddress, Rules, Time};
//! use std::time::Duration;
//!
//! let me = Identity { id: Some(1), name: "alone".into(), boot: 7, ..Identity::default() };
//! let heartbeat = Duration::from_millis(100);
//! let mut election = Election::bully(&me, &[], heartbeat, Rules::ALL);
//! while !election.leads() {
//!     let now = election.next_deadline();
//!     election.tick(now);
//! }
//! assert!(matches!(&election.drain_effects()[..], [Effect::Changed(change)] if &*change.name == "alone"));
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod appointed;
mod bully;
mod election;
pub mod lease;
pub mod limits;
mod members;
mod message;
mod node;
mod reach;
mod rules;
mod time;
pub mod timing;

#[cfg(test)]
mod tests;

pub use appointed::Recognised;
pub use election::{Effect, Election};
pub use members::{
    Change, ChangeKind, DialError, ListedMember, MISSED, MemberList, Membership, Met, Orders, Refusal,
    Sought, Wanted,
};
pub use message::{
    Ballot, Claim, ClaimVerdict, HandOver, Judged, PeerRequest, QuestionAnswer, TransferError,
};
pub use node::{Figures, Identity, Member, Peer, PeerAddress, Scheme, Status};
pub use rules::{Rule, Rules};
pub use time::Time;
