//! Text of others is shown as text: names, reasons and messages of a hostile endpoint or member move no cursor, forge no
//! line and fill no screen, whatever they are printed on.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    net::SocketAddr,
    process::Stdio,
    time::Duration,
};

use primacy::{
    Acceptor, is_harmless,
    proto::{
        Certainty, Change, CheckedPrime, ClusterView, Identity, LaneAnswers, Leader, Member, PrimeFailure,
        PrimeRequest, PrimeResponse, Proof, ProofFactor, ProofMethod, WatchClusterRequest, checked_prime,
        peer_client::PeerClient,
        prime_response::Evidence,
        scheduler_server::{Scheduler, SchedulerServer},
    },
};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::{net::TcpListener, time::sleep};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::harness::{Process, Ran, channel, eventually, free_address, primacy, send_signal};

/// What must not be seen: it clears the screen, sets a title, forges lines, turns text around, hides.
const HOSTILE: &str = "a\x1b[2J\x1b]0;owned\x07\r\nprimacy: forged\u{9b}31m\u{202e}b\u{2066}\u{200f}\u{61c}\u{2028}forged\u{200b}\u{feff}\u{e0041}\0\x7f\u{85}z";

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// With names and reasons.
    Names,
    /// With names and reasons of a megabyte.
    Long,
    /// With errors.
    Errors,
}

const MANNERS: [Manner; 3] = [Manner::Names, Manner::Long, Manner::Errors];

#[derive(Clone)]
struct Hostile(Manner);

impl Hostile {
    async fn start(manner: Manner) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = Server::builder()
            .add_service(SchedulerServer::new(Self(manner)))
            .serve_with_incoming(TcpListenerStream::new(socket));
        tokio::spawn(async move { server.await.unwrap() });
        address
    }

    fn evidence(&self) -> Evidence {
        let factor = ProofFactor { prime: self.text(), base: 2, proof: None };
        Evidence::Proof(Proof {
            method: ProofMethod::Pocklington.into(),
            factors: vec![factor],
            discriminant: 0,
        })
    }

    fn text(&self) -> String {
        if self.0 == Manner::Long { HOSTILE.repeat(1_000_000 / HOSTILE.len()) } else { HOSTILE.to_owned() }
    }

    fn refuse(&self) -> Result<(), Status> {
        match self.0 {
            Manner::Errors => Err(Status::invalid_argument(HOSTILE.repeat(40))),
            Manner::Names | Manner::Long => Ok(()),
        }
    }

    fn answer(&self) -> PrimeResponse {
        let certainty = Certainty::Proven.into();
        PrimeResponse {
            is_prime: true,
            processed_by: self.text(),
            certainty,
            evidence: Some(self.evidence()),
        }
    }

    fn checked(&self, place: usize) -> CheckedPrime {
        let (code, message) = (tonic::Code::Internal.into(), self.text());
        let outcome = match place {
            0 => checked_prime::Outcome::Answer(self.answer()),
            _ => checked_prime::Outcome::Failure(PrimeFailure { code, message }),
        };
        CheckedPrime { outcome: Some(outcome) }
    }

    fn view(&self) -> ClusterView {
        let text = || self.text();
        let leader = Some(Leader { id: 9, name: text(), counter: 1, since_ms: 1 });
        // Four megabytes is the most that is read.
        let member = Member { name: text(), id: Some(9), status: 3, ..Member::default() };
        let small = HOSTILE.to_owned();
        let (grpc_addr, http_addr, version) = (small.clone(), small.clone(), small.clone());
        let member = Member { grpc_addr, http_addr, version, ..member };
        let (name, change, reason) = (small.clone(), "leader".to_owned(), text());
        let recent = vec![Change { at_ms: 1, name, change, reason, duration_ms: 1 }];
        ClusterView { leader, members: vec![member], observed_by: small, observed_at_ms: 1, recent }
    }
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Scheduler for Hostile {
    async fn check_prime(&self, _: Request<PrimeRequest>) -> Result<Response<PrimeResponse>, Status> {
        self.refuse()?;
        Ok(Response::new(self.answer()))
    }

    async fn check_primes(
        &self,
        requests: Request<Streaming<PrimeRequest>>,
    ) -> Result<Response<Answers<CheckedPrime>>, Status> {
        self.refuse()?;
        let (hostile, mut place) = (self.clone(), 0);
        let answers = requests.into_inner().map(move |request| {
            request?;
            place += 1;
            Ok(hostile.checked(place - 1))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch_cluster(
        &self,
        _: Request<WatchClusterRequest>,
    ) -> Result<Response<Answers<ClusterView>>, Status> {
        self.refuse()?;
        let (views, stream) = tokio::sync::mpsc::channel(1);
        let view = self.view();
        tokio::spawn(async move {
            let _ = views.send(Ok(view)).await;
            views.closed().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

// ── What is printed ─────────────────────────────────────────────────────────────────────────────────────────────

/// What the commands themselves write to a terminal: colours, the cursor's way up, clearing to the end, wrapping.
const OWN: [&str; 10] = [
    "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m", "\x1b[K", "\x1b[J", "\x1b[?7l", "\x1b[?7h", "\x1b[5A",
    "\x1b[8A",
];

/// Lines of harmless characters, none of which the hostile text began, and altogether no screenful.
#[track_caller]
fn is_harmless_text(what: &str, bytes: &[u8]) {
    let text = str::from_utf8(bytes).unwrap();
    let bad: Vec<char> = text.chars().filter(|c| *c != '\n' && !is_harmless(*c)).collect();
    assert!(bad.is_empty(), "{what} prints {bad:?}: {text:?}");
    for line in text.lines() {
        assert!(!line.starts_with("primacy: forged") && !line.starts_with("forged"), "{what}: {text}");
    }
    assert!(text.len() < 64_000, "{what} prints {} bytes", text.len());
}

fn on_pipes(arguments: &[&str], input: &str) -> Ran {
    let mut child = primacy();
    child.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    // It may end before it has read.
    let _ = std::io::Write::write_all(child.stdin.as_mut().unwrap(), input.as_bytes());
    let output = child.wait_with_output().unwrap();
    is_harmless_text(&format!("{arguments:?} out"), &output.stdout);
    is_harmless_text(&format!("{arguments:?} err"), &output.stderr);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Ran { code: output.status.code(), out, err }
}

/// What a command prints on a terminal, both outputs together, until it ends or is told to stop.
async fn on_a_terminal(arguments: &[&str], lasts: Option<Duration>) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = || File::options().read(true).write(true).open(&name).unwrap();
    let mut command = primacy();
    command.args(arguments).env("TERM", "xterm").env_remove("NO_COLOR");
    let mut child = command.stdin(Stdio::null()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
    // The terminal closes with those that the child has.
    drop(command);
    let pid = i32::try_from(child.id()).unwrap();
    let reading = std::thread::spawn(move || {
        let (mut master, mut bytes, mut read) = (File::from(master), Vec::new(), [0; 4096]);
        loop {
            match master.read(&mut read) {
                Ok(count @ 1..) => bytes.extend_from_slice(&read[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Linux says so when nobody has the terminal any more.
                Ok(_) | Err(_) => return bytes,
            }
        }
    });
    if let Some(lasts) = lasts {
        sleep(lasts).await;
        send_signal(pid, Signal::TERM);
    }
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    ended.await.unwrap();
    // A terminal is given a carriage return for each new line.
    let mut text = String::from_utf8(reading.join().unwrap()).unwrap().replace("\r\n", "\n");
    for own in OWN {
        text = text.replace(own, "");
    }
    is_harmless_text(&format!("{arguments:?} on a terminal"), text.as_bytes());
    text
}

const COMMANDS: [&[&str]; 6] = [
    &["check", "17"],
    &["check", "17", "--output", "json"],
    &["check", "-"],
    &["check", "-", "--output", "json"],
    &["status"],
    &["status", "--output", "json"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_endpoint_only_has_its_words_printed() {
    for manner in MANNERS {
        let at = Hostile::start(manner).await.to_string();
        for arguments in COMMANDS {
            let arguments = [arguments, &["--endpoints", &at]].concat();
            let ran = on_pipes(&arguments, "17\n18\n");
            let both = ran.out.clone() + &ran.err;
            assert!(both.contains("\\u{1b}") || both.contains("\\\\u{1b}"), "it is seen: {ran:?}");
            let fails = manner == Manner::Errors || arguments[1] == "-";
            assert_eq!(ran.code, Some(i32::from(fails)), "{ran:?}");
            assert_eq!(ran.err.lines().count(), usize::from(fails), "an error is one line: {ran:?}");
            if arguments.contains(&"json") {
                let lines = if arguments[0] == "check" { ran.out.lines().collect() } else { vec![&*ran.out] };
                assert!(
                    lines.iter().all(
                        |line| line.is_empty() || serde_json::from_str::<serde_json::Value>(line).is_ok()
                    )
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_written_nothing_else_than_a_pipe() {
    for manner in MANNERS {
        let at = Hostile::start(manner).await.to_string();
        for arguments in [&["check", "17"][..], &["status"], &["status", "--output", "json"]] {
            let printed = on_a_terminal(&[arguments, &["--endpoints", &at]].concat(), None).await;
            assert!(printed.contains("\\u{1b}") || printed.contains("\\\\u{1b}"), "{printed}");
        }
        let watch = ["status", "--watch", "--endpoints", &at];
        let printed = on_a_terminal(&watch, Some(Duration::from_millis(1500))).await;
        assert!(printed.contains("\\u{1b}"), "{printed}");
    }
}

/// Its HTTP port is asked what it is, and may answer anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_http_port_calls_itself_is_made_harmless() {
    let socket = Acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = socket.local_addr().unwrap().to_string();
    let members = serde_json::json!([{"name": HOSTILE, "grpc_addr": HOSTILE.repeat(1000)}]);
    let body = serde_json::json!({"observed_by": HOSTILE, "members": members}).to_string();
    let answer = axum::Router::new().fallback(move || async { body });
    tokio::spawn(async move {
        use primacy::{Listener, Protocols};
        Listener::new(socket, Protocols::Http, answer.with_state(()), std::sync::Arc::default())
            .run(tokio_util::sync::CancellationToken::new())
            .await;
    });
    let ran = on_pipes(&["status", "--endpoints", &at], "");
    assert!(ran.err.contains("is the HTTP port of a\\u{1b}[2J"), "{ran:?}");
    let ran = on_pipes(&["transfer", "--to", "worker1", "--endpoints", &at], "");
    assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{ran:?}");
}

// ── Nodes ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn named(name: &str, grpc_addr: &str, version: &str) -> Identity {
    let [name, grpc_addr, version] = [name, grpc_addr, version].map(str::to_owned);
    Identity { id: None, name, boot: 99, grpc_addr, version, ..Identity::default() }
}

async fn joins(grpc: SocketAddr, who: Identity) -> Result<LaneAnswers, Status> {
    let hello = primacy::proto::LaneAsks { sender: Some(who), ..Default::default() };
    let mut peer = PeerClient::new(channel(grpc).await.unwrap());
    Ok(peer.work(tokio_stream::iter([hello])).await?.into_inner().message().await?.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_name_that_cannot_be_typed_is_refused_and_told_what_may_be() {
    let node = Process::start_with(Some(1), "worker1", &[]);
    eventually("it serves", || async { channel(node.grpc).await.is_ok() }).await;
    let (names, texts) =
        ("1 to 64 letters, digits, dots, dashes and underscores", "at most 256 bytes, and no control");
    for (who, allowed) in [
        (named(HOSTILE, "127.0.0.1:9", "1"), names),
        (named("work\u{200b}er", "127.0.0.1:9", "1"), names),
        (named(&"x".repeat(65), "127.0.0.1:9", "1"), names),
        (named("joiner", HOSTILE, "1"), texts),
        (named("joiner", "127.0.0.1:9", "1\u{202e}"), texts),
        (named("joiner", "127.0.0.1:9", &"1".repeat(257)), texts),
    ] {
        let refused = joins(node.grpc, who).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(allowed), "{refused:?}");
    }
    assert!(joins(node.grpc, named("joiner", "127.0.0.1:9", "1")).await.is_ok());
}

/// Whoever answers at a peer's address says it in a status, in a name, or in the path of a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_peer_forges_no_line_of_the_log_and_nothing_on_the_page() {
    let at = free_address();
    let socket = Acceptor::bind(at).unwrap();
    let refusal = || async {
        let mut response = axum::response::Response::new(axum::body::Body::empty());
        Status::permission_denied(HOSTILE.repeat(10)).add_header(response.headers_mut()).unwrap();
        let grpc = "application/grpc".parse().unwrap();
        response.headers_mut().insert(axum::http::header::CONTENT_TYPE, grpc);
        response
    };
    let peer = axum::Router::new().fallback(refusal).with_state(());
    tokio::spawn(async move {
        use primacy::{Listener, Protocols};
        let stop = tokio_util::sync::CancellationToken::new();
        Listener::new(socket, Protocols::Grpc, peer, std::sync::Arc::default()).run(stop).await;
    });
    let node = Process::start_with(Some(1), "worker1", &["--peers", &format!("2={at}")]);
    eventually("it is told of", || async { node.has_logged(&format!("no lane to {at} yet: a\\u{{1b}}[2J")) })
        .await;
    eventually("it is shown", || async {
        let cluster = reqwest::get(node.url("/cluster")).await.unwrap().text().await.unwrap();
        is_harmless_text("/cluster", cluster.as_bytes());
        cluster.contains("unreachable for ten heartbeats: a\\\\u{1b}[2J")
    })
    .await;
    is_harmless_text("the log", node.log().as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sent_is_repeated_harmless() {
    let node = Process::start_with(Some(1), "worker1", &[]);
    eventually("it serves", || async { reqwest::get(node.url("/livez")).await.is_ok() }).await;
    let number = "%E2%80%AE71%E2%80%AC%C2%9B%E2%80%A8";
    for path in [format!("/prime/{number}"), format!("/{number}"), "/prime/7%1B".to_owned()] {
        let problem = reqwest::get(node.url(&path)).await.unwrap().text().await.unwrap();
        is_harmless_text(&path, problem.as_bytes());
    }
}

/// The page makes no markup of what it is told.
#[test]
fn the_page_shows_text_as_text() {
    for file in std::fs::read_dir("web").unwrap().map(|entry| entry.unwrap().path()) {
        let source = std::fs::read_to_string(&file).unwrap();
        for markup in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc", "eval("]
        {
            assert!(!source.contains(markup), "{}: {markup}", file.display());
        }
    }
}
