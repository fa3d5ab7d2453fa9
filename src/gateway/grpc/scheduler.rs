//! `scheduler.Scheduler`: what clients call, on any node.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream::BoxStream};
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{CallContext, call_of, count, number_of, primes};
use crate::{
    cluster::ClusterView,
    gateway::{
        Gateway,
        bulk::{self, window::Terms},
        error::ApiError,
    },
    proto::{self, PrimeRequest, PrimeResponse, WatchClusterRequest, scheduler_server::Scheduler},
    scheduler::Check,
};

/// Serves `scheduler.Scheduler`.
pub struct SchedulerService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Scheduler for SchedulerService {
    type CheckPrimesStream = primes::Checked;
    type WatchClusterStream = BoxStream<'static, Result<proto::ClusterView, Status>>;

    async fn check_prime(&self, request: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        let call = call_of(&request);
        let arrived = call.arrived;
        let answered = self.check(request.get_ref(), call).await.map_err(Status::from);
        let code = answered.as_ref().map_or_else(Status::code, |_| Code::Ok);
        count(&self.0, code);
        self.0.metrics.latency.observe(arrived.elapsed());
        answered
    }

    async fn check_primes(
        &self,
        request: Request<Streaming<PrimeRequest>>,
    ) -> Result<Response<Self::CheckPrimesStream>, Status> {
        let opened = self.open(request).map_err(Status::from);
        count(&self.0, opened.as_ref().map_or_else(Status::code, |_| Code::Ok));
        opened
    }

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        let place = self.0.watch(call_of(&request).from.ip())?;
        let stopping = self.0.cluster.stopping();
        let views = changes(WatchStream::new(self.0.cluster.subscribe()))
            .take_until(async move { stopping.cancelled().await })
            .map(|view| Ok(proto::ClusterView::from(&*view)));
        Ok(Response::new(place.hold(views)))
    }
}

impl SchedulerService {
    /// Opens a bulk; its deadline is that of each number.
    fn open(&self, request: Request<Streaming<PrimeRequest>>) -> Result<Response<primes::Checked>, ApiError> {
        let _pass = self.0.enter()?;
        let CallContext { trace, arrived, deadline, from, .. } = call_of(&request);
        let place = bulk::enter(&self.0, from.ip())?;
        let terms = Terms { patience: deadline.saturating_duration_since(arrived), trace };
        let is_compressed = request.metadata().get("grpc-encoding").is_some_and(|name| name != "identity");
        Ok(Response::new(primes::answer(&self.0, place, terms, request.into_inner(), is_compressed)))
    }

    async fn check(
        &self,
        message: &PrimeRequest,
        call: CallContext,
    ) -> Result<Response<PrimeResponse>, ApiError> {
        let _pass = self.0.enter()?;
        let CallContext { trace, deadline, is_forwarded, .. } = call;
        let check = Check { number: number_of(message)?, deadline, trace, forwarded: is_forwarded };
        Ok(Response::new(self.0.scheduler.check(&check).await?.into()))
    }
}

/// The view now, and then at every change; what only counts on is left out.
fn changes(views: WatchStream<Arc<ClusterView>>) -> impl Stream<Item = Arc<ClusterView>> {
    let mut seen = None;
    views.filter(move |view| {
        let is_news = seen.replace(view.version) != Some(view.version);
        std::future::ready(is_news)
    })
}

impl From<&ClusterView> for proto::ClusterView {
    fn from(view: &ClusterView) -> Self {
        let clock = view.clock;
        let now = clock.now();
        let leader = view.leader(now).map(|leader| leader.to_wire(clock));
        let recent = view.recent.iter().map(|change| proto::Change {
            at_ms: clock.epoch_ms(change.at),
            name: change.name.to_string(),
            change: change.kind.as_str().to_owned(),
            reason: change.reason.clone(),
            duration_ms: u64::try_from(change.duration.as_millis()).unwrap_or(u64::MAX),
        });
        Self {
            leader,
            members: view.members_to_wire(now),
            observed_by: view.me.name.to_string(),
            observed_at_ms: clock.epoch_ms(now),
            recent: recent.collect(),
        }
    }
}
