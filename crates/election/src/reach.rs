//! Which lanes a node keeps: a leader to everybody; a follower to the leader; and a node without a leader to some
//! others, in a small cluster to all, though it does not send heartbeats to all of them all the time.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Membership, Peer, Rule, Rules, Status, Time, Wanted,
    limits::{HEARTBEATS_WITHOUT_LEADER_MAX, SHARE_WITHOUT_LEADER_MIN},
};

/// What decides which lanes a node keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) is_leading: bool,
    /// The leader that it follows.
    pub(crate) leader: Option<Peer>,
    /// The leader that it hears and does not reach.
    pub(crate) unreached: Option<Peer>,
    /// How many peers it reaches for without a leader.
    pub(crate) reached_max: usize,
}

/// The inputs of the last `settle`: it does its work again only when they change.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    standing: Standing,
    /// The leader is reached.
    is_led: bool,
    members: (u32, usize),
}

/// Tells the membership which lanes to keep.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    settled: Option<Settled>,
}

/// The equal part of `all` that a node without a leader may use among so many `others`.
pub(crate) fn share(all: usize, others: usize) -> usize {
    (all / others.max(1)).max(SHARE_WITHOUT_LEADER_MIN)
}

impl Reach {
    /// To be called at the end of each event.
    pub(crate) fn settle(
        &mut self,
        now: Time,
        heartbeat: Duration,
        members: &mut Membership,
        standing: Standing,
        rules: Rules,
    ) {
        let Standing { is_leading, leader, .. } = standing;
        let is_led = leader.is_some_and(|leader| members.is_up(leader));
        let settled = Some(Settled { standing, is_led, members: members.shape() });
        if self.settled == settled && rules.keep(Rule::DeadAreDialled) {
            return;
        }
        self.settled = settled;
        let peers: Vec<Peer> = members.peers().collect();
        let beyond_reach =
            if is_leading { BTreeSet::new() } else { beyond_reach(members, &peers, standing, rules) };
        let mut reached = 0;
        for peer in peers {
            let is_given_up = !rules.keep(Rule::DeadAreDialled) && members.status(peer) == Status::Dead;
            let wanted = match leader {
                Some(leader) if leader == peer => Wanted::Schedule,
                Some(_) if is_led => Wanted::Off,
                None if is_given_up => Wanted::Off,
                Some(_) | None if beyond_reach.contains(&peer) => Wanted::Off,
                Some(_) | None => Wanted::Work,
            };
            members.want(now, peer, wanted);
            reached += usize::from(wanted != Wanted::Off);
        }
        let turns = if is_leading { 1 } else { reached.div_ceil(HEARTBEATS_WITHOUT_LEADER_MAX).max(1) };
        members.pace(now, heartbeat * u32::try_from(turns).unwrap_or(u32::MAX));
    }
}

/// The peers to which this node keeps no lane. In a large cluster a node without a leader keeps lanes to a few peers,
/// different for each node: they share its work, and the machine stays free for the election. The leader that is heard
/// is never among those left out.
fn beyond_reach(members: &Membership, peers: &[Peer], standing: Standing, rules: Rules) -> BTreeSet<Peer> {
    // In an order of this node's own, which stays the same when others come and go.
    let own = members.me().boot.unwrap_or_default() | 1;
    let mut beyond = peers.to_vec();
    beyond.sort_by_key(|peer| own.wrapping_mul(u64::from(peer.0) + 1));
    beyond.drain(..standing.reached_max.min(peers.len()));
    let unreached = standing.unreached.filter(|_| rules.keep(Rule::UnreachedIsReachedFor));
    beyond.into_iter().filter(|peer| Some(*peer) != unreached).collect()
}
