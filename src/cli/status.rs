//! `primacy status`: the members as a table.

use std::process::ExitCode;

use clap::Args;
use tonic::Status;

use super::{
    Output,
    client::{Client, ClientArgs},
    fail, print_all, table,
};
use crate::{
    gateway::http::cluster::ClusterAnswer,
    proto::{ClusterView, Member, WatchClusterRequest, scheduler_client::SchedulerClient},
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// How to print the members
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

const COLUMNS: [&str; 9] =
    ["NAME", "ID", "ADDRESS", "STATUS", "ROLE", "COUNTER", "IN-FLIGHT", "LAST-SEEN", "VERSION"];

pub(super) async fn run(args: StatusArgs) -> ExitCode {
    let client = match Client::new(args.client) {
        Ok(client) => client,
        Err(error) => return fail(error),
    };
    match client.call(view).await {
        Ok(view) => print_all(render(view, args.output)),
        Err(status) => fail(status.message()),
    }
}

/// The first view of a watch is the one of this moment.
pub(super) async fn view(channel: tonic::transport::Channel) -> Result<ClusterView, Status> {
    let mut client = SchedulerClient::new(channel);
    let mut views = client.watch_cluster(WatchClusterRequest {}).await?.into_inner();
    views.message().await?.ok_or_else(|| Status::unavailable("the node is stopping"))
}

fn render(view: ClusterView, output: Output) -> String {
    if output == Output::Json {
        // A struct of strings and numbers always serialises.
        return serde_json::to_string_pretty(&ClusterAnswer::from(view)).unwrap_or_default();
    }
    let members = table(COLUMNS, view.members.iter().map(|member| row(&view, member)), &[1, 5, 6, 7]);
    let leader = view.leader.as_ref().map_or("no leader is reached", |leader| &leader.name);
    format!("{members}\n\nobserved by {}, leader: {leader}", view.observed_by)
}

fn row(view: &ClusterView, member: &Member) -> [String; 9] {
    let leader = view.leader.as_ref().filter(|leader| Some(leader.id) == member.id);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        member.name.clone(),
        or_dash(member.id.map(|id| id.to_string())),
        member.grpc_addr.clone(),
        member.status().as_str_name().to_lowercase(),
        member.role().as_str_name().to_lowercase(),
        or_dash(leader.map(|leader| leader.counter.to_string())),
        member.in_flight.to_string(),
        or_dash(member.last_seen_ms.map(|ms| format!("{ms} ms"))),
        if member.version.is_empty() { "-".to_owned() } else { member.version.clone() },
    ]
}
