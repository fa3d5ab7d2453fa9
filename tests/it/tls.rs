//! TLS: both ports speak it, peers are believed by certificate and token, and nothing falls back to clear text.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use primacy::proto::{
    self, LaneAsks, PrimeRequest, peer_client::PeerClient, scheduler_client::SchedulerClient,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    certificates::{
        Answer, Authority, Folder, Https, Paper, channel, client_config, config_of, connect, https,
    },
    harness::{Process, Ran, Running, TestNode, Up, command, eventually, run, send_signal},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A node that speaks TLS, and what it is made of.
struct Secured {
    authority: Authority,
    folder: Folder,
    node: TestNode,
}

impl Secured {
    async fn start(arguments: &[&str]) -> Self {
        let authority = Authority::new("here");
        let folder = Folder::with(&authority.issue(), &authority.pem);
        let files = folder.arguments();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let node = TestNode::alone(&[&files[..], &["--token", TOKEN], arguments].concat()).await;
        Self { authority, folder, node }
    }

    async fn get(&self, path: &str) -> Answer {
        https(&self.authority.pem, None).get(self.node.http, path).await.unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.body;
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).split(' ').nth(1).unwrap().parse().unwrap()
    }

    async fn check_over_grpc(&self, shows: Option<&Paper>) -> Result<bool, Status> {
        check(channel(self.node.grpc, &self.authority.pem, shows).await?).await
    }
}

async fn check(channel: Channel) -> Result<bool, Status> {
    let request = PrimeRequest { number: 17, decimal: String::new() };
    Ok(SchedulerClient::new(channel).check_prime(request).await?.into_inner().is_prime)
}

async fn check_over_http(client: &Https, address: SocketAddr) -> io::Result<bool> {
    Ok(client.post(address, "/prime", r#"{"number": 17}"#).await?.json()["is_prime"] == true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ports_speak_tls_1_2_and_1_3_and_sessions_are_resumed() {
    let secured = Secured::start(&[]).await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for (address, alpn) in [(secured.node.http, &b"http/1.1"[..]), (secured.node.grpc, b"h2")] {
            let mut config = config_of(&[version], &secured.authority.pem, None);
            config.alpn_protocols = vec![alpn.to_vec()];
            let config = Arc::new(config);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut stream = connect(&config, address).await.unwrap();
                let connection = stream.get_ref().1;
                assert_eq!(connection.protocol_version(), Some(spoken));
                assert_eq!(connection.alpn_protocol(), Some(alpn));
                assert_eq!(connection.handshake_kind(), Some(kind), "{spoken:?} at {address}");
                // The tickets of TLS 1.3 come with the first answer.
                if alpn == b"http/1.1" {
                    let head = "GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                } else {
                    let mut frame = [0; 9];
                    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
                    stream.read_exact(&mut frame).await.unwrap();
                    assert_eq!(frame[3], 4, "settings");
                }
            }
        }
    }
    assert!(check_over_http(&https(&secured.authority.pem, None), secured.node.http).await.unwrap());
    assert!(secured.check_over_grpc(None).await.unwrap());
    assert!(secured.metric("primacy_tls_handshakes_total").await > 8);
    let in_89_days = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 89 * 24 * 3600;
    assert!(secured.metric("primacy_certificate_expiry_timestamp_seconds").await > in_89_days);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_at_a_port_of_tls_is_told_so_and_never_served() {
    let secured = Secured::start(&[]).await;
    for path in ["/prime", "/livez", "/metrics", "/"] {
        let url = format!("http://{}{path}", secured.node.http);
        let answer = reqwest::Client::new()
            .post(&url)
            .header("content-type", "application/json")
            .body(r#"{"number":17}"#)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");
    }
    let mut stream = TcpStream::connect(secured.node.grpc).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let read = stream.read(&mut [0; 64]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_at_a_port_of_clear_text_ends_and_is_logged_once() {
    let authority = Authority::new("here");
    let node = Process::start_with(Some(1), "clear", &[]);
    eventually("it listens", || async { TcpStream::connect(node.http).await.is_ok() }).await;
    let config = Arc::new(client_config(&authority.pem, None));
    for _ in 0..3 {
        assert!(connect(&config, node.http).await.is_err());
        assert!(connect(&config, node.grpc).await.is_err());
    }
    eventually("both ports say it", || async { node.log().matches("speaks TLS, and the").count() == 2 })
        .await;
    assert!(node.log().contains("--tls-cert"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_three_seconds_and_16_kib() {
    let secured = Secured::start(&[]).await;
    for address in [secured.node.http, secured.node.grpc] {
        let begun = Instant::now();
        let mut late = TcpStream::connect(address).await.unwrap();
        // The head of a record, and nothing of the message that it holds.
        late.write_all(&[22, 3, 3, 2, 0]).await.unwrap();
        let ended = timeout(Duration::from_secs(10), late.read(&mut [0; 64])).await.expect("it ends");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        assert!(begun.elapsed() >= Duration::from_millis(2900), "{:?}", begun.elapsed());
        // A message of 16 MiB, in records of 16 KiB.
        let mut large = TcpStream::connect(address).await.unwrap();
        let head = [22, 3, 3, 64, 0];
        let first = [&head[..], &[1, 255, 255, 255], &[0; 16 * 1024 - 4]].concat();
        let more = [&head[..], &[0; 16 * 1024]].concat();
        let begun = Instant::now();
        let refused = async {
            large.write_all(&first).await?;
            for _ in 0..3 {
                large.write_all(&more).await?;
            }
            let mut answer = Vec::new();
            large.read_to_end(&mut answer).await
        };
        let refused = timeout(Duration::from_secs(10), refused).await.expect("it ends");
        assert!(refused.as_ref().map_or(true, |bytes| *bytes < 64), "{refused:?}");
        assert!(begun.elapsed() < Duration::from_millis(2900), "not by time: {:?}", begun.elapsed());
    }
    eventually("all are counted", || async {
        secured.metric("primacy_tls_handshakes_failed_total").await == 4
    })
    .await;
}

/// Every call that only peers may make ends so.
async fn peers_call(channel: Channel, authorization: Option<&str>) -> Code {
    let mut request = Request::new(tokio_stream::iter([LaneAsks::default()]));
    if let Some(text) = authorization {
        request.metadata_mut().insert("authorization", text.parse().unwrap());
    }
    PeerClient::new(channel).work(request).await.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_has_a_certificate_and_the_token() {
    let secured = Secured::start(&[]).await;
    let (node, own) = (secured.node.grpc, secured.authority.issue());
    let bearer = format!("Bearer {TOKEN}");
    let shown = |paper| channel(node, &secured.authority.pem, paper);
    let without_certificate = shown(None).await.unwrap();
    assert_eq!(peers_call(without_certificate.clone(), Some(&bearer)).await, Code::Unauthenticated);
    let refusal = PeerClient::new(without_certificate.clone())
        .recent_results(proto::RecentResultsRequest::default())
        .await
        .unwrap_err();
    assert!(refusal.message().contains("certificate"), "{refusal}");
    assert!(check(without_certificate).await.unwrap(), "anybody may ask");
    let certified = shown(Some(&own)).await.unwrap();
    assert_eq!(peers_call(certified.clone(), None).await, Code::Unauthenticated);
    assert_eq!(peers_call(certified.clone(), Some("Bearer another")).await, Code::Unauthenticated);
    // An ask without a sender is malformed: it got further than all of these.
    assert_eq!(peers_call(certified, Some(&bearer)).await, Code::InvalidArgument);
    assert_eq!(secured.metric("primacy_strangers_total").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_or_of_another_time_is_refused() {
    let secured = Secured::start(&[]).await;
    let elsewhere = Authority::new("elsewhere");
    for (paper, what) in [
        (elsewhere.issue(), "another CA"),
        (secured.authority.issue_expired(), "expired"),
        (
            secured.authority.issue_with(&["127.0.0.1"], |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "for servers only",
        ),
    ] {
        assert!(secured.check_over_grpc(Some(&paper)).await.is_err(), "{what}");
    }
    eventually("they are counted", || async {
        // A channel may dial once more before it fails.
        secured.metric("primacy_tls_handshakes_failed_total").await >= 3
    })
    .await;
    assert!(secured.check_over_grpc(Some(&secured.authority.issue())).await.unwrap());
    // The client's side of the same.
    assert!(https(&elsewhere.pem, None).get(secured.node.http, "/livez").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_does_not_outlive_the_certificate_that_began_it() {
    let secured = Secured::start(&["--tls-clients", "require"]).await;
    let brief = secured.authority.issue_for(Duration::from_secs(4));
    let config = Arc::new(client_config(&secured.authority.pem, Some(&brief)));
    let ask = async |config: &Arc<ClientConfig>| -> io::Result<(String, Option<HandshakeKind>)> {
        let mut stream = connect(config, secured.node.http).await?;
        let head = "GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok((answer, stream.get_ref().1.handshake_kind()))
    };
    let (answer, kind) = ask(&config).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && kind == Some(HandshakeKind::Full), "{answer} {kind:?}");
    let (_, kind) = ask(&config).await.unwrap();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
    eventually("it is refused when it has expired", || async { ask(&config).await.is_err() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_must_show_a_certificate_is_not_served_without() {
    let secured = Secured::start(&["--tls-clients", "require"]).await;
    let own = secured.authority.issue();
    assert!(check_over_http(&https(&secured.authority.pem, None), secured.node.http).await.is_err());
    assert!(secured.check_over_grpc(None).await.is_err());
    assert!(check_over_http(&https(&secured.authority.pem, Some(&own)), secured.node.http).await.unwrap());
    assert!(secured.check_over_grpc(Some(&own)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_asked_for_no_certificate() {
    let secured = Secured::start(&[]).await;
    // rustls would answer with an empty list, which a server cannot tell from a choice of none: a client that shows one
    // whenever it is asked must not be asked.
    let stranger = Authority::new("elsewhere").issue();
    let client = https(&secured.authority.pem, Some(&stranger));
    assert!(check_over_http(&client, secured.node.http).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_of_itself_has_its_scheme() {
    let secured = Secured::start(&[]).await;
    assert_eq!(secured.get("/cluster").await.json()["members"][0]["scheme"], "https");
    let page = secured.get("/").await.head;
    assert!(page.contains(&format!("connect-src 'self' https://{}", secured.node.http)), "{page}");
}

/// A node that speaks TLS with these files.
fn process(id: u32, name: &str, folder: &Folder, more: &[&str]) -> Process {
    let files = folder.arguments();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    Process::start_with(Some(id), name, &[&files[..], &["--token", TOKEN], more].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_dial_whoever_has_another_name_or_ca() {
    let (authority, elsewhere) = (Authority::new("here"), Authority::new("elsewhere"));
    for (shown, says) in [
        (authority.issue_with(&["another.example"], |_| {}), "not valid for name"),
        (elsewhere.issue(), "no CA that is believed here"),
        (authority.issue_expired(), "expired"),
    ] {
        let folder = Folder::with(&shown, &format!("{}{}", authority.pem, elsewhere.pem));
        let peer = process(2, "peer", &folder, &[]);
        let own = Folder::with(&authority.issue(), &authority.pem);
        let node = process(1, "dials", &own, &["--peers", &peer.grpc.to_string()]);
        eventually(&format!("it says {says}"), || async { node.has_logged(says) }).await;
        assert!(!node.has_logged("peer is alive"), "{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_ca_warns_that_it_stays_alone() {
    let authority = Authority::new("here");
    let folder = Folder::with(&authority.issue(), &authority.pem);
    let (cert, key) = (folder.path("node.pem"), folder.path("node-key.pem"));
    let node =
        Process::start_with(Some(1), "alone", &["--tls-cert", &cert, "--tls-key", &key, "--token", TOKEN]);
    eventually("it warns", || async { node.has_logged("there is no --tls-ca") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_with_a_ca_alone_speaks_clear_text_because_the_ca_is_for_commands() {
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &Authority::new("here").pem);
    let mut command = command(&["up", "-n", "1", "--grpc-port", "0", "--http-port", "0"]);
    let mut up = Up::of(Running::start(command.env("PRIMACY_TLS_CA", &ca))).await;
    assert!(up.running.out.text().contains("http://localhost:"), "{}", up.running.out.text());
    send_signal(up.running.pid(), Signal::TERM);
    up.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_fall_back_to_clear_text() {
    let authority = Authority::new("here");
    let folder = Folder::with(&authority.issue(), &authority.pem);
    let clear = Process::start_with(Some(2), "clear", &["--token", TOKEN]);
    let node = process(1, "dials", &folder, &["--peers", &clear.grpc.to_string()]);
    eventually("it says why", || async { node.has_logged("speaks no TLS") }).await;
    assert!(!node.has_logged("clear is alive") && !clear.has_logged("dials is alive"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_speaks_tls_as_curl_does() {
    let secured = Secured::start(&["--id", "1"]).await;
    let (ca, at) = (secured.folder.path("ca.pem"), secured.node.grpc.to_string());
    let https = format!("https://{at}");
    let own = secured.authority.issue();
    let (cert, key) = (
        secured.folder.write("client.pem", &own.certificate),
        secured.folder.write("client-key.pem", &own.key),
    );
    let asked = async |command: &[&str], more: &[&str]| run(&[command, more].concat()).await;
    for command in [&["check", "17"][..], &["status"], &["health"], &["next", "17"], &["count", "1", "100"]] {
        for endpoint in [&at, &https] {
            let Ran { code, err, .. } = asked(command, &["--endpoints", endpoint, "--cacert", &ca]).await;
            assert_eq!(code, Some(0), "{command:?} at {endpoint}: {err}");
        }
    }
    let transfer = &["transfer", "--to", "alone", "--token", TOKEN, "--endpoints", &https, "--cacert", &ca];
    let Ran { code, err, .. } = asked(transfer, &[]).await;
    assert!(code == Some(1) && err.contains("certificate"), "{err}");
    let Ran { err, .. } = asked(transfer, &["--cert", &cert, "--key", &key]).await;
    assert!(!err.contains("certificate") && !err.contains("token"), "{err}");
    let refused = [
        (&["--endpoints", &at][..], "may speak TLS: write https://"),
        (&["--endpoints", &https], "no CA that is believed here has signed its certificate"),
        (&["--endpoints", &https, "--cacert", &ca, "--cert", &cert], "--cert and --key belong together"),
        (&["--endpoints", &https, "--cacert", &key], "holds no certificate in PEM"),
        (&["--endpoints", "ftp://a:1"], "https://"),
    ];
    for (arguments, says) in refused {
        let Ran { code, err, .. } = asked(&["check", "17"], arguments).await;
        assert!(code != Some(0) && err.contains(says), "{arguments:?}: {err}");
    }
    let clear = TestNode::alone(&[]).await;
    let clear = format!("https://{}", clear.grpc);
    let Ran { code, err, .. } = asked(&["check", "17"], &["--endpoints", &clear, "--cacert", &ca]).await;
    assert!(code != Some(0) && err.contains("speaks no TLS"), "{err}");
    // As in a container whose node went back to clear text.
    let clear = clear.trim_start_matches("https://");
    let Ran { code, err, .. } =
        asked(&["health"], &["--endpoints", clear, "--cacert", &ca, "--tls", "off"]).await;
    assert_eq!(code, Some(0), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_runs_a_whole_cluster_over_tls() {
    let authority = Authority::new("here");
    let folder = Folder::with(&authority.issue(), &authority.pem);
    let (cert, key, ca) = (folder.path("node.pem"), folder.path("node-key.pem"), folder.path("ca.pem"));
    let mut up = Up::start(&["up", "-n", "2", "--cert", &cert, "--key", &key, "--cacert", &ca]).await;
    let announced = up.running.out.text();
    assert!(announced.contains(&format!("curl --cacert {ca} -d")), "{announced}");
    assert_eq!(announced.matches("https://127.0.0.1:").count(), 3, "{announced}");
    let client = https(&authority.pem, None);
    for node in &up.nodes {
        assert!(check_over_http(&client, node.http).await.unwrap(), "{}", node.name);
        assert!(reqwest::get(format!("http://{}/prime/17", node.http)).await.unwrap().status() == 400);
    }
    send_signal(up.running.pid(), Signal::TERM);
    up.ends_well().await;
}
