//! `docs/limits.md` says what `src/limits.rs` says.

use std::{collections::BTreeMap, fs, time::Duration};

use primacy::limits::*;

/// The sections of the source that callers meet, which the page has too.
const SECTIONS: [&str; 5] = ["Connections", "What a caller may take", "Requests", "Bulk", "Ranges"];

/// How the page writes a value, by what its name says that it is.
trait Shown {
    fn shown(self, name: &str) -> String;
}

impl Shown for u64 {
    fn shown(self, name: &str) -> String {
        match self {
            _ if !name.contains("_BYTES") => grouped(self),
            bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        }
    }
}

impl Shown for usize {
    fn shown(self, name: &str) -> String {
        (self as u64).shown(name)
    }
}

impl Shown for u32 {
    fn shown(self, name: &str) -> String {
        u64::from(self).shown(name)
    }
}

impl Shown for Duration {
    fn shown(self, _: &str) -> String {
        match self.as_millis() {
            ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
            ms => format!("{ms} ms"),
        }
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

macro_rules! shown {
    ($($name:ident)*) => { BTreeMap::from([$((stringify!($name), $name.shown(stringify!($name)))),*]) };
}

fn values() -> BTreeMap<&'static str, String> {
    shown! {
        CONNECTIONS_MAX CONNECTIONS_CROWDED PENDING_INTERVAL PENDING_TIMEOUT ACCEPTS_AT_ONCE_MAX ACCEPT_BACKLOG CONNECTIONS_RESERVED PLACE_TIMEOUT GOODBYE_TIMEOUT FIRST_BYTE_RESERVED_TIMEOUT
        FIRST_BYTE_TIMEOUT HANDSHAKE_TIMEOUT HANDSHAKE_BYTES_MAX TLS_UNREAD_BYTES_MAX UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX HEAD_TIMEOUT HEAD_BYTES_MAX
        STREAMS_PER_CONNECTION_MAX STREAM_WINDOW_BYTES CONNECTION_WINDOW_BYTES PENDING_RESETS_MAX
        PEER_PENDING_RESETS_MAX WRITE_TIMEOUT LOCAL_RESETS_MAX UNREAD_BYTES_MAX UNREAD_TIMEOUT LINGER LINGER_MAX
        LINGER_BYTES_MAX HALF_CLOSED_MAX INPUT_END_INTERVAL ACCEPT_PAUSE ACCEPT_RECOVERED DESCRIPTORS_OWN
        DESCRIPTORS_MIN DESCRIPTORS_PER_CHILD PING_INTERVAL PING_TIMEOUT
        TURN_COST_MAX TURN_ALONE_COST_MAX FRAME_COST REQUEST_COST CONNECTION_COST HANDSHAKE_COST BULK_NUMBER_COST DENSE_READ_BYTES_MAX POLL_COST STREAM_POLL_COST ROUND_COST_MAX WRITE_BYTES_MAX IDLE_LOOKED_AT_MAX
        HELD_BYTES_MAX SMALL_BYTES_MAX
        IN_FLIGHT_MAX_DEFAULT IN_FLIGHT_MAX_MAX BODY_BYTES_MAX_DEFAULT BODY_BYTES_MAX_MIN BODY_BYTES_MAX_MAX
        BODY_BLOCK_BYTES BODY_TIMEOUT DEADLINE_DEFAULT DEADLINE_MAX MESSAGE_BYTES_MAX PEER_MESSAGE_BYTES_MAX REQUEST_ID_CHARS_MAX
        POLICY_MEMBERS_BYTES_MAX COMPRESSED_BYTES_MIN COMPRESSED_BYTES_MAX WATCHERS_MAX REFLECTION_IDLE_TIMEOUT
        BULKS_MAX BULK_BYTES BATCH_MAX BULK_WINDOW BULK_LONGS_MAX BULK_GROUPS_MAX BULK_PIECES_BEFORE_YIELD
        BULK_CHUNK_BYTES BULK_CHUNKS_MAX LINE_BYTES_MAX BULK_IDLE_TIMEOUT BULK_PAUSE BULK_STOP_TIMEOUT
        JSON_BULK_BYTES_MAX JSON_BULK_NUMBERS_MAX
        RANGES_MAX RANGE_BYTES COUNT_WINDOW LIST_WINDOW LIST_SEGMENT_NUMBERS_MAX PAGE_PRIMES_DEFAULT PAGE_PRIMES_MAX
        MESSAGE_PRIMES_MAX NEXT_WINDOW NEXT_CANDIDATES_TOGETHER PROGRESS_INTERVAL PROGRESS_TIMEOUT
    }
}

/// The constants of a section, by their order.
fn constants(section: &str) -> Vec<String> {
    let source = fs::read_to_string("src/limits.rs").unwrap();
    let (_, after) = source.split_once(&format!("// ── {section} ─")).unwrap();
    let own = after.split("// ── ").next().unwrap();
    let names = own.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    names.map(str::to_owned).collect()
}

/// The rows of a section of the page: names and values.
fn rows(section: &str) -> BTreeMap<String, String> {
    let page = fs::read_to_string("docs/limits.md").unwrap();
    let (_, after) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let own = after.split("\n## ").next().unwrap();
    let rows = own.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| (name.to_owned(), rest.split(" | ").next().unwrap().to_owned())).collect()
}

#[test]
fn the_page_of_limits_has_each_with_its_value() {
    let values = values();
    for section in SECTIONS {
        let (constants, rows) = (constants(section), rows(section));
        assert!(constants.len() > 5, "{section}");
        assert_eq!(rows.len(), constants.len(), "{section}");
        for name in constants {
            let value = values.get(&*name).unwrap_or_else(|| panic!("{name} is not compared"));
            assert_eq!(rows.get(&name), Some(value), "{section}: {name}");
        }
    }
}
