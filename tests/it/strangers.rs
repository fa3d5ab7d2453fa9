//! Whoever answers at a peer's address without the cluster's token: it is shown nothing by which it could speak as a
//! peer, and whatever it says, no node ends, follows, forgets or elects by it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use primacy::proto::{
    Answer, BatchRequest, BatchResponse, ElectionRequest, ElectionResponse, HandOverRequest,
    HandOverResponse, HeartbeatRequest, HeartbeatResponse, IdentifyRequest, IdentifyResponse, Identity,
    LaneAnswers, LaneAsks, MemberStatus, PrimeRequest, PrimeResponse, RecentResultsRequest,
    RecentResultsResponse, TransferRequest, TransferResponse, VictoryRequest, VictoryResponse,
    peer_client::PeerClient,
    peer_server::{Peer, PeerServer},
    worker_server::{Worker, WorkerServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status, Streaming, codegen::BoxStream, metadata::MetadataMap, transport::Server,
};

use crate::harness::{
    Process, Running, SOON, all_alive, channel, command, eventually, free_address, run_command, status_of,
    view,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What a stranger answers when it is asked who it is.
#[derive(Debug, Clone)]
enum Says {
    /// That it is this node, with a proof that it made up.
    Itself(Identity),
    /// What the node at this address answers to the same question.
    WhatIsSaidAt(SocketAddr),
    /// That it is stopping.
    Stops,
}

/// Answers at an address, and notes what it is shown.
#[derive(Clone)]
struct Stranger {
    says: Arc<Says>,
    /// Whom it says that the caller's id belongs to.
    taken_by: Arc<str>,
    calls: Arc<Mutex<Vec<(&'static str, String)>>>,
}

impl Stranger {
    async fn at(address: SocketAddr, says: Says, taken_by: &str) -> (Self, JoinHandle<()>) {
        let stranger = Self { says: Arc::new(says), taken_by: taken_by.into(), calls: Arc::default() };
        let mut socket = None;
        // Whoever was there may only just have gone.
        while socket.is_none() {
            socket = TcpListener::bind(address).await.ok();
        }
        let server = Server::builder()
            .add_service(PeerServer::new(stranger.clone()))
            .add_service(WorkerServer::new(stranger.clone()))
            .serve_with_incoming(TcpListenerStream::new(socket.unwrap()));
        (stranger, tokio::spawn(async move { server.await.unwrap() }))
    }

    fn note(&self, call: &'static str, metadata: &MetadataMap) {
        let shown = format!("{metadata:?} {:?}", metadata.get("authorization").map(|value| value.as_bytes()));
        self.calls.lock().unwrap().push((call, shown));
    }

    fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// It was asked so often who it is, and nothing else, by callers that showed neither the token nor a pass.
    async fn was_only_asked_who_it_is(&self, times: usize) {
        eventually("it is dialled", || async { self.count() >= times }).await;
        for (call, shown) in &*self.calls.lock().unwrap() {
            assert_eq!(*call, "identify");
            let words = [TOKEN, "Bearer", "Primacy-Pass"];
            let spelt =
                words.map(|word| format!("{:?}", word.as_bytes()).trim_matches(['[', ']']).to_owned());
            assert!(words.iter().all(|word| !shown.contains(word)), "{shown}");
            assert!(spelt.iter().all(|word| !shown.contains(word)), "{shown}");
        }
    }
}

type Nothing<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Peer for Stranger {
    async fn identify(&self, request: Request<IdentifyRequest>) -> Nothing<IdentifyResponse> {
        self.note("identify", request.metadata());
        match &*self.says {
            Says::Itself(identity) => {
                let (receiver, proof) = (Some(identity.clone()), vec![7; 32]);
                Ok(Response::new(IdentifyResponse { receiver, proof }))
            }
            Says::WhatIsSaidAt(address) => PeerClient::new(channel(*address).await?).identify(request).await,
            Says::Stops => Err(Status::unavailable(primacy::STOPPING)),
        }
    }

    async fn work(&self, request: Request<Streaming<LaneAsks>>) -> Nothing<BoxStream<LaneAnswers>> {
        self.note("work", request.metadata());
        Err(Status::unavailable(primacy::STOPPING))
    }

    async fn schedule(&self, request: Request<Streaming<LaneAsks>>) -> Nothing<BoxStream<LaneAnswers>> {
        self.note("schedule", request.metadata());
        Err(Status::unavailable(primacy::STOPPING))
    }

    async fn work_batch(&self, request: Request<BatchRequest>) -> Nothing<BatchResponse> {
        self.note("work batch", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn schedule_batch(&self, request: Request<BatchRequest>) -> Nothing<BatchResponse> {
        self.note("schedule batch", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn recent_results(&self, request: Request<RecentResultsRequest>) -> Nothing<RecentResultsResponse> {
        self.note("recent results", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Nothing<HandOverResponse> {
        self.note("hand over", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Nothing<TransferResponse> {
        self.note("transfer", request.metadata());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl Worker for Stranger {
    async fn process_prime(&self, request: Request<PrimeRequest>) -> Nothing<PrimeResponse> {
        self.note("process prime", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Nothing<HeartbeatResponse> {
        self.note("heartbeat", request.metadata());
        Ok(Response::new(Default::default()))
    }

    async fn election(&self, request: Request<ElectionRequest>) -> Nothing<ElectionResponse> {
        self.note("election", request.metadata());
        let taken_by = self.taken_by.to_string();
        let mut answer = ElectionResponse { taken_by, ..ElectionResponse::default() };
        answer.set_answer(Answer::Taken);
        Ok(Response::new(answer))
    }

    async fn victory(&self, request: Request<VictoryRequest>) -> Nothing<VictoryResponse> {
        self.note("victory", request.metadata());
        Ok(Response::new(Default::default()))
    }
}

fn twin(id: i32, at: SocketAddr) -> Identity {
    let (grpc_addr, http_addr) = (at.to_string(), at.to_string());
    Identity {
        id: Some(id),
        name: "twin".to_owned(),
        boot: 99,
        grpc_addr,
        http_addr,
        version: "1".to_owned(),
        ..Identity::default()
    }
}

/// A node of this id among these peers.
fn node(id: u32, grpc: SocketAddr, peers: &str, token: Option<&str>) -> Running {
    let (id, grpc, http) = (id.to_string(), grpc.to_string(), free_address().to_string());
    let name = format!("worker{id}");
    let mut command =
        command(&["node", "--id", &id, "--name", &name, "--grpc-addr", &grpc, "--http-addr", &http]);
    command.args(["--peers", peers]);
    if let Some(token) = token {
        command.env("PRIMACY_TOKEN", token);
    }
    Running::start(&mut command)
}

async fn led_by(grpc: SocketAddr, id: i32) {
    eventually(&format!("{grpc} is led by {id}"), || async {
        view(grpc).await.is_ok_and(|view| view.leader.is_some_and(|leader| leader.id == id))
    })
    .await;
}

// ── With a token ────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_prove_the_token_is_shown_nothing_and_not_believed() {
    let at = free_address();
    for says in [Says::Itself(twin(1, at)), Says::Itself(twin(9, at)), Says::Stops] {
        let (stranger, server) = Stranger::at(at, says.clone(), &at.to_string()).await;
        let grpc = free_address();
        let mut node = node(1, grpc, &format!("9={at}"), Some(TOKEN));
        led_by(grpc, 1).await;
        stranger.was_only_asked_who_it_is(8).await;
        let view = view(grpc).await.unwrap();
        let member = view.members.iter().find(|member| member.grpc_addr == at.to_string()).unwrap();
        assert_eq!((member.id, &*member.name), (Some(9), &*at.to_string()), "{says:?}: nothing is learnt");
        assert_ne!(member.status(), MemberStatus::Stopped, "{says:?}");
        assert_ne!(member.status(), MemberStatus::Alive, "{says:?}");
        assert!(node.child.try_wait().unwrap().is_none(), "{says:?}: it runs");
        if !matches!(says, Says::Stops) {
            node.err
                .has(&format!("no lane to {at}: the process at that address does not prove that it knows"))
                .await;
        }
        server.abort();
        let _ = server.await;
    }
}

/// A cluster of a leader and two workers with the token; without its first worker, whose address a stranger takes and
/// passes the question who it is on to the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_passes_the_question_on_to_another_node_is_not_taken_for_it() {
    let [grpc1, grpc2, grpc3] = [(); 3].map(|()| free_address());
    let peers = format!("1={grpc1},2={grpc2},3={grpc3}");
    let mut first = node(1, grpc1, &peers, Some(TOKEN));
    let _others = [node(2, grpc2, &peers, Some(TOKEN)), node(3, grpc3, &peers, Some(TOKEN))];
    for grpc in [grpc2, grpc3] {
        all_alive(grpc, 3).await;
        led_by(grpc, 3).await;
    }
    first.child.kill().await.unwrap();
    let (stranger, _server) = Stranger::at(grpc1, Says::WhatIsSaidAt(grpc2), "").await;
    stranger.was_only_asked_who_it_is(3).await;
    eventually("worker1 is dead", || async {
        status_of(&view(grpc3).await.unwrap(), "worker1") == MemberStatus::Dead
    })
    .await;
    let view = view(grpc3).await.unwrap();
    let members: Vec<_> = view.members.iter().map(|member| (member.id, &*member.grpc_addr)).collect();
    let expected = [grpc1, grpc2, grpc3].map(|grpc| grpc.to_string());
    assert_eq!(members, [(Some(1), &*expected[0]), (Some(2), &*expected[1]), (Some(3), &*expected[2])]);
    assert_eq!(status_of(&view, "worker2"), MemberStatus::Alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_where_a_joined_member_was_is_shown_nothing() {
    let grpc3 = free_address();
    let _leader = node(3, grpc3, "", Some(TOKEN));
    led_by(grpc3, 3).await;
    let (replica, http) = (free_address(), free_address());
    let mut joined = command(&["node", "--name", "replica", "--grpc-addr", &replica.to_string()]);
    joined
        .args(["--http-addr", &http.to_string(), "--peers", &grpc3.to_string()])
        .env("PRIMACY_TOKEN", TOKEN);
    let mut joined = Running::start(&mut joined);
    all_alive(grpc3, 2).await;
    joined.child.kill().await.unwrap();
    let at = replica;
    for says in [Says::WhatIsSaidAt(grpc3), Says::Itself(twin(7, at))] {
        let (stranger, server) = Stranger::at(at, says, "").await;
        stranger.was_only_asked_who_it_is(3).await;
        let status = || async { status_of(&view(grpc3).await.unwrap(), "replica") };
        eventually("it is dead", || async { status().await == MemberStatus::Dead }).await;
        server.abort();
        let _ = server.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_shows_the_token_to_no_endpoint() {
    let at = free_address();
    let (stranger, _server) = Stranger::at(at, Says::Itself(twin(9, at)), "").await;
    let grpc = free_address();
    let _node = node(1, grpc, "", Some(TOKEN));
    led_by(grpc, 1).await;
    for (endpoints, code, says) in [
        (at.to_string(), 1, "does not prove that it knows this cluster's token"),
        (format!("{at},{grpc}"), 0, ""),
    ] {
        let mut transfer = command(&["transfer", "--to", "worker1", "--endpoints", &endpoints]);
        let ran = run_command(transfer.env("PRIMACY_TOKEN", TOKEN), "").await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
    stranger.was_only_asked_who_it_is(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_a_node_is_is_told_to_those_who_know_the_token_and_proven() {
    let grpc = free_address();
    let _node = node(1, grpc, "", Some(TOKEN));
    led_by(grpc, 1).await;
    let identify = async |authorization: Option<&str>| {
        let mut request = Request::new(IdentifyRequest {});
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        }
        PeerClient::new(channel(grpc).await.unwrap()).identify(request).await.map(Response::into_inner)
    };
    let number = "0".repeat(64);
    for wrong in
        [None, Some(format!("Primacy-Ask {number} {number}")), Some(format!("Primacy-Pass {number}"))]
    {
        let refused = identify(wrong.as_deref()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{wrong:?}");
    }
    // An operator's client brings the token, and no challenge.
    let told = identify(Some(&format!("Bearer {TOKEN}"))).await.unwrap();
    assert_eq!((told.receiver.unwrap().id, told.proof), (Some(1), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_id_goes_and_names_both_addresses_in_a_cluster_with_a_token_too() {
    let [grpc1, grpc2, copied] = [(); 3].map(|()| free_address());
    let peers = format!("1={grpc1},2={grpc2}");
    let _nodes = [node(1, grpc1, &peers, Some(TOKEN)), node(2, grpc2, &peers, Some(TOKEN))];
    for grpc in [grpc1, grpc2] {
        all_alive(grpc, 2).await;
    }
    let mut copy = node(1, copied, &format!("2={grpc2}"), Some(TOKEN));
    assert_eq!(copy.ends_within(SOON).await, Some(1));
    let said = copy.err.text();
    assert!(said.contains(&format!("the node at {grpc1} has the id 1 too")), "{said}");
    assert!(said.contains(&format!("this one at {copied}; give one of them another --id")), "{said}");
}

// ── Without one ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Nobody is at the address that it is told of, or another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_id_is_said_to_be_taken_asks_there_itself_and_goes_on() {
    let bystander = Process::start_with(Some(5), "bystander", &[]);
    led_by(bystander.grpc, 5).await;
    for by in [free_address(), bystander.grpc] {
        let at = free_address();
        let (stranger, _server) = Stranger::at(at, Says::Stops, &by.to_string()).await;
        let grpc = free_address();
        let mut node = node(1, grpc, &format!("9={at}"), None);
        node.err
            .has(&format!(
                "a peer says that the node at {by} has the id of this node too, but that address does not confirm it"
            ))
            .await;
        led_by(grpc, 1).await;
        assert!(stranger.count() > 0 && node.child.try_wait().unwrap().is_none(), "it runs");
    }
    assert!(view(bystander.grpc).await.unwrap().members.len() == 1, "who only looks joins nobody");
}
