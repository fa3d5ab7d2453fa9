//! `primacy status`: the members as a table, who leads, and the last elections.

pub mod text;
mod watch;

use std::{io, process::ExitCode, time::Duration};

use clap::Args;
use tonic::{Status, Streaming};

use super::{
    OutputFormat,
    client::{Channel, Client, ClientArgs},
    colours, fail, misused, print_all,
};
use crate::{
    api::cluster::ClusterAnswer,
    limits::{CHANGES_KEPT, MEMBERS_MAX},
    proto::{self, scheduler_client::SchedulerClient},
    text::{line, plain},
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Show every change as it comes, until Ctrl-C; when the watched node dies, go on with the next endpoint
    #[arg(short, long)]
    watch: bool,
    /// How to print the members; with --watch, JSON is one object a line
    #[arg(short, long, value_enum, default_value = "text")]
    output: OutputFormat,
    #[command(flatten)]
    client: ClientArgs,
}

impl StatusArgs {
    /// Whether it goes on until it is told to stop.
    pub(super) fn watches(&self) -> bool {
        self.watch
    }
}

pub(super) async fn run(args: StatusArgs) -> ExitCode {
    let client = match Client::new(args.client) {
        Ok(client) => client,
        Err(error) => return misused(error),
    };
    if args.watch {
        return watch::run(client, args.output).await;
    }
    match client.call(view).await {
        Ok(view) => print_all(render(view, args.output)),
        Err(status) => fail(status.message()),
    }
}

/// The cluster as a node sees it at this moment.
pub(super) async fn view(channel: Channel) -> Result<proto::ClusterView, Status> {
    let (view, _) = open(channel).await?;
    Ok(view)
}

/// Watches a node: the view of this moment, and those that follow.
async fn open(channel: Channel) -> Result<(proto::ClusterView, ViewStream), Status> {
    let mut client = SchedulerClient::new(channel);
    let mut views = ViewStream(client.watch_cluster(proto::WatchClusterRequest {}).await?.into_inner());
    let first = views.next().await?.ok_or_else(|| Status::unavailable("the node is stopping"))?;
    Ok((first, views))
}

/// What a node tells; whatever answers at an address may call itself one.
struct ViewStream(Streaming<proto::ClusterView>);

impl ViewStream {
    /// The next view, made harmless: it is not looked at anywhere before.
    async fn next(&mut self) -> Result<Option<proto::ClusterView>, Status> {
        Ok(self.0.message().await?.map(harmless))
    }
}

/// A view of whoever answers, of which every text is made harmless and every list is bounded.
pub fn harmless(mut view: proto::ClusterView) -> proto::ClusterView {
    view.members.truncate(MEMBERS_MAX);
    view.recent.truncate(CHANGES_KEPT);
    let leader = view.leader.iter_mut().map(|leader| &mut leader.name);
    let members = view.members.iter_mut();
    let of_members = members.flat_map(|m| [&mut m.name, &mut m.grpc_addr, &mut m.http_addr, &mut m.version]);
    let of_changes = view.recent.iter_mut().flat_map(|change| [&mut change.name, &mut change.change]);
    for text in leader.chain(of_members).chain(of_changes).chain([&mut view.observed_by]) {
        *text = plain(text);
    }
    for change in &mut view.recent {
        change.reason = line(&change.reason);
    }
    view
}

fn render(view: proto::ClusterView, output: OutputFormat) -> String {
    if output == OutputFormat::Json {
        // A struct of strings and numbers always serialises.
        return serde_json::to_string_pretty(&ClusterAnswer::from(view)).unwrap_or_default();
    }
    text::text(&view, view.observed_at_ms, colours(&io::stdout()))
}

/// The time of now by the observer's clock, when the view came so long ago.
fn now_ms(view: &proto::ClusterView, age: Duration) -> u64 {
    view.observed_at_ms.saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
