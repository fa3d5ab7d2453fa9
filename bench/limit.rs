//! The limit beside which Primacy is measured: axum and tonic answer by themselves, nothing is forwarded.
//!
//! `limit THREADS HTTP_ADDR GRPC_ADDR`

use std::{env, error::Error, net::SocketAddr, process};

use axum::{
    Json, Router,
    routing::post,
    serve::{ListenerExt, serve},
};
use primacy::proto::{
    Certainty, PrimeRequest, PrimeResponse,
    scheduler_server::{Scheduler, SchedulerServer},
    worker_server::{Worker, WorkerServer},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, runtime};
use tonic::{Request, Response, Status, transport::Server};

/// As `primacy` has it: what is compared is what is beside it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAME: &str = "limit";

#[derive(Deserialize)]
struct Question {
    number: u64,
}

#[derive(Serialize)]
struct Answer {
    number: String,
    is_prime: bool,
    processed_by: &'static str,
    certainty: &'static str,
}

async fn prime(Json(Question { number }): Json<Question>) -> Json<Answer> {
    Json(Answer {
        number: number.to_string(),
        is_prime: primacy::is_prime(number),
        processed_by: NAME,
        certainty: "proven",
    })
}

struct Limit;

impl Limit {
    fn answer(request: &PrimeRequest) -> PrimeResponse {
        PrimeResponse {
            is_prime: primacy::is_prime(request.number.max(0).cast_unsigned()),
            processed_by: NAME.to_owned(),
            certainty: Certainty::Proven.into(),
            evidence: None,
        }
    }
}

#[tonic::async_trait]
impl Scheduler for Limit {
    async fn check_prime(&self, request: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        Ok(Response::new(Self::answer(request.get_ref())))
    }
}

#[tonic::async_trait]
impl Worker for Limit {
    async fn process_prime(&self, request: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        Ok(Response::new(Self::answer(request.get_ref())))
    }
}

async fn run(http: SocketAddr, grpc: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(http).await?.tap_io(|stream| {
        // A socket that refuses it answers a little later, and rightly all the same.
        let _ = stream.set_nodelay(true);
    });
    let grpc = Server::builder()
        .add_service(SchedulerServer::new(Limit))
        .add_service(WorkerServer::new(Limit))
        .serve(grpc);
    let http = serve(listener, Router::new().route("/prime", post(prime)));
    tokio::select! {
        ended = http.into_future() => ended?,
        ended = grpc => ended?,
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [threads, http, grpc] = arguments.as_slice() else {
        eprintln!("usage: limit THREADS HTTP_ADDR GRPC_ADDR");
        process::exit(2);
    };
    let runtime = match threads.parse()? {
        1 => runtime::Builder::new_current_thread().enable_all().build()?,
        threads => runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    runtime.block_on(run(http.parse()?, grpc.parse()?))
}
