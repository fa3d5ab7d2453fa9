//! What a driver drives: Bully, or what a coordinator says, behind one set of methods.

use std::{sync::Arc, time::Duration};

use crate::{
    Ballot, Change, Claim, ClaimVerdict, DialError, Figures, HandOver, Identity, Judged, Member, MemberList,
    Membership, Peer, PeerAddress, PeerRequest, QuestionAnswer, Recognised, Refusal, Rules, Time,
    TransferError, Wanted, appointed::Appointed, bully::Bully,
};

/// A node of the cluster: whom it knows, and who leads as far as it knows.
#[derive(Debug)]
pub struct Election(Method);

/// How the leader is chosen.
#[derive(Debug)]
enum Method {
    Bully(Box<Bully>),
    Appointed(Box<Appointed>),
}

/// What the driver is to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// To send this to the peer, and to hand in what it replies, or that it does not.
    Send {
        /// To whom.
        to: Peer,
        /// What.
        request: PeerRequest,
    },
    /// To tell people, and to raise the version of the member list.
    Changed(Change),
    /// To tell people, if at all: a node that answers on a lane cannot be a member.
    Refused {
        /// Who answers.
        node: Identity,
        /// Why it cannot.
        refusal: Refusal,
    },
    /// To tell people: another node with this one's id is alive at this address, and this one, which was there first,
    /// stays.
    MetTwin(Arc<str>),
}

/// The same call, whichever method it is.
macro_rules! either {
    ($method:expr, $it:ident => $call:expr) => {
        match $method {
            Method::Bully($it) => $call,
            Method::Appointed($it) => $call,
        }
    };
}

impl Election {
    /// A node that has just started, and agrees with the others on a leader by the Bully algorithm. `me.boot` seeds its
    /// random delays.
    pub fn bully(me: &Identity, peers: &[PeerAddress], heartbeat: Duration, rules: Rules) -> Self {
        Self(Method::Bully(Box::new(Bully::new(me, peers, heartbeat, rules))))
    }

    /// A node that has just started, and is told by a coordinator who leads; see [`recognise`](Self::recognise).
    pub fn appointed(me: &Identity, peers: &[PeerAddress], heartbeat: Duration) -> Self {
        Self(Method::Appointed(Box::new(Appointed::new(me, peers, heartbeat))))
    }

    // ── Lanes and time ─────────────────────────────────────────────────────────────────────────────────────────

    /// A lane of this kind to the peer is open, and this is who answers on it.
    pub fn lane_up(&mut self, now: Time, peer: Peer, kind: Wanted, identity: &Identity) {
        either!(&mut self.0, it => it.lane_up(now, peer, kind, identity));
    }

    /// The peer answers what it holds and wants no more.
    pub fn lane_stopping(&mut self, now: Time, peer: Peer) {
        either!(&mut self.0, it => {
            it.enter(now);
            it.members.lane_stopping(now, peer);
            it.settle(now);
        });
    }

    /// The lane to the peer has ended; without a reason, because we closed it.
    pub fn lane_down(&mut self, now: Time, peer: Peer, reason: Option<&str>) {
        either!(&mut self.0, it => {
            it.enter(now);
            it.members.lane_down(now, peer, reason);
            it.settle(now);
        });
    }

    /// The peer could not be dialled. Returns whether that is news.
    pub fn dial_failed(&mut self, now: Time, peer: Peer, error: &DialError) -> bool {
        either!(&mut self.0, it => it.dial_failed(now, peer, error))
    }

    /// The peer acknowledged a heartbeat, and perhaps judged the claim that it carried.
    pub fn acked(&mut self, now: Time, peer: Peer, figures: Figures, judged: Option<Judged>) {
        either!(&mut self.0, it => it.acked(now, peer, figures, judged));
    }

    /// What this node itself holds and has done.
    pub fn own_figures(&mut self, now: Time, figures: Figures) {
        either!(&mut self.0, it => it.members.own_figures(now, figures));
    }

    /// To be called at each [`next_deadline`](Self::next_deadline), or a little later.
    pub fn tick(&mut self, now: Time) {
        either!(&mut self.0, it => it.tick(now));
    }

    /// When `tick` is due: within a heartbeat.
    pub fn next_deadline(&self) -> Time {
        either!(&self.0, it => it.next_deadline())
    }

    // ── Requests of others ─────────────────────────────────────────────────────────────────────────────────────

    /// A node asks, perhaps as a candidate. It changes nobody's leadership.
    pub fn question(&mut self, now: Time, sender: &Identity, is_candidate: bool) -> QuestionAnswer {
        either!(&mut self.0, it => it.question(now, sender, is_candidate))
    }

    /// A node says that it leads, in its Victory or in a heartbeat.
    ///
    /// # Errors
    /// When it cannot be a member.
    pub fn claimed(
        &mut self,
        now: Time,
        sender: &Identity,
        claim: &Claim,
        list: Option<MemberList>,
    ) -> Result<ClaimVerdict, Refusal> {
        either!(&mut self.0, it => it.claimed(now, sender, claim, list))
    }

    /// A member that does not lead spoke to us.
    ///
    /// # Errors
    /// When it cannot be a member.
    pub fn heard(&mut self, now: Time, sender: &Identity) -> Result<(), Refusal> {
        either!(&mut self.0, it => {
            it.enter(now);
            let met = it.members.heard(now, sender)?;
            it.meet_node(now, met);
            it.settle(now);
        });
        Ok(())
    }

    /// A leader asks this node to lead after it; returns whether it does. Where a coordinator says who leads, no node
    /// does.
    ///
    /// # Errors
    /// When the leader cannot be a member.
    pub fn hand_over(&mut self, now: Time, sender: &Identity, offer: &HandOver) -> Result<bool, Refusal> {
        match &mut self.0 {
            Method::Bully(bully) => bully.hand_over(now, sender, offer),
            Method::Appointed(_) => self.heard(now, sender).map(|()| false),
        }
    }

    // ── Replies to this node, which sends requests only with Bully ─────────────────────────────────────────────

    /// A peer that answers a question says who it is.
    pub fn met(&mut self, peer: Peer, identity: &Identity) {
        if let Method::Bully(bully) = &mut self.0 {
            bully.met(peer, identity);
        }
    }

    /// The answer to a question of this round; none when the peer could not be asked.
    pub fn answered(&mut self, now: Time, peer: Peer, round: u64, answer: Option<QuestionAnswer>) {
        if let Method::Bully(bully) = &mut self.0 {
            bully.answered(now, peer, round, answer);
        }
    }

    /// What a peer makes of a Victory; none when it could not be told.
    pub fn judged(&mut self, now: Time, peer: Peer, judged: Option<Judged>) {
        if let Method::Bully(bully) = &mut self.0 {
            bully.judged(now, peer, judged);
        }
    }

    /// Whether the peer leads after this node; none when it could not be asked.
    pub fn hand_over_answered(&mut self, now: Time, peer: Peer, ballot: Ballot, accepted: Option<bool>) {
        if let Method::Bully(bully) = &mut self.0 {
            bully.hand_over_answered(now, peer, ballot, accepted);
        }
    }

    // ── Operators, and a coordinator ───────────────────────────────────────────────────────────────────────────

    /// This node is stopping: it hands over if it leads, and never leads again.
    pub fn stop(&mut self, now: Time) {
        either!(&mut self.0, it => it.stop(now));
    }

    /// An operator wants the member of this name to lead. With a coordinator, the driver then tells the coordinator.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn transfer(&mut self, now: Time, to: &str) -> Result<Peer, TransferError> {
        either!(&mut self.0, it => it.transfer(now, to))
    }

    /// The coordinator says something new. With Bully there is none.
    pub fn recognise(&mut self, now: Time, recognised: &Recognised) {
        if let Method::Appointed(appointed) = &mut self.0 {
            appointed.recognise(now, recognised);
        }
    }

    /// The other node with this one's id is not where it was said to be.
    pub fn keep_id(&mut self) {
        either!(&mut self.0, it => it.keep_id());
    }

    // ── What follows from them ─────────────────────────────────────────────────────────────────────────────────

    /// What is to be done since the last call, in this order.
    pub fn drain_effects(&mut self) -> Vec<Effect> {
        either!(&mut self.0, it => {
            let mut effects = std::mem::take(&mut it.effects);
            effects.extend(it.members.drain_changes().into_iter().map(Effect::Changed));
            effects
        })
    }

    /// Whether anything is to be sent or told, but for changes of members.
    pub fn has_effects(&self) -> bool {
        either!(&self.0, it => !it.effects.is_empty())
    }

    /// The members, and which lanes are to be kept to them.
    pub fn members(&self) -> &Membership {
        either!(&self.0, it => &it.members)
    }

    /// The claim that this node's heartbeats carry, if it leads.
    pub fn claim(&self, now: Time) -> Option<Claim> {
        either!(&self.0, it => it.claim(now))
    }

    /// Who leads, as far as this node follows anybody: the leader, its ballot, and since when.
    pub fn leader(&self) -> Option<(&Member, Ballot, Time)> {
        either!(&self.0, it => it.leader())
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        either!(&self.0, it => it.leads())
    }

    /// The peer that leads.
    pub fn leading_peer(&self) -> Option<Peer> {
        either!(&self.0, it => it.leading_peer())
    }

    /// Whether this node hears its leader: its lane is open, and it was heard within two of its heartbeats.
    pub fn hears_leader(&self, now: Time) -> bool {
        either!(&self.0, it => it.hears_leader(now))
    }

    /// The address at which another node is said to have this node's id. If it is there, this node came later and must
    /// end.
    pub fn taken_by(&self) -> Option<&Arc<str>> {
        either!(&self.0, it => it.taken_by())
    }

    /// Whether this node was told to stop.
    pub fn is_stopping(&self) -> bool {
        either!(&self.0, it => it.is_stopping())
    }

    /// The highest ballot that was seen.
    pub fn highest(&self) -> Ballot {
        either!(&self.0, it => it.highest())
    }

    /// Until when the coordinator's word on the leader holds; `None` with Bully, where only events end a leadership.
    pub fn recognised_until(&self) -> Option<Time> {
        match &self.0 {
            Method::Bully(_) => None,
            Method::Appointed(appointed) => Some(appointed.recognised_until()),
        }
    }

    /// How many resignations of this node the coordinator's last news counts; 0 with Bully.
    pub fn resignations(&self) -> u64 {
        match &self.0 {
            Method::Bully(_) => 0,
            Method::Appointed(appointed) => appointed.resignations(),
        }
    }
}
