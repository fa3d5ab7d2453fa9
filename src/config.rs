//! The settings of a node: from flags and environment, validated together.

mod address;
mod coordinator;
mod tls;
mod token;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{
    ArgMatches, Args, Command,
    builder::{BoolishValueParser, RangedU64ValueParser},
    parser::ValueSource,
};
use primacy_election::{Identity, PeerAddress};
use thiserror::Error;

use crate::{
    cluster::{
        ClusterConfig, Coordinator,
        introduction::PeerCredentials,
        token::{TRIAL, Token},
    },
    connection::tls::Tls,
    gateway,
    limits::{
        BODY_BYTES_MAX_DEFAULT, BODY_BYTES_MAX_MAX, BODY_BYTES_MAX_MIN, DEADLINE_DEFAULT, DEADLINE_MAX,
        HEARTBEAT_DEFAULT, HEARTBEAT_MAX, HEARTBEAT_MIN, IN_FLIGHT_MAX_DEFAULT, IN_FLIGHT_MAX_MAX,
        MEMBERS_MAX,
    },
    reload::Reload,
    text::{is_name, plain},
};
use address::parse_listen;
use coordinator::coordinator;
use tls::{TlsArgs, TlsSettingError};
use token::TokenSettingError;

pub use address::{AddressError, HostPort, ListItem, PeerArg, list};
pub use coordinator::CoordinatorArg;
pub use tls::TlsArg;
pub use token::TokenArgs;

/// What a node can be told.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// This node's id, 1 or more; the highest id leads. A node without an id works and never leads [default: the digits
    /// of WORKER_ID]
    #[arg(long, env = "PRIMACY_ID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub id: Option<u32>,
    /// The name that its answers carry [default: WORKER_ID, `worker` and the id, or the host's name]
    #[arg(long, env = "PRIMACY_NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// Where this node listens for gRPC; an address beyond loopback needs --token or --insecure [default:
    /// 127.0.0.1:50051, or 0.0.0.0:$PORT]
    #[arg(long, env = "PRIMACY_GRPC_ADDR", value_name = "IP:PORT", value_parser = parse_listen)]
    pub grpc_addr: Option<SocketAddr>,
    /// Where this node listens for HTTP. Peers do not call over HTTP, so that any address is allowed without a token
    #[arg(long, env = "PRIMACY_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "IP:PORT", value_parser = parse_listen)]
    pub http_addr: SocketAddr,
    /// Where its peers and gRPC clients reach it [default: where it listens; the host's name and the port, if it
    /// listens on all addresses]
    #[arg(long, env = "PRIMACY_ADVERTISE_GRPC", value_name = "HOST:PORT")]
    pub advertise_grpc: Option<HostPort>,
    /// Where HTTP clients reach it [default: likewise]
    #[arg(long, env = "PRIMACY_ADVERTISE_HTTP", value_name = "HOST:PORT")]
    pub advertise_http: Option<HostPort>,
    /// The other nodes: 4=leader:50051,1=worker1:50052,… An id may be left out and is then learnt; an entry for this
    /// node itself is ignored
    #[arg(long, env = "PRIMACY_PEERS", value_name = "[ID=]HOST:PORT", value_delimiter = ',')]
    pub peers: Vec<ListItem<PeerArg>>,
    /// How the leader is chosen: bully (the nodes agree themselves), or etcd://HOST:2379[,HOST:2379…], whose TLS and
    /// user are set by etcd's own ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY, ETCDCTL_USER and ETCDCTL_PASSWORD. With
    /// etcd no --peers are needed
    #[arg(long, env = "PRIMACY_COORDINATOR", default_value = "bully", value_name = "COORDINATOR")]
    pub coordinator: CoordinatorArg,
    /// What etcdctl calls --cacert, and so on
    #[arg(long, env = "ETCDCTL_CACERT", hide = true)]
    pub etcd_cacert: Option<PathBuf>,
    /// The same
    #[arg(long, env = "ETCDCTL_CERT", hide = true)]
    pub etcd_cert: Option<PathBuf>,
    /// The same
    #[arg(long, env = "ETCDCTL_KEY", hide = true)]
    pub etcd_key: Option<PathBuf>,
    /// `user:password`, or the user alone
    #[arg(long, env = "ETCDCTL_USER", hide = true, hide_env_values = true)]
    pub etcd_user: Option<String>,
    /// The password alone
    #[arg(long, env = "ETCDCTL_PASSWORD", hide = true, hide_env_values = true)]
    pub etcd_password: Option<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Listen for gRPC beyond loopback without a token: whoever reaches the port can lead the cluster
    #[arg(long, env = "PRIMACY_INSECURE", value_parser = BoolishValueParser::new())]
    pub insecure: bool,
    /// The heartbeat interval in milliseconds, 10 to 5000
    #[arg(long, env = "PRIMACY_HEARTBEAT", default_value_t = HEARTBEAT_DEFAULT.as_millis() as u64, value_name = "MS", value_parser = clap::value_parser!(u64).range(HEARTBEAT_MIN.as_millis() as u64..=HEARTBEAT_MAX.as_millis() as u64))]
    pub heartbeat: u64,
    /// Do no check itself: wait for another member while one is alive, else answer "no workers available"
    #[arg(long, env = "PRIMACY_NO_FALLBACK", value_parser = BoolishValueParser::new())]
    pub no_fallback: bool,
    /// Time for a check whose client names none, in milliseconds, 1 to 300000
    #[arg(long, env = "PRIMACY_DEADLINE", default_value_t = DEADLINE_DEFAULT.as_millis() as u64, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=DEADLINE_MAX.as_millis() as u64))]
    pub deadline: u64,
    /// Requests in flight at once, 1 to 1048576; more get 429 at once
    #[arg(long, env = "PRIMACY_IN_FLIGHT_MAX", default_value_t = IN_FLIGHT_MAX_DEFAULT, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=IN_FLIGHT_MAX_MAX as u64))]
    pub in_flight_max: usize,
    /// Bytes of a REST body for one number, 64 to 8388608
    #[arg(long, env = "PRIMACY_BODY_MAX", default_value_t = BODY_BYTES_MAX_DEFAULT, value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(BODY_BYTES_MAX_MIN as u64..=BODY_BYTES_MAX_MAX as u64))]
    pub body_max: usize,
    /// Exit when standard input ends: how `primacy up` leaves no orphan
    #[arg(long, env = "PRIMACY_EXIT_WITH_STDIN", hide = true, value_parser = BoolishValueParser::new())]
    pub exit_with_stdin: bool,
    /// The seed's name of a worker; its digits give the id
    #[arg(long, env = "WORKER_ID", hide = true)]
    pub worker_id: Option<String>,
    /// The seed's port of a worker
    #[arg(long, env = "PORT", hide = true)]
    pub port: Option<u16>,
    /// Which of these settings the environment gave.
    #[arg(skip)]
    pub told: SettingNames,
}

/// Which settings were told by the environment: messages name what was set.
#[derive(Debug, Clone, Default)]
pub struct SettingNames(BTreeMap<String, String>);

impl SettingNames {
    /// By what a command was given.
    pub fn by(command: &Command, matches: &ArgMatches) -> Self {
        let by_environment =
            |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
        let names = command.get_arguments().filter(by_environment).filter_map(|arg| {
            let variable = arg.get_env()?.to_str()?;
            Some((format!("--{}", arg.get_long()?), variable.to_owned()))
        });
        Self(names.collect())
    }

    /// The variable that told what this flag would, or the flag.
    pub fn name<'a>(&'a self, flag: &'a str) -> &'a str {
        self.0.get(flag).map_or(flag, String::as_str)
    }

    /// Records that the variable or flag `by` gave the value of `flag`.
    fn tells(&mut self, by: &str, flag: &str) {
        let by = self.name(by).to_owned();
        self.0.insert(flag.to_owned(), by);
    }
}

/// A node's settings, validated.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its id; `None`: it only works.
    pub id: Option<u32>,
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens for gRPC.
    pub grpc_addr: SocketAddr,
    /// Where it listens for HTTP.
    pub http_addr: SocketAddr,
    /// Where it is reached over gRPC; `None`: where it listens.
    pub advertise_grpc: Option<HostPort>,
    /// Where it is reached over HTTP; `None`: where it listens.
    pub advertise_http: Option<HostPort>,
    /// The other nodes.
    pub peers: Vec<PeerAddress>,
    /// How the leader is chosen.
    pub coordinator: Coordinator,
    /// What its peers know.
    pub token: Token,
    /// How it speaks TLS, if it does.
    pub tls: Option<Tls>,
    /// Files that are read again.
    pub reloads: Vec<Reload>,
    /// H.
    pub heartbeat: Duration,
    /// Whether it works itself when nobody else can.
    pub fallback: bool,
    /// What its entrances take.
    pub gateway: gateway::GatewayConfig,
    /// Whether it exits when standard input ends.
    pub exit_with_stdin: bool,
    /// Which of these settings the environment gave.
    pub told: SettingNames,
}

/// Settings that cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// What it would be called by, if it is not told its name, will not do.
    #[error("{0}, and no --name was given: {1}")]
    Name(&'static str, NameError),
    /// Two peers claim one id.
    #[error("{setting}: the peers {0} and {1} have the same id {2}; every node needs an id of its own", setting = .3)]
    SameId(Arc<str>, Arc<str>, u32, String),
    /// More peers than a cluster holds.
    #[error("{1}: {0} peers are too many: a cluster holds {MEMBERS_MAX} members")]
    TooManyPeers(usize, String),
    /// Both listeners would have one port.
    #[error("{0} and {1} are both at port {2}; gRPC and HTTP need a port each")]
    SamePort(String, String, u16),
    /// A file for TLS towards etcd cannot be read.
    #[error("TLS towards etcd, by ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY: {0}")]
    EtcdFile(String),
    /// Half of what TLS towards etcd needs.
    #[error("{0} needs {1} too: give both, or neither")]
    EtcdTls(&'static str, &'static str),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenSettingError),
    /// Settings of TLS that cannot be.
    #[error(transparent)]
    Tls(#[from] TlsSettingError),
    /// Others could reach it, and nothing would tell peers from strangers.
    #[error(
        "without a token this node may listen for gRPC on loopback only, and {0} is not loopback: whoever reached this port could lead the cluster; give all nodes the same PRIMACY_TOKEN, such as `openssl rand -hex 16` prints, or listen on 127.0.0.1, or accept it with --insecure"
    )]
    NoToken(SocketAddr),
}

impl NodeConfig {
    /// Validates what was told.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(mut args: NodeArgs) -> Result<Self, ConfigError> {
        let id = args.id.or_else(|| digits(args.worker_id.as_deref()?));
        let (coordinator, of_etcd) = coordinator(&args)?;
        let grpc_addr = grpc_addr(&mut args);
        let told = args.told;
        let name = match (args.name, args.worker_id) {
            (Some(name), _) => name,
            (None, Some(name)) => parse_name(&name).map_err(|error| ConfigError::Name("WORKER_ID", error))?,
            (None, None) => default_name(id)?,
        };
        let peers: Vec<PeerAddress> = args.peers.into_iter().filter_map(|peer| Some(peer.0?.0)).collect();
        check_peers(&peers, told.name("--peers"))?;
        if grpc_addr.port() != 0 && clash(grpc_addr, args.http_addr) {
            let [grpc, http] = ["--grpc-addr", "--http-addr"].map(|flag| told.name(flag).to_owned());
            return Err(ConfigError::SamePort(grpc, http, grpc_addr.port()));
        }
        let (token, of_token) = args.token.read(&told)?;
        let leads_to_peers = match coordinator {
            Coordinator::Etcd(_) => Some("--coordinator"),
            Coordinator::Bully => Some("--peers").filter(|_| !peers.is_empty()),
        };
        let (tls, of_tls) = args.tls.read(&told, leads_to_peers.map(|flag| told.name(flag)))?.unzip();
        if is_open(grpc_addr, &token) && !args.insecure {
            return Err(ConfigError::NoToken(grpc_addr));
        }
        Ok(Self {
            id,
            name: name.into(),
            grpc_addr,
            http_addr: args.http_addr,
            advertise_grpc: args.advertise_grpc,
            advertise_http: args.advertise_http,
            peers,
            coordinator,
            token,
            tls,
            reloads: [of_tls, of_token, of_etcd].into_iter().flatten().collect(),
            heartbeat: Duration::from_millis(args.heartbeat),
            fallback: !args.no_fallback,
            gateway: gateway::GatewayConfig {
                body_bytes_max: args.body_max,
                in_flight_max: args.in_flight_max,
                deadline: Duration::from_millis(args.deadline),
            },
            exit_with_stdin: args.exit_with_stdin,
            told,
        })
    }

    /// That of the cluster, for a node of this identity with these credentials.
    pub fn cluster(&self, me: Identity, credentials: PeerCredentials) -> ClusterConfig {
        ClusterConfig {
            me,
            peers: self.peers.clone(),
            heartbeat: self.heartbeat,
            credentials,
            coordinator: self.coordinator.clone(),
        }
    }

    /// What an operator is to know of TLS at start.
    pub fn tls_warning(&self) -> Option<String> {
        let lacks_authority = self.tls.as_ref().is_some_and(|tls| !tls.has_authority());
        (lacks_authority && self.token.is_set()).then(|| {
            "there is no --tls-ca: this node can dial no other one, and takes those that join by the token alone; give \
             --tls-ca, the CA of their certificates, unless it stays alone"
                .to_owned()
        })
    }

    /// What an operator is to know at start.
    pub fn warning(&self) -> Option<String> {
        if is_open(self.grpc_addr, &self.token) {
            return Some(format!(
                "insecure: there is no token, so whoever reaches {} can lead the cluster, hand out its work and answer \
                 it; give all nodes the same PRIMACY_TOKEN, such as `openssl rand -hex 16` prints",
                self.grpc_addr
            ));
        }
        self.token.is_trial().then(|| {
            format!(
                "the token is the trial value `{TRIAL}`, which everybody knows; give all nodes another PRIMACY_TOKEN, \
                 such as `openssl rand -hex 16` prints, before others can reach them"
            )
        })
    }
}

/// Where it listens for gRPC.
fn grpc_addr(args: &mut NodeArgs) -> SocketAddr {
    match (args.grpc_addr, args.port) {
        (Some(address), _) => address,
        // As the seed listens: on every address.
        (None, Some(port)) => {
            args.told.tells("--port", "--grpc-addr");
            SocketAddr::from(([0, 0, 0, 0], port))
        }
        (None, None) => SocketAddr::from(([127, 0, 0, 1], 50051)),
    }
}

/// Whether listening on the one keeps another from listening on the other.
pub fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Whether strangers could pass for peers.
fn is_open(grpc_addr: SocketAddr, token: &Token) -> bool {
    !token.is_set() && !grpc_addr.ip().to_canonical().is_loopback()
}

fn digits(worker_id: &str) -> Option<u32> {
    let digits: String = worker_id.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|id| (1..=i32::MAX as u32).contains(id))
}

fn default_name(id: Option<u32>) -> Result<String, ConfigError> {
    match id {
        Some(id) => Ok(format!("worker{id}")),
        None => parse_name(&host_name()).map_err(|error| ConfigError::Name("the host's name", error)),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A name that cannot be shown and logged as it is.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error(
    "the name `{0}` is not good: it takes 1 to 64 letters, digits, dots, dashes and underscores, such as worker1"
)]
pub struct NameError(String);

fn parse_name(name: &str) -> Result<String, NameError> {
    match is_name(name) {
        true => Ok(name.to_owned()),
        false => Err(NameError(plain(name))),
    }
}

fn check_peers(peers: &[PeerAddress], setting: &str) -> Result<(), ConfigError> {
    if peers.len() > MEMBERS_MAX {
        return Err(ConfigError::TooManyPeers(peers.len(), setting.to_owned()));
    }
    for (place, peer) in peers.iter().enumerate() {
        let Some(id) = peer.id else { continue };
        if let Some(same) = peers[..place].iter().find(|other| other.id == Some(id)) {
            let (one, other) = (Arc::clone(&same.grpc_addr), Arc::clone(&peer.grpc_addr));
            return Err(ConfigError::SameId(one, other, id, setting.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::{coordinator::CoordinatorError, *};
    use crate::cluster::token::TokenError;

    #[test]
    fn peers_are_read_with_and_without_ids() {
        let peer: PeerArg = "4=leader:50051".parse().unwrap();
        assert_eq!(peer.0, PeerAddress { id: Some(4), grpc_addr: "leader:50051".into() });
        let peer: PeerArg = "[::1]:50052".parse().unwrap();
        assert_eq!(peer.0, PeerAddress { id: None, grpc_addr: "[::1]:50052".into() });
        for bad in [
            "",
            "leader",
            "leader:",
            ":50051",
            "leader:0",
            "leader:99999",
            "x=leader:50051",
            "0=a:1",
            "-1=a:1",
            "a b:1",
            "http://a:1",
        ] {
            assert!(bad.parse::<PeerArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_id_belongs_to_one_peer() {
        let peers = ["1=a:1", "2=b:1", "1=c:1"].map(|text| text.parse::<PeerArg>().unwrap().0);
        let same = ConfigError::SameId("a:1".into(), "c:1".into(), 1, "--peers".into());
        assert_eq!(check_peers(&peers, "--peers"), Err(same));
    }

    /// By these arguments alone, whatever the environment says.
    pub(super) fn config(arguments: &[&str]) -> Result<NodeConfig, ConfigError> {
        let command = NodeArgs::augment_args(Command::new("node")).mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from([&["node"], arguments].concat()).unwrap();
        NodeConfig::new(NodeArgs::from_arg_matches(&matches).unwrap())
    }

    #[test]
    fn beyond_loopback_a_node_needs_a_token_or_is_told_that_it_is_insecure() {
        let warns = |arguments: &[&str]| config(arguments).map(|config| config.warning().is_some());
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(
                warns(&["--grpc-addr", loopback, "--http-addr", "0.0.0.0:2"]),
                Ok(false),
                "{loopback}"
            );
            assert_eq!(warns(&["--grpc-addr", loopback, "--insecure"]), Ok(false), "nothing is open");
        }
        for beyond in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1", "[fe80::1]:1"] {
            let refused = Err(ConfigError::NoToken(beyond.parse().unwrap()));
            assert_eq!(warns(&["--grpc-addr", beyond]), refused);
            assert_eq!(warns(&["--grpc-addr", beyond, "--insecure"]), Ok(true));
            assert_eq!(warns(&["--grpc-addr", beyond, "--token", "secret"]), Ok(false));
            assert_eq!(warns(&["--grpc-addr", beyond, "--token", "secret", "--insecure"]), Ok(false));
        }
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 50052));
        assert_eq!(
            warns(&["--port", "50052"]),
            Err(ConfigError::NoToken(anywhere)),
            "as the seed's workers listen"
        );
        assert_eq!(warns(&["--token", "trial"]), Ok(true));
        let empty = TokenSettingError::Bad("--token".into(), TokenError::Empty);
        assert_eq!(warns(&["--token", ""]), Err(empty.into()));
    }

    #[test]
    fn blanks_and_empty_parts_of_a_list_mean_nothing() {
        let peers = config(&["--peers", " 1=a:1, b:2 ,,", "--peers", ",3=c:3"]).unwrap().peers;
        let peers: Vec<(Option<u32>, &str)> = peers.iter().map(|peer| (peer.id, &*peer.grpc_addr)).collect();
        assert_eq!(peers, [(Some(1), "a:1"), (None, "b:2"), (Some(3), "c:3")]);
        let etcd = |endpoints: &str| endpoints.parse::<CoordinatorArg>();
        assert_eq!(etcd("etcd://a:1, b:2 ,"), etcd("etcd://a:1,b:2"));
        assert_eq!(etcd(" bully "), Ok(CoordinatorArg::Bully));
        assert_eq!(etcd("etcd:// ,"), Err(CoordinatorError::Unknown("etcd:// ,".into())));
    }

    #[test]
    fn both_protocols_need_a_port_of_their_own() {
        let ports = |grpc: &str, http: &str| {
            config(&["--insecure", "--grpc-addr", grpc, "--http-addr", http])
                .map(|config| config.grpc_addr.port())
        };
        let same = Err(ConfigError::SamePort("--grpc-addr".into(), "--http-addr".into(), 80));
        for other in ["127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(ports("127.0.0.1:80", other), same, "{other}");
            assert_eq!(ports(other, "127.0.0.1:80"), same, "{other}");
        }
        for other in ["127.0.0.2:80", "[::1]:80", "0.0.0.0:81"] {
            assert_eq!(ports("127.0.0.1:80", other), Ok(80), "{other}");
        }
        assert_eq!(ports("127.0.0.1:0", "127.0.0.1:0"), Ok(0));
    }

    #[test]
    fn the_seeds_worker_id_gives_the_id() {
        assert_eq!(digits("worker2"), Some(2));
        assert_eq!(digits("leader"), None);
    }
}
