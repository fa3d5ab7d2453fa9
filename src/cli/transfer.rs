//! `primacy transfer`: hands the leadership over.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, builder::NonEmptyStringValueParser};
use primacy_election::{DialError, Identity};
use tokio::time::timeout;
use tonic::{Code, Request, Status, service::interceptor::InterceptedService};

use super::{
    client::{Channel, Client, ClientArgs},
    fail, misused, print_all, status, words,
};
use crate::{
    cluster::{
        introduction::identify,
        token::{Pass, Token},
    },
    config::{SettingNames, TokenArgs},
    proto::{self, peer_client::PeerClient},
    text::plain,
};

/// Hand the leadership over to another member
///
/// Exits with 0 when the member leads, also if it led already; with 1 if it does not lead; with 2 for a usage error.
/// The member must be alive and have an id. Members with higher ids do not take the leadership back: it ends when the
/// member stops, dies, or hands over.
#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    /// The name of the member that is to lead
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    to: String,
    #[command(flatten)]
    token: TokenArgs,
    #[command(flatten)]
    client: ClientArgs,
    /// Which of these settings the environment gave.
    #[arg(skip)]
    pub(super) told: SettingNames,
}

/// What a cluster with a CA wants too.
const CERTIFICATE: &str =
    "or its nodes have --tls-ca, and this takes a certificate of that CA too: give --cert and --key";

/// The leader answers earlier, whether or not the transfer worked.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: TransferArgs) -> ExitCode {
    let lacks_certificate = args.client.lacks_certificate();
    let client = match Client::new(args.client) {
        Ok(client) => client,
        Err(error) => return misused(error),
    };
    let (to, token) = match args.token.read(&args.told) {
        Ok((token, _)) => (args.to, token),
        Err(error) => return misused(error),
    };
    let status = match client.call(|channel| transfer(channel, &to, &token)).await {
        Ok(done) => return print_all(done),
        Err(status) => status,
    };
    match status.code() {
        Code::Unauthenticated if lacks_certificate => {
            fail(format_args!("{}; {CERTIFICATE}", stranger(&token)))
        }
        Code::Unauthenticated => fail(stranger(&token)),
        // Whichever end notices first.
        Code::DeadlineExceeded | Code::Cancelled => {
            fail("the leader does not answer; another one leads in a moment, so try again")
        }
        // An earlier attempt may have worked, and only its answer was lost.
        Code::FailedPrecondition => match leader(&client).await {
            Some(leader) if leader.name == to => {
                print_all(format_args!("{to} leads already (ballot {})", leader.counter))
            }
            _ => fail(status.message()),
        },
        _ => fail(status.message()),
    }
}

async fn transfer(channel: Channel, to: &str, token: &Token) -> Result<String, Status> {
    let started = Instant::now();
    // What answers at an endpoint is not shown the token.
    let pass = match token.is_set() {
        true => token.pass(node(channel.clone(), token).await?.boot),
        false => Pass::default(),
    };
    let mut request = Request::new(proto::TransferRequest { to: to.to_owned() });
    request.set_timeout(TIMEOUT);
    let response = PeerClient::new(InterceptedService::new(channel, pass)).transfer(request).await?;
    let proto::Leader { name, counter, .. } = response.into_inner().leader.unwrap_or_default();
    let took = words::duration(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(format!("{} leads now (ballot {counter}, {took})", plain(&name)))
}

/// The node that answers, if it knows the token.
async fn node(channel: Channel, token: &Token) -> Result<Identity, Status> {
    let identified = timeout(TIMEOUT, identify(channel, token)).await.unwrap_or(Err(DialError::TimedOut));
    identified.map(|(node, _)| node).map_err(|error| match error {
        DialError::Stranger => Status::unauthenticated(error.to_string()),
        // Another endpoint may do.
        _ => Status::unavailable(error.to_string()),
    })
}

async fn leader(client: &Client) -> Option<proto::Leader> {
    client.call(status::view).await.ok()?.leader
}

fn stranger(token: &Token) -> String {
    let given = if token.is_set() { "it is not the one that was given" } else { "none was given" };
    format!(
        "the cluster has a token, and {given}; set PRIMACY_TOKEN, or --token, to the one that its nodes have"
    )
}
