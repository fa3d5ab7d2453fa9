//! `scheduler.Scheduler`: what clients call, on any node.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream::BoxStream};
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{CallContext, call_of, count, primes, ranges};
use crate::{
    api::{error::ApiError, next::Neighbour, prime::number_from_wire, ranges::range_from_wire},
    cluster::Snapshot,
    gateway::{
        self, Gateway,
        bulk::{self, window::Terms},
        next::{SearchStep, there_is_none},
    },
    limits::PAGE_PRIMES_DEFAULT,
    prime::Direction,
    proto::{self, scheduler_server::Scheduler},
    scheduler::Check,
};

/// Serves `scheduler.Scheduler`.
pub struct SchedulerService(pub(super) Arc<Gateway>);

#[tonic::async_trait]
impl Scheduler for SchedulerService {
    async fn check_prime(
        &self,
        request: Request<proto::PrimeRequest>,
    ) -> Result<Response<proto::PrimeResponse>, Status> {
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
        request: Request<Streaming<proto::PrimeRequest>>,
    ) -> Result<Response<primes::Checked>, Status> {
        let opened = self.open(request).map_err(Status::from);
        count(&self.0, opened.as_ref().map_or_else(Status::code, |_| Code::Ok));
        opened
    }

    async fn count_primes(
        &self,
        request: Request<proto::Range>,
    ) -> Result<Response<ranges::CountStream>, Status> {
        let opened = self.count_range(request).map_err(Status::from);
        count(&self.0, opened.as_ref().map_or_else(Status::code, |_| Code::Ok));
        opened
    }

    async fn list_primes(
        &self,
        request: Request<proto::Range>,
    ) -> Result<Response<ranges::ListStream>, Status> {
        let opened = self.list_range(request).map_err(Status::from);
        count(&self.0, opened.as_ref().map_or_else(Status::code, |_| Code::Ok));
        opened
    }

    async fn next_prime(
        &self,
        request: Request<proto::PrimeRequest>,
    ) -> Result<Response<proto::NeighbourResponse>, Status> {
        self.neighbour(request, Direction::Next).await
    }

    async fn previous_prime(
        &self,
        request: Request<proto::PrimeRequest>,
    ) -> Result<Response<proto::NeighbourResponse>, Status> {
        self.neighbour(request, Direction::Previous).await
    }

    async fn watch_cluster(
        &self,
        request: Request<proto::WatchClusterRequest>,
    ) -> Result<Response<BoxStream<'static, Result<proto::ClusterView, Status>>>, Status> {
        let place = self.0.watch(call_of(&request).from.ip())?;
        let stopping = self.0.cluster.stopping();
        let views = changes(WatchStream::new(self.0.cluster.subscribe()))
            .take_until(async move { stopping.cancelled().await })
            .map(|snapshot| Ok(proto::ClusterView::from(&snapshot.view)));
        Ok(Response::new(place.hold(views)))
    }
}

impl SchedulerService {
    /// Opens a bulk; its deadline is that of each number.
    fn open(
        &self,
        request: Request<Streaming<proto::PrimeRequest>>,
    ) -> Result<Response<primes::Checked>, ApiError> {
        let _pass = self.0.enter()?;
        let CallContext { trace, arrived, deadline, from, .. } = call_of(&request);
        let place = bulk::enter(&self.0, from.ip())?;
        let terms = Terms { patience: deadline.saturating_duration_since(arrived), trace };
        let is_compressed = request.metadata().get("grpc-encoding").is_some_and(|name| name != "identity");
        Ok(Response::new(primes::answer(&self.0, place, terms, request.into_inner(), is_compressed)))
    }

    fn count_range(&self, request: Request<proto::Range>) -> Result<Response<ranges::CountStream>, ApiError> {
        let CallContext { trace, from, .. } = call_of(&request);
        let range = range_from_wire(request.get_ref())?;
        let place = gateway::ranges::enter(&self.0, from.ip())?;
        let progress = gateway::ranges::count(&self.0, place, range, trace);
        Ok(Response::new(progress.map(|next| Ok(next?.into())).boxed()))
    }

    fn list_range(&self, request: Request<proto::Range>) -> Result<Response<ranges::ListStream>, ApiError> {
        let CallContext { trace, from, .. } = call_of(&request);
        let range = range_from_wire(request.get_ref())?;
        let limit = request.get_ref().limit;
        let place = gateway::ranges::enter(&self.0, from.ip())?;
        let wanted = if limit == 0 { PAGE_PRIMES_DEFAULT } else { limit as usize };
        let listed = gateway::ranges::list(&self.0, place, range, wanted, trace);
        Ok(Response::new(ranges::pages(listed, limit)))
    }

    async fn neighbour(
        &self,
        request: Request<proto::PrimeRequest>,
        direction: Direction,
    ) -> Result<Response<proto::NeighbourResponse>, Status> {
        let found = self.find(request, direction).await.map_err(Status::from);
        count(&self.0, found.as_ref().map_or_else(Status::code, |_| Code::Ok));
        found
    }

    async fn find(
        &self,
        request: Request<proto::PrimeRequest>,
        direction: Direction,
    ) -> Result<Response<proto::NeighbourResponse>, ApiError> {
        let _pass = self.0.enter()?;
        let CallContext { trace, deadline, from, .. } = call_of(&request);
        let number = number_from_wire(request.get_ref())?;
        let place = match number.word() {
            Some(_) => None,
            None => Some(gateway::ranges::enter(&self.0, from.ip())?),
        };
        let steps = gateway::next::find(&self.0, place, direction, &number, Some(deadline), trace);
        let found = steps.filter_map(|step| std::future::ready(found(step)));
        match std::pin::pin!(found).next().await {
            Some(found) => Ok(Response::new(found?.into())),
            None => Err(there_is_none(direction)),
        }
    }

    async fn check(
        &self,
        message: &proto::PrimeRequest,
        call: CallContext,
    ) -> Result<Response<proto::PrimeResponse>, ApiError> {
        let _pass = self.0.enter()?;
        let CallContext { trace, deadline, is_forwarded, .. } = call;
        let check = Check { number: number_from_wire(message)?, deadline, trace, forwarded: is_forwarded };
        Ok(Response::new(self.0.scheduler.check(&check).await?.into()))
    }
}

/// What a search ends with.
fn found(step: Result<SearchStep, ApiError>) -> Option<Result<Neighbour, ApiError>> {
    match step {
        Ok(SearchStep::Tested(_)) => None,
        Ok(SearchStep::Found(neighbour)) => Some(Ok(neighbour)),
        Err(error) => Some(Err(error)),
    }
}

/// The view now, and then at every change; what only counts on is left out.
fn changes(snapshots: WatchStream<Arc<Snapshot>>) -> impl Stream<Item = Arc<Snapshot>> {
    let mut seen = None;
    snapshots.filter(move |snapshot| {
        let version = snapshot.view.version;
        let is_news = seen.replace(version) != Some(version);
        std::future::ready(is_news)
    })
}
