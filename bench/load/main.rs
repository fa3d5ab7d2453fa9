//! A load program that asks for random numbers and verifies every answer.
//!
//! `load http 127.0.0.1:8080 --connections 64 --seconds 3` prints one JSON object; so do `load grpc` and `load ndjson`.
//! With `--rate` the requests are due at fixed times, whether or not earlier ones have come back, and a latency counts
//! from when its request was due. It ends with 1 when an answer was wrong or a request failed.

mod grpc;
mod http;
mod ndjson;
mod numbers;
mod pace;
mod report;
mod tls;

use std::{cell::RefCell, error::Error, fmt::Display, process::ExitCode, rc::Rc, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use tokio::{
    runtime,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use self::{numbers::Numbers, pace::Pace, report::Report};

/// Different numbers that single requests ask for.
const NUMBERS: usize = 1 << 16;
/// How long unanswered requests are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    /// POST over HTTP/1.1, one request at a time on each connection.
    Http {
        addr: String,
        #[arg(long, default_value = "/prime")]
        path: String,
        /// The CAs to believe; TLS with it, else clear text.
        #[arg(long)]
        cacert: Option<String>,
        #[command(flatten)]
        load: Load,
    },
    /// Full handshakes of TLS, one after the other.
    Handshakes {
        addr: String,
        #[arg(long)]
        cacert: String,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Unary calls over gRPC, so many at a time on each connection.
    Grpc {
        addr: String,
        #[arg(long, default_value = "/scheduler.Scheduler/CheckPrime")]
        path: String,
        #[arg(long, default_value_t = 1)]
        streams: usize,
        #[command(flatten)]
        load: Load,
    },
    /// Numbers in bulk, a line each, over one connection.
    Ndjson {
        addr: String,
        #[arg(long, default_value = "/primes")]
        path: String,
        #[arg(long, default_value_t = 10)]
        millions: usize,
    },
}

#[derive(Args, Clone, Copy)]
struct Load {
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Requests per second, over all connections; without it each is sent when the one before is answered.
    #[arg(long)]
    rate: Option<f64>,
}

/// What an answer says.
struct Reply {
    is_prime: bool,
    processed_by: String,
}

/// A place from which one number at a time is asked.
trait Client {
    async fn ask(&mut self, number: u64) -> Result<Reply, String>;
}

/// What all places share.
struct Run {
    numbers: Numbers,
    pace: Pace,
    report: RefCell<Report>,
}

impl Run {
    async fn drive(self: Rc<Self>, mut client: impl Client) {
        while let Some(turn) = self.pace.next().await {
            let entry = self.numbers.pick();
            self.report.borrow_mut().sent(turn);
            let reply = client.ask(entry.number).await;
            self.report.borrow_mut().answered(turn, entry, reply);
        }
    }
}

/// Lets all ask until the time is over.
async fn load<C: Client + 'static>(load: Load, clients: Vec<C>) -> Result<Report, Box<dyn Error>> {
    let lasts = Duration::from_secs_f64(load.seconds);
    let numbers = Numbers::random(NUMBERS);
    let run = Rc::new(Run { numbers, pace: Pace::begin(lasts, load.rate), report: RefCell::default() });
    let tasks: Vec<_> =
        clients.into_iter().map(|client| spawn_local(Rc::clone(&run).drive(client))).collect();
    let all = async {
        for task in tasks {
            task.await?;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    timeout(lasts + PATIENCE, all).await.map_err(|_| "some requests were never answered")??;
    let run = Rc::into_inner(run).ok_or("a client is still at work")?;
    Ok(run.report.into_inner().finish())
}

/// What is to be printed, and whether all went well.
async fn run(work: Work) -> Result<(Value, bool), Box<dyn Error>> {
    let report = match work {
        Work::Handshakes { addr, cacert, seconds } => {
            return Ok((tls::handshakes(&addr, &cacert, Duration::from_secs_f64(seconds)).await?, true));
        }
        Work::Http { addr, path, cacert, load: how } => {
            load(how, http::connect(&addr, &path, how.connections, cacert.as_deref()).await?).await
        }
        Work::Grpc { addr, path, streams, load: how } => {
            load(how, grpc::connect(&addr, &path, how.connections, streams).await?).await
        }
        Work::Ndjson { addr, path, millions } => ndjson::run(&addr, &path, millions).await,
    }?;
    Ok((report.to_json(), report.is_clean()))
}

fn fail(why: impl Display) -> ExitCode {
    eprintln!("load: {why}");
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let work = Cli::parse().work;
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match LocalSet::new().block_on(&runtime, run(work)) {
        Ok((printed, is_clean)) => {
            println!("{printed}");
            if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(error),
    }
}
