//! `primacy up`: a whole cluster on this machine, each node a process of its own.

use std::{
    env,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::{StreamExt, stream::FuturesUnordered};
use primacy_election::Scheme;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpSocket,
    process::{Child, ChildStderr, ChildStdin, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::ClientConfig;

use super::{
    client::{Channel, ClientTlsArgs, ClientTlsError},
    colours,
    environment::is_blank,
    fail_in_log, log, print_aside, status, table, told_to_stop,
};
use crate::{
    config::TlsArg,
    connection::{ConnectError, Dial},
    limits::{
        DESCRIPTORS_MIN, DESCRIPTORS_OWN, DESCRIPTORS_PER_CHILD, DRAIN, LAME_DUCK, PING_INTERVAL,
        PING_TIMEOUT,
    },
    node::{descriptors, ports},
    proto,
};

#[derive(Debug, Clone, Args)]
pub(super) struct UpArgs {
    /// The number of workers; the leader has the next higher id
    #[arg(short = 'n', long = "workers", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64), value_name = "N")]
    workers: u16,
    /// The leader's gRPC port; worker K has this port plus K. 0 chooses free ports
    #[arg(long, default_value_t = 50051, value_name = "PORT")]
    grpc_port: u16,
    /// The leader's HTTP port; the workers' follow likewise
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    http_port: u16,
    /// The certificate that all nodes show, in PEM, with which the cluster speaks TLS: of localhost and 127.0.0.1, as
    /// scripts/certs.sh makes it
    #[arg(long, env = "PRIMACY_TLS_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, env = "PRIMACY_TLS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// The CA that has signed it, in PEM
    #[arg(long, env = "PRIMACY_TLS_CA", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// How the nodes were told to use it.
    #[arg(long, env = "PRIMACY_TLS", hide = true, value_enum)]
    tls: Option<TlsArg>,
}

/// A node of the cluster: what it is called and where it listens.
#[derive(Debug, Clone)]
struct Plan {
    id: u16,
    name: String,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    certificates: ClientTlsArgs,
    tls: Option<Arc<ClientConfig>>,
}

/// A node's process.
struct Process {
    plan: Plan,
    child: Child,
    /// Ends when the last line of its log is printed.
    log: Option<JoinHandle<()>>,
    /// Its end is how the node learns that this process is gone, however it went.
    _lifeline: Option<ChildStdin>,
}

#[derive(Debug, Error)]
enum UpError {
    #[error(
        "port {port}, which {name} needs for {protocol}, is taken{by}; stop what holds it, or choose other ports with {flag}"
    )]
    PortTaken { port: u16, name: String, protocol: &'static str, flag: &'static str, by: String },
    #[error(
        "port {port}, which {name} needs for {protocol}, cannot be listened on ({error}); choose other ports with {flag}"
    )]
    Port { port: u16, name: String, protocol: &'static str, flag: &'static str, error: io::Error },
    #[error(
        "--grpc-port {grpc} and --http-port {http} overlap: each takes {count} ports from there on, one a node; set them {count} or more apart, or to 0 for free ones"
    )]
    Overlap { grpc: u16, http: u16, count: u16 },
    #[error(
        "{0} nodes need {1} open files of this process, which may open {2}; {how}, or start fewer with --workers",
        how = descriptors::HOW
    )]
    Descriptors(u16, usize, usize),
    #[error("{flag} {base} leaves no port for {name}: ports end at 65535")]
    NoPort { flag: &'static str, base: u16, name: String },
    #[error("cannot start {name}: {error}")]
    Spawn { name: String, error: io::Error },
    #[error("{0} ended before it was ready ({1}); its last lines above say why")]
    EndedEarly(String, ExitStatus),
    #[error("the cluster was not ready within {} s", READY.as_secs())]
    NotReady,
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// The longest that a cluster may take to be ready, on the slowest machine.
const READY: Duration = Duration::from_secs(30);

pub(super) async fn run(args: UpArgs) -> ExitCode {
    let (started, stop) = (Instant::now(), told_to_stop());
    // Later it may have been replaced, and then this would not name it any more.
    let program = env::current_exe().unwrap_or_else(|_| "primacy".into());
    let (plans, _held) = match check_descriptors(&args).and_then(|()| plan(&args)) {
        Ok(plans) => plans,
        Err(error) => return fail_in_log(error),
    };
    let mut processes = Vec::new();
    let life = async {
        bring_up(&program, &plans, &mut processes, started).await?;
        watch(&program, &mut processes, &plans).await;
        Ok::<(), UpError>(())
    };
    let ended = tokio::select! {
        ended = life => ended,
        _ = stop => Ok(()),
    };
    shut_down(processes).await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail_in_log(error),
    }
}

impl UpArgs {
    /// With what the nodes are asked, if not in clear text.
    fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, UpError> {
        let speaks_tls = self.cert.is_some() && self.tls != Some(TlsArg::Off);
        Ok(if speaks_tls { Some(self.certificates().config()?) } else { None })
    }

    fn certificates(&self) -> ClientTlsArgs {
        let Self { cacert, cert, key, tls, .. } = self.clone();
        ClientTlsArgs { cacert, cert, key, tls }
    }
}

impl Plan {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }.as_str()
    }

    /// What curl needs beside what it asks.
    fn curl_words(&self) -> String {
        match &self.certificates.cacert {
            Some(file) if self.tls.is_some() => format!("--cacert {} ", quoted(&file.display().to_string())),
            _ => String::new(),
        }
    }
}

fn check_descriptors(args: &UpArgs) -> Result<(), UpError> {
    let (nodes, available) = (args.workers + 1, descriptors::available());
    let needed = (DESCRIPTORS_OWN + usize::from(nodes) * DESCRIPTORS_PER_CHILD).max(DESCRIPTORS_MIN);
    if needed > available { Err(UpError::Descriptors(nodes, needed, available)) } else { Ok(()) }
}

/// Who listens where; finds out at once which port is taken. As long as the sockets live the system gives these ports
/// to nobody by itself: neither twice, nor before a node listens, nor while one is dead.
fn plan(args: &UpArgs) -> Result<(Vec<Plan>, Vec<TcpSocket>), UpError> {
    check_ranges(args)?;
    let mut held = Vec::new();
    let mut take = |base: u16, place: u16, name: &str, protocol, flag| {
        let port = match base {
            0 => 0,
            base => base.checked_add(place).ok_or_else(|| UpError::NoPort {
                flag,
                base,
                name: name.to_owned(),
            })?,
        };
        let (address, name) = (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), name.to_owned());
        let held_address = hold(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = held_address.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                UpError::PortTaken { port, name, protocol, flag, by: ports::held_by(address) }
            }
            _ => UpError::Port { port, name, protocol, flag, error },
        })?;
        held.push(socket);
        Ok::<_, UpError>(address)
    };
    let leader = args.workers + 1;
    let tls = args.tls_config()?;
    let plans: Result<_, UpError> = (0..=args.workers)
        .map(|place| {
            let (id, name) = match place {
                0 => (leader, "leader".to_owned()),
                worker => (worker, format!("worker{worker}")),
            };
            let grpc_addr = take(args.grpc_port, place, &name, "gRPC", "--grpc-port")?;
            let http_addr = take(args.http_port, place, &name, "HTTP", "--http-port")?;
            let certificates = args.certificates();
            Ok(Plan { id, name, grpc_addr, http_addr, certificates, tls: tls.clone() })
        })
        .collect();
    // Elsewhere than on Linux a socket that only holds an address keeps the node from it, too.
    held.retain(|_| cfg!(target_os = "linux"));
    Ok((plans?, held))
}

/// Two sockets that only hold a port may share it, and whoever listened there first would keep the other from it.
fn check_ranges(&UpArgs { workers, grpc_port: grpc, http_port: http, .. }: &UpArgs) -> Result<(), UpError> {
    let count = workers + 1;
    let are_apart = grpc == 0 || http == 0 || grpc.abs_diff(http) >= count;
    if are_apart { Ok(()) } else { Err(UpError::Overlap { grpc, http, count }) }
}

/// Holds an address without listening there, so that whoever asks for this very address still gets it.
fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn bring_up(
    program: &Path,
    plans: &[Plan],
    processes: &mut Vec<Process>,
    started: Instant,
) -> Result<(), UpError> {
    let width = plans.iter().map(|plan| plan.name.len()).max().unwrap_or_default();
    for (place, plan) in plans.iter().enumerate() {
        processes.push(spawn(program, plan, plans, Prefix { place, width })?);
    }
    let ready = timeout(READY, ready(&plans[0], plans.len()));
    tokio::select! {
        ready = ready => ready.map_err(|_| UpError::NotReady)??,
        (name, status) = first_end(processes) => return Err(UpError::EndedEarly(name, status)),
    }
    // When nobody reads it the nodes still work.
    let _ = print_aside(announcement(processes, started.elapsed())).await;
    Ok(())
}

fn spawn(program: &Path, plan: &Plan, plans: &[Plan], prefix: Prefix) -> Result<Process, UpError> {
    let failed = |error| UpError::Spawn { name: plan.name.clone(), error };
    let mut child = Command::new(program)
        .args(arguments(plan, plans))
        .arg("--exit-with-stdin")
        .envs(plan.certificates.cert.is_none().then_some(("PRIMACY_TLS_CA", "")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C reaches the whole group: in groups of their own the nodes stop in order, when this process says so.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let log = child.stderr.take().map(|log| tokio::spawn(prefix.forward(plan.name.clone(), log)));
    Ok(Process { plan: plan.clone(), _lifeline: child.stdin.take(), log, child })
}

/// The arguments that make a process this node.
fn arguments(plan: &Plan, plans: &[Plan]) -> Vec<String> {
    let others = plans.iter().filter(|other| other.id != plan.id);
    let peers: Vec<String> = others.map(|other| format!("{}={}", other.id, other.grpc_addr)).collect();
    let pairs = [
        ("--id", plan.id.to_string()),
        ("--name", plan.name.clone()),
        ("--grpc-addr", plan.grpc_addr.to_string()),
        ("--http-addr", plan.http_addr.to_string()),
        ("--peers", peers.join(",")),
    ];
    let ClientTlsArgs { cacert, cert, key, .. } = &plan.certificates;
    // A CA alone is for the commands of this environment.
    let cacert = cacert.as_ref().filter(|_| cert.is_some());
    let files = [("--tls-cert", cert.as_ref()), ("--tls-key", key.as_ref()), ("--tls-ca", cacert)];
    let files = files.into_iter().filter_map(|(flag, file)| Some((flag, file?.display().to_string())));
    let flags = pairs.into_iter().chain(files).flat_map(|(flag, value)| [flag.to_owned(), value]);
    std::iter::once("node".to_owned()).chain(flags).collect()
}

/// Returns when the leader says that all are alive, and who leads.
async fn ready(leader: &Plan, members: usize) -> Result<(), ConnectError> {
    let dial = Dial {
        address: &leader.grpc_addr.to_string(),
        tls: leader.tls.clone(),
        connect_timeout: None,
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
        is_pinged_idle: false,
    };
    let channel = Channel::new(dial.connect_lazily()?);
    loop {
        if let Ok(view) = status::view(channel.clone()).await {
            let alive = view.members.iter().filter(|member| member.status() == proto::MemberStatus::Alive);
            if alive.count() == members && view.leader.is_some() {
                return Ok(());
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn announcement(processes: &[Process], took: Duration) -> String {
    let leader = &processes[0].plan;
    let scheme = leader.scheme();
    let http = format!("{scheme}://localhost:{}", leader.http_addr.port());
    let mut text = format!(
        "\nprimacy is ready after {:.2} s: a leader and {} workers\n\n  \
         the page     {http}\n  \
         Swagger UI   {http}/docs\n  \
         curl         curl {}-d '{{\"number\": 17}}' {http}/prime\n  \
         gRPC         localhost:{}   (scheduler.Scheduler/CheckPrime, with reflection)\n\n",
        took.as_secs_f64(),
        processes.len() - 1,
        leader.curl_words(),
        leader.grpc_addr.port(),
    );
    let row = |Process { plan, child, .. }: &Process| {
        [
            plan.name.clone(),
            plan.id.to_string(),
            child.id().unwrap_or_default().to_string(),
            plan.grpc_addr.to_string(),
            format!("{scheme}://{}", plan.http_addr),
        ]
    };
    let nodes = table(["NAME", "ID", "PID", "gRPC", "HTTP"], processes.iter().map(row), &[1, 2]);
    for line in nodes.lines() {
        text += &format!("  {line}\n");
    }
    text + "\nCtrl-C stops them all.\n\n"
}

/// Says who died and how it comes back, until none is left.
async fn watch(program: &Path, processes: &mut Vec<Process>, plans: &[Plan]) {
    while !processes.is_empty() {
        let (name, status) = first_end(processes).await;
        processes.retain(|process| process.plan.name != name);
        let Some(plan) = plans.iter().find(|plan| plan.name == name) else { continue };
        let program = if program.exists() { program.to_owned() } else { program_as_called() };
        let words = std::iter::once(program.display().to_string()).chain(arguments(plan, plans));
        let command: Vec<String> = words.map(|word| quoted(&word)).collect();
        let _ = print_aside(format!(
            "\n{name} is gone ({status}); the others carry on. To bring it back, in another terminal{}:\n\n  {}\n\n",
            with_the_same(env::vars_os().filter(|(_, value)| !is_blank(value)).map(|(name, _)| name)),
            command.join(" ")
        ))
        .await;
    }
    let _ = print_aside("no node is left\n".to_owned()).await;
}

/// What this program was called as; the shell finds it again if its file has only moved.
fn program_as_called() -> PathBuf {
    env::args_os().next().map_or_else(|| "primacy".into(), PathBuf::from)
}

/// The settings that the nodes have by the environment, in words.
fn with_the_same(variables: impl Iterator<Item = OsString>) -> String {
    let names = variables.filter_map(|name| name.into_string().ok());
    let is_setting = |name: &String| {
        (name.starts_with("PRIMACY_") || name.starts_with("ETCDCTL_")) && !OF_OTHERS.contains(&&**name)
    };
    let mut names: Vec<String> = names.filter(is_setting).collect();
    names.sort();
    if names.is_empty() { String::new() } else { format!(" with the same {}", names.join(", ")) }
}

/// Variables of the commands, those whose flags the printed command has, and the one that changes no node.
const OF_OTHERS: [&str; 10] = [
    "PRIMACY_ENDPOINTS",
    "PRIMACY_ID",
    "PRIMACY_NAME",
    "PRIMACY_GRPC_ADDR",
    "PRIMACY_HTTP_ADDR",
    "PRIMACY_PEERS",
    "PRIMACY_TLS_CA",
    "PRIMACY_TLS_CERT",
    "PRIMACY_TLS_KEY",
    "PRIMACY_LOG",
];

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The first of the processes to end.
async fn first_end(processes: &mut [Process]) -> (String, ExitStatus) {
    let mut ends: FuturesUnordered<_> = processes
        .iter_mut()
        .map(|process| async { (process.plan.name.clone(), process.child.wait().await.unwrap_or_default()) })
        .collect();
    match ends.next().await {
        Some(end) => end,
        None => std::future::pending().await,
    }
}

/// Stops all in an orderly way, and at once whoever takes too long or when told a second time.
async fn shut_down(mut processes: Vec<Process>) {
    for process in &processes {
        let pid = process.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended since.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let all = async {
        for process in &mut processes {
            let _ = process.child.wait().await;
            if let Some(log) = &mut process.log {
                let _ = log.await;
            }
        }
    };
    let in_order = tokio::select! {
        ended = timeout(LAME_DUCK + DRAIN + Duration::from_secs(2), all) => ended.is_ok(),
        _ = told_to_stop() => false,
    };
    if !in_order {
        for process in &mut processes {
            let _ = process.child.kill().await;
        }
    }
}

/// The name before each line of a node's log, as compose prints it.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    place: usize,
    width: usize,
}

/// Cyan, green, yellow, magenta, blue.
const COLOURS: [u8; 5] = [36, 32, 33, 35, 34];

impl Prefix {
    async fn forward(self, name: String, log: ChildStderr) {
        let mut lines = BufReader::new(log);
        let mut line = Vec::new();
        while read_line(&mut lines, &mut line).await {
            let text = String::from_utf8_lossy(&line);
            let padded = format!("{name:width$} |", width = self.width);
            let prefix = match colours(&io::stderr()) {
                true => format!("\x1b[{}m{padded}\x1b[0m", COLOURS[self.place % COLOURS.len()]),
                false => padded,
            };
            log::say_after(&format!("{prefix} "), text.trim_end());
        }
    }
}

async fn read_line(lines: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> bool {
    line.clear();
    lines.read_until(b'\n', line).await.is_ok_and(|read| read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_word_for_what_it_was() {
        for plain in [
            "/usr/local/bin/primacy",
            "--peers",
            "1=127.0.0.1:50052,2=[",
            "a b",
            "it's",
            "",
            "$HOME",
            "ä",
            "\\",
        ] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(plain))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), plain);
        }
        assert_eq!(quoted("1=127.0.0.1:50052"), "1=127.0.0.1:50052");
    }

    #[test]
    fn only_what_the_nodes_were_told_is_to_be_the_same() {
        let words = |names: &[&str]| with_the_same(names.iter().map(OsString::from));
        assert_eq!(words(&["HOME", "PRIMACY_ENDPOINTS", "PRIMACY_ID"]), "");
        assert_eq!(
            words(&["PRIMACY_TOKEN", "PRIMACY_HEARTBEAT", "PATH"]),
            " with the same PRIMACY_HEARTBEAT, PRIMACY_TOKEN"
        );
    }

    #[test]
    fn ranges_of_ports_must_not_overlap() {
        let check = |workers, grpc_port, http_port| {
            let (cert, key, cacert, tls) = (None, None, None, None);
            check_ranges(&UpArgs { workers, grpc_port, http_port, cert, key, cacert, tls }).is_ok()
        };
        assert!(check(3, 50051, 8080) && check(3, 8084, 8080) && check(3, 8076, 8080) && check(64, 0, 8080));
        assert!(!check(3, 8083, 8080) && !check(3, 8077, 8080) && !check(1, 8080, 8080));
    }
}
