//! Whom to ask, and asking: a check goes to the leader while there is a lane to it, else over the workers that this
//! node reaches, else it is done here. So does a segment of a range. No request waits for anybody to lead.

pub mod job;
pub mod pick;
pub mod results;
pub mod segment;
mod turns;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use primacy_election::{Member, Status};
use tokio::{sync::watch, time::timeout_at};
use tonic::{Code, Request, metadata::AsciiMetadataValue};

use crate::{
    api::{
        error::CheckError,
        prime::{Outcome, number_to_wire},
        primes::BatchOutcome,
        ranges::SegmentOutcome,
        results::Recorded,
    },
    cluster::{
        Cluster, Snapshot,
        lane::{Ask, AskError, Charge, Failure, Lane},
        trace::Trace,
    },
    limits::{ATTEMPTS_MAX, PEER_MESSAGE_BYTES_MAX, RESULTS_BYTES_MAX, RESULTS_KEPT, RESULTS_TIMEOUT},
    metrics::Metrics,
    prime::Number,
    proto::{self, peer_client::PeerClient, scheduler_client::SchedulerClient, worker_client::WorkerClient},
    worker::{PoolError, Worker},
};
use job::{Batch, Job};
use pick::pick;
use results::Results;
use segment::SegmentJob;
use turns::{Place, Turns};

/// The metadata that marks a check as forwarded by a peer: its receiver does not forward it again.
pub const FORWARDED_BY: &str = "primacy-forwarded-by";

/// A number to be checked, for somebody who waits.
#[derive(Debug, Clone)]
pub struct Check {
    /// The number.
    pub number: Number,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// By which the request is found again.
    pub trace: Arc<Trace>,
    /// A peer forwarded it: it is not forwarded again.
    pub forwarded: bool,
}

/// Schedules checks.
#[derive(Debug)]
pub struct Scheduler {
    cluster: Arc<Cluster>,
    worker: Arc<Worker>,
    metrics: Arc<Metrics>,
    results: Results,
    rotation: AtomicUsize,
    /// Long checks are placed one after the other: two that saw the same loads would meet at one worker.
    long_rotation: Mutex<usize>,
    /// Segments wait here for a place at a worker.
    turns: Turns,
    fallback: bool,
}

type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// A lane that a job is asked of, and what the job holds there meanwhile.
struct Placement {
    lane: Lane,
    recipient: Recipient,
    held: (Option<Charge>, Option<Place>),
}

/// What becomes of a job that no lane takes.
enum WithoutLane {
    /// It is done here.
    Work,
    /// It waits for a lane.
    Wait,
    /// It fails.
    Fail(CheckError),
}

/// Whom a check is sent to, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipient {
    Leader,
    Worker,
}

impl Scheduler {
    /// A scheduler over the cluster; `fallback` says whether this node works when nobody else can.
    pub fn new(cluster: Arc<Cluster>, worker: Arc<Worker>, metrics: Arc<Metrics>, fallback: bool) -> Self {
        let (rotation, long_rotation) = (AtomicUsize::new(0), Mutex::new(0));
        let (results, turns) = (Results::default(), Turns::default());
        Self { cluster, worker, metrics, results, rotation, long_rotation, turns, fallback }
    }

    /// Has the number checked by whoever can, within the deadline.
    ///
    /// # Errors
    /// See [`CheckError`]; each is final for this node.
    pub async fn check(&self, check: &Check) -> Result<Outcome, CheckError> {
        let started = Instant::now();
        let answered = timeout_at(check.deadline.into(), self.dispatch(check)).await;
        let outcome = answered.unwrap_or(Err(CheckError::DeadlineExceeded))?;
        self.record(&check.number, &outcome, started);
        Ok(outcome)
    }

    /// The same for many short numbers. The results remember the last of them only: a ring of 1,000 would hold nothing
    /// else, and a bulk pay more for it than for the check.
    ///
    /// # Errors
    /// See [`CheckError`]; each is final for this node, and for the whole batch.
    pub async fn check_batch(&self, batch: &Batch) -> Result<BatchOutcome, CheckError> {
        let started = Instant::now();
        let answered = timeout_at(batch.deadline.into(), self.dispatch(batch)).await;
        let outcome = answered.unwrap_or(Err(CheckError::DeadlineExceeded))?;
        self.metrics.batch_numbers.inc_by(batch.count());
        if let (Some(value), Some(is_prime)) = (batch.values.last(), outcome.are_prime.last()) {
            let last = Outcome::of_word(*is_prime, Arc::clone(&outcome.processed_by));
            self.record(&Number::from(*value), &last, started);
        }
        Ok(outcome)
    }

    /// Has a segment done by whoever can, within the deadline.
    ///
    /// # Errors
    /// See [`CheckError`]; each is final for this node.
    pub async fn segment(&self, job: &SegmentJob) -> Result<SegmentOutcome, CheckError> {
        let answered = timeout_at(job.deadline.into(), self.dispatch(job)).await;
        let outcome = answered.unwrap_or(Err(CheckError::DeadlineExceeded))?;
        self.metrics.segments.inc();
        Ok(outcome)
    }

    fn record(&self, number: &Number, outcome: &Outcome, started: Instant) {
        self.results.record(Recorded {
            number: number.clone(),
            verdict: outcome.verdict,
            processed_by: Arc::clone(&outcome.processed_by),
            at_ms: epoch_ms(),
            duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }

    /// The newest answers of the cluster as the leader has them; this node's own when it reaches no leader. At most
    /// `limit`, and no more than `bytes_max` of numbers.
    pub async fn newest_results(&self, limit: usize, bytes_max: usize) -> Vec<Recorded> {
        let leader = self.cluster.snapshot().lanes.leader.clone();
        let Some(leader) = leader else { return self.own_results(limit, bytes_max) };
        let limit_wire = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut client =
            PeerClient::new(leader.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let bytes_wire = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let request = proto::RecentResultsRequest { limit: limit_wire, bytes_max: bytes_wire };
        let call = leader.call(async { client.recent_results(request).await });
        match tokio::time::timeout(RESULTS_TIMEOUT, call).await {
            Ok(Ok(response)) => {
                let results = response.into_inner().results;
                results.into_iter().filter_map(|result| result.try_into().ok()).collect()
            }
            Ok(Err(_)) | Err(_) => self.own_results(limit, bytes_max),
        }
    }

    /// The newest answers that passed through this node.
    pub fn own_results(&self, limit: usize, bytes_max: usize) -> Vec<Recorded> {
        self.results.newest(limit.clamp(1, RESULTS_KEPT), bytes_max.min(RESULTS_BYTES_MAX))
    }

    /// Asks one after the other, as the view of each moment has them: the leader, else the least loaded worker, else
    /// this node itself.
    async fn dispatch<J: Job>(&self, job: &J) -> Result<J::Outcome, CheckError> {
        let mut tried = Vec::new();
        let mut attempts = 0;
        let mut last_error = None;
        let mut views = None;
        loop {
            let placed = self.place_next(job, &tried).await;
            let Some(Placement { lane, recipient, held: _held }) = placed else {
                match self.without_lane(job, last_error.take()) {
                    WithoutLane::Work => {
                        self.metrics.fallbacks.inc_by(job.count());
                        return job.work(self).await;
                    }
                    WithoutLane::Fail(error) => return Err(error),
                    WithoutLane::Wait => wait_for_change(&mut views, &self.cluster).await?,
                }
                continue;
            };
            match job.ask(self, &lane, recipient).await {
                Ok(outcome) => return Ok(outcome),
                // It costs no attempt: that a lane closed says nothing about the check.
                Err(AskError::GivenBack) => {
                    self.metrics.given_back.inc_by(job.count());
                }
                Err(AskError::Full) => last_error = Some(overloaded()),
                // It is of an older version, and is passed over.
                Err(AskError::Failed(Failure { code: Code::Unimplemented, .. })) => {}
                Err(AskError::Failed(failure))
                    if recipient == Recipient::Leader && self.has_left(&lane, &failure) =>
                {
                    self.metrics.given_back.inc_by(job.count());
                }
                Err(error @ AskError::Failed(_)) => {
                    let error = CheckError::from(error);
                    // It is not tried again: the leader has already tried the workers.
                    if recipient == Recipient::Leader || error == CheckError::DeadlineExceeded {
                        return Err(error);
                    }
                    // A worker that is busy has not failed.
                    let is_busy = matches!(error, CheckError::Overloaded(_));
                    if !is_busy {
                        lane.penalize();
                        attempts += 1;
                    }
                    if attempts == ATTEMPTS_MAX || matches!(error, CheckError::Internal(_)) {
                        return Err(error);
                    }
                    if !is_busy {
                        self.metrics.retries.inc_by(job.count());
                    }
                    last_error = Some(error);
                }
            }
            tried.push(lane);
        }
    }

    /// What becomes of a job for which there is no lane that it was not tried on.
    fn without_lane(&self, job: &impl Job, last_error: Option<CheckError>) -> WithoutLane {
        match last_error {
            Some(CheckError::Unavailable(_)) | None if self.fallback => WithoutLane::Work,
            Some(error) => WithoutLane::Fail(error),
            None if job.is_forwarded() && !self.cluster.snapshot().view.leads() => {
                WithoutLane::Fail(CheckError::NotLeading)
            }
            None if !self.may_wait() => WithoutLane::Fail(CheckError::NoWorkers),
            // This node was told not to work: somebody will be there.
            None => WithoutLane::Wait,
        }
    }

    /// The lane to ask next; a segment waits for the turn of its range.
    async fn place_next(&self, job: &impl Job, tried: &[Lane]) -> Option<Placement> {
        let _turn = match job.range_id() {
            // Boxed: every check would carry the room for it.
            Some(range_id) => Some(Box::pin(self.turn(range_id, job, tried)).await),
            None => None,
        };
        self.next(job, tried)
    }

    /// Whether somebody will be there in a moment: members are alive, and only their lanes are not open, as after a
    /// change of leader.
    fn may_wait(&self) -> bool {
        let view = &self.cluster.snapshot().view;
        let others = |member: &&Member| member.boot != Some(view.me.boot) && member.status == Status::Alive;
        view.members.iter().any(|member| others(&member))
    }

    /// Whether a leader that could not do it is not the leader any more. It may know that before this node does.
    fn has_left(&self, leader: &Lane, failure: &Failure) -> bool {
        let still_leads = self.cluster.snapshot().lanes.leader.as_ref().is_some_and(|lane| lane.is(leader));
        failure.code == Code::Aborted || (failure.code == Code::Unavailable && !still_leads)
    }

    /// The lane to ask next, of those that this job was not tried on yet; long work counts as its load from now on.
    fn next(&self, job: &impl Job, tried: &[Lane]) -> Option<Placement> {
        let lanes = &self.cluster.snapshot().lanes;
        let fresh = |lane: &Lane| !tried.iter().any(|before| before.is(lane));
        let place = |lane: &Lane, recipient, charge| {
            let held = (charge, self.place(job, lane));
            Some(Placement { lane: lane.clone(), recipient, held })
        };
        let takes = |lane: &&Lane| !job.is_forwarded() && fresh(lane) && job.may_be_sent_to_leader(lane);
        if let Some(leader) = lanes.leader.as_ref().filter(takes) {
            return place(leader, Recipient::Leader, None);
        }
        let load = |lane: &Lane| if fresh(lane) { job.load(lane) } else { None };
        // A full lane answers at once that it is full: if all are full, that is overload and not a lack of workers.
        let full = || match job.range_id() {
            Some(_) => None,
            None => lanes.workers.iter().position(|lane| fresh(lane) && lane.is_full()),
        };
        let Some(cost_us) = job.long_cost_us() else {
            let picked = pick(lanes.workers.iter().map(load), self.rotation.fetch_add(1, Relaxed));
            return place(&lanes.workers[picked.or_else(full)?], Recipient::Worker, None);
        };
        let mut rotation = self.long_rotation.lock().unwrap_or_else(PoisonError::into_inner);
        *rotation = rotation.wrapping_add(1);
        let lane = &lanes.workers[pick(lanes.workers.iter().map(load), *rotation).or_else(full)?];
        place(lane, Recipient::Worker, Some(lane.charge(cost_us)))
    }

    async fn ask(&self, lane: &Lane, check: &Check, recipient: Recipient) -> Result<Outcome, AskError> {
        // Boxed: every short check would carry the room that a call needs, some 5 KB.
        let Some(value) = check.number.equivalent_word() else {
            return Box::pin(self.call(lane, check, recipient)).await;
        };
        let ask = Ask { value, deadline: check.deadline, trace: check.trace.clone() };
        let answer = lane.ask(ask).await?;
        Ok(Outcome::of_word(answer.is_prime, answer.processed_by))
    }

    /// A long check travels in a call of its own, so that deadline and cancellation travel with it.
    async fn call(&self, lane: &Lane, check: &Check, recipient: Recipient) -> Result<Outcome, AskError> {
        let request = self.long_request(check, recipient);
        let response = match recipient {
            Recipient::Leader => {
                let mut client =
                    SchedulerClient::new(lane.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
                lane.call(async { client.check_prime(request).await }).await?
            }
            Recipient::Worker => {
                let mut client =
                    WorkerClient::new(lane.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
                lane.call(async { client.process_prime(request).await }).await?
            }
        };
        Ok(response.into_inner().into())
    }

    fn long_request(&self, check: &Check, recipient: Recipient) -> Request<proto::PrimeRequest> {
        let mut request = Request::new(number_to_wire(&check.number));
        self.equip(&mut request, check.deadline, Some(&check.trace), recipient);
        request
    }

    /// Gives a call of its own what travels with it: the time that is left, and the ids.
    fn equip<T>(
        &self,
        request: &mut Request<T>,
        deadline: Instant,
        trace: Option<&Trace>,
        recipient: Recipient,
    ) {
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let metadata = request.metadata_mut();
        let mut put = |key: &'static str, text: &str| {
            if let Ok(value) = AsciiMetadataValue::try_from(text) {
                metadata.insert(key, value);
            }
        };
        if recipient == Recipient::Leader {
            put(FORWARDED_BY, self.worker.name());
        }
        if let Some(trace) = trace {
            put("x-request-id", &trace.request_id());
            put("traceparent", &trace.traceparent());
        }
    }
}

/// The first call only begins to listen, so that no change is missed between looking and waiting.
async fn wait_for_change(views: &mut Option<Snapshots>, cluster: &Cluster) -> Result<(), CheckError> {
    match views {
        Some(views) => views.changed().await.map_err(|_| CheckError::NoWorkers),
        None => {
            *views = Some(cluster.subscribe());
            Ok(())
        }
    }
}

fn overloaded() -> CheckError {
    CheckError::Overloaded("every worker is busy; try again in a second".to_owned())
}

impl From<PoolError> for CheckError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full => Self::Overloaded(error.to_string()),
            PoolError::Defect => Self::Internal(error.to_string()),
        }
    }
}

impl From<AskError> for CheckError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Full => overloaded(),
            AskError::GivenBack => Self::Unavailable(error.to_string()),
            AskError::Failed(Failure { code, message }) => match code {
                Code::ResourceExhausted => Self::Overloaded(message),
                Code::DeadlineExceeded | Code::Cancelled => Self::DeadlineExceeded,
                Code::Unavailable => Self::Unavailable(message),
                _ => Self::Internal(message),
            },
        }
    }
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
