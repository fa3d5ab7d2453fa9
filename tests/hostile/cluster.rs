//! Three nodes with default settings, and what is seen of them from outside.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use primacy::proto::ClusterView;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::{
    certificates::{self, Authority, Folder},
    harness::{Process, Processes, alive, channel, eventually, view_on},
};

/// Members of the cluster.
const NODES: usize = 3;
/// How long the nodes may take to be as they were, when an attacker has gone.
const REST: Duration = Duration::from_secs(10);
/// Descriptors that a node at rest may hold beside those it had before: connections between nodes come and go.
const DESCRIPTORS_BESIDE: usize = 16;

/// The nodes under attack: the first one leads.
pub struct Cluster {
    nodes: Vec<Process>,
    descriptors: Vec<usize>,
    tls: Option<Tls>,
}

/// What the nodes show, if they speak TLS, and by whom they are believed.
struct Tls {
    authority: Authority,
    folder: Folder,
}

/// What the nodes have logged so far: so many lines each.
pub struct Mark(Vec<usize>);

/// What nodes said of each other.
#[derive(Default)]
pub struct Changes {
    pub suspicions: usize,
    pub elections: usize,
    pub lines: Vec<String>,
}

impl Cluster {
    pub async fn start(over_tls: bool) -> Self {
        let tls = over_tls.then(|| {
            let authority = Authority::new("here");
            let folder = Folder::with(&authority.issue(), &authority.pem);
            Tls { authority, folder }
        });
        let arguments = tls.as_ref().map(|tls| tls.folder.arguments()).unwrap_or_default();
        let nodes = Processes::begin_each(u32::try_from(NODES).unwrap() - 1, |_| arguments.clone()).nodes;
        let mut cluster = Self { nodes, descriptors: Vec::new(), tls };
        for node in &cluster.nodes {
            // Another one may have been there first, and hands over later: that is no harm of an attacker. The log comes
            // after what it says.
            let settled = || async {
                let view = cluster.view(node.grpc).await.unwrap_or_default();
                let leads = view.leader.as_ref().is_some_and(|leader| leader.name == cluster.nodes[0].name);
                node.has_logged("leader leads (") && leads && alive(&view) == NODES
            };
            eventually("the highest id leads", settled).await;
        }
        cluster.descriptors = cluster.nodes.iter().map(descriptors).collect();
        cluster
    }

    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What a client believes; nothing in clear text.
    pub fn authorities(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| &*tls.authority.pem)
    }

    /// The file that holds them.
    pub fn authorities_file(&self) -> Option<String> {
        self.tls.as_ref().map(|tls| tls.folder.path("ca.pem"))
    }

    /// What a node that joins is told.
    pub fn arguments(&self) -> Vec<String> {
        self.tls.as_ref().map(|tls| tls.folder.arguments()).unwrap_or_default()
    }

    pub async fn view(&self, address: SocketAddr) -> Result<ClusterView, Status> {
        match self.authorities() {
            Some(authorities) => view_on(certificates::channel(address, authorities, None).await?).await,
            None => view_on(channel(address).await?).await,
        }
    }

    pub fn nodes(&self) -> &[Process] {
        &self.nodes
    }

    /// The node that is attacked: the leader, whose trouble is everybody's.
    pub fn attacked(&self) -> &Process {
        &self.nodes[0]
    }

    pub fn mark(&self) -> Mark {
        Mark(self.nodes.iter().map(|node| node.log().lines().count()).collect())
    }

    /// What was logged since, but for what became of a guest.
    pub fn changes_since(&self, mark: &Mark) -> Changes {
        let mut changes = Changes::default();
        for (node, skipped) in self.nodes.iter().zip(&mark.0) {
            for line in node.log().lines().skip(*skipped).filter(|line| !line.contains("Worker guest")) {
                changes.add(&node.name, line);
            }
        }
        changes
    }

    /// Forgets how much memory the nodes had at most; where the system cannot, the bound is for all that was.
    pub fn forget_memory(&self) {
        for node in &self.nodes {
            let _ = fs::write(format!("/proc/{}/clear_refs", node.pid()), "5");
        }
    }

    /// The most resident memory of any node, in MiB, and whose it is.
    pub fn memory(&self) -> (u64, &str) {
        self.nodes.iter().map(|node| (memory(node), node.name.as_str())).max().unwrap()
    }

    /// The most descriptors of any node.
    pub fn descriptors(&self) -> usize {
        self.nodes.iter().map(descriptors).max().unwrap()
    }

    /// Waits until everybody sees everybody and holds nothing of the attacker's; says what is not so.
    pub async fn rests(&self) -> Result<(), String> {
        let mut problem = String::new();
        let rested = timeout(REST, async {
            while let Err(error) = self.look().await {
                problem = error;
                sleep(Duration::from_millis(50)).await;
            }
        });
        if rested.await.is_ok() { Ok(()) } else { Err(format!("not at rest after {REST:?}: {problem}")) }
    }

    async fn look(&self) -> Result<(), String> {
        for (node, before) in self.nodes.iter().zip(&self.descriptors) {
            let name = &node.name;
            let seen = timeout(Duration::from_secs(1), self.view(node.grpc)).await;
            let view = seen.map_err(|_| format!("{name} does not answer"))?;
            let view = view.map_err(|status| format!("{name} answers {status}"))?;
            if view.leader.is_none() || alive(&view) != NODES {
                return Err(format!("{name} sees {} alive", alive(&view)));
            }
            let held = descriptors(node);
            if held > before + DESCRIPTORS_BESIDE {
                return Err(format!("{name} has {held} descriptors, {before} before"));
            }
        }
        Ok(())
    }
}

impl Changes {
    fn add(&mut self, node: &str, line: &str) {
        let suspicion = line.contains(" is suspect (") || line.contains(" is DEAD (");
        let election = line.contains(" leads (") || line.contains(" is lost (");
        self.suspicions += usize::from(suspicion);
        self.elections += usize::from(election);
        if suspicion || election {
            self.lines.push(format!("{node}: {line}"));
        }
    }
}

/// Resident memory of a node at most, in MiB; none if it is dead, which others say.
fn memory(node: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default().div_ceil(1024)
}

fn descriptors(node: &Process) -> usize {
    let folder = PathBuf::from(format!("/proc/{}/fd", node.pid()));
    fs::read_dir(folder).map_or(0, Iterator::count)
}
