//! A process: the real `LeaseState` and `Election`, and of the tasks around them what they hold.

use std::sync::Arc;

use super::{
    Broken, Identity, Time, WorldTime,
    lease::{LeaseState, News, Step, StepFailure, StepOutcome, Told},
    ms,
};
use crate::{Election, Recognised, limits::ETCD_PAUSE};

/// As everybody reads it who asks who leads.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// The leader's life, and the counter of its ballot.
    pub leader: Option<(u64, u64)>,
    pub until: Time,
    pub resignations: u64,
}

#[derive(Default)]
pub struct Watch {
    /// Counted up when it breaks.
    pub epoch: u32,
    /// From where to go on; nothing if it has to list.
    pub next: Option<i64>,
    pub is_open: bool,
    /// News are on their way.
    pub is_told: bool,
}

pub struct Node {
    pub me: Arc<Identity>,
    pub rate: f64,
    /// In real time.
    pub born: WorldTime,
    pub up_since: WorldTime,
    pub lease_state: LeaseState,
    pub election: Election,
    pub recognised: Recognised,
    /// How often that changed, and how much of it the driver has taken.
    pub mailed: u64,
    pub taken: u64,
    pub is_driving: bool,
    pub view: View,
    /// The call that is on its way, and whether it gives up the lead.
    pub call: Option<(u64, bool)>,
    pub wakes: u64,
    pub lease: i64,
    /// What it heard last of the leader.
    told: Option<Told>,
    pub watch: Watch,
}

impl Node {
    pub fn new(me: Identity, rate: f64, born: WorldTime) -> Self {
        let me = Arc::new(me);
        Self {
            rate,
            born,
            up_since: born,
            lease_state: LeaseState::new(Arc::clone(&me)),
            election: Election::appointed(&me, &[], ms(100)),
            me,
            recognised: Recognised::default(),
            mailed: 0,
            taken: 0,
            is_driving: false,
            view: View::default(),
            call: None,
            wakes: 0,
            lease: 0,
            told: None,
            watch: Watch::default(),
        }
    }

    /// Its own clock.
    pub fn local(&self, real: WorldTime) -> Time {
        Time::at(real.saturating_sub(self.born).mul_f64(self.rate))
    }

    pub fn real(&self, local: Time) -> WorldTime {
        self.born + local.elapsed().min(ms(1 << 40)).div_f64(self.rate)
    }

    /// Whether it calls itself leader, or would if it ran; the counter.
    pub fn leads(&self, real: WorldTime) -> Option<u64> {
        let (boot, counter) = self.follows(real)?;
        (boot == self.me.boot).then_some(counter)
    }

    pub fn follows(&self, real: WorldTime) -> Option<(u64, u64)> {
        self.view.leader.filter(|_| self.local(real) < self.view.until)
    }

    /// The driver takes what was said last; returns the view that it will publish.
    pub fn drive(&mut self, real: WorldTime) -> View {
        let now = self.local(real);
        self.taken = self.mailed;
        self.election.recognise(now, &self.recognised);
        let leader = self.election.leader().map(|(member, ballot, _)| {
            assert_eq!(member.id, Some(ballot.id), "a ballot is of its holder");
            (member.boot.unwrap(), ballot.counter)
        });
        let until = self.election.recognised_until().unwrap();
        View { leader, until, resignations: self.election.resignations() }
    }

    fn mend_told(&mut self, told: Told, newest: &mut i64, broken: Option<Broken>) -> Told {
        let Told { holder, mut revision } = told;
        if broken == Some(Broken::OlderNews) {
            *newest += 1;
            revision = *newest;
        }
        let told = Told { holder, revision };
        self.told = Some(told.clone());
        told
    }

    pub fn hear(&mut self, real: WorldTime, news: News, newest: &mut i64, broken: Option<Broken>) {
        let news = match news {
            News::Listed(members, told) => News::Listed(members, self.mend_told(told, newest, broken)),
            News::Leads(told) => News::Leads(self.mend_told(told, newest, broken)),
            other => other,
        };
        self.lease_state.hear(self.local(real), news);
    }

    pub fn take(
        &mut self,
        real: WorldTime,
        sent: Time,
        step: &Step,
        result: Result<StepOutcome, StepFailure>,
        newest: &mut i64,
        broken: Option<Broken>,
    ) {
        let now = self.local(real);
        let longer = |ttl| if broken == Some(Broken::NoMargin) { ttl * 5 / 4 } else { ttl };
        let sent = if broken == Some(Broken::CountsFromAnswer) { now } else { sent };
        let result = match result {
            Ok(StepOutcome::Granted { lease, ttl }) => {
                self.lease = lease;
                Ok(StepOutcome::Granted { lease, ttl: longer(ttl) })
            }
            Ok(StepOutcome::Renewed { ttl, told }) => {
                Ok(StepOutcome::Renewed { ttl: longer(ttl), told: self.mend_told(told, newest, broken) })
            }
            Ok(StepOutcome::Told(told)) => Ok(StepOutcome::Told(self.mend_told(told, newest, broken))),
            Err(StepFailure::Unknown)
                if broken == Some(Broken::UnknownIsUndone) && matches!(step, Step::HandOver { .. }) =>
            {
                Err(StepFailure::LeaseGone)
            }
            other => other,
        };
        let without_pause = result.is_err() && broken == Some(Broken::FailsWithoutPause);
        let failed_at = if without_pause { now - ETCD_PAUSE } else { now };
        self.lease_state.take(failed_at, sent, step, result);
    }
}
