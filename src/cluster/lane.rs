//! The lane: one long-lived stream to a node, on which short checks travel in batches.
//!
//! Asks that wait when the lane is free leave as one message; a lone ask leaves at once. Every ask has a number of its
//! own that is never used again on its lane, and an answer to a number that was never asked ends the lane: so an answer
//! cannot reach the wrong request. When a lane ends, however it ends, what it had not answered is given back.

mod silence;
mod task;

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use primacy_election::{DialError, Identity, MISSED, Time, Wanted};
use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, TimeoutExpired};

use super::{STOPPING, innermost, token::PeerConnection, trace::Trace};
use crate::{
    clock::millis,
    counted::Counted,
    limits::{
        BATCHES_PER_PEER_MAX, FAILURE_PENALTY, FAILURE_PENALTY_LOAD, LANE_GATHERING_LOAD, LANE_IN_FLIGHT_MAX,
        LONG_CALLS_PER_PEER_MAX, PEER_MESSAGE_BYTES_MAX, SEGMENTS_PER_PEER_MAX, SEGMENTS_PER_THREAD,
    },
    proto::{self, peer_client::PeerClient},
    text::{line, plain},
};

pub use task::LaneTask;

/// A short check to be asked of a lane.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The word to decide.
    pub value: u64,
    /// When nobody waits for it any more.
    pub deadline: Instant,
    /// By which the request is found again.
    pub trace: Arc<Trace>,
}

/// An answer that came over a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAnswer {
    /// Whether it is prime; proven, because it is short.
    pub is_prime: bool,
    /// Who did the work.
    pub processed_by: Arc<str>,
}

/// Why an ask has no answer.
#[derive(Debug, Clone, Error)]
pub enum AskError {
    /// The lane had no place; it was not sent.
    #[error("the lane is full; try again in a second")]
    Full,
    /// The lane ended first, or the other side fell silent: it may be sent elsewhere, checks are idempotent.
    #[error("the lane gave it back")]
    GivenBack,
    /// The other side answered with an error.
    #[error("{0}")]
    Failed(Failure),
}

/// An error that the other side answered with.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Failure {
    /// Its gRPC status code.
    pub code: Code,
    /// Its message.
    pub message: String,
}

/// How a lane ended.
#[derive(Debug, Error)]
pub enum LaneEnd {
    /// The other side closed it in an orderly way, all answered.
    #[error("its lane closed")]
    Closed,
    /// It broke.
    #[error("its lane broke: {0}")]
    Broken(String),
    /// The other side held something, and was silent for too long.
    #[error("{MISSED}")]
    Silent,
}

/// A handle to ask on a lane; cheap to clone.
#[derive(Clone)]
pub struct Lane(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<OpenAsk>,
    connection: PeerConnection,
    long_calls: Semaphore,
    batches: Semaphore,
    /// Places for segments of ranges, as many as the other side has use for.
    segments: Arc<Semaphore>,
    segments_max: usize,
    in_flight: AtomicU64,
    /// Those in flight that have not left yet.
    gathering: AtomicUsize,
    long_cost_us: Arc<AtomicU64>,
    /// When it was opened; the penalty is counted from here.
    opened: Instant,
    penalty_until_ms: AtomicU64,
    /// When the other side was last heard.
    heard_ms: AtomicU64,
    /// Wakes the watch of the lane when the peer holds work again.
    filled: Notify,
    /// The other side was silent for too long and has not been heard since: nothing is asked of it.
    is_silent: AtomicBool,
    /// Told each time when that begins.
    silences: watch::Sender<()>,
    /// It takes no more asks and ends when it has answered those that it holds.
    retired: CancellationToken,
    closed: CancellationToken,
}

type AskReply = oneshot::Sender<Result<LaneAnswer, Failure>>;

/// An ask on its way; dropping `reply` gives it back.
struct OpenAsk {
    ask: Ask,
    reply: AskReply,
}

impl Lane {
    /// Opens a lane over a channel, and learns who answers on it.
    ///
    /// # Errors
    /// What the other side says when it refuses.
    pub async fn open(
        connection: PeerConnection,
        kind: Wanted,
        me: &Identity,
    ) -> Result<(Self, LaneTask, Identity), DialError> {
        let (answers, outgoing) =
            Self::open_stream(&connection, kind, me).await.map_err(|status| refusal(&status))?;
        Self::greet(connection, kind, answers, outgoing).await
    }

    async fn open_stream(
        connection: &PeerConnection,
        kind: Wanted,
        me: &Identity,
    ) -> Result<(Streaming<proto::LaneAnswers>, mpsc::Sender<proto::LaneAsks>), Status> {
        let (outgoing, requests) = mpsc::channel(4);
        let hello = proto::LaneAsks { sender: Some(me.into()), ..proto::LaneAsks::default() };
        // The channel is new and holds four.
        let _ = outgoing.try_send(hello);
        let mut client =
            PeerClient::new(connection.clone()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let requests = ReceiverStream::new(requests);
        let answers = match kind {
            Wanted::Schedule => client.schedule(requests).await?.into_inner(),
            Wanted::Work | Wanted::Off => client.work(requests).await?.into_inner(),
        };
        Ok((answers, outgoing))
    }

    /// A lane over a stream that is open: learns who answers on it.
    ///
    /// # Errors
    /// What the other side says when it refuses, or that it does not say who it is.
    pub async fn greet(
        connection: PeerConnection,
        kind: Wanted,
        mut answers: Streaming<proto::LaneAnswers>,
        outgoing: mpsc::Sender<proto::LaneAsks>,
    ) -> Result<(Self, LaneTask, Identity), DialError> {
        let first = answers.message().await.map_err(|status| refusal(&status))?.unwrap_or_default();
        let segments_max = segments_max(kind, first.segment_threads as usize);
        let receiver = first.receiver;
        let unnamed = || DialError::Other("its lane did not begin with who it is".to_owned());
        let identity = Identity::try_from(receiver.ok_or_else(unnamed)?)
            .map_err(|wrong| DialError::Other(wrong.to_owned()))?;
        let (queue, asks) = mpsc::channel(LANE_IN_FLIGHT_MAX);
        let lane = Self::new(connection, queue, segments_max);
        let task = LaneTask::new(lane.clone(), kind, asks, outgoing, answers);
        Ok((lane, task, identity))
    }

    fn new(connection: PeerConnection, queue: mpsc::Sender<OpenAsk>, segments_max: usize) -> Self {
        Self(Arc::new(Shared {
            queue,
            connection,
            long_calls: Semaphore::new(LONG_CALLS_PER_PEER_MAX),
            batches: Semaphore::new(BATCHES_PER_PEER_MAX),
            segments: Arc::new(Semaphore::new(segments_max)),
            segments_max,
            in_flight: AtomicU64::new(0),
            gathering: AtomicUsize::new(0),
            long_cost_us: Arc::default(),
            opened: Instant::now(),
            penalty_until_ms: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            filled: Notify::new(),
            is_silent: AtomicBool::new(false),
            silences: watch::Sender::default(),
            retired: CancellationToken::new(),
            closed: CancellationToken::new(),
        }))
    }

    /// Asks, and waits for the answer; dropping the future forgets it.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(&self, ask: Ask) -> Result<LaneAnswer, AskError> {
        if self.is_silent() {
            return Err(AskError::GivenBack);
        }
        let _counted = self.count(1);
        let (reply, answer) = oneshot::channel();
        self.0.gathering.fetch_add(1, Relaxed);
        if let Err(refused) = self.0.queue.try_send(OpenAsk { ask, reply }) {
            self.0.gathering.fetch_sub(1, Relaxed);
            return Err(match refused {
                mpsc::error::TrySendError::Full(_) => AskError::Full,
                mpsc::error::TrySendError::Closed(_) => AskError::GivenBack,
            });
        }
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(AskError::Failed(failure)),
            Err(_) => Err(AskError::GivenBack),
        }
    }

    /// Makes a long call of its own beside the lane. It ends with the lane, given back.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn call<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, AskError> {
        let Ok(_permit) = self.0.long_calls.try_acquire() else { return Err(AskError::Full) };
        self.0.filled.notify_one();
        self.while_open(call).await
    }

    /// Makes a call for a batch of so many short checks beside the lane. It ends with the lane, given back; until then
    /// it counts as so many checks in flight.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn call_batch<T>(
        &self,
        count: usize,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, AskError> {
        let Ok(_permit) = self.0.batches.try_acquire() else { return Err(AskError::Full) };
        let _counted = self.count(count);
        self.while_open(call).await
    }

    /// Makes a call for a segment of a range beside the lane, for which there is a place already. It ends with the lane, given
    /// back.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn call_segment<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, AskError> {
        self.0.filled.notify_one();
        self.while_open(call).await
    }

    async fn while_open<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, AskError> {
        let mut silences = self.0.silences.subscribe();
        if self.is_silent() {
            return Err(AskError::GivenBack);
        }
        tokio::select! {
            biased;
            answered = call => answered.map_err(|status| call_error(&status)),
            () = self.0.closed.cancelled() => Err(AskError::GivenBack),
            _ = silences.changed() => Err(AskError::GivenBack),
        }
    }

    fn count(&self, count: usize) -> Counted<&AtomicU64> {
        let (counted, before) = Counted::after(&self.0.in_flight, count as u64);
        if before == 0 {
            self.0.filled.notify_one();
        }
        counted
    }

    /// Whether the other side holds anything of ours: asks, batches or calls.
    fn is_holding(&self) -> bool {
        let Shared { in_flight, long_calls, segments, segments_max, .. } = &*self.0;
        in_flight.load(Relaxed) > 0
            || long_calls.available_permits() < LONG_CALLS_PER_PEER_MAX
            || segments.available_permits() < *segments_max
    }

    /// Returns when it holds something.
    async fn holds_something(&self) {
        while !self.is_holding() {
            self.0.filled.notified().await;
        }
    }

    /// The time since it was opened.
    fn time(&self) -> Time {
        Time::at(self.0.opened.elapsed())
    }

    /// The other side has just shown that it lives.
    pub fn hear(&self) {
        self.0.heard_ms.store(millis(self.time().elapsed()), Relaxed);
        self.0.is_silent.store(false, Relaxed);
    }

    /// The other side is silent: what it holds is given back, and so is what it is asked until it is heard again.
    fn give_back(&self) {
        self.0.is_silent.store(true, Relaxed);
        self.0.silences.send_replace(());
    }

    fn is_silent(&self) -> bool {
        self.0.is_silent.load(Relaxed)
    }

    /// When it was last heard.
    fn heard(&self) -> Time {
        Time::at(Duration::from_millis(self.0.heard_ms.load(Relaxed)))
    }

    /// The connection that the lane runs over, for calls of their own.
    pub fn connection(&self) -> PeerConnection {
        self.0.connection.clone()
    }

    /// No more asks: the lane ends when what it holds is answered, long calls included.
    pub fn retire(&self) {
        self.0.retired.cancel();
    }

    /// Whether it takes asks: it is neither closed, nor retired, nor silent, nor full.
    pub fn is_open(&self) -> bool {
        self.is_living() && self.0.queue.capacity() > 0
    }

    fn is_living(&self) -> bool {
        !self.0.retired.is_cancelled() && !self.0.queue.is_closed() && !self.is_silent()
    }

    /// Whether it would take asks, or long calls, or batches, if it were not full of them.
    pub fn is_full(&self) -> bool {
        let Shared { queue, long_calls, batches, .. } = &*self.0;
        let calls_full = [long_calls, batches].iter().any(|calls| calls.available_permits() == 0);
        self.is_living() && (queue.capacity() == 0 || calls_full)
    }

    /// Whether it takes one more long call.
    pub fn has_room_for_long(&self) -> bool {
        self.is_open() && self.0.long_calls.available_permits() > 0
    }

    /// Whether it takes one more batch.
    pub fn has_room_for_batch(&self) -> bool {
        self.is_living() && self.0.batches.available_permits() > 0
    }

    /// Whether it takes segments of ranges, if it is not full of them.
    pub fn takes_segments(&self) -> bool {
        self.is_living() && self.0.segments_max > 0
    }

    /// Whether it takes one more segment.
    pub fn has_room_for_segment(&self) -> bool {
        self.takes_segments() && self.0.segments.available_permits() > 0
    }

    /// A place for a segment, if there is one.
    pub fn segment_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.segments).try_acquire_owned().ok()
    }

    /// Short checks in flight, plus the penalty of a recent failure. A lane whose next message has not left counts as
    /// [`LANE_GATHERING_LOAD`] less: each message wakes a process, and an ask that joins it saves another message.
    pub fn load(&self) -> u64 {
        let load = self.0.in_flight.load(Relaxed) + self.penalty();
        match self.0.gathering.load(Relaxed) {
            0 => load,
            _ => load.saturating_sub(LANE_GATHERING_LOAD),
        }
    }

    /// Counts a long check of so many microseconds as load of this lane, for as long as the charge lives.
    pub fn charge(&self, cost_us: u64) -> Charge {
        Counted::new(Arc::clone(&self.0.long_cost_us), cost_us)
    }

    /// Long checks in flight by their estimated time in microseconds, and the penalty of a failure of late. Each counts
    /// in full until its end: how much of it is done is not known, for it may still wait for a thread over there.
    pub fn long_load_us(&self) -> u64 {
        self.0.long_cost_us.load(Relaxed).saturating_add(self.penalty().saturating_mul(1_000_000))
    }

    /// A failure counts as load for a while.
    pub fn penalize(&self) {
        let until = self.0.opened.elapsed() + FAILURE_PENALTY;
        self.0.penalty_until_ms.store(millis(until), Relaxed);
    }

    /// Whether both are handles to one lane.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn penalty(&self) -> u64 {
        let until = self.0.penalty_until_ms.load(Relaxed);
        if until != 0 && millis(self.0.opened.elapsed()) < until { FAILURE_PENALTY_LOAD } else { 0 }
    }
}

impl Shared {
    /// Returns when no call beside the lane is left.
    async fn calls_answered(&self) {
        // None of the semaphores is ever closed.
        let _ = self.long_calls.acquire_many(LONG_CALLS_PER_PEER_MAX as u32).await;
        let _ = self.batches.acquire_many(BATCHES_PER_PEER_MAX as u32).await;
        let _ = self.segments.acquire_many(self.segments_max as u32).await;
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("in_flight", &self.0.in_flight).finish_non_exhaustive()
    }
}

/// How many segments a node is sent at once that has so many threads for them. A leader sends them on, so that it takes as many
/// as there is room for.
fn segments_max(kind: Wanted, threads: usize) -> usize {
    match kind {
        _ if threads == 0 => 0,
        Wanted::Schedule => SEGMENTS_PER_PEER_MAX,
        Wanted::Work | Wanted::Off => SEGMENTS_PER_PEER_MAX.min(SEGMENTS_PER_THREAD * threads),
    }
}

/// A long check as load of a lane, in microseconds of its estimated cost; dropping it takes the load away.
pub type Charge = Counted<Arc<AtomicU64>>;

/// What the status of a call beside the lane says: an answer of the other side has no source; one that was made here
/// has, be it because the deadline passed or because the connection is gone.
fn call_error(status: &Status) -> AskError {
    let (code, message) = (status.code(), line(status.message()));
    match Error::source(status) {
        None => AskError::Failed(Failure { code, message }),
        Some(_) if innermost(status).is::<TimeoutExpired>() => {
            AskError::Failed(Failure { code: Code::DeadlineExceeded, message })
        }
        Some(_) => AskError::GivenBack,
    }
}

/// Why a peer that answered opened no lane.
fn refusal(status: &Status) -> DialError {
    match status.code() {
        Code::Unavailable if status.message() == STOPPING => DialError::Stopping,
        Code::Unauthenticated => DialError::Stranger,
        _ => DialError::Other(describe(status)),
    }
}

/// A status in the words of its innermost cause, or else in its own.
pub fn describe(status: &Status) -> String {
    match Error::source(status) {
        None => plain(status.message()),
        Some(source) => plain(&innermost(source).to_string()),
    }
}
