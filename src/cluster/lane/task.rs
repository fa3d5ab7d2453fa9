//! The task that runs a lane: it sends asks in batches and hands their answers out.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use primacy_election::Wanted;
use tokio::{sync::mpsc, task::yield_now};
use tokio_util::sync::DropGuard;
use tonic::Streaming;

use super::{AskReply, Failure, Lane, LaneAnswer, LaneEnd, OpenAsk, describe};
use crate::{
    clock::millis,
    limits::{LANE_BATCH_MAX, LANE_IN_FLIGHT_MAX},
    proto,
    text::{line, plain},
};

/// The running end of a lane: whoever opened it runs it with [`LaneTask::run`].
pub struct LaneTask {
    lane: Lane,
    names: Names,
    queue: mpsc::Receiver<OpenAsk>,
    outgoing: mpsc::Sender<proto::LaneAsks>,
    answers: Streaming<proto::LaneAnswers>,
    waiting: Vec<OpenAsk>,
    open: HashMap<u64, AskReply>,
    next_ask: u64,
    /// Asks below this number may have been given back: late answers to them are ignored.
    given_back_below: u64,
    sends_timeouts: bool,
    /// However the task ends, what was called beside the lane is given back too.
    _closed: DropGuard,
}

impl LaneTask {
    pub(super) fn new(
        lane: Lane,
        kind: Wanted,
        queue: mpsc::Receiver<OpenAsk>,
        outgoing: mpsc::Sender<proto::LaneAsks>,
        answers: Streaming<proto::LaneAnswers>,
    ) -> Self {
        Self {
            _closed: lane.0.closed.clone().drop_guard(),
            lane,
            names: Names::default(),
            queue,
            outgoing,
            answers,
            waiting: Vec::with_capacity(LANE_BATCH_MAX),
            open: HashMap::new(),
            next_ask: 0,
            given_back_below: 0,
            sends_timeouts: kind == Wanted::Schedule,
        }
    }

    /// Runs the lane to its end; dropping the future closes it. Either way all that is open is given back.
    ///
    /// When the other side says that it stops, `on_stopping` is called, and the lane retires.
    pub async fn run(mut self, on_stopping: impl Fn()) -> LaneEnd {
        let shared = Arc::clone(&self.lane.0);
        let mut retired = pin!(shared.retired.cancelled());
        let mut silences = shared.silences.subscribe();
        let mut asks_ended = false;
        loop {
            let room = !asks_ended && self.waiting.is_empty() && self.open.len() < LANE_IN_FLIGHT_MAX;
            let answered = asks_ended && self.waiting.is_empty() && self.open.is_empty();
            tokio::select! {
                biased;
                message = self.answers.message() => match message {
                    Ok(Some(answers)) => {
                        if let Err(end) = self.take(answers, &on_stopping) {
                            return end;
                        }
                    }
                    Ok(None) => return LaneEnd::Closed,
                    Err(status) => return LaneEnd::Broken(describe(&status)),
                },
                open = has_room(&self.outgoing), if !self.waiting.is_empty() => match open {
                    true => self.send_waiting(),
                    false => return LaneEnd::Closed,
                },
                taken = recv_batch(&mut self.queue, &mut self.waiting, &shared.in_flight), if room => {
                    asks_ended = taken == 0;
                    self.send_waiting();
                }
                () = &mut retired, if !self.queue.is_closed() => self.queue.close(),
                _ = silences.changed() => self.give_back(),
                () = shared.calls_answered(), if answered => return LaneEnd::Closed,
            }
        }
    }

    /// Gives back what the other side holds, and what waits to be sent.
    fn give_back(&mut self) {
        self.open.clear();
        self.given_back_below = self.next_ask;
        self.drop_waiting();
    }

    fn drop_waiting(&mut self) {
        self.lane.0.gathering.fetch_sub(self.waiting.len(), Relaxed);
        self.waiting.clear();
    }

    /// Sends what waits, if the stream has room; mostly it has, and nothing waits for another turn of the loop.
    fn send_waiting(&mut self) {
        // These asks were queued before the lane was marked as silent: dropping them gives them back.
        if self.lane.is_silent() {
            return self.drop_waiting();
        }
        let before = self.waiting.len();
        self.waiting.retain(|open| !open.reply.is_closed());
        self.lane.0.gathering.fetch_sub(before - self.waiting.len(), Relaxed);
        if !self.waiting.is_empty() && self.outgoing.capacity() > 0 {
            let batch = self.batch();
            // There is room. If the stream has ended the answers have too, and all is given back.
            let _ = self.outgoing.try_send(batch);
        }
    }

    fn batch(&mut self) -> proto::LaneAsks {
        let first_ask = self.next_ask;
        let mut batch = proto::LaneAsks { first_ask, ..proto::LaneAsks::default() };
        batch.values.reserve_exact(self.waiting.len());
        let now = Instant::now();
        self.lane.0.gathering.fetch_sub(self.waiting.len(), Relaxed);
        for OpenAsk { ask, reply } in self.waiting.drain(..) {
            batch.values.push(ask.value);
            if self.sends_timeouts {
                let left = millis(ask.deadline.saturating_duration_since(now));
                batch.timeouts_ms.push(u32::try_from(left).unwrap_or(u32::MAX));
            }
            if ask.trace.is_named() {
                batch.traces.push(ask.trace.on_lane(self.next_ask));
            }
            self.open.insert(self.next_ask, reply);
            self.next_ask += 1;
        }
        batch
    }

    fn take(&mut self, answers: proto::LaneAnswers, on_stopping: &impl Fn()) -> Result<(), LaneEnd> {
        self.lane.hear();
        if answers.stopping {
            self.lane.retire();
            on_stopping();
        }
        let proto::LaneAnswers { asks, are_prime, processed_by, names, failures, .. } = answers;
        if asks.len() != are_prime.len() || asks.len() != processed_by.len() {
            return Err(LaneEnd::Broken("it sent an answer without its parts".to_owned()));
        }
        self.names.renew(&names);
        for ((ask, is_prime), name) in asks.into_iter().zip(are_prime).zip(processed_by) {
            let processed_by = self.names.get(name)?;
            self.deliver(ask, Ok(LaneAnswer { is_prime, processed_by }))?;
        }
        for failure in failures {
            let proto::LaneFailure { ask, code, message } = failure;
            self.deliver(ask, Err(Failure { code: code.into(), message: line(&message) }))?;
        }
        Ok(())
    }

    fn deliver(&mut self, ask: u64, answer: Result<LaneAnswer, Failure>) -> Result<(), LaneEnd> {
        match self.open.remove(&ask) {
            // Nobody to take it: the client has gone since.
            Some(reply) => drop(reply.send(answer)),
            None if ask < self.given_back_below => {}
            None => return Err(LaneEnd::Broken(format!("it answered ask {ask}, which is not open"))),
        }
        Ok(())
    }
}

/// Waits for asks, and takes all that come with the first in the same turn of the runtime: it yields once, so that
/// tasks that are ready can add theirs to the message. A lone ask leaves at once. Returns 0 when no more will come.
async fn recv_batch(
    queue: &mut mpsc::Receiver<OpenAsk>,
    batch: &mut Vec<OpenAsk>,
    in_flight: &AtomicU64,
) -> usize {
    let taken = queue.recv_many(batch, LANE_BATCH_MAX).await;
    if taken > 0 && in_flight.load(Relaxed) > taken as u64 {
        yield_now().await;
        while batch.len() < LANE_BATCH_MAX
            && let Ok(open) = queue.try_recv()
        {
            batch.push(open);
        }
    }
    taken
}

/// Waits for room; false if the stream has ended.
async fn has_room(outgoing: &mpsc::Sender<proto::LaneAsks>) -> bool {
    outgoing.reserve().await.is_ok()
}

/// The names of the last message, kept so that the usual answer allocates none.
#[derive(Default)]
struct Names(Vec<Arc<str>>);

impl Names {
    fn renew(&mut self, names: &[String]) {
        let same = names.len() == self.0.len() && names.iter().zip(&self.0).all(|(new, old)| **new == **old);
        if !same {
            self.0 = names.iter().map(|name| plain(name).into()).collect();
        }
    }

    fn get(&self, index: u32) -> Result<Arc<str>, LaneEnd> {
        let name = self.0.get(index as usize).map(Arc::clone);
        name.ok_or_else(|| LaneEnd::Broken("it sent an answer by nobody".to_owned()))
    }
}
