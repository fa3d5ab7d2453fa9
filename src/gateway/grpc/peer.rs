//! `scheduler.Peer`: the answering end of the lanes, and what else nodes ask each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    Stream, StreamExt,
    future::{pending, ready},
    stream::{self, BoxStream},
};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming, metadata::AsciiMetadataValue};

use super::{CallContext, call_of, worker::sender as sender_of};
use crate::{
    api::{
        election::hand_over_from_wire,
        error::{ApiError, CallError, CheckError},
        prime::Outcome,
        primes::BatchOutcome,
        ranges::{SegmentOutcome, segment_from_wire},
    },
    cluster::{
        STOPPING,
        lane::{AskError, Failure},
        token::AUTHORIZATION,
        trace::Trace,
    },
    gateway::Gateway,
    limits::{BATCH_MAX, LANE_BATCH_MAX, LANE_IN_FLIGHT_MAX, LIST_SEGMENT_NUMBERS_MAX},
    proto::{self, peer_client::PeerClient, peer_server::Peer},
    scheduler::{Check, FORWARDED_BY, job::Batch, segment::SegmentJob},
};

/// Serves `scheduler.Peer`.
pub struct PeerService(pub(super) Arc<Gateway>);

type LaneAnswerStream = BoxStream<'static, Result<proto::LaneAnswers, Status>>;

#[tonic::async_trait]
impl Peer for PeerService {
    async fn identify(
        &self,
        request: Request<proto::IdentifyRequest>,
    ) -> Result<Response<proto::IdentifyResponse>, Status> {
        let header = request.metadata().get(AUTHORIZATION).map(AsciiMetadataValue::as_bytes);
        let me = Arc::clone(&self.0.cluster.snapshot().view.me);
        let proof = self.0.door.token().proof(header, &me);
        Ok(Response::new(proto::IdentifyResponse { receiver: Some((&*me).into()), proof }))
    }

    async fn work(
        &self,
        request: Request<Streaming<proto::LaneAsks>>,
    ) -> Result<Response<LaneAnswerStream>, Status> {
        let asks = self.open(request).await?;
        let gateway = Arc::clone(&self.0);
        let answers = asks.then(move |asks| {
            let gateway = Arc::clone(&gateway);
            async move { Ok(work(&gateway, &asks?).await) }
        });
        Ok(Response::new(self.answering(answers)))
    }

    async fn schedule(
        &self,
        request: Request<Streaming<proto::LaneAsks>>,
    ) -> Result<Response<LaneAnswerStream>, Status> {
        let asks = self.open(request).await?;
        let gateway = Arc::clone(&self.0);
        let checks = asks.map(|asks| stream::iter(single_asks(asks))).flatten();
        let answers = checks
            .map(move |ask| {
                let gateway = Arc::clone(&gateway);
                async move {
                    let (ask, check) = ask?;
                    Ok((ask, gateway.scheduler.check(&check).await))
                }
            })
            .buffer_unordered(LANE_IN_FLIGHT_MAX)
            .ready_chunks(LANE_BATCH_MAX)
            .map(collect);
        Ok(Response::new(self.answering(answers)))
    }

    async fn work_batch(
        &self,
        request: Request<proto::BatchRequest>,
    ) -> Result<Response<proto::BatchResponse>, Status> {
        let Batch { values, trace, .. } = batch_of(request)?;
        let worker = &self.0.worker;
        let are_prime = worker.check_batch(&values).await;
        tracing::debug!(request_id = %trace.request_id(), traceparent = %trace.traceparent(), "processed a batch of {}", values.len());
        let outcome = BatchOutcome { are_prime, processed_by: Arc::clone(worker.name()) };
        Ok(Response::new(outcome.into()))
    }

    async fn schedule_batch(
        &self,
        request: Request<proto::BatchRequest>,
    ) -> Result<Response<proto::BatchResponse>, Status> {
        let batch = batch_of(request)?;
        let outcome = self.0.scheduler.check_batch(&batch).await.map_err(ApiError::from)?;
        Ok(Response::new(outcome.into()))
    }

    async fn work_segment(
        &self,
        request: Request<proto::SegmentRequest>,
    ) -> Result<Response<proto::SegmentResponse>, Status> {
        let SegmentJob { segment, trace, .. } = segment_of(request)?;
        let worker = &self.0.worker;
        let found = worker.sieve(segment).await.map_err(CheckError::from).map_err(ApiError::from)?;
        tracing::debug!(request_id = %trace.request_id(), traceparent = %trace.traceparent(), "processed a segment");
        let outcome = SegmentOutcome { found, processed_by: Arc::clone(worker.name()) };
        Ok(Response::new(outcome.into()))
    }

    async fn schedule_segment(
        &self,
        request: Request<proto::SegmentRequest>,
    ) -> Result<Response<proto::SegmentResponse>, Status> {
        let job = segment_of(request)?;
        let outcome = self.0.scheduler.segment(&job).await.map_err(ApiError::from)?;
        Ok(Response::new(outcome.into()))
    }

    async fn recent_results(
        &self,
        request: Request<proto::RecentResultsRequest>,
    ) -> Result<Response<proto::RecentResultsResponse>, Status> {
        let proto::RecentResultsRequest { limit, bytes_max } = request.into_inner();
        let results = self.0.scheduler.own_results(limit as usize, bytes_max as usize);
        Ok(Response::new(proto::RecentResultsResponse {
            results: results.into_iter().map(Into::into).collect(),
        }))
    }

    async fn hand_over(
        &self,
        request: Request<proto::HandOverRequest>,
    ) -> Result<Response<proto::HandOverResponse>, Status> {
        let mut request = request.into_inner();
        let sender = sender_of(request.sender.take())?;
        let offer = hand_over_from_wire(request, &sender).map_err(Status::invalid_argument)?;
        let accepted = self.0.cluster.hand_over(sender, offer).await.map_err(ApiError::from)?;
        Ok(Response::new(proto::HandOverResponse { accepted }))
    }

    async fn transfer(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        let forwarded = call_of(&request).is_forwarded;
        let request = request.into_inner();
        let leader = self.0.cluster.snapshot().lanes.leader.clone();
        if let Some(leader) = leader.filter(|_| !forwarded) {
            let mut request = Request::new(request);
            request.metadata_mut().insert(FORWARDED_BY, AsciiMetadataValue::from_static("a-follower"));
            let mut client = PeerClient::new(leader.connection());
            let called = leader.call(async { client.transfer(request).await }).await;
            return called.map_err(|error| match error {
                AskError::Failed(Failure { code, message }) => Status::new(code, message),
                AskError::Full => ApiError::from(CallError::Busy).into(),
                AskError::GivenBack => ApiError::from(CallError::NoLeader).into(),
            });
        }
        let leader = self.0.cluster.transfer(request.to).await.map_err(ApiError::from)?;
        let leader = leader.to_wire(self.0.cluster.snapshot().view.clock);
        Ok(Response::new(proto::TransferResponse { leader: Some(leader) }))
    }
}

impl PeerService {
    /// Lets a peer open a lane; what follows are its asks. It ends when the value of the token by which the peer came in
    /// is withdrawn.
    async fn open(
        &self,
        request: Request<Streaming<proto::LaneAsks>>,
    ) -> Result<impl Stream<Item = Result<proto::LaneAsks, Status>> + Send + use<>, Status> {
        let header = request.metadata().get(AUTHORIZATION);
        let value = header.and_then(|header| self.0.door.value(header.as_bytes()));
        if value.is_none() && self.0.door.is_set() {
            return Err(Status::unauthenticated("the token of this call was withdrawn meanwhile"));
        }
        let withdrawn = async move {
            match value {
                Some(value) => value.withdrawn().await,
                None => pending().await,
            }
        };
        let mut asks = request.into_inner();
        let sender = asks.message().await?.and_then(|first| first.sender);
        let sender = sender_of(sender)?;
        if self.0.cluster.is_stopping() {
            return Err(Status::unavailable(STOPPING));
        }
        self.0.cluster.heard(sender).await.map_err(ApiError::from)?;
        Ok(asks.map(|asks| asks.and_then(bounded)).take_until(withdrawn))
    }

    /// This node's identity first, then the answers, and between them a notice when this node stops.
    fn answering(
        &self,
        answers: impl Stream<Item = Result<proto::LaneAnswers, Status>> + Send + 'static,
    ) -> LaneAnswerStream {
        let me = (&*self.0.cluster.snapshot().view.me).into();
        let segment_threads = self.0.worker.threads() as u32;
        let hello =
            proto::LaneAnswers { receiver: Some(me), segment_threads, ..proto::LaneAnswers::default() };
        let (stopping, heartbeat) = (self.0.cluster.stopping(), self.0.cluster.heartbeat());
        // Repeated every heartbeat: heartbeats to a node that stops are refused, and this shows that it still lives.
        let notices = stream::unfold(false, move |is_told| {
            let stopping = stopping.clone();
            async move {
                if is_told {
                    sleep(heartbeat).await;
                } else {
                    stopping.cancelled().await;
                }
                Some((Some(Ok(proto::LaneAnswers { stopping: true, ..proto::LaneAnswers::default() })), true))
            }
        });
        // The lane ends with its answers, not with the notices.
        let answers = answers.map(Some).chain(stream::once(ready(None)));
        let merged = stream::select(notices, answers);
        let until_the_end = merged.take_while(|answer| ready(answer.is_some())).filter_map(ready);
        stream::once(ready(Ok(hello))).chain(until_the_end).boxed()
    }
}

/// A message of a lane, if it keeps within the bounds.
///
/// # Errors
/// `invalid_argument` if it does not.
pub fn bounded(asks: proto::LaneAsks) -> Result<proto::LaneAsks, Status> {
    let count = asks.values.len();
    if count > LANE_BATCH_MAX || ![0, count].contains(&asks.timeouts_ms.len()) {
        return Err(Status::invalid_argument(format!(
            "a lane carries at most {LANE_BATCH_MAX} asks a message"
        )));
    }
    if asks.first_ask.checked_add(count as u64).is_none() {
        return Err(Status::invalid_argument(
            "the asks of a lane are numbered from 0 on, and not up to 2^64",
        ));
    }
    Ok(asks)
}

/// A batch that a peer sends, with what its call brings.
fn batch_of(request: Request<proto::BatchRequest>) -> Result<Batch, Status> {
    let CallContext { deadline, trace, .. } = call_of(&request);
    let values = request.into_inner().values;
    if values.len() > BATCH_MAX {
        return Err(Status::invalid_argument(format!("a batch has at most {BATCH_MAX} numbers")));
    }
    Ok(Batch { values, deadline, trace, forwarded: true })
}

/// A segment that a peer sends, with what its call brings.
fn segment_of(request: Request<proto::SegmentRequest>) -> Result<SegmentJob, Status> {
    let CallContext { deadline, trace, .. } = call_of(&request);
    let request = request.into_inner();
    let segment = segment_from_wire(&request)?;
    if segment.lists && segment.range.numbers() > LIST_SEGMENT_NUMBERS_MAX {
        return Err(Status::invalid_argument(format!(
            "a segment of a list has at most {LIST_SEGMENT_NUMBERS_MAX} numbers"
        )));
    }
    Ok(SegmentJob { segment, range_id: request.range_id, deadline, trace, forwarded: true })
}

/// Does here what a message asks.
async fn work(gateway: &Gateway, asks: &proto::LaneAsks) -> proto::LaneAnswers {
    let count = asks.values.len();
    let answers = proto::LaneAnswers {
        asks: (asks.first_ask..).take(count).collect(),
        are_prime: gateway.worker.check_batch(&asks.values).await,
        processed_by: vec![0; count],
        names: vec![gateway.worker.name().to_string()],
        ..proto::LaneAnswers::default()
    };
    for trace in &asks.traces {
        let proto::LaneTrace { request_id, traceparent, .. } = trace;
        tracing::debug!(request_id, traceparent, "processed a check");
    }
    answers
}

/// An ask and its number, or why its lane has ended.
pub type SingleAsk = Result<(u64, Check), Status>;

/// The asks of a batch one by one.
pub fn single_asks(asks: Result<proto::LaneAsks, Status>) -> Vec<SingleAsk> {
    let proto::LaneAsks { first_ask, values, timeouts_ms, traces, .. } = match asks {
        Ok(asks) => asks,
        Err(status) => return vec![Err(status)],
    };
    let now = Instant::now();
    let unnamed = Arc::<Trace>::default();
    let mut traces = traces.into_iter().peekable();
    let asks = values.into_iter().zip(first_ask..).enumerate().map(|(place, (value, ask))| {
        let time = timeouts_ms.get(place).copied().unwrap_or_default();
        let named = traces.next_if(|trace| trace.ask == ask);
        let trace = named.map_or_else(|| Arc::clone(&unnamed), |trace| Arc::new(trace.into()));
        let deadline = now + Duration::from_millis(time.into());
        Ok((ask, Check { number: value.into(), deadline, trace, forwarded: true }))
    });
    asks.collect()
}

type SingleAnswer = Result<(u64, Result<Outcome, CheckError>), Status>;

/// Those that are ready, in one message.
fn collect(ready: Vec<SingleAnswer>) -> Result<proto::LaneAnswers, Status> {
    let mut answers = proto::LaneAnswers::default();
    for answered in ready {
        match answered? {
            (ask, Ok(outcome)) => {
                answers.asks.push(ask);
                answers.are_prime.push(outcome.verdict.is_prime);
                let place = place_of(&mut answers.names, &outcome.processed_by);
                answers.processed_by.push(place);
            }
            (ask, Err(error)) => {
                let status = Status::from(ApiError::from(error));
                let (code, message) = (status.code().into(), status.message().to_owned());
                answers.failures.push(proto::LaneFailure { ask, code, message });
            }
        }
    }
    Ok(answers)
}

fn place_of(names: &mut Vec<String>, name: &str) -> u32 {
    let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    // A message holds at most 256 answers, and no more names.
    u32::try_from(place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn asks_have_numbers_that_can_be_counted() {
        let asks = |first_ask| proto::LaneAsks { first_ask, values: vec![17, 18], ..Default::default() };
        let numbers: Vec<u64> =
            single_asks(bounded(asks(u64::MAX - 2))).into_iter().map(|ask| ask.unwrap().0).collect();
        assert_eq!(numbers, [u64::MAX - 2, u64::MAX - 1]);
        for first_ask in [u64::MAX - 1, u64::MAX] {
            assert_eq!(bounded(asks(first_ask)).unwrap_err().code(), Code::InvalidArgument, "{first_ask}");
        }
    }
}
