//! Three nodes with default settings, and what is seen of them from outside.

use std::{fs, path::PathBuf, time::Duration};

use tokio::time::{sleep, timeout};

use crate::harness::{Process, Processes, alive, eventually, view};

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
    pub async fn start() -> Self {
        let nodes = Processes::start(u32::try_from(NODES).unwrap() - 1).await.nodes;
        for node in &nodes {
            // Another one may have been there first, and hands over later: that is no harm of an attacker. The log comes
            // after what it says.
            let settled = || async {
                node.has_logged("leader leads (")
                    && leader(node).await.is_some_and(|name| name == nodes[0].name)
            };
            eventually("the highest id leads", settled).await;
        }
        let descriptors = nodes.iter().map(descriptors).collect();
        Self { nodes, descriptors }
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
            let seen = timeout(Duration::from_secs(1), view(node.grpc)).await;
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

async fn leader(node: &Process) -> Option<String> {
    view(node.grpc).await.ok()?.leader.map(|leader| leader.name)
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
