//! What a node and an etcd say to each other, free of the wire.

use std::{fmt, time::Duration};

use crate::{Identity, Time};

/// A node that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Who it is.
    pub node: Identity,
    /// The lease that keeps its key alive.
    pub lease: i64,
    /// The revision of its key.
    pub revision: i64,
}

/// Who holds the key `leader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who it is; the empty identity if the value is none of ours.
    pub node: Identity,
    /// The lease that keeps the key alive.
    pub lease: i64,
    /// Of its key: the counter of the ballot.
    pub revision: i64,
    /// An operator wants it to lead, whoever is higher.
    pub transferred: bool,
}

/// Who leads, as of a revision of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The leader, if there is one.
    pub holder: Option<Holder>,
    /// The revision of etcd at which this was read.
    pub revision: i64,
}

/// What etcd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All that is registered, and who leads.
    Listed(Vec<Registration>, Told),
    /// A node registered.
    Registered(Registration),
    /// The life of this number is not registered any more.
    Unregistered(u64),
    /// The leader's key has changed.
    Leads(Told),
}

/// What operators want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The node stops: it hands over and leaves.
    Stop,
    /// The life of this number is to lead.
    Transfer(u64),
}

/// One call to etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Grants a lease.
    Grant,
    /// Registers this node.
    Register {
        /// Under which lease.
        lease: i64,
    },
    /// Keeps the lease alive, and asks who leads.
    Renew {
        /// The lease.
        lease: i64,
    },
    /// Takes the leader's key, if nobody holds it.
    Campaign {
        /// Under which lease.
        lease: i64,
    },
    /// Gives the leader's key to another node, if this one still holds it.
    HandOver {
        /// The revision of the key while this node holds it.
        mine: i64,
        /// Who is to hold it.
        to: Holder,
    },
    /// Gives the lease up, and with it all that it keeps alive.
    Revoke {
        /// The lease.
        lease: i64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// A lease was granted.
    Granted {
        /// Its number.
        lease: i64,
        /// For how long.
        ttl: Duration,
    },
    /// The node is registered.
    Registered,
    /// The lease is kept alive.
    Renewed {
        /// For how long; zero if there is no such lease.
        ttl: Duration,
        /// Who leads.
        told: Told,
    },
    /// Who leads after a step that was to change that.
    Told(Told),
    /// The lease is gone.
    Revoked,
}

/// Why a step has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepFailure {
    /// There is no such lease, and nothing was done.
    LeaseGone,
    /// etcd does not do it, for want of permission or space.
    Refused,
    /// Anything else: perhaps it was done, or still will be.
    Unknown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This step, at once.
    Do(Step),
    /// Nothing until then, unless there are news.
    WaitUntil(Time),
}

/// A candidate that is alive, as its heartbeats say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Its life.
    pub boot: u64,
    /// Since when it is alive.
    pub since: Time,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grant => "grant a lease",
            Self::Register { .. } => "register this node",
            Self::Renew { .. } => "keep the lease alive",
            Self::Campaign { .. } => "take the leader's key",
            Self::HandOver { .. } => "hand the leader's key over",
            Self::Revoke { .. } => "revoke the lease",
        })
    }
}
