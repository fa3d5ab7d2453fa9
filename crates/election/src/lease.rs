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
//! `cargo test -p primacy-election lease` runs it under seeded faults.

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    Identity, Recognised, Time,
    limits::{
        CAMPAIGN_DELAY, CAMPAIGN_DELAY_FIRST, ETCD_PAUSE, LEASE_MARGIN_DIVISOR, LEASE_RENEWALS, MEMBERS_MAX,
    },
    timing::HEALTHY,
};

pub use model::{Fit, Holder, News, Next, Order, Registration, Step, StepFailure, StepOutcome, Told};

#[derive(Debug)]
struct Lease {
    id: i64,
    ttl: Duration,
    /// When the call that last renewed it was sent; etcd counts from a later moment.
    sent: Time,
    is_registered: bool,
    /// Who leads was read from etcd after the lease was granted. Until then the lease proves nothing about the leader.
    is_vouched: bool,
    /// A call to give up the lease or the lead has an unknown outcome: the lease is no longer relied on, and is
    /// revoked.
    is_abandoned: bool,
}

/// What this node holds in etcd, and what it knows of the others.
#[derive(Debug)]
pub struct LeaseState {
    me: Arc<Identity>,
    lease: Option<Lease>,
    members: BTreeMap<u64, Registration>,
    /// The newest life of each id and address in `members`; cleared when `members` changes.
    newest: OnceLock<Arc<[Identity]>>,
    told: Told,
    /// Since when the present holder is known, or that there is none.
    since: Time,
    /// A call to hand over or to leave is in progress. Before it was sent, this node ceased to call itself leader.
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

/// How many bits of the boot choose how much earlier, up to an eighth, this life renews its lease.
const RENEWAL_JITTER_BITS: u32 = 8;
/// Longer than any node runs.
const FOREVER: Time = Time::at(Duration::from_secs(1 << 32));

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

    /// Whether the lease has run out, as far as this node knows. etcd may have renewed it while its answers were lost:
    /// the node then revokes it, because it would neither lead nor let others lead.
    fn has_run_out(&self, now: Time) -> bool {
        now >= self.sent + self.ttl
    }
}

impl LeaseState {
    /// A node that holds nothing yet.
    pub fn new(me: Arc<Identity>) -> Self {
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

    /// etcd says something, by a watch or a list.
    pub fn hear(&mut self, now: Time, news: News) {
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

    /// An operator wants something.
    pub fn order(&mut self, order: Order) {
        match order {
            Order::Stop => self.stopping = true,
            Order::Transfer(to) => self.transfer_to = Some(to),
        }
    }

    /// What came of a step; `sent` is when it was begun.
    pub fn take(&mut self, now: Time, sent: Time, step: &Step, result: Result<StepOutcome, StepFailure>) {
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
                // A read returns everything that was written before it. So this is another store, and what was known is
                // void.
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

    /// The next step. It must be taken at once, because the state already counts on it.
    pub fn next(&mut self, now: Time, fit: &[Fit]) -> Next {
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
    pub fn recognised(&self, now: Time) -> Recognised {
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
    pub fn resignations(&self) -> u64 {
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
                // A late call under a former lease may have taken the registration over, or an operator deleted it.
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
            let is_healthy = |since: Time| now.since(since) >= HEALTHY;
            let is_due = !held.transferred && is_healthy(self.since) && now >= self.hand_over_after;
            // No lower id is chosen meanwhile: each in turn would lead for a moment.
            let higher = highest.filter(|(member, _)| is_due && member.node.id > self.me.id);
            higher.filter(|(_, since)| is_healthy(*since)).map(|(member, _)| member)
        }?;
        let transferred = transfer_to.is_some();
        let to = Holder { node: to.node.clone(), lease: to.lease, revision: 0, transferred };
        Some(Step::HandOver { mine: held.revision, to })
    }

    /// An earlier registration with this node's id at another address; at the same address it is this node's own former
    /// life.
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
        let waited = self.registered.is_some_and(|at| now.since(at) >= HEALTHY);
        let twin = self.twin().filter(|_| waited && self.registrations == 1)?;
        Some(Arc::clone(&twin.node.grpc_addr))
    }
}

#[cfg(test)]
mod tests;
