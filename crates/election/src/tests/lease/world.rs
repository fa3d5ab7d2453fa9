//! Processes, and what lies between them and etcd, event by event.

mod calls;
mod faults;
mod invariants;
mod watching;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Broken, Identity, Plan, WorldTime,
    lease::{Fit, Next, Registration, StepFailure, StepOutcome, Told},
    ms,
    node::{Node, View},
    plan::Fault,
    store::Store,
};
use calls::Call;
use invariants::Term;

pub use invariants::Figures;

enum Event {
    Start(usize),
    Wake(usize, u64, u64),
    Arrive(u64),
    Answer(usize, u64, u64, Result<StepOutcome, StepFailure>),
    GiveUp(usize, u64, u64),
    StandDown(usize, u64, u64),
    Pump(usize, u64, u32, i64),
    Rewatch(usize, u64, u32),
    Listed(usize, u64, u32, Vec<Registration>, Told),
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

/// What a place is like, whoever lives there.
#[derive(Default, Clone)]
struct Place {
    id: Option<u32>,
    is_twin: bool,
    rate: f64,
    paused_until: WorldTime,
    cut_until: WorldTime,
    is_silent: bool,
    /// The second, and the calls in it.
    calls: (u64, u64),
}

pub struct World {
    plan: Plan,
    pub now: WorldTime,
    random: StdRng,
    events: BTreeMap<u64, Event>,
    queue: BinaryHeap<Reverse<(WorldTime, u8, u64)>>,
    sequence: u64,
    pub nodes: Vec<Option<Node>>,
    places: Vec<Place>,
    boots: u64,
    pub store: Store,
    etcd_rate: f64,
    down_until: WorldTime,
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
            now: WorldTime::ZERO,
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
            down_until: WorldTime::ZERO,
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

    pub fn run_until(&mut self, end: WorldTime) {
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

    // ── WorldTime ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// What a process gives up comes after all answers that have arrived.
    fn push(&mut self, at: WorldTime, event: Event) {
        self.sequence += 1;
        let class = u8::from(matches!(event, Event::GiveUp(..)));
        self.queue.push(Reverse((at.max(self.now), class, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn etcd_now(&self) -> WorldTime {
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
            Event::GiveUp(place, _, id) => self.give_up(place, id),
            Event::StandDown(place, _, id) => self.stand_down(place, id),
            Event::Pump(place, _, epoch, upto) => self.pump(place, epoch, upto),
            Event::Rewatch(place, _, epoch) => self.rewatch(place, epoch),
            Event::Listed(place, _, epoch, members, told) => self.listed(place, epoch, members, told),
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
        // Spread evenly over all numbers, as random ones are.
        self.boots = self.boots.wrapping_add(0x9E37_79B9_7F4A_7C15);
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
            match node.lease_state.next(node.local(now), &fit) {
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
        let recognised = node.lease_state.recognised(node.local(now));
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
}
