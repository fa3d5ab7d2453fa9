//! Nodes: who one is, and what another one knows of it.

use std::sync::Arc;

use crate::time::Time;

/// Who a node is, in this life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its id, 1 or more; `None` for a node that only works and never leads.
    pub id: Option<u32>,
    /// Its name.
    pub name: Arc<str>,
    /// Drawn anew by every process.
    pub boot: u64,
    /// Where its peers and gRPC clients reach it.
    pub grpc_addr: Arc<str>,
    /// Where HTTP clients reach it.
    pub http_addr: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// What both of its addresses speak.
    pub scheme: Scheme,
}

/// What the addresses of a node speak: an address alone is `host:port`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// A configured peer: `4=leader:50051`, or without the id, which is then learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its id, if given.
    pub id: Option<u32>,
    /// `host:port`.
    pub grpc_addr: Arc<str>,
}

/// Another node, by a number that is never used again: the configured ones come first, as they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u32);

/// How a member is doing, as the observer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Heard of lately.
    Alive,
    /// Not met yet, or its lane closed, or it missed three heartbeats; it gets no work.
    Suspect,
    /// It refuses connections, or was unreachable for ten heartbeats.
    Dead,
    /// It said that it stops.
    Stopped,
}

/// What a worker holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Checks that it holds now.
    pub in_flight: u64,
    /// Checks that it has answered since it started.
    pub completed: u64,
}

/// A node of the cluster, as the observer knows it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id; `None` for a node without one, and while it is not yet learnt.
    pub id: Option<u32>,
    /// Its name; its address until the name is learnt.
    pub name: Arc<str>,
    /// The life it was last met in.
    pub boot: Option<u64>,
    /// Where its peers and gRPC clients reach it: as configured, else as it says itself.
    pub grpc_addr: Arc<str>,
    /// Where it says that it is reached.
    pub advertised: Arc<str>,
    /// Where HTTP clients reach it; empty until learnt.
    pub http_addr: Arc<str>,
    /// Its version; empty until learnt.
    pub version: Arc<str>,
    /// What both of its addresses speak, as it says; clear text until learnt.
    pub scheme: Scheme,
    /// How it is doing.
    pub status: Status,
    /// Since when.
    pub since: Time,
    /// When it was last heard of.
    pub heard: Option<Time>,
    /// What it holds and has done.
    pub figures: Figures,
}

impl Member {
    pub(crate) fn unmet(peer: &PeerAddress, now: Time) -> Self {
        Self {
            id: peer.id,
            name: Arc::clone(&peer.grpc_addr),
            boot: None,
            grpc_addr: Arc::clone(&peer.grpc_addr),
            advertised: Arc::clone(&peer.grpc_addr),
            http_addr: "".into(),
            version: "".into(),
            scheme: Scheme::default(),
            status: Status::Suspect,
            since: now,
            heard: None,
            figures: Figures::default(),
        }
    }

    pub(crate) fn known(identity: &Identity, status: Status, now: Time) -> Self {
        Self {
            id: identity.id,
            name: Arc::clone(&identity.name),
            boot: Some(identity.boot),
            grpc_addr: Arc::clone(&identity.grpc_addr),
            advertised: Arc::clone(&identity.grpc_addr),
            http_addr: Arc::clone(&identity.http_addr),
            version: Arc::clone(&identity.version),
            scheme: identity.scheme,
            status,
            since: now,
            heard: Some(now),
            figures: Figures::default(),
        }
    }

    /// The address that was configured stays: it is the one that we reach it at.
    pub(crate) fn learn(&mut self, identity: &Identity) {
        self.id = identity.id.or(self.id);
        self.name = Arc::clone(&identity.name);
        self.boot = Some(identity.boot);
        self.advertised = Arc::clone(&identity.grpc_addr);
        self.http_addr = Arc::clone(&identity.http_addr);
        self.version = Arc::clone(&identity.version);
        self.scheme = identity.scheme;
    }

    /// Whether it is gone, and the same node is alive, or was heard later, at another address. Nobody alive is a ghost,
    /// so that two nodes of one name cannot push each other out.
    pub(crate) fn is_ghost_among(&self, members: &[Self]) -> bool {
        let rank = |member: &Self| (member.status == Status::Alive, member.heard);
        let is_gone = matches!(self.status, Status::Dead | Status::Stopped);
        is_gone && members.iter().any(|other| other.is_same_node(self) && rank(other) > rank(self))
    }

    /// By the id; for want of one, by the name.
    fn is_same_node(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(id), Some(other)) => id == other,
            _ => self.name == other.name,
        }
    }

    pub(crate) fn is_another_life(&self, node: &Identity) -> bool {
        self.boot.is_some_and(|boot| boot != node.boot)
    }

    /// Who it is, as one node tells another.
    pub fn identity(&self) -> Identity {
        Identity {
            id: self.id,
            name: Arc::clone(&self.name),
            boot: self.boot.unwrap_or_default(),
            grpc_addr: Arc::clone(&self.grpc_addr),
            http_addr: Arc::clone(&self.http_addr),
            version: Arc::clone(&self.version),
            scheme: self.scheme,
        }
    }
}

impl Scheme {
    /// As it begins a URI (RFC 9110, section 4.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Status {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
        }
    }
}
