//! Who holds a port that cannot be listened on, as far as Linux tells.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{config::clash, text::plain};

/// A TCP socket of this machine, by a line of `/proc/net/tcp` or `/proc/net/tcp6`.
#[derive(Debug, PartialEq, Eq)]
struct SocketEntry {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    user: u32,
    /// 0 for what is left of a connection that has ended.
    inode: u64,
}

/// The end of a sentence that says why `address` is taken; empty if it cannot be told.
pub fn held_by(address: SocketAddr) -> String {
    let sockets =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets = sockets.iter().flat_map(|table| table.lines().skip(1)).filter_map(SocketEntry::parse);
    // A listener is named rather than the connections that it accepted.
    let holder = sockets.filter(|socket| clash(socket.local, address)).max_by_key(|socket| socket.listens);
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

impl SocketEntry {
    /// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, inode, ..] = words[..] else { return None };
        Some(Self {
            local: parse_address(local)?,
            remote: parse_address(remote)?,
            listens: state == "0A",
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// `0100007F:1F90`, or four of such words for IPv6; each word is in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

impl fmt::Display for SocketEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match process_of(self.inode) {
            _ if self.inode == 0 => f.write_str("what is left of a connection, for a minute at most")?,
            Some((pid, name)) => write!(f, "{name} (process {pid})")?,
            None => write!(f, "a process of user {}", self.user)?,
        }
        if self.listens { Ok(()) } else { write!(f, ", with a connection to {}", self.remote) }
    }
}

/// The process that has this socket, and its name; only those of one's own user are seen, unless one is root.
fn process_of(inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut holders = pids.filter(|pid: &u32| has_file(*pid, &socket));
    let pid = holders.next()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // The name was chosen by another process, and may hold anything.
    Some((pid, plain(name.trim_end())))
}

fn has_file(pid: u32, target: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let socket = SocketEntry {
            local: "127.0.0.1:8080".parse().unwrap(),
            remote: "127.0.0.2:50000".parse().unwrap(),
            listens: false,
            user: 1000,
            inode: 4711,
        };
        assert_eq!(SocketEntry::parse(line), Some(socket));
        let one = "00000000000000000000000001000000:0016";
        assert_eq!(parse_address(one), Some("[::1]:22".parse().unwrap()));
        for broken in ["", "  sl  local_address", "0: 1:2 3"] {
            assert_eq!(SocketEntry::parse(broken), None, "{broken}");
        }
    }
}
