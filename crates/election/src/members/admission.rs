//! Who becomes a member, and under which entry: by life first, then by id, then by address.

use std::sync::Arc;

use super::{ANEW, ListedMember, MemberList, Membership, Met, Orders, PeerState, Refusal, Wanted};
use crate::{Identity, Member, Peer, Scheme, Status, Time, limits::MEMBERS_MAX};

impl Membership {
    /// A peer answered a question, and said who it is.
    pub fn met(&mut self, peer: Peer, identity: &Identity) -> Option<Met> {
        let is_unmet = self.peers.get(&peer).is_some_and(|state| state.member.boot.is_none());
        if !is_unmet {
            return None;
        }
        let replaces = self.drop_double(peer, identity).ok()?;
        self.peers.get_mut(&peer)?.member.learn(identity);
        Some(Met { peer, is_anew: false, replaces })
    }

    /// Finds the node among the members, or lets it join.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(&mut self, now: Time, node: &Identity) -> Result<Met, Refusal> {
        if Some(node.boot) == self.me.boot {
            return Err(Refusal::Listed);
        }
        if node.id.is_some() && node.id == self.me.id {
            return Err(Refusal::Taken(Arc::clone(&self.me.grpc_addr)));
        }
        let Some(peer) = self.find(node.id, Some(node.boot), &node.grpc_addr) else {
            return self.join(now, node);
        };
        if let Some(twin) = self.twin(peer, node) {
            return Err(Refusal::Taken(twin));
        }
        let Some(state) = self.peers.get_mut(&peer) else { return self.join(now, node) };
        let is_anew = state.member.is_another_life(node);
        let is_elsewhere = state.member.grpc_addr != node.grpc_addr;
        if is_elsewhere && state.joined {
            self.peers.remove(&peer);
            let joined = self.join(now, node)?;
            return Ok(Met { is_anew, replaces: Some(peer), ..joined });
        }
        // What was configured stays, and is dialled too: the node may return there.
        if is_elsewhere && state.has_left() {
            return self.join(now, node);
        }
        if state.member.boot != Some(node.boot) || state.member.scheme != node.scheme {
            state.member.learn(node);
        }
        if is_anew {
            (state.up, state.draining) = (None, false);
            state.orders.redials += 1;
            self.set_status(now, peer, Status::Dead, ANEW);
        }
        Ok(Met { peer, is_anew, replaces: None })
    }

    /// Takes over the leader's list: what it says of members that this node does not watch, and which members joined or
    /// were forgotten. Returns the configured peers that are not in it.
    pub fn adopt(&mut self, now: Time, leader: Peer, list: MemberList) -> Vec<Peer> {
        if list.members.is_empty() {
            return Vec::new();
        }
        self.adopted_version = list.version;
        let mut told = Vec::with_capacity(list.members.len());
        for ListedMember { member, heard_ago } in list.members {
            if member.id.is_some() && member.id == self.me.id || member.grpc_addr == self.me.grpc_addr {
                continue;
            }
            // A node that has moved is told of twice: where it was, and then where it is.
            let known = self.find_but(&told, member.id, member.boot, &member.grpc_addr);
            let known = known.filter(|peer| !self.has_moved(*peer, &member));
            if known.is_none() && self.peers.len() + 1 >= MEMBERS_MAX {
                continue;
            }
            let peer = known.unwrap_or_else(|| self.add(member.clone(), true));
            let heard = heard_ago.map(|age| now - age);
            self.believe(now, peer, Member { heard, ..member });
            told.push(peer);
        }
        self.peers.retain(|peer, state| !state.joined || *peer == leader || told.contains(peer));
        self.configured().filter(|peer| *peer != leader && !told.contains(peer)).collect()
    }

    fn join(&mut self, now: Time, node: &Identity) -> Result<Met, Refusal> {
        if self.peers.len() + 1 >= MEMBERS_MAX {
            return Err(Refusal::Full);
        }
        let peer = self.add(Member::known(node, Status::Suspect, now), true);
        Ok(Met { peer, is_anew: false, replaces: None })
    }

    pub(super) fn add(&mut self, member: Member, joined: bool) -> Peer {
        // A life is at one address only: entries at other addresses lose its boot.
        for state in self.peers.values_mut().filter(|state| state.member.boot == member.boot) {
            state.member.boot = None;
        }
        let peer = Peer(self.next_peer);
        self.next_peer += 1;
        let (orders, up, unreached) = (Orders::default(), None, None);
        let state =
            PeerState { member, joined, orders, up, draining: false, unreached, error: None, vain_hints: 0 };
        self.peers.insert(peer, state);
        self.changes += 1;
        peer
    }

    /// A node that is listed by two addresses keeps one entry: the configured address is the one to reach it at.
    pub(super) fn drop_double(&mut self, peer: Peer, identity: &Identity) -> Result<Option<Peer>, Refusal> {
        let is_it = |member: &Member| member.boot == Some(identity.boot);
        let other = self.peers.iter().find(|(other, state)| **other != peer && is_it(&state.member));
        let other = other.map(|(other, state)| (*other, state.joined));
        let joined = self.peers.get(&peer).is_some_and(|state| state.joined);
        match other {
            Some((other, true)) if !joined => {
                self.peers.remove(&other);
                Ok(Some(other))
            }
            None if !is_it(&self.me) => Ok(None),
            Some(_) | None => {
                self.peers.remove(&peer);
                Err(Refusal::Listed)
            }
        }
    }

    fn find(&self, id: Option<u32>, boot: Option<u64>, grpc_addr: &str) -> Option<Peer> {
        self.find_but(&[], id, boot, grpc_addr)
    }

    fn find_but(&self, but: &[Peer], id: Option<u32>, boot: Option<u64>, grpc_addr: &str) -> Option<Peer> {
        let same_life = |member: &Member| boot.is_some() && member.boot == boot;
        let same_id = |member: &Member| id.is_some() && member.id == id;
        let same_place =
            |member: &Member| &*member.grpc_addr == grpc_addr && (id.is_none() || member.id.is_none());
        let by = |is_it: &dyn Fn(&Member) -> bool| {
            let mut peers = self.peers.iter().filter(|(peer, _)| !but.contains(peer));
            peers.find(|(_, state)| is_it(&state.member)).map(|(peer, _)| *peer)
        };
        by(&same_life).or_else(|| by(&same_id)).or_else(|| by(&same_place))
    }

    /// The address of another live node with the id of `node`. Two nodes cannot listen at one address: at the same
    /// address it is the same node in another life.
    pub(super) fn twin(&self, peer: Peer, node: &Identity) -> Option<Arc<str>> {
        let others = self.peers.iter().filter(|(_, state)| state.member.status == Status::Alive);
        let mut twins = others.filter(|(other, state)| {
            let same_id = node.id.is_some() && state.member.id == node.id;
            let elsewhere = state.member.advertised != node.grpc_addr || **other != peer;
            same_id && elsewhere && state.member.is_another_life(node)
        });
        twins.next().map(|(_, state)| Arc::clone(&state.member.advertised))
    }

    /// Whether a node that joined, and is not watched here, is told of in another life at another address.
    fn has_moved(&self, peer: Peer, told: &Member) -> bool {
        self.peers.get(&peer).is_some_and(|PeerState { joined, orders, member, .. }| {
            let is_another = told.boot.is_some() && member.boot != told.boot;
            *joined && orders.wanted == Wanted::Off && is_another && member.grpc_addr != told.grpc_addr
        })
    }

    /// What the leader says of a member.
    fn believe(&mut self, now: Time, peer: Peer, told: Member) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.member.figures = told.figures;
        if state.orders.wanted != Wanted::Off {
            return;
        }
        // A leader that has not met it, or knows no scheme, says that it speaks clear text.
        let is_other_life = told.boot.is_some() && told.boot != state.member.boot;
        if is_other_life || told.scheme == Scheme::Https {
            state.member.scheme = told.scheme;
        }
        state.member.id = told.id.or(state.member.id);
        state.member.boot = told.boot.or(state.member.boot);
        state.member.name = told.name;
        state.member.http_addr = told.http_addr;
        state.member.version = told.version;
        state.member.heard = told.heard;
        self.set_status(now, peer, told.status, "the leader says so");
    }
}
