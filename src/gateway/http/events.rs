//! `GET /events`: what changes, as it changes. What is shown is made once, however many watch.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, future::ready, stream};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, schema::Type},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{STREAMED, problems::ViewProblems};
use crate::{
    api::{
        cluster::{ClusterAnswer, ClusterView},
        error::ApiError,
        results::ResultsAnswer,
    },
    gateway::{Gateway, listener::arrival::Arrival},
    limits::{EVENT_RESULTS_BYTES_MAX, EVENT_RESULTS_MAX, EVENTS_INTERVAL, EVENTS_SILENCE_MAX},
    proto,
};

/// The operations of this file.
pub(super) fn operations() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(get_events))
}

/// How long a browser waits before it comes back to a stream that ended.
const RETRY: Duration = Duration::from_secs(1);

/// What the watchers were shown last: the data of each kind of event, in JSON.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    cluster: Arc<str>,
    stats: Arc<str>,
    results: Arc<str>,
}

/// The handle by which watchers follow.
#[derive(Debug, Default)]
pub struct Events(watch::Sender<Shown>);

/// What the members hold and have done.
#[derive(Debug, Serialize, ToSchema)]
struct Stats {
    /// When, in milliseconds since the Unix epoch, by the clock of the node that is watched.
    #[schema(example = 1_790_000_000_000_u64)]
    observed_at: u64,
    /// Every member that this node knows, itself included, by id.
    members: Vec<MemberStats>,
}

/// What a member holds and has done.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct MemberStats {
    /// Its name; its address until the name is learnt.
    #[schema(value_type = String, example = "worker1")]
    name: Arc<str>,
    /// Checks that it holds now.
    #[schema(example = 0)]
    in_flight: u64,
    /// Checks that it has answered since it started.
    #[schema(example = 12)]
    completed: u64,
}

/// An event of the stream, in the contract.
struct EventMessage;

impl PartialSchema for EventMessage {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(event_schema::<ClusterAnswer>("cluster"))
            .item(event_schema::<Stats>("stats"))
            .item(event_schema::<ResultsAnswer>("results"))
            .description(Some("An event, whose data are JSON."))
            .into()
    }
}

impl ToSchema for EventMessage {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Stats::name().into(), Stats::schema()));
        Stats::schemas(schemas);
    }
}

fn event_schema<T: ToSchema>(kind: &str) -> ObjectBuilder {
    let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([kind]));
    let data = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(Ref::from_schema_name(T::name())));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("event", kind)
        .required("event")
        .property("data", data)
        .required("data")
        .property("retry", ObjectBuilder::new().schema_type(Type::Integer))
}

/// What changes, as it changes
///
/// Server-sent events: `cluster` (what `GET /cluster` answers) at once and at each change; `stats` (what the members hold
/// and have done) and `results` (the newest 20 answers of the cluster, the newest first) at once, and when they change, at
/// most 10 times a second; `alive` when there was nothing to tell for a second. The stream ends when the node stops.
///
/// Swagger UI shows an answer when it has ended, and so cannot show this one. Watch it with
/// `curl -N http://localhost:8080/events`, or in JavaScript with
/// `new EventSource('http://localhost:8080/events').addEventListener('stats', ({ data }) => console.log(data))`.
#[utoipa::path(
    get, path = "/events", tag = "cluster", operation_id = "watchEvents",
    responses(
        (status = 200, description = "A stream of events", body = EventMessage, content_type = "text/event-stream",
            example = "event: stats\ndata: {\"observed_at\":1790000000000,\"members\":[{\"name\":\"worker1\",\"in_flight\":0,\"completed\":12}]}\n\n"),
        ViewProblems,
    )
)]
pub async fn get_events(
    State(gateway): State<Arc<Gateway>>,
    Extension(arrival): Extension<Arrival>,
) -> Result<impl IntoResponse, ApiError> {
    let place = gateway.watch(arrival.from.ip())?;
    let changes = WatchStream::from_changes(gateway.events.0.subscribe());
    let now = Shown::now(&gateway).await;
    // While nobody watched it was not kept up to date.
    gateway.events.show(|shown| *shown = now.clone());
    let stopping = gateway.cluster.stopping().cancelled_owned();
    let shown = stream::once(ready(now)).chain(changes).take_until(stopping).take_until(place.lost());
    let events = news(shown).map(move |event| {
        let _ = &place;
        Ok::<_, Infallible>(event)
    });
    // Data too: a browser drops an event without.
    let alive = Event::default().event("alive").data("{}");
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(EVENTS_SILENCE_MAX).event(alive));
    Ok((STREAMED, stream))
}

/// What a watcher has not been shown yet.
fn news(shown: impl Stream<Item = Shown>) -> impl Stream<Item = Event> {
    let mut before = Shown::default();
    shown.flat_map(move |now| {
        let old = std::mem::replace(&mut before, now.clone());
        let kinds = [
            ("cluster", old.cluster, now.cluster),
            ("stats", old.stats, now.stats),
            ("results", old.results, now.results),
        ];
        let changed = kinds.into_iter().filter(|(_, old, new)| old != new);
        stream::iter(changed.map(|(kind, _, new)| Event::default().event(kind).retry(RETRY).data(&*new)))
    })
}

impl Events {
    /// Keeps what is shown up to date as long as somebody watches.
    pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow_cluster(&gateway) => {}
            () = follow_figures(&gateway) => {}
        }
    }

    fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        self.0.send_modify(change);
    }
}

async fn follow_cluster(gateway: &Gateway) {
    let mut snapshots = gateway.cluster.subscribe();
    let mut shown_version = None;
    while snapshots.changed().await.is_ok() {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let view = &snapshot.view;
        if gateway.events.is_watched() && shown_version.replace(view.version) != Some(view.version) {
            let cluster = cluster_json(view);
            gateway.events.show(|shown| shown.cluster = cluster);
        }
    }
}

async fn follow_figures(gateway: &Gateway) {
    let mut ticker = interval(EVENTS_INTERVAL);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut shown_members, mut shown_results) = (Vec::new(), "".into());
    loop {
        ticker.tick().await;
        if !gateway.events.is_watched() {
            continue;
        }
        let results = results_json(gateway).await;
        let stats = Stats::of(&gateway.cluster.snapshot().view);
        if stats.members != shown_members || results != shown_results {
            let stats_json = json(&stats);
            (shown_members, shown_results) = (stats.members, Arc::clone(&results));
            gateway.events.show(|shown| (shown.stats, shown.results) = (stats_json, results));
        }
    }
}

impl Shown {
    async fn now(gateway: &Gateway) -> Self {
        let results = results_json(gateway).await;
        let snapshot = Arc::clone(&gateway.cluster.snapshot());
        let view = &snapshot.view;
        Self { cluster: cluster_json(view), stats: json(&Stats::of(view)), results }
    }
}

impl Stats {
    fn of(view: &ClusterView) -> Self {
        let members = view.members.iter().map(|member| MemberStats {
            name: Arc::clone(&member.name),
            in_flight: member.figures.in_flight,
            completed: member.figures.completed,
        });
        Self { observed_at: view.clock.epoch_ms(view.clock.now()), members: members.collect() }
    }
}

fn cluster_json(view: &ClusterView) -> Arc<str> {
    json(&ClusterAnswer::from(proto::ClusterView::from(view)))
}

async fn results_json(gateway: &Gateway) -> Arc<str> {
    let newest = gateway.scheduler.newest_results(EVENT_RESULTS_MAX, EVENT_RESULTS_BYTES_MAX).await;
    json(&ResultsAnswer::from(newest))
}

fn json(data: &impl Serialize) -> Arc<str> {
    // Structs of strings and numbers always serialise.
    serde_json::to_string(data).unwrap_or_default().into()
}
