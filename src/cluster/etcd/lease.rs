//! What this node holds in etcd, and what it knows of the others: pure, without clock, socket or runtime.
//!
//! ```text
//!   hear(news)  what etcd says of members and leader      take(step, result)   what came of a step
//!        └──────────────────────┬──────────────────────────────┘
//!                        ┌─────▼──────┐
//!    order(stop, …) ────▶│ LeaseState │──▶ next(now, fit): one step, or until when to wait · recognised()
//!                        └────────────┘
//! ```
//! The leader is who holds the key `leader`, which only a lease keeps alive. A hand-over puts the successor's name and
//! lease into that key, so that there is no moment without a holder, and the ballot's counter is the revision of that.
//! `cargo test --lib lease_simulator` runs it under seeded faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    cluster::{Identity, election::Recognised, membership::Time, timing::HEALTHY},
    limits::{
        CAMPAIGN_DELAY, CAMPAIGN_DELAY_FIRST, ETCD_PAUSE, LEASE_MARGIN_DIVISOR, LEASE_RENEWALS, MEMBERS_MAX,
    },
};

/// A node that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) node: Identity,
    pub(super) lease: i64,
    /// Of its key.
    pub(super) revision: i64,
}

/// Who holds the key `leader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) node: Identity,
    pub(super) lease: i64,
    /// Of its key: the counter of the ballot.
    pub(super) revision: i64,
    /// An operator wants it to lead, whoever is higher.
    pub(super) transferred: bool,
}

/// Who leads, as of a revision of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) holder: Option<Holder>,
    pub(super) revision: i64,
}

/// What etcd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Listed(Vec<Registration>, Told),
    Registered(Registration),
    /// The life of this number is not registered any more.
    Unregistered(u64),
    Leads(Told),
}

/// What operators want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Order {
    /// The node stops: it hands over and leaves.
    Stop,
    /// The life of this number is to lead.
    Transfer(u64),
}

/// One call to etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Grant,
    Register {
        lease: i64,
    },
    /// Keeps the lease alive, and asks who leads.
    Renew {
        lease: i64,
    },
    Campaign {
        lease: i64,
    },
    HandOver {
        mine: i64,
        to: Holder,
    },
    Revoke {
        lease: i64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepOutcome {
    Granted { lease: i64, ttl: Duration },
    Registered,
    Renewed { ttl: Duration, told: Told },
    Told(Told),
    Revoked,
}

/// Why nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepFailure {
    /// There is no such lease, and nothing was done.
    LeaseGone,
    /// etcd does not do it, for want of permission or space.
    Refused,
    /// Anything else: perhaps it was done, or still will be.
    Unknown,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Do(Step),
    WaitUntil(Time),
}

/// A candidate that is alive, as its heartbeats say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) boot: u64,
    pub(super) since: Time,
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

#[derive(Debug)]
struct Lease {
    id: i64,
    ttl: Duration,
    /// When what last kept it alive was sent: etcd counts from later on.
    sent: Time,
    is_registered: bool,
    /// It was asked who leads since it was granted: a lease alone vouches for nothing that was heard before it.
    is_vouched: bool,
    /// A call to give it, or the lead, up may be done or not: it is not relied on any more, and revoked.
    is_abandoned: bool,
}

#[derive(Debug)]
pub(super) struct LeaseState {
    me: Arc<Identity>,
    lease: Option<Lease>,
    members: BTreeMap<u64, Registration>,
    /// Of those the ones that count, until they change.
    newest: OnceLock<Arc<[Identity]>>,
    told: Told,
    /// Since when the present holder is known, or that there is none.
    since: Time,
    /// A call to hand over or to leave is on its way: from before it this node does not call itself leader.
    is_giving_up: bool,
    resignations: u64,
    stopping: bool,
    transfer_to: Option<u64>,
    /// After a failure: not before then.
    retry_at: Time,
    campaign_after: Time,
    hand_over_after: Time,
    /// When it registered for the first time, and how often it did.
    registered: Option<Time>,
    registrations: u32,
    /// Its registration was deleted, and it has not heard of another one: at the next renewal it registers again.
    is_missing: bool,
    /// What was known of etcd's revision when the renewal that is on its way was sent.
    known_when_sent: i64,
}

/// A lease is renewed up to an eighth earlier than it must be, by so many bits of the number of the life.
const RENEWAL_JITTER_BITS: u32 = 8;
/// Longer than any node runs.
const FOREVER: Time = Duration::from_secs(1 << 32);

impl Lease {
    /// Until then etcd keeps it for certain, whatever this node's clock and scheduling add.
    fn holds_until(&self) -> Time {
        if !self.is_vouched {
            return Time::ZERO;
        }
        self.sent + self.ttl - self.ttl / LEASE_MARGIN_DIVISOR
    }

    /// Each life keeps its own time, so that nodes which joined together do not renew together for ever.
    fn renew_at(&self, boot: u64) -> Time {
        let (most, early) = (self.ttl / LEASE_RENEWALS, boot >> (u64::BITS - RENEWAL_JITTER_BITS));
        let earlier = most / 8 * u32::try_from(early).unwrap_or_default() / (1 << RENEWAL_JITTER_BITS);
        if self.is_vouched { self.sent + most - earlier } else { Time::ZERO }
    }

    /// As far as this node knows. etcd may have kept it alive without its answer being heard, again and again: it is
    /// given up then, or its holder would neither lead nor let others lead.
    fn has_run_out(&self, now: Time) -> bool {
        now >= self.sent + self.ttl
    }
}

impl LeaseState {
    pub(super) fn new(me: Arc<Identity>) -> Self {
        Self {
            me,
            lease: None,
            members: BTreeMap::new(),
            newest: OnceLock::new(),
            told: Told { holder: None, revision: 0 },
            since: Time::ZERO,
            is_giving_up: false,
            resignations: 0,
            stopping: false,
            transfer_to: None,
            retry_at: Time::ZERO,
            campaign_after: Time::ZERO,
            hand_over_after: Time::ZERO,
            registered: None,
            registrations: 0,
            is_missing: false,
            known_when_sent: 0,
        }
    }

    // ── What comes in ──────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn hear(&mut self, now: Time, news: News) {
        match &news {
            News::Registered(member) if member.node.boot == self.me.boot => self.is_missing = false,
            News::Unregistered(boot) if *boot == self.me.boot => self.is_missing = true,
            News::Listed(members, _) => {
                self.is_missing = !members.iter().any(|member| member.node.boot == self.me.boot);
            }
            _ => {}
        }
        match news {
            News::Listed(members, told) => {
                self.members = members.into_iter().map(|member| (member.node.boot, member)).collect();
                self.newest.take();
                self.learn(now, told);
            }
            News::Registered(member) => {
                if self.members.len() < MEMBERS_MAX || self.members.contains_key(&member.node.boot) {
                    self.members.insert(member.node.boot, member);
                    self.newest.take();
                }
            }
            News::Unregistered(boot) => {
                self.members.remove(&boot);
                self.newest.take();
            }
            News::Leads(told) => self.learn(now, told),
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Stop => self.stopping = true,
            Order::Transfer(to) => self.transfer_to = Some(to),
        }
    }

    /// `sent` is when the step was begun.
    pub(super) fn take(
        &mut self,
        now: Time,
        sent: Time,
        step: &Step,
        result: Result<StepOutcome, StepFailure>,
    ) {
        let is_hand_over = matches!(step, Step::HandOver { .. });
        let gives_up = is_hand_over || matches!(step, Step::Revoke { .. });
        if result.is_err() {
            self.retry_at = now + ETCD_PAUSE;
        }
        match result {
            Ok(StepOutcome::Granted { lease: id, ttl }) => {
                let (is_registered, is_vouched, is_abandoned) = (false, false, false);
                self.lease = Some(Lease { id, ttl, sent, is_registered, is_vouched, is_abandoned });
            }
            Ok(StepOutcome::Registered) => self.has_registered(now),
            Ok(StepOutcome::Renewed { ttl, told }) => {
                self.renewed(sent, ttl);
                // A read returns everything that was written before it. So this is another store, and what was known is void.
                if told.revision < self.known_when_sent {
                    self.forget_store();
                }
                self.learn(now, told);
            }
            Ok(StepOutcome::Told(told)) => self.learn(now, told),
            // The lease of the successor is gone, and ours is as it was.
            Err(StepFailure::LeaseGone) if is_hand_over => {}
            Err(StepFailure::Refused) => {}
            Ok(StepOutcome::Revoked) | Err(StepFailure::LeaseGone) => self.lease = None,
            Err(StepFailure::Unknown) => {
                if let Some(lease) = &mut self.lease {
                    lease.is_abandoned |= gives_up;
                }
            }
        }
        if gives_up {
            self.is_giving_up = false;
            self.hand_over_after = now + HEALTHY;
        }
    }

    // ── What follows ───────────────────────────────────────────────────────────────────────────────────────────

    /// The next step, which is to be taken at once: others know of it.
    pub(super) fn next(&mut self, now: Time, fit: &[Fit]) -> Next {
        if now < self.retry_at {
            return Next::WaitUntil(self.retry_at);
        }
        let Some(lease) = &self.lease else {
            return if self.stopping { Next::WaitUntil(FOREVER) } else { Next::Do(Step::Grant) };
        };
        let (id, renew_at) = (lease.id, lease.renew_at(self.me.boot));
        let give_up = lease.is_abandoned || self.stopping || lease.has_run_out(now);
        let is_registered = lease.is_registered;
        if let Some(step) = self.hand_over(now, fit) {
            self.resign();
            return Next::Do(step);
        }
        if give_up {
            self.resign();
            return Next::Do(Step::Revoke { lease: id });
        }
        if !is_registered {
            return Next::Do(Step::Register { lease: id });
        }
        if now >= renew_at {
            self.known_when_sent = self.told.revision;
            return Next::Do(Step::Renew { lease: id });
        }
        match self.campaign_at() {
            Some(at) if now >= at => Next::Do(Step::Campaign { lease: id }),
            Some(at) => Next::WaitUntil(at.min(renew_at)),
            None => Next::WaitUntil(renew_at),
        }
    }

    /// What the node may rely on, and until when.
    pub(super) fn recognised(&self, now: Time) -> Recognised {
        let leader = self
            .told
            .holder
            .as_ref()
            .filter(|holder| holder.node.boot != self.me.boot || self.is_mine(holder));
        Recognised {
            members: Arc::clone(self.newest.get_or_init(|| self.newest().cloned().collect())),
            leader: leader.map(|holder| (holder.node.clone(), holder.revision.unsigned_abs())),
            until: self.lease.as_ref().map_or(Time::ZERO, Lease::holds_until),
            taken: self.taken(now),
            resignations: self.resignations,
        }
    }

    /// How often this node began to give up the lead, or its lease.
    pub(super) fn resignations(&self) -> u64 {
        self.resignations
    }

    // ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// What is older than what is known came over a slower connection.
    fn learn(&mut self, now: Time, told: Told) {
        if told.revision < self.told.revision {
            return;
        }
        if told.holder != self.told.holder {
            self.since = now;
        }
        self.told = told;
    }

    /// etcd has lost its data, or an older state of them was restored.
    fn forget_store(&mut self) {
        self.told = Told { holder: None, revision: 0 };
        self.members.clear();
        self.newest.take();
        self.is_missing = true;
    }

    fn resign(&mut self) {
        self.is_giving_up = true;
        self.resignations += 1;
    }

    fn renewed(&mut self, sent: Time, ttl: Duration) {
        match &mut self.lease {
            Some(lease) if !ttl.is_zero() => {
                (lease.sent, lease.ttl, lease.is_vouched) = (sent, ttl, true);
                // A call under a former lease that came late may have taken it over, or an operator deleted it.
                lease.is_registered &= !self.is_missing;
            }
            _ => self.lease = None,
        }
    }

    fn has_registered(&mut self, now: Time) {
        if let Some(lease) = &mut self.lease {
            lease.is_registered = true;
        }
        self.is_missing = false;
        self.registered.get_or_insert(now);
        self.registrations += 1;
        self.campaign_after = now + CAMPAIGN_DELAY_FIRST;
    }

    fn is_mine(&self, holder: &Holder) -> bool {
        let is_kept = |lease: &Lease| lease.id == holder.lease && !lease.is_abandoned;
        holder.node.boot == self.me.boot && self.lease.as_ref().is_some_and(is_kept) && !self.is_giving_up
    }

    /// The key, while this node leads by it.
    fn held(&self, now: Time) -> Option<&Holder> {
        let holds = self.lease.as_ref().is_some_and(|lease| now < lease.holds_until());
        self.told.holder.as_ref().filter(|holder| holds && self.is_mine(holder))
    }

    /// The newest life of each id and address: older ones are gone, and only their leases are not.
    fn newest(&self) -> impl Iterator<Item = &Identity> {
        let (mut by_id, mut by_address) = (BTreeMap::new(), BTreeMap::new());
        for Registration { node, revision, .. } in self.members.values() {
            let of_address = by_address.entry(&*node.grpc_addr).or_insert(*revision);
            *of_address = (*of_address).max(*revision);
            if node.id.is_some() {
                let of_id = by_id.entry(node.id).or_insert(*revision);
                *of_id = (*of_id).max(*revision);
            }
        }
        let counts = move |Registration { node, revision, .. }: &&Registration| {
            let is_newest_of_id = by_id.get(&node.id).is_none_or(|newest| revision >= newest);
            is_newest_of_id && by_address.get(&*node.grpc_addr).is_none_or(|newest| revision >= newest)
        };
        self.members.values().filter(counts).map(|member| &member.node)
    }

    /// When this node tries to take the key that nobody holds: the more registered ids are higher, the later.
    fn campaign_at(&self) -> Option<Time> {
        if self.me.id.is_none() || self.told.holder.is_some() || self.twin().is_some() {
            return None;
        }
        let ids: BTreeSet<Option<u32>> = self.members.values().map(|member| member.node.id).collect();
        let higher = ids.into_iter().filter(|id| *id > self.me.id).count();
        let rank = u32::try_from(higher).unwrap_or(u32::MAX);
        Some(self.since.max(self.campaign_after) + CAMPAIGN_DELAY * rank)
    }

    fn hand_over(&mut self, now: Time, fit: &[Fit]) -> Option<Step> {
        let transfer_to = self.transfer_to.take();
        let held = self.held(now)?;
        let registered = |fit: &Fit| {
            let member = self.members.get(&fit.boot)?;
            (member.node.id.is_some() && fit.boot != self.me.boot).then_some((member, fit.since))
        };
        let highest = fit.iter().filter_map(registered).max_by_key(|(member, _)| member.node.id);
        let to = if self.stopping {
            highest.map(|(member, _)| member)
        } else if transfer_to.is_some() {
            transfer_to.and_then(|boot| self.members.get(&boot)).filter(|member| member.node.id.is_some())
        } else {
            let is_healthy = |since: Time| now.saturating_sub(since) >= HEALTHY;
            let is_due = !held.transferred && is_healthy(self.since) && now >= self.hand_over_after;
            // The highest is waited for, lest each in turn leads for a moment.
            let higher = highest.filter(|(member, _)| is_due && member.node.id > self.me.id);
            higher.filter(|(_, since)| is_healthy(*since)).map(|(member, _)| member)
        }?;
        let transferred = transfer_to.is_some();
        let to = Holder { node: to.node.clone(), lease: to.lease, revision: 0, transferred };
        Some(Step::HandOver { mine: held.revision, to })
    }

    /// Another node with this one's id that was there before, at another address: elsewhere it would be this one's own
    /// former life.
    fn twin(&self) -> Option<&Registration> {
        let mine = self.members.get(&self.me.boot).map_or(i64::MAX, |member| member.revision);
        self.members.values().find(|other| {
            let same_id = other.node.id.is_some() && other.node.id == self.me.id;
            let elsewhere = other.node.grpc_addr != self.me.grpc_addr;
            same_id && elsewhere && other.revision < mine
        })
    }

    /// Of two nodes with one id the one that came later ends, unless the other one was only a lease that ran out. A node
    /// that lost its lease stays.
    fn taken(&self, now: Time) -> Option<Arc<str>> {
        let waited = self.registered.is_some_and(|at| now.saturating_sub(at) >= HEALTHY);
        let twin = self.twin().filter(|_| waited && self.registrations == 1)?;
        Some(Arc::clone(&twin.node.grpc_addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    fn node(id: u32, boot: u64) -> Identity {
        let grpc_addr = format!("n{id}:1").into();
        Identity { id: Some(id), boot, grpc_addr, ..Identity::default() }
    }

    fn registration(id: u32, boot: u64, revision: i64) -> Registration {
        Registration { node: node(id, boot), lease: boot.cast_signed(), revision }
    }

    fn holder(id: u32, boot: u64, revision: i64) -> Holder {
        Holder { node: node(id, boot), lease: boot.cast_signed(), revision, transferred: false }
    }

    fn vacant(revision: i64) -> Told {
        Told { holder: None, revision }
    }

    fn told(holder: Holder) -> Told {
        Told { revision: holder.revision, holder: Some(holder) }
    }

    /// Node 2 among 1 and 4, registered at 0 under the lease 2.
    fn lease_state() -> LeaseState {
        let mut lease_state = LeaseState::new(Arc::new(node(2, 2)));
        assert_eq!(lease_state.next(at(0), &[]), Next::Do(Step::Grant));
        lease_state.take(at(0), at(0), &Step::Grant, Ok(StepOutcome::Granted { lease: 2, ttl: TTL }));
        let register = Step::Register { lease: 2 };
        assert_eq!(lease_state.next(at(0), &[]), Next::Do(register.clone()));
        lease_state.take(at(0), at(0), &register, Ok(StepOutcome::Registered));
        renew(&mut lease_state, 0, 0, vacant(2));
        let members = vec![registration(1, 1, 1), registration(2, 2, 2), registration(4, 4, 3)];
        lease_state.hear(at(0), News::Listed(members, vacant(3)));
        lease_state
    }

    fn renew(lease_state: &mut LeaseState, sent: u64, heard: u64, who: Told) {
        let step = Step::Renew { lease: 2 };
        assert_eq!(lease_state.next(at(sent), &[]), Next::Do(step.clone()));
        lease_state.take(at(heard), at(sent), &step, Ok(StepOutcome::Renewed { ttl: TTL, told: who }));
    }

    /// It leads from 550 on, by revision 4.
    fn leading() -> LeaseState {
        let mut lease_state = lease_state();
        let campaign = Step::Campaign { lease: 2 };
        assert_eq!(lease_state.next(at(550), &[]), Next::Do(campaign.clone()));
        lease_state.take(at(550), at(550), &campaign, Ok(StepOutcome::Told(told(holder(2, 2, 4)))));
        lease_state
    }

    fn leads(lease_state: &LeaseState, now: u64) -> bool {
        let recognised = lease_state.recognised(at(now));
        recognised.leader == Some((node(2, 2), 4)) && at(now) < recognised.until
    }

    #[test]
    fn the_lower_id_tries_later() {
        let mut lease_state = lease_state();
        assert_eq!(lease_state.next(at(1), &[]), Next::WaitUntil(at(550)), "one id is higher");
        lease_state.hear(at(1), News::Unregistered(4));
        assert_eq!(lease_state.next(at(1), &[]), Next::WaitUntil(at(500)), "none is");
        lease_state.hear(at(2), News::Leads(told(holder(1, 1, 4))));
        assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)), "somebody leads");
        lease_state.hear(at(900), News::Leads(vacant(5)));
        assert_eq!(lease_state.next(at(900), &[]), Next::Do(Step::Campaign { lease: 2 }));
    }

    #[test]
    fn who_has_no_id_never_leads() {
        let mut lease_state = lease_state();
        lease_state.me = Arc::new(Identity { id: None, ..node(2, 2) });
        assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)));
    }

    #[test]
    fn a_lease_counts_from_before_it_was_asked_for_and_with_a_margin() {
        let mut lease_state = leading();
        assert!(leads(&lease_state, 2399));
        assert!(!leads(&lease_state, 2400));
        renew(&mut lease_state, 1000, 1400, told(holder(2, 2, 4)));
        assert!(leads(&lease_state, 3399));
        assert!(!leads(&lease_state, 3400));
        // After a silence it leads again only if the key is still its own.
        renew(&mut lease_state, 3900, 3900, told(holder(4, 4, 5)));
        assert!(!leads(&lease_state, 3901));
    }

    #[test]
    fn lives_that_joined_together_renew_apart() {
        let renewals = |boot| {
            let (is_registered, is_vouched, is_abandoned) = (true, true, false);
            Lease { id: 1, ttl: TTL, sent: at(0), is_registered, is_vouched, is_abandoned }.renew_at(boot)
        };
        assert_eq!(renewals(0), at(1000));
        assert_eq!(renewals(1 << 63), Duration::from_micros(937_500));
        assert!((at(875)..at(876)).contains(&renewals(u64::MAX)));
    }

    #[test]
    fn a_lease_that_is_gone_is_replaced_by_another_and_leads_no_more() {
        let mut lease_state = leading();
        let step = Step::Renew { lease: 2 };
        lease_state.take(
            at(9000),
            at(9000),
            &step,
            Ok(StepOutcome::Renewed { ttl: Duration::ZERO, told: vacant(9) }),
        );
        assert!(!leads(&lease_state, 9000));
        assert_eq!(lease_state.next(at(9000), &[]), Next::Do(Step::Grant));
        lease_state.take(at(9000), at(9000), &Step::Grant, Ok(StepOutcome::Granted { lease: 3, ttl: TTL }));
        assert_eq!(lease_state.recognised(at(9000)).until, Time::ZERO, "a grant vouches for nothing");
        lease_state.hear(at(9000), News::Leads(told(holder(2, 2, 10))));
        assert!(
            lease_state.recognised(at(9000)).leader.is_none(),
            "the key of a former lease is not relied on"
        );
    }

    #[test]
    fn what_came_by_a_slower_road_is_no_news() {
        let mut lease_state = leading();
        lease_state.hear(at(600), News::Leads(vacant(3)));
        assert!(leads(&lease_state, 600));
        lease_state.hear(at(600), News::Leads(vacant(5)));
        assert!(!leads(&lease_state, 600));
    }

    fn to(id: u32, boot: u64) -> Step {
        Step::HandOver { mine: 4, to: holder(id, boot, 0) }
    }

    #[test]
    fn a_higher_id_that_is_healthy_for_ten_seconds_leads() {
        let mut lease_state = leading();
        for sent in [2500, 5000, 7500, 10_000] {
            renew(&mut lease_state, sent, sent, told(holder(2, 2, 4)));
        }
        let fit = |since: u64| [Fit { boot: 1, since: at(0) }, Fit { boot: 4, since: at(since) }];
        assert_eq!(
            lease_state.next(at(10_500), &fit(0)),
            Next::WaitUntil(at(11_000)),
            "it has led for too short a time"
        );
        assert_eq!(lease_state.next(at(10_600), &fit(700)), Next::WaitUntil(at(11_000)));
        assert_eq!(lease_state.next(at(10_600), &fit(600)), Next::Do(to(4, 4)));
        assert!(!leads(&lease_state, 10_600), "from before it is asked");
        lease_state.take(at(10_610), at(10_600), &to(4, 4), Err(StepFailure::LeaseGone));
        assert!(leads(&lease_state, 10_610), "nothing was done");
        assert_eq!(lease_state.next(at(10_710), &fit(600)), Next::WaitUntil(at(11_000)), "not again at once");
    }

    #[test]
    fn who_does_not_know_whether_it_handed_over_gives_up_its_lease() {
        let mut lease_state = leading();
        lease_state.order(Order::Transfer(1));
        let step = Step::HandOver { mine: 4, to: Holder { transferred: true, ..holder(1, 1, 0) } };
        assert_eq!(lease_state.next(at(600), &[]), Next::Do(step.clone()));
        lease_state.take(at(700), at(600), &step, Err(StepFailure::Unknown));
        assert!(!leads(&lease_state, 700));
        assert_eq!(lease_state.next(at(700), &[]), Next::WaitUntil(at(800)));
        assert_eq!(lease_state.next(at(800), &[]), Next::Do(Step::Revoke { lease: 2 }));
        lease_state.take(at(900), at(800), &Step::Revoke { lease: 2 }, Err(StepFailure::Unknown));
        assert!(!leads(&lease_state, 900));
        lease_state.take(at(999), at(900), &Step::Revoke { lease: 2 }, Ok(StepOutcome::Revoked));
        assert_eq!(lease_state.next(at(1000), &[]), Next::Do(Step::Grant));
    }

    #[test]
    fn who_stops_hands_over_leaves_and_does_not_return() {
        let mut lease_state = leading();
        lease_state.order(Order::Stop);
        assert_eq!(lease_state.next(at(600), &[Fit { boot: 1, since: at(0) }]), Next::Do(to(1, 1)));
        lease_state.take(at(610), at(600), &to(1, 1), Ok(StepOutcome::Told(told(holder(1, 1, 5)))));
        assert_eq!(lease_state.next(at(610), &[]), Next::Do(Step::Revoke { lease: 2 }));
        lease_state.take(at(620), at(610), &Step::Revoke { lease: 2 }, Ok(StepOutcome::Revoked));
        assert_eq!(lease_state.next(at(620), &[]), Next::WaitUntil(FOREVER));
    }

    #[test]
    fn a_newcomer_with_an_id_that_is_taken_does_not_lead_and_goes() {
        let mut lease_state = lease_state();
        let twin = Registration {
            node: Identity { grpc_addr: "other:1".into(), ..node(2, 9) },
            lease: 9,
            revision: 1,
        };
        lease_state.hear(at(0), News::Registered(twin));
        assert_eq!(lease_state.next(at(900), &[]), Next::WaitUntil(at(1000)), "it does not try to lead");
        assert_eq!(lease_state.recognised(at(9_999)).taken, None, "a lease may still run out");
        assert_eq!(lease_state.recognised(at(10_000)).taken.as_deref(), Some("other:1"));
        lease_state.hear(at(0), News::Unregistered(9));
        assert_eq!(lease_state.recognised(at(10_000)).taken, None);
    }

    #[test]
    fn who_is_not_registered_any_more_registers_again() {
        let mut lease_state = leading();
        lease_state.hear(at(600), News::Unregistered(2));
        lease_state.hear(at(600), News::Registered(registration(2, 2, 9)));
        renew(&mut lease_state, 1000, 1000, told(holder(2, 2, 4)));
        assert_eq!(lease_state.next(at(1000), &[]), Next::WaitUntil(at(2000)), "that was of a former lease");
        lease_state.hear(at(1500), News::Unregistered(2));
        renew(&mut lease_state, 2000, 2000, told(holder(2, 2, 4)));
        assert_eq!(lease_state.next(at(2000), &[]), Next::Do(Step::Register { lease: 2 }));
        assert!(leads(&lease_state, 2000));
    }

    #[test]
    fn a_lease_that_was_kept_alive_unheard_is_given_up() {
        let mut lease_state = leading();
        let step = Step::Renew { lease: 2 };
        for sent in [1000, 1600, 2200, 2800] {
            assert_eq!(lease_state.next(at(sent), &[]), Next::Do(step.clone()));
            lease_state.take(at(sent + 500), at(sent), &step, Err(StepFailure::Unknown));
        }
        assert_eq!(lease_state.next(at(3400), &[]), Next::Do(Step::Revoke { lease: 2 }));
    }

    #[test]
    fn an_etcd_that_lost_its_data_is_begun_with_anew() {
        let mut lease_state = leading();
        renew(&mut lease_state, 1000, 1000, told(holder(4, 4, 50)));
        let step = Step::Renew { lease: 2 };
        assert_eq!(lease_state.next(at(2000), &[]), Next::Do(step.clone()));
        // A watch may be ahead of an answer, and no store was lost.
        lease_state.hear(at(2000), News::Leads(told(holder(4, 4, 52))));
        lease_state.take(at(2000), at(2000), &step, Ok(StepOutcome::Renewed { ttl: TTL, told: vacant(51) }));
        assert_eq!(lease_state.told, told(holder(4, 4, 52)));
        assert_eq!(lease_state.next(at(3000), &[]), Next::Do(step.clone()));
        lease_state.take(
            at(3000),
            at(3000),
            &step,
            Ok(StepOutcome::Renewed { ttl: Duration::ZERO, told: vacant(2) }),
        );
        assert!(lease_state.recognised(at(3000)).leader.is_none());
        assert_eq!(lease_state.next(at(3000), &[]), Next::Do(Step::Grant));
        lease_state.take(at(3000), at(3000), &Step::Grant, Ok(StepOutcome::Granted { lease: 3, ttl: TTL }));
        let register = Step::Register { lease: 3 };
        assert_eq!(lease_state.next(at(3000), &[]), Next::Do(register.clone()));
        lease_state.take(at(3000), at(3000), &register, Ok(StepOutcome::Registered));
        let renewal = Step::Renew { lease: 3 };
        assert_eq!(lease_state.next(at(3000), &[]), Next::Do(renewal.clone()));
        lease_state.take(
            at(3000),
            at(3000),
            &renewal,
            Ok(StepOutcome::Renewed { ttl: TTL, told: vacant(3) }),
        );
        assert_eq!(
            lease_state.next(at(3500), &[]),
            Next::Do(Step::Campaign { lease: 3 }),
            "nobody leads there"
        );
    }

    #[test]
    fn what_etcd_refuses_was_not_done() {
        let mut lease_state = leading();
        lease_state.order(Order::Transfer(1));
        let Next::Do(step) = lease_state.next(at(600), &[]) else { panic!("it hands over") };
        lease_state.take(at(700), at(600), &step, Err(StepFailure::Refused));
        assert!(leads(&lease_state, 700));
    }

    #[test]
    fn nobody_without_an_id_is_handed_the_key() {
        let mut lease_state = leading();
        let worker = Registration { node: Identity { id: None, ..node(7, 7) }, lease: 7, revision: 5 };
        lease_state.hear(at(600), News::Registered(worker));
        lease_state.order(Order::Transfer(7));
        assert_eq!(lease_state.next(at(600), &[]), Next::WaitUntil(at(1000)));
    }

    #[test]
    fn of_two_lives_at_one_address_the_newer_one_counts() {
        let mut lease_state = lease_state();
        lease_state.hear(at(0), News::Registered(registration(4, 5, 9)));
        let boots: Vec<u64> = lease_state.recognised(at(0)).members.iter().map(|node| node.boot).collect();
        assert_eq!(boots, [1, 2, 5]);
    }
}
