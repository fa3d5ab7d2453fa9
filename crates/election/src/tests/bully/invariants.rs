//! What must hold, whatever befalls the cluster; by the numbers of the design. Checked when a node's view of the
//! leadership changes, and those that speak of time every 100 ms. I9, the answers to requests, is tested on real
//! processes.

use std::time::Duration;

use super::{
    Ballot, Time, Wanted, WorldTime, ms,
    process::{Heard, Snapshot},
    world::World,
};
use crate::limits::{LANES_WITHOUT_LEADER, QUESTIONS_AT_FIRST, SHARE_WITHOUT_LEADER_MIN};

#[derive(Debug, Clone)]
pub struct Violation {
    pub invariant: &'static str,
    pub at: WorldTime,
    pub text: String,
}

impl Violation {
    pub fn new(invariant: &'static str, at: WorldTime, text: String) -> Self {
        Self { invariant, at, text }
    }
}

/// What made a node's view change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Question { by: usize },
    HandOver,
    Other,
}

struct Claimed {
    at: WorldTime,
    ballot: Ballot,
    node: usize,
    life: u32,
    succeeds: Vec<Ballot>,
    transferred: bool,
    /// The node that handed over to it.
    predecessor: Option<usize>,
}

/// A peer that a candidate's question reached, and the leader that it heard then.
struct Reached {
    node: usize,
    at: WorldTime,
    hears: Option<(usize, u32)>,
}

#[derive(Default)]
struct Candidate {
    /// Its life, and the round in which it asks.
    round: (u32, u64),
    /// When the round began.
    asked: WorldTime,
    reached: Vec<Reached>,
    /// The leader that it lost: asked, and not waited for.
    suspect: Option<usize>,
}

#[derive(Default)]
pub struct Observer {
    claims: Vec<Claimed>,
    candidates: Vec<Candidate>,
    /// Since when both lead, by pairs.
    both_lead: Vec<Option<WorldTime>>,
    /// When the part that a node is in last agreed.
    agreed: Vec<Option<WorldTime>>,
    /// Since when a node follows whom it follows.
    follows_since: Vec<WorldTime>,
    /// Requests in this heartbeat.
    requests: u64,
    counted_since: WorldTime,
    calm_leader: Option<usize>,
    calm_changes: u32,
}

type Checked = Result<(), Violation>;

/// Ticks of this observer, and a round trip.
const SLACK: Duration = Duration::from_millis(120);

impl Observer {
    pub fn new(count: usize) -> Self {
        Self {
            candidates: (0..count).map(|_| Candidate::default()).collect(),
            both_lead: vec![None; count * count],
            agreed: vec![None; count],
            follows_since: vec![WorldTime::ZERO; count],
            ..Self::default()
        }
    }

    pub fn claims_after(&self, at: WorldTime) -> usize {
        self.claims.iter().filter(|it| it.at > at).count()
    }

    // ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// A node's view has changed. `heard` is the leader that it heard before the step.
    pub fn changed(
        &mut self,
        world: &World,
        node: usize,
        before: Snapshot,
        after: Snapshot,
        heard: Option<Heard>,
        cause: Cause,
    ) -> Checked {
        i2_the_highest_counter_never_falls(world, node, before, after)?;
        if (before.leads, before.leader, before.ballot) == (after.leads, after.leader, after.ballot) {
            return Ok(());
        }
        if before.leader != after.leader || before.leads != after.leads {
            self.follows_since[node] = world.now;
            if !after.leads {
                self.candidates[node].suspect = before.leader.and_then(|leader| world.node_of(node, leader));
            }
        }
        i6_asking_moves_nobody(world, node, cause, heard)?;
        let is_claim = after.leads && after.ballot != before.ballot;
        if is_claim {
            let claimed = self.claimed(world, node, after);
            i7_who_stops_never_wins(world, node, &claimed)?;
            self.i1_one_id_a_counter(world, &claimed)?;
            if !before.leads && cause != Cause::HandOver {
                self.i10_nobody_claims_over_a_heard_leader(world, node)?;
            }
            self.claims.push(claimed);
        }
        self.i5_a_heard_leader_is_displaced_only_by_hand_over(world, node, before, after, heard)
    }

    fn claimed(&self, world: &World, node: usize, after: Snapshot) -> Claimed {
        let process = world.process(node).expect("who claims lives");
        let claim = process.claim.as_ref().expect("who leads claims");
        let asked_for = claim.reason.contains("as an operator asked");
        let goes_on =
            self.claims.iter().any(|it| it.node == node && it.life == process.life && it.transferred);
        Claimed {
            at: world.now,
            ballot: after.ballot,
            node,
            life: process.life,
            succeeds: claim.succeeds.to_vec(),
            predecessor: claim.succeeds.first().and_then(|ballot| {
                self.claims.iter().rev().find(|it| it.ballot == *ballot).map(|it| it.node)
            }),
            transferred: asked_for || (goes_on && claim.succeeds.iter().any(|it| it.id == after.ballot.id)),
        }
    }

    /// A candidate asks, perhaps anew.
    pub fn asked(&mut self, world: &World, node: usize, round: u64) -> Checked {
        let candidate = &mut self.candidates[node];
        let round = (world.life(node).unwrap_or_default(), round);
        if candidate.round != round {
            (candidate.round, candidate.asked, candidate.reached) = (round, world.now, Vec::new());
        }
        i12_few_are_asked_at_first(world, node)?;
        self.i8_at_most_n_squared_messages_a_round(world)
    }

    /// A question reaches a node.
    pub fn question(&mut self, world: &World, by: usize, life: u32, node: usize) -> Checked {
        if world.life(by) == Some(life) {
            let hears = world.hears(node).map(|heard| (heard.leader, heard.life));
            let process = world.process(node).expect("who is asked lives");
            let hears = if process.snapshot.leads { Some((node, process.life)) } else { hears };
            let reached = &mut self.candidates[by].reached;
            if reached.iter().all(|it| it.node != node) {
                reached.push(Reached { node, at: world.now, hears });
            }
        }
        Ok(())
    }

    // ── The invariants ─────────────────────────────────────────────────────────────────────────────────────────

    /// I1: one id a counter, unless a message between the claimants was lost or late.
    ///
    /// Weaker: any message since 24 H before the older claim counts. A claimant that has died since does not (who
    /// starts anew forgets), nor one that the other has never heard of, nor a claim that is older than the other's life.
    /// Who hands over to one of them stands between them too: while some have lost it already, its successor and their
    /// winner may claim in the same instant.
    fn i1_one_id_a_counter(&self, world: &World, claimed: &Claimed) -> Checked {
        let began = world.process(claimed.node).map_or(WorldTime::ZERO, |process| process.started);
        let is_same = |it: &&Claimed| {
            it.ballot.counter == claimed.ballot.counter && it.node != claimed.node && it.at >= began
        };
        for other in self.claims.iter().filter(is_same) {
            let predecessors = other.predecessor.into_iter().chain(claimed.predecessor);
            let between = predecessors.chain([other.node, claimed.node]);
            let between = between.flat_map(|a| [(a, other.node), (a, claimed.node)]).filter(|(a, b)| a != b);
            let last_lost = between.map(|(a, b)| world.network.last_lost(a, b)).max().unwrap_or_default();
            let is_lost = last_lost + ms(2_400) > other.at;
            let are_met = is_met(world, other.node, claimed.node);
            if world.life(other.node) == Some(other.life) && !is_lost && are_met {
                let (a, b) = (&world.nodes[other.node].name, &world.nodes[claimed.node].name);
                let text = format!("{a} and {b} both claim counter {}", claimed.ballot.counter);
                return Err(Violation::new("I1", world.now, text));
            }
        }
        Ok(())
    }

    /// I3: among nodes that all reach each other in time, at least one of them not stopping: within 12 H exactly one
    /// leader, and all agree on it.
    ///
    /// Weaker: looked at where no way leads in or out; a part that a newcomer cannot know of is left out; H is the
    /// longest of all. Later hand-overs may take 2 H.
    fn i3_all_agree_within_12_h(&mut self, world: &World) -> Checked {
        let living = world.living();
        for (part, is_whole) in world.network.parts(&living) {
            let can_lead = |node: &usize| {
                world.process(*node).is_some_and(|process| process.identity.id.is_some() && !process.stopping)
            };
            let lives_on: Vec<usize> =
                part.iter().copied().filter(|node| !is_stopping(world, *node)).collect();
            let heartbeat = world.nodes.iter().map(|node| node.plan.heartbeat).max().unwrap_or_default();
            let is_known = part.iter().all(|node| knows_a_way(world, *node, &part));
            let all = 0..world.nodes.len();
            let pairs = part.iter().flat_map(|a| all.clone().map(move |b| (*a, b)));
            let disturbed = pairs.map(|(a, b)| world.network.disturbed(a, b)).max().unwrap_or_default();
            let is_settled = is_whole && is_known && lives_on.iter().any(can_lead);
            if !is_settled || lives_on.len() != part.len() || disturbed > world.now {
                part.iter().for_each(|node| self.agreed[*node] = None);
                continue;
            }
            if world.agreed(&lives_on).is_some() {
                part.iter().for_each(|node| self.agreed[*node] = Some(world.now));
                continue;
            }
            let agreed = part.iter().filter_map(|node| self.agreed[*node]).max().unwrap_or_default();
            let due = (disturbed + 12 * heartbeat).max(agreed + 2 * heartbeat);
            if world.now > due + SLACK {
                let names: Vec<String> = part.iter().map(|node| leader_in_words(world, *node)).collect();
                let since = world.now.saturating_sub(agreed.max(disturbed));
                let text = format!("no agreement for {since:?}: {}", names.join(", "));
                return Err(Violation::new("I3", world.now, text));
            }
        }
        Ok(())
    }

    /// I4: two leaders that reach each other coexist for at most 10 H + 2 H + a round trip.
    ///
    /// Weaker: from when one of them knows of the other.
    fn i4_two_leaders_meet(&mut self, world: &World) -> Checked {
        let count = world.nodes.len();
        for a in 0..count {
            for b in a + 1..count {
                let since = &mut self.both_lead[a * count + b];
                let lead = |node: usize| world.process(node).is_some_and(|process| process.snapshot.leads);
                if !lead(a) || !lead(b) || !world.network.is_open(a, b) || !is_met(world, a, b) {
                    *since = None;
                    continue;
                }
                let since = *since.get_or_insert(world.now);
                let since = since.max(world.network.disturbed(a, b));
                let heartbeat = world.nodes[a].plan.heartbeat.max(world.nodes[b].plan.heartbeat);
                if world.now > since + 12 * heartbeat + SLACK {
                    let (a, b) = (&world.nodes[a].name, &world.nodes[b].name);
                    return Err(Violation::new(
                        "I4",
                        world.now,
                        format!("{a} and {b} both lead since {since:?}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// I5: a leader that a follower hears is displaced only by hand-over. A leader hears itself.
    fn i5_a_heard_leader_is_displaced_only_by_hand_over(
        &self,
        world: &World,
        node: usize,
        before: Snapshot,
        after: Snapshot,
        heard: Option<Heard>,
    ) -> Checked {
        let same = before.leads == after.leads && before.leader == after.leader;
        // A follower that is asked to succeed claims at once; that its offer was of its own leader is told by `succeeds`.
        if same || !(before.leads || heard.is_some()) {
            return Ok(());
        }
        let leader = world.leader_of(node);
        let claim = self.claims.iter().rev().find(|it| Some(it.node) == leader && it.ballot == after.ballot);
        let is_handed_over = claim.is_some_and(|claim| covers(&claim.succeeds, before.ballot));
        if is_handed_over {
            return Ok(());
        }
        let text = format!(
            "{} moved away from n{}, {}, which it heard, to {}",
            world.nodes[node].name,
            before.ballot.id,
            before.ballot.counter,
            leader_in_words(world, node)
        );
        Err(Violation::new("I5", world.now, text))
    }

    /// I8: n² election messages a round ever. That few are enough when nothing is lost is a scenario of its own.
    ///
    /// Looked at are the questions of a heartbeat: at boot two rounds may fall into one.
    fn i8_at_most_n_squared_messages_a_round(&mut self, world: &World) -> Checked {
        let shortest = world.nodes.iter().map(|node| node.plan.heartbeat).min().unwrap_or_default();
        if world.now.saturating_sub(self.counted_since) >= shortest {
            (self.counted_since, self.requests) = (world.now, 0);
        }
        self.requests += 1;
        let count = world.nodes.len() as u64;
        if self.requests > 2 * count * count {
            let text = format!("{} questions within a heartbeat among {count}", self.requests);
            return Err(Violation::new("I8", world.now, text));
        }
        Ok(())
    }

    /// I10: nobody claims while a follower that it can reach hears the leader (a suspect that wakes between answer and
    /// claim aside).
    ///
    /// Heard both when the question came and now; no message between them lost or late since it was asked. A follower
    /// that was not asked at all counts if they have reached each other for 4 H, and it has followed for as long. A
    /// leader that claims above another is the business of I4, and a hand-over that of I5.
    fn i10_nobody_claims_over_a_heard_leader(&self, world: &World, node: usize) -> Checked {
        let candidate = &self.candidates[node];
        for other in world.living().into_iter().filter(|other| *other != node) {
            let process = world.process(other).expect("it lives");
            let itself = process.snapshot.leads.then_some((other, process.life));
            let Some(hears) = world.hears(other).map(|heard| (heard.leader, heard.life)).or(itself) else {
                continue;
            };
            let lost = world.network.last_lost(node, other).max(world.network.disturbed(node, other));
            let longer = world.now.saturating_sub(ms(400));
            let reached = candidate.reached.iter().find(|it| it.node == other);
            let is_over = match reached {
                Some(reached) => {
                    reached.hears == Some(hears) && lost < candidate.asked && candidate.asked <= reached.at
                }
                None => lost < longer && self.follows_since[other] < longer && knows(world, node, other),
            };
            let is_suspect = candidate.suspect == Some(other);
            if is_over && hears.0 != node && !is_suspect {
                let name = &world.nodes[node].name;
                let text = format!(
                    "{name} claims while {} hears {}",
                    world.nodes[other].name, world.nodes[hears.0].name
                );
                return Err(Violation::new("I10", world.now, text));
            }
        }
        Ok(())
    }

    /// I11: after faults stop: at most two more changes of leader, and the highest id leads within 12 H + 20 s.
    ///
    /// Changes are those of the leader that all agree on, the first agreement included. Whom an operator chose keeps
    /// the lead.
    fn i11_it_settles_after_faults_stop(&mut self, world: &World) -> Checked {
        if world.now < world.plan.calm || world.plan.calm.is_zero() {
            return Ok(());
        }
        let agreed = world.agreed(&world.living());
        if agreed.is_some() && agreed != self.calm_leader {
            self.calm_leader = agreed;
            self.calm_changes += u32::from(world.now > world.plan.calm + ms(100));
        }
        if self.calm_changes > 2 {
            let text = format!("{} changes of leader after the faults", self.calm_changes);
            return Err(Violation::new("I11", world.now, text));
        }
        Ok(())
    }

    // ── WorldTime ───────────────────────────────────────────────────────────────────────────────────────────────────

    pub fn poll(&mut self, world: &World) -> Checked {
        self.i3_all_agree_within_12_h(world)?;
        self.i4_two_leaders_meet(world)?;
        world.living().into_iter().try_for_each(|node| i12_few_are_reached_for(world, node))?;
        self.i11_it_settles_after_faults_stop(world)
    }

    /// The last word of I11.
    pub fn end(&mut self, world: &World) -> Checked {
        let slowest = world.nodes.iter().map(|node| node.plan.heartbeat).max().unwrap_or_default();
        if world.plan.calm.is_zero() || world.plan.end < world.plan.calm + 12 * slowest + ms(20_000) {
            return Ok(());
        }
        let highest = (0..world.nodes.len()).max_by_key(|node| world.nodes[*node].plan.id);
        let highest = highest.filter(|node| world.nodes[*node].plan.id.is_some());
        let leader = world.agreed(&world.living());
        let is_chosen = leader.is_some_and(|leader| {
            let life = world.life(leader);
            self.claims
                .iter()
                .rev()
                .find(|it| it.node == leader && Some(it.life) == life)
                .is_some_and(|it| it.transferred)
        });
        if leader != highest && !is_chosen {
            let words = (0..world.nodes.len())
                .map(|node| leader_in_words(world, node))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Violation::new(
                "I11",
                world.now,
                format!("at the end the highest id does not lead: {words}"),
            ));
        }
        Ok(())
    }
}

/// I2: a node's highest counter never falls while it runs.
fn i2_the_highest_counter_never_falls(
    world: &World,
    node: usize,
    before: Snapshot,
    after: Snapshot,
) -> Checked {
    if after.highest < before.highest {
        let text =
            format!("{} had seen {:?}, now {:?}", world.nodes[node].name, before.highest, after.highest);
        return Err(Violation::new("I2", world.now, text));
    }
    Ok(())
}

/// I6: asking changes nobody's leadership.
///
/// A question by a leader's next life tells that the leader it was has died: that is what moves the follower.
fn i6_asking_moves_nobody(world: &World, node: usize, cause: Cause, heard: Option<Heard>) -> Checked {
    let Cause::Question { by } = cause else { return Ok(()) };
    let is_its_own_heir = heard.is_none_or(|heard| heard.leader == by && world.life(by) != Some(heard.life));
    let is_silent = heard.is_none();
    if is_its_own_heir && (!is_silent || world.nodes[by].lives > 1) {
        return Ok(());
    }
    let text = format!("{} was asked by {}, and moved", world.nodes[node].name, world.nodes[by].name);
    Err(Violation::new("I6", world.now, text))
}

/// I7: a node that is stopping never wins. Nor does one without an id.
fn i7_who_stops_never_wins(world: &World, node: usize, claimed: &Claimed) -> Checked {
    let has_no_id = world.nodes[node].plan.id.is_none();
    if is_stopping(world, node) || has_no_id {
        let text = format!("{} claims {:?}", world.nodes[node].name, claimed.ballot);
        return Err(Violation::new("I7", world.now, text));
    }
    Ok(())
}

/// I12: however large the cluster is, a node without a leader reaches for few: for those that share its work, and for
/// the leader that it follows or hears.
fn i12_few_are_reached_for(world: &World, node: usize) -> Checked {
    let process = world.process(node).expect("it lives");
    let members = process.election.members();
    let reached = members.peers().filter(|peer| members.orders(*peer).wanted != Wanted::Off).count();
    let few = share(LANES_WITHOUT_LEADER, members.peers().count());
    if !process.snapshot.leads && reached > few + 1 {
        let text = format!("{} reaches for {reached}, and not for {few}", world.nodes[node].name);
        return Err(Violation::new("I12", world.now, text));
    }
    Ok(())
}

/// I12, too: a candidate asks few at first, and each answer, or the end of waiting for it, allows for two questions. The
/// leader that it has lost is asked besides.
fn i12_few_are_asked_at_first(world: &World, node: usize) -> Checked {
    let process = world.process(node).expect("who asks lives");
    let now = Time::at(world.now.saturating_sub(process.started));
    let (awaited, done) = process.candidacy(now, world.nodes[node].plan.heartbeat);
    let few = share(QUESTIONS_AT_FIRST, process.election.members().peers().count());
    if awaited > few + done + 1 {
        let text = format!("{} waits for {awaited}, after {done} answers", world.nodes[node].name);
        return Err(Violation::new("I12", world.now, text));
    }
    Ok(())
}

fn share(all: usize, others: usize) -> usize {
    (all / others.max(1)).max(SHARE_WITHOUT_LEADER_MIN)
}

fn is_stopping(world: &World, node: usize) -> bool {
    world.process(node).is_some_and(|process| process.stopping)
}

/// Whether it can meet the others of its part: it knows one of them, or one of them knows it.
fn knows_a_way(world: &World, node: usize, part: &[usize]) -> bool {
    let is_old = |node: usize| world.nodes[node].plan.peers.len() > 1 || world.nodes.len() <= 2;
    is_old(node) || world.nodes[node].plan.peers.iter().any(|peer| part.contains(peer))
}

fn knows(world: &World, node: usize, other: usize) -> bool {
    let Some(process) = world.process(node) else { return false };
    let address = &world.nodes[other].address;
    process.election.members().members().iter().any(|member| member.grpc_addr == *address)
}

fn is_met(world: &World, a: usize, b: usize) -> bool {
    knows(world, a, b) || knows(world, b, a)
}

fn covers(succeeds: &[Ballot], ballot: Ballot) -> bool {
    succeeds.iter().any(|it| it.id == ballot.id && it.counter >= ballot.counter)
}

fn leader_in_words(world: &World, node: usize) -> String {
    let name = &world.nodes[node].name;
    match world.leader_of(node) {
        Some(leader) if leader == node => format!("{name} leads"),
        Some(leader) => format!("{name} follows {}", world.nodes[leader].name),
        None => format!("{name} has none"),
    }
}
