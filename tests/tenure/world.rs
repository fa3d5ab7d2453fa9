//! Processes, what lies between them and etcd, and what must hold at every event.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Broken, Identity, Plan, Time, ms,
    node::{Node, View},
    plan::Fault,
    store::{NoLease, Store},
    tenure::{Failure, Fit, Next, Order, Outcome, Step},
    wire,
};
use crate::{
    cluster::election::HEALTHY,
    limits::{ETCD_PAUSE, ETCD_TIMEOUT, LEASE_TTL, RENEW_TIMEOUT},
    proto::etcd::etcdserverpb::RangeResponse,
};

/// From the calm on, within so long all follow one leader: calls of before may still arrive, and leases end.
const AGREE_MAX: Duration = ms(15_000);
/// Then the highest id leads within so long.
const HIGHEST_MAX: Duration = HEALTHY.saturating_add(ms(4_000));
/// Calls of a node in a second.
const CALLS_PER_SECOND_MAX: u64 = 30;

struct Call {
    place: usize,
    boot: u64,
    step: Step,
    sent: Time,
    /// What keeping the lease alive brought; the read is still to come.
    kept: Option<Duration>,
    /// It waits until its node does not call itself leader any more.
    stands: bool,
    is_given_up: bool,
    is_answer_lost: bool,
}

enum Event {
    Start(usize),
    Wake(usize, u64, u64),
    Arrive(u64),
    Answer(usize, u64, u64, Result<Outcome, Failure>),
    GiveUp(usize, u64, u64),
    StandDown(usize, u64, u64),
    Pump(usize, u64, u32, i64),
    Rewatch(usize, u64, u32),
    Listed(usize, u64, u32, RangeResponse),
    Take(usize, u64),
    Publish(usize, u64, View),
    Exit(usize, u64, Option<Duration>),
    Fault(Fault),
    Back(bool),
    Expire,
    Look,
}

impl Event {
    /// Whose step it is.
    fn of(&self) -> Option<(usize, u64)> {
        match self {
            Self::Wake(place, boot, _)
            | Self::Answer(place, boot, ..)
            | Self::GiveUp(place, boot, _)
            | Self::StandDown(place, boot, _)
            | Self::Pump(place, boot, ..)
            | Self::Rewatch(place, boot, _)
            | Self::Listed(place, boot, ..)
            | Self::Take(place, boot)
            | Self::Publish(place, boot, _) => Some((*place, *boot)),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Figures {
    pub leaderships: u64,
    /// The shortest time between one who called itself leader until its lease ended, and the next.
    pub shortest_after_lapse: Option<Duration>,
    /// The same where it gave the lead up, or died.
    pub shortest_after_giving_up: Option<Duration>,
    pub longest_until_agreed: Duration,
    pub calls: u64,
    pub calls_per_second_max: u64,
    pub told: u64,
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

impl Figures {
    pub fn merge(&mut self, other: &Self) {
        self.leaderships += other.leaderships;
        self.shortest_after_lapse = shorter(self.shortest_after_lapse, other.shortest_after_lapse);
        self.shortest_after_giving_up =
            shorter(self.shortest_after_giving_up, other.shortest_after_giving_up);
        self.longest_until_agreed = self.longest_until_agreed.max(other.longest_until_agreed);
        self.calls += other.calls;
        self.calls_per_second_max = self.calls_per_second_max.max(other.calls_per_second_max);
        self.told += other.told;
    }
}

/// Who called itself leader last.
struct Term {
    place: usize,
    boot: u64,
    counter: u64,
    /// When that ends, or ended, and whether of itself.
    ends: Time,
    is_over: bool,
    has_lapsed: bool,
}

/// What a place is like, whoever lives there.
#[derive(Default, Clone)]
struct Place {
    id: Option<u32>,
    is_twin: bool,
    rate: f64,
    paused_until: Time,
    cut_until: Time,
    is_silent: bool,
    /// The second, and the calls in it.
    calls: (u64, u64),
}

pub struct World {
    plan: Plan,
    pub now: Time,
    random: StdRng,
    events: BTreeMap<u64, Event>,
    queue: BinaryHeap<Reverse<(Time, u8, u64)>>,
    sequence: u64,
    pub nodes: Vec<Option<Node>>,
    places: Vec<Place>,
    boots: u64,
    pub store: Store,
    etcd_rate: f64,
    down_until: Time,
    calls: BTreeMap<u64, Call>,
    newest: i64,
    pumped: i64,
    term: Option<Term>,
    agreed: bool,
    pub figures: Figures,
    pub violation: Option<String>,
    pub trace: Option<String>,
}

impl World {
    pub fn new(plan: Plan, traced: bool) -> Self {
        let mut random = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let drift = plan.drift;
        let mut rate = || if drift > 0.0 { 1.0 + random.random_range(-drift..=drift) } else { 1.0 };
        let etcd_rate = rate();
        let mut world = Self {
            now: Time::ZERO,
            events: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            nodes: plan.nodes.iter().map(|_| None).collect(),
            places: plan
                .nodes
                .iter()
                .map(|(id, _)| Place { id: *id, rate: rate(), ..Place::default() })
                .collect(),
            boots: 0,
            store: Store::default(),
            etcd_rate,
            down_until: Time::ZERO,
            calls: BTreeMap::new(),
            newest: 0,
            pumped: 0,
            term: None,
            agreed: false,
            figures: Figures::default(),
            violation: None,
            trace: traced.then(String::new),
            random,
            plan,
        };
        for (place, (_, starts)) in world.plan.nodes.clone().into_iter().enumerate() {
            world.push(starts, Event::Start(place));
        }
        for (at, fault) in world.plan.faults.clone() {
            world.push(at, Event::Fault(fault));
        }
        world.push(world.plan.expiry, Event::Expire);
        world.push(world.plan.calm, Event::Look);
        world
    }

    pub fn run(&mut self) {
        self.run_until(self.plan.end);
        if self.violation.is_none() && self.is_calm() && !self.plan.calm.is_zero() {
            self.judge_end();
        }
    }

    pub fn run_until(&mut self, end: Time) {
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= end
            && self.violation.is_none()
        {
            let Some(Reverse((at, _, id))) = self.queue.pop() else { return };
            self.now = at;
            if let Some(event) = self.events.remove(&id) {
                self.handle(event);
                self.check();
            }
        }
        self.now = end;
    }

    // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// What a process gives up comes after all answers that have arrived.
    fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        let class = u8::from(matches!(event, Event::GiveUp(..)));
        self.queue.push(Reverse((at.max(self.now), class, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn etcd_now(&self) -> Time {
        self.now.mul_f64(self.etcd_rate)
    }

    fn is_calm(&self) -> bool {
        self.now >= self.plan.calm
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.random.random_range(50..=u64::try_from(most.as_micros()).unwrap().max(51)))
    }

    /// When all is well a renewal, which goes to and fro twice, has time enough.
    fn way(&mut self) -> Duration {
        self.up_to(if self.is_calm() { self.plan.delay.min(ms(20)) } else { self.plan.delay })
    }

    /// Mostly short.
    fn lag(&mut self, most: Duration, often: f64) -> Duration {
        let most = if self.random.random_bool(often) && !self.is_calm() { most } else { most.min(ms(1)) };
        self.up_to(most)
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>10.4} {}", self.now.as_secs_f64(), line());
        }
    }

    fn violate(&mut self, text: String) {
        let now = self.now;
        self.violation.get_or_insert_with(|| format!("at {now:?}: {text}"));
    }

    // ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn handle(&mut self, event: Event) {
        if let Some((place, boot)) = event.of() {
            if self.nodes[place].as_ref().is_none_or(|node| node.me.boot != boot) {
                return;
            }
            let paused_until = self.places[place].paused_until;
            if self.now < paused_until {
                return self.push(paused_until, event);
            }
        }
        match event {
            Event::Start(place) => self.start(place),
            Event::Wake(place, _, wake) => {
                if self.nodes[place].as_ref().is_some_and(|node| node.wakes == wake) {
                    self.turn(place);
                }
            }
            Event::Arrive(id) => self.arrive(id),
            Event::Answer(place, _, id, result) => self.answer(place, id, result),
            Event::GiveUp(place, _, id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.is_given_up = true;
                }
                self.answer(place, id, Err(Failure::Unknown));
            }
            Event::StandDown(place, _, id) => self.stand_down(place, id),
            Event::Pump(place, _, epoch, upto) => self.pump(place, epoch, upto),
            Event::Rewatch(place, _, epoch) => self.rewatch(place, epoch),
            Event::Listed(place, _, epoch, response) => self.listed(place, epoch, response),
            Event::Take(place, boot) => self.take_mail(place, boot),
            Event::Publish(place, boot, view) => self.publish(place, boot, view),
            Event::Exit(place, boot, back) => {
                if self.nodes[place].as_ref().is_some_and(|node| node.me.boot == boot) {
                    self.kill(place, back);
                }
            }
            Event::Fault(fault) => self.befall(fault),
            Event::Back(extends) => {
                if self.now >= self.down_until && extends {
                    let now = self.etcd_now();
                    self.store.extend(now);
                }
            }
            Event::Expire => {
                if self.now >= self.down_until {
                    let now = self.etcd_now();
                    self.store.expire(now);
                }
                self.push(self.now + self.plan.expiry, Event::Expire);
            }
            Event::Look => {
                self.look();
                self.push(self.now + ms(50), Event::Look);
            }
        }
        self.pump_all();
    }

    fn start(&mut self, place: usize) {
        if self.nodes[place].is_some() {
            return;
        }
        self.boots += 1;
        let Place { id, is_twin, rate, .. } = self.places[place];
        let grpc_addr = format!("{place}:1").into();
        let name = if is_twin { "twin".into() } else { format!("n{place}").into() };
        let me = Identity { id, name, boot: self.boots, grpc_addr, ..Identity::default() };
        self.say(|| format!("{place} starts, id {id:?}"));
        self.nodes[place] = Some(Node::new(me, rate, self.now));
        self.push(self.now, Event::Rewatch(place, self.boots, 0));
        self.turn(place);
    }

    pub fn kill(&mut self, place: usize, back: Option<Duration>) {
        if self.nodes[place].take().is_some() {
            self.say(|| format!("{place} dies"));
        }
        if let Some(down) = back {
            self.push(self.now + down, Event::Start(place));
        }
    }

    /// What the task does after each event.
    fn turn(&mut self, place: usize) {
        let fit = self.fit(place);
        let (now, broken) = (self.now, self.plan.broken);
        let Some(node) = &mut self.nodes[place] else { return };
        let boot = node.me.boot;
        if node.call.is_none() {
            match node.tenure.next(node.local(now), &fit) {
                Next::Do(step) => self.begin(place, step),
                Next::WaitUntil(until) => {
                    node.wakes += 1;
                    let wake = Event::Wake(place, boot, node.wakes);
                    let at = node.real(until) + Duration::from_micros(1);
                    self.push(at, wake);
                }
            }
        }
        let Some(node) = &mut self.nodes[place] else { return };
        let hides = broken == Some(Broken::LeadsWhileHandingOver) && node.call.is_some_and(|call| call.1);
        let recognised = node.tenure.recognised(node.local(now));
        if recognised == node.recognised || hides {
            return;
        }
        node.recognised = recognised;
        node.mailed += 1;
        if !std::mem::replace(&mut node.is_driving, true) {
            let lag = self.lag(self.plan.driver_lag, 0.3);
            self.push(now + lag, Event::Take(place, boot));
        }
    }

    /// Those that the leader hears: a silent one is noticed after some heartbeats.
    fn fit(&self, place: usize) -> Vec<Fit> {
        let Some(me) = &self.nodes[place] else { return Vec::new() };
        let leads = me.recognised.leader.as_ref().is_some_and(|(node, _)| node.boot == me.me.boot);
        if !leads || self.plan.broken == Some(Broken::HighestDoesNotReturn) {
            return Vec::new();
        }
        let others = self.nodes.iter().enumerate().filter_map(|(other, node)| Some((other, node.as_ref()?)));
        let is_fit = |(other, node): &(usize, &Node)| {
            let is_heard = self.places[*other].paused_until < self.now + ms(350);
            *other != place && node.me.id.is_some() && node.me.id != me.me.id && is_heard
        };
        let since = |node: &Node| me.local(node.up_since.max(me.up_since));
        others.filter(is_fit).map(|(_, node)| Fit { boot: node.me.boot, since: since(node) }).collect()
    }

    // ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn begin(&mut self, place: usize, step: Step) {
        let now = self.now;
        let Some(node) = &mut self.nodes[place] else { return };
        self.sequence += 1;
        let (id, boot, sent) = (self.sequence, node.me.boot, node.local(now));
        let gives_up = matches!(step, Step::HandOver { .. } | Step::Revoke { .. });
        node.call = Some((id, gives_up));
        let until = node.real(node.view.until);
        let waits = !matches!(
            self.plan.broken,
            Some(Broken::LeadsWhileHandingOver | Broken::HandsOverBeforeStandingDown)
        );
        let stands = gives_up && waits;
        self.say(|| format!("{place}: {step:?}"));
        let call =
            Call { place, boot, step, sent, kept: None, stands, is_given_up: false, is_answer_lost: false };
        self.calls.insert(id, call);
        self.count_call(place);
        if stands {
            self.give_up_after(id, ETCD_TIMEOUT);
            self.push(until, Event::StandDown(place, boot, id));
            self.stand_down(place, id);
        } else {
            self.send(id);
        }
    }

    fn count_call(&mut self, place: usize) {
        self.figures.calls += 1;
        let second = self.now.as_secs();
        let calls = &mut self.places[place].calls;
        *calls = if calls.0 == second { (second, calls.1 + 1) } else { (second, 1) };
        let count = calls.1;
        self.figures.calls_per_second_max = self.figures.calls_per_second_max.max(count);
        if count > CALLS_PER_SECOND_MAX {
            self.violate(format!("{place} calls etcd {count} times within a second"));
        }
    }

    fn give_up_after(&mut self, id: u64, time: Duration) {
        let Some(call) = self.calls.get(&id) else { return };
        let (place, boot) = (call.place, call.boot);
        let Some(node) = &self.nodes[place] else { return };
        let at = node.real(node.local(self.now) + time);
        self.push(at, Event::GiveUp(place, boot, id));
    }

    fn stand_down(&mut self, place: usize, id: u64) {
        let minds = self.plan.broken != Some(Broken::MindsTheViewOfBefore);
        let Some(node) = &self.nodes[place] else { return };
        let knows = node.view.resignations >= node.tenure.resignations() || !minds;
        let leads = node.leads(self.now).is_some() || !knows;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !leads && !call.is_given_up && std::mem::take(&mut call.stands) {
            self.send(id);
        }
    }

    /// What becomes of it on its way.
    fn send(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let (place, boot) = (call.place, call.boot);
        let is_renewal = matches!(call.step, Step::Renew { .. });
        self.give_up_after(id, if is_renewal { RENEW_TIMEOUT } else { ETCD_TIMEOUT });
        let way = self.way();
        let refused = Event::Answer(place, boot, id, Err(Failure::Unknown));
        if self.now < self.places[place].cut_until {
            if !self.places[place].is_silent {
                self.push(self.now + way, refused);
            }
            return;
        }
        let fares_badly = !self.is_calm() && self.random.random_range(0..100) < self.plan.bad_percent;
        match self.random.random_range(0..4) {
            0 if fares_badly => self.push(self.now + way, refused),
            1 if fares_badly => {}
            2 if fares_badly => {
                let late = self.up_to(ms(6_000));
                self.push(self.now + late, Event::Arrive(id));
            }
            lost => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.is_answer_lost = fares_badly && lost == 3;
                }
                self.push(self.now + way, Event::Arrive(id));
            }
        }
    }

    fn arrive(&mut self, id: u64) {
        let way = self.way();
        let Some(call) = self.calls.get(&id) else { return };
        let (place, boot) = (call.place, call.boot);
        if self.now < self.down_until {
            let refused = Event::Answer(place, boot, id, Err(Failure::Unknown));
            let waits = self.random.random_bool(0.3);
            let (at, then) =
                if waits { (self.down_until + way, Event::Arrive(id)) } else { (self.now + way, refused) };
            return self.push(at, then);
        }
        let Some(result) = self.perform(id) else {
            // It reads when it has the first answer.
            let at = self.now.max(self.places[place].paused_until) + 2 * way;
            return self.push(at, Event::Arrive(id));
        };
        let is_cut = self.now < self.places[place].cut_until;
        if self.calls.get(&id).is_some_and(|call| !call.is_answer_lost) && !is_cut {
            self.push(self.now + way, Event::Answer(place, boot, id, result));
        }
    }

    /// At etcd; nothing if a second question follows.
    fn perform(&mut self, id: u64) -> Option<Result<Outcome, Failure>> {
        let now = self.etcd_now();
        let is_plain = self.plan.broken == Some(Broken::PlainPut);
        let call = self.calls.get_mut(&id)?;
        let Place { id: of, .. } = self.places[call.place];
        let (place, boot) = (call.place, call.boot);
        let me = Identity {
            id: of,
            name: format!("n{place}").into(),
            boot,
            grpc_addr: format!("{place}:1").into(),
            ..Identity::default()
        };
        let store = &mut self.store;
        let done: Result<Outcome, NoLease> = match &call.step {
            Step::Grant => Ok(Outcome::Granted { lease: store.grant(now, LEASE_TTL), ttl: LEASE_TTL }),
            Step::Register { lease } => {
                store.put(wire::registration(&me, *lease)).map(|()| Outcome::Registered)
            }
            Step::Renew { lease } => match call.kept {
                None => {
                    call.kept = Some(store.keep_alive(now, *lease));
                    return None;
                }
                Some(ttl) => Ok(Outcome::Renewed { ttl, told: wire::told(store.range(&wire::who_leads())) }),
            },
            Step::Campaign { lease } => {
                let (mut request, holder) = wire::campaign(&me, *lease);
                if is_plain {
                    request.compare.clear();
                }
                store.txn(request).map(|response| Outcome::Told(wire::told_by_txn(response, holder)))
            }
            Step::HandOver { mine, to } => {
                let response = store.txn(wire::hand_over(*mine, to));
                response.map(|response| Outcome::Told(wire::told_by_txn(response, to.clone())))
            }
            Step::Revoke { lease } => store.revoke(*lease).map(|()| Outcome::Revoked),
        };
        Some(done.map_err(|NoLease| Failure::LeaseGone))
    }

    fn answer(&mut self, place: usize, id: u64, result: Result<Outcome, Failure>) {
        let (now, broken) = (self.now, self.plan.broken);
        let Some(node) = &mut self.nodes[place] else { return };
        if node.call.is_none_or(|(pending, _)| pending != id) {
            return;
        }
        node.call = None;
        let Some(call) = self.calls.get(&id) else { return };
        node.take(now, call.sent, &call.step, result.clone(), &mut self.newest, broken);
        self.say(|| format!("{place}: is told {result:?}"));
        self.turn(place);
    }

    // ── The watch ──────────────────────────────────────────────────────────────────────────────────────────────

    /// What is new in the store is on its way to all that watch.
    fn pump_all(&mut self) {
        if self.pumped == self.store.revision {
            return;
        }
        self.pumped = self.store.revision;
        for place in 0..self.nodes.len() {
            self.begin_pump(place);
        }
    }

    fn begin_pump(&mut self, place: usize) {
        let lag = if self.plan.gathers { ms(10) } else { self.lag(self.plan.lag, 0.8) };
        let Some(node) = &mut self.nodes[place] else { return };
        let is_reached = node.watch.is_open && self.now >= self.places[place].cut_until;
        if !is_reached || (self.plan.gathers && std::mem::replace(&mut node.watch.is_told, true)) {
            return;
        }
        let pump = Event::Pump(place, node.me.boot, node.watch.epoch, self.store.revision);
        self.push(self.now + lag, pump);
    }

    fn pump(&mut self, place: usize, epoch: u32, upto: i64) {
        let (now, broken) = (self.now, self.plan.broken);
        let skips = broken == Some(Broken::WatchSkips) && self.random.random_bool(0.25);
        let Some(node) = &mut self.nodes[place] else { return };
        node.watch.is_told = false;
        let upto = if self.plan.gathers { self.store.revision } else { upto };
        let Some(next) = node.watch.next.filter(|next| node.watch.epoch == epoch && *next <= upto) else {
            return;
        };
        node.watch.next = Some(upto + 1);
        let events = self.store.since(next).iter().take_while(|event| wire::revision(event) <= upto);
        for event in events.filter(|_| !skips).cloned() {
            self.figures.told += 1;
            let Some(news) = wire::news(event) else { continue };
            node.hear(now, news, &mut self.newest, broken);
        }
        self.turn(place);
    }

    fn break_watch(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        node.watch.epoch += 1;
        node.watch.is_open = false;
        let again = Event::Rewatch(place, node.me.boot, node.watch.epoch);
        self.push(self.now + ETCD_PAUSE, again);
    }

    fn rewatch(&mut self, place: usize, epoch: u32) {
        let way = self.way();
        let is_reached = self.now >= self.places[place].cut_until.max(self.down_until);
        let Some(node) = &mut self.nodes[place] else { return };
        let boot = node.me.boot;
        if node.watch.epoch != epoch {
            return;
        }
        if !is_reached {
            return self.push(self.now + ETCD_PAUSE, Event::Rewatch(place, boot, epoch));
        }
        node.watch.next = node.watch.next.filter(|next| *next > self.store.compacted);
        if node.watch.next.is_some() {
            node.watch.is_open = true;
            self.begin_pump(place);
        } else {
            let listed = self.store.range(&wire::everything());
            self.push(self.now + way, Event::Listed(place, boot, epoch, listed));
        }
    }

    fn listed(&mut self, place: usize, epoch: u32, response: RangeResponse) {
        let (now, broken) = (self.now, self.plan.broken);
        let Some(node) = &mut self.nodes[place] else { return };
        if node.watch.epoch != epoch {
            return;
        }
        let (news, revision) = wire::listed(response);
        node.hear(now, news, &mut self.newest, broken);
        node.watch.next = Some(revision + 1);
        let boot = node.me.boot;
        self.turn(place);
        self.push(now, Event::Rewatch(place, boot, epoch));
    }

    // ── The driver ─────────────────────────────────────────────────────────────────────────────────────────────

    fn take_mail(&mut self, place: usize, boot: u64) {
        let lag = self.lag(self.plan.driver_lag, 0.3);
        let back = (!self.places[place].is_twin).then_some(ms(1_000));
        let Some(node) = &mut self.nodes[place] else { return };
        let view = node.drive(self.now);
        if node.election.taken_by().is_some() {
            return self.kill(place, back);
        }
        self.push(self.now + lag, Event::Publish(place, boot, view));
    }

    fn publish(&mut self, place: usize, boot: u64, view: View) {
        let lag = self.lag(self.plan.driver_lag, 0.3);
        let Some(node) = &mut self.nodes[place] else { return };
        node.view = view;
        node.is_driving = node.mailed > node.taken;
        let (again, call) = (node.is_driving, node.call);
        if again {
            self.push(self.now + lag, Event::Take(place, boot));
        }
        if let Some((id, true)) = call {
            self.stand_down(place, id);
        }
    }

    // ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────

    pub fn befall(&mut self, fault: Fault) {
        self.say(|| format!("{fault:?}"));
        match fault {
            Fault::Pause(place, time) => {
                let until = self.now + time;
                self.places[place].paused_until = until;
                self.nodes[place].iter_mut().for_each(|node| node.up_since = until);
            }
            Fault::Kill(place, down) => self.kill(place, Some(down)),
            Fault::Stop(place, down) => {
                let exit = ms(self.random.random_range(1_000..2_500));
                let Some(node) = &mut self.nodes[place] else { return };
                node.tenure.order(Order::Stop);
                let boot = node.me.boot;
                self.turn(place);
                self.push(self.now + exit, Event::Exit(place, boot, Some(down)));
            }
            Fault::Transfer(to) => {
                let leads =
                    |node: &Option<Node>| node.as_ref().is_some_and(|node| node.leads(self.now).is_some());
                let leader = self.nodes.iter().position(leads);
                let to = self.nodes[to].as_ref().filter(|node| node.me.id.is_some()).map(|node| node.me.boot);
                let (Some(place), Some(boot)) = (leader, to) else { return };
                if let Some(node) = self.nodes[place].as_mut().filter(|node| node.me.boot != boot) {
                    node.tenure.order(Order::Transfer(boot));
                    self.turn(place);
                }
            }
            Fault::Cut(place, time, is_silent) => {
                self.places[place].cut_until = self.now + time;
                self.places[place].is_silent = is_silent;
                self.break_watch(place);
            }
            Fault::Twin(of, time) => {
                let Place { id, .. } = self.places[of];
                let place = self.places.len();
                self.places.push(Place { id, is_twin: true, rate: 1.0, ..Place::default() });
                self.nodes.push(None);
                self.start(place);
                self.push(self.now + time, Event::Exit(place, self.boots, None));
            }
            Fault::Outage(time, extends) => {
                self.down_until = self.now + time;
                self.push(self.down_until, Event::Back(extends));
                for place in 0..self.nodes.len() {
                    self.break_watch(place);
                }
            }
            Fault::Compact => {
                self.store.compacted = self.store.revision;
                for place in 0..self.nodes.len() {
                    self.break_watch(place);
                }
            }
            Fault::Break(place) => self.break_watch(place),
        }
    }

    // ── What must hold ─────────────────────────────────────────────────────────────────────────────────────────

    fn living(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.as_ref()?)))
    }

    fn check(&mut self) {
        self.close_term();
        let mut leaders =
            self.living().filter_map(|(place, node)| Some((place, node, node.leads(self.now)?)));
        let Some((place, node, counter)) = leaders.next() else { return };
        let other = leaders.next().map(|(other, ..)| other);
        drop(leaders);
        let (boot, ends, id) = (node.me.boot, node.real(node.view.until), node.me.id);
        if let Some(other) = other {
            return self.violate(format!("{place} and {other} call themselves leader"));
        }
        if id.is_none() {
            return self.violate(format!("{place} has no id, and leads"));
        }
        let holder = wire::told(self.store.range(&wire::who_leads())).holder;
        let now = self.etcd_now();
        let holds = holder.is_some_and(|holder| {
            let is_it = holder.node.boot == boot && holder.revision.unsigned_abs() == counter;
            is_it && self.store.lives(now, holder.lease)
        });
        if !holds {
            return self.violate(format!("{place} calls itself leader, and does not hold the key"));
        }
        self.follow_term(place, boot, counter, ends);
    }

    fn close_term(&mut self) {
        let Some(term) = self.term.as_mut().filter(|term| !term.is_over) else { return };
        let node = self.nodes[term.place].as_ref().filter(|node| node.me.boot == term.boot);
        if node.and_then(|node| node.leads(self.now)) != Some(term.counter) {
            term.is_over = true;
            term.has_lapsed = term.ends <= self.now;
            term.ends = term.ends.min(self.now);
        }
    }

    fn follow_term(&mut self, place: usize, boot: u64, counter: u64, ends: Time) {
        let before =
            self.term.replace(Term { place, boot, counter, ends, is_over: false, has_lapsed: false });
        let Some(before) = before.filter(|before| (before.boot, before.counter) != (boot, counter)) else {
            return;
        };
        self.figures.leaderships += 1;
        if before.counter >= counter {
            return self.violate(format!("{place} leads by {counter}, after {}", before.counter));
        }
        let gap = Some(self.now.saturating_sub(before.ends));
        let shortest = match before.has_lapsed {
            true => &mut self.figures.shortest_after_lapse,
            false => &mut self.figures.shortest_after_giving_up,
        };
        *shortest = shorter(*shortest, gap);
    }

    /// Whom all follow.
    pub fn agreed_on(&self) -> Option<u64> {
        let mut follows = self.living().map(|(_, node)| node.follows(self.now));
        let first = follows.next()??;
        let leads = self.living().any(|(_, node)| node.leads(self.now).is_some());
        (leads && follows.all(|other| other == Some(first))).then_some(first.0)
    }

    /// Where the leader lives.
    pub fn leader(&self) -> Option<usize> {
        self.living().find(|(_, node)| node.leads(self.now).is_some()).map(|(place, _)| place)
    }

    fn look(&mut self) {
        let since = self.now.saturating_sub(self.plan.calm);
        if self.agreed || self.plan.calm.is_zero() {
            return;
        }
        if self.agreed_on().is_some() {
            self.agreed = true;
            self.figures.longest_until_agreed = since;
        } else if since > AGREE_MAX {
            self.violate(format!("since {since:?} all is well, and they do not follow one leader"));
        }
    }

    fn judge_end(&mut self) {
        assert!(self.plan.end >= self.plan.calm + AGREE_MAX + HIGHEST_MAX);
        let leader = self.agreed_on();
        let transferred =
            wire::told(self.store.range(&wire::who_leads())).holder.is_some_and(|holder| holder.transferred);
        let highest = self.living().max_by_key(|(_, node)| node.me.id).map(|(_, node)| node.me.boot);
        if leader.is_none() || (leader != highest && !transferred) {
            self.violate(format!("life {leader:?} leads, and the highest is that of {highest:?}"));
        }
    }
}
