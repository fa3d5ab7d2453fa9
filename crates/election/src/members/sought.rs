//! Who is looked for at an address, and whether it is who answers there.

use std::sync::Arc;

use crate::{Identity, Member};

/// Who is looked for at an address.
#[derive(Debug, Clone)]
pub struct Sought {
    /// `host:port`.
    pub address: Arc<str>,
    /// The address is of our own configuration, and not told of by others.
    pub is_configured: bool,
    /// The id that was configured or learnt, when it was last looked.
    pub id: Option<u32>,
    /// The life that was met last.
    pub boot: Option<u64>,
}

impl Sought {
    /// Whether `node`, which has proven who it is, may be the one that is sought. If something at the address passes our
    /// calls on to another node, that node is known by an address of its own.
    ///
    /// An address that others told of is the node's own: the node says so, or is in the life that they met. A configured
    /// address may be another name of the node, and an unknown node may have moved to it.
    pub fn may_be<'a>(&self, node: &Identity, members: impl Iterator<Item = &'a Member> + Clone) -> bool {
        let entry = members.clone().find(|member| member.grpc_addr == self.address);
        let boot = entry.and_then(|member| member.boot).or(self.boot);
        if boot == Some(node.boot) || node.grpc_addr == self.address {
            return true;
        }
        let mut others = members.filter(|member| member.grpc_addr != self.address);
        let is_known_elsewhere = others.any(|member| member.boot == Some(node.boot));
        let may_be_same = match entry.and_then(|member| member.id).or(self.id) {
            Some(id) => node.id == Some(id),
            None => boot.is_none() || entry.is_some_and(|member| member.name == node.name),
        };
        self.is_configured && (may_be_same || !is_known_elsewhere)
    }
}
