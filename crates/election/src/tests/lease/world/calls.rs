//! Calls: on their way, at etcd, and back.

use std::time::Duration;

use rand::RngExt;

use super::{
    super::{
        Broken, Identity, Time,
        lease::{Holder, Step, StepFailure, StepOutcome},
        ms,
        store::NoLease,
    },
    Event, Place, World,
};
use crate::limits::{ETCD_TIMEOUT, LEASE_TTL, RENEW_TIMEOUT};

/// Calls of a node in a second.
const CALLS_PER_SECOND_MAX: u64 = 30;

pub(super) struct Call {
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

impl World {
    pub(super) fn begin(&mut self, place: usize, step: Step) {
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

    pub(super) fn give_up(&mut self, place: usize, id: u64) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.is_given_up = true;
        }
        self.answer(place, id, Err(StepFailure::Unknown));
    }

    pub(super) fn stand_down(&mut self, place: usize, id: u64) {
        let minds = self.plan.broken != Some(Broken::MindsTheViewOfBefore);
        let Some(node) = &self.nodes[place] else { return };
        let knows = node.view.resignations >= node.lease_state.resignations() || !minds;
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
        let refused = Event::Answer(place, boot, id, Err(StepFailure::Unknown));
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

    pub(super) fn arrive(&mut self, id: u64) {
        let way = self.way();
        let Some(call) = self.calls.get(&id) else { return };
        let (place, boot) = (call.place, call.boot);
        if self.now < self.down_until {
            let refused = Event::Answer(place, boot, id, Err(StepFailure::Unknown));
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
    fn perform(&mut self, id: u64) -> Option<Result<StepOutcome, StepFailure>> {
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
        let done: Result<StepOutcome, NoLease> = match &call.step {
            Step::Grant => Ok(StepOutcome::Granted { lease: store.grant(now, LEASE_TTL), ttl: LEASE_TTL }),
            Step::Register { lease } => store.register(me, *lease).map(|()| StepOutcome::Registered),
            Step::Renew { lease } => match call.kept {
                None => {
                    call.kept = Some(store.keep_alive(now, *lease));
                    return None;
                }
                Some(ttl) => Ok(StepOutcome::Renewed { ttl, told: store.who_leads() }),
            },
            Step::Campaign { lease } => {
                let holder = Holder { node: me, lease: *lease, revision: 0, transferred: false };
                let told = match is_plain {
                    true => store.put_leader(holder).map(|()| store.who_leads()),
                    false => store.put_leader_if(0, holder),
                };
                told.map(StepOutcome::Told)
            }
            Step::HandOver { mine, to } => store.put_leader_if(*mine, to.clone()).map(StepOutcome::Told),
            Step::Revoke { lease } => store.revoke(*lease).map(|()| StepOutcome::Revoked),
        };
        Some(done.map_err(|NoLease| StepFailure::LeaseGone))
    }

    pub(super) fn answer(&mut self, place: usize, id: u64, result: Result<StepOutcome, StepFailure>) {
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
}
