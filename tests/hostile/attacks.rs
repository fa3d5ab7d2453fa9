//! The attacks: those of issue 14, under its numbers, and their relatives.

mod bodies;
mod cheap;
mod connections;
pub mod handshakes;
mod ranges;
mod streams;

use crate::attacker::Attacker;

/// One way to harm a node without a token.
pub struct Attack {
    /// How it is chosen; the number of the issue, if it stands there.
    pub id: &'static str,
    pub what: &'static str,
    /// Whether a node that starts meanwhile must find its leader: it is about connections, and peers need some.
    pub joins: bool,
    /// Whether the nodes and their clients speak TLS.
    pub over_tls: bool,
    pub start: fn(&mut Attacker),
}

const fn attack(id: &'static str, what: &'static str, start: fn(&mut Attacker)) -> Attack {
    Attack { id, what, joins: false, over_tls: false, start }
}

const fn siege(id: &'static str, what: &'static str, start: fn(&mut Attacker)) -> Attack {
    Attack { joins: true, ..attack(id, what, start) }
}

const fn over_tls(id: &'static str, what: &'static str, start: fn(&mut Attacker)) -> Attack {
    Attack { over_tls: true, ..siege(id, what, start) }
}

pub const ATTACKS: &[Attack] = &[
    attack("1", "256 heartbeats of 1 MB, but for the last bytes", bodies::heartbeats),
    attack("2", "20 × 50 bodies in frames of one byte", bodies::one_byte_frames),
    attack("3a", "4 clients that fetch the bundle with gzip", bodies::bundle),
    attack("3b", "64 clients for /openapi.json and /results", bodies::documents),
    attack("4a", "20 connections of frames that ask for nothing", cheap::frames),
    attack("4b", "20 connections of pings, unread", cheap::pings),
    attack("4c", "20 connections of long heads and trailers", cheap::heads),
    attack("4d", "20 connections of deadlines of 1 ns", cheap::deadlines),
    attack("5", "200 slow readers of the bundle", bodies::slow_readers),
    siege("6", "16 × 256 requests that have sent only their head", streams::heads_only),
    siege("7", "4,096 connections of one address after one GET", connections::held),
    siege("crowd", "as many connections of 64 addresses", connections::crowd),
    siege("overfull", "6,144 connections that send what they can", connections::overfull),
    attack("endings", "as many, whose connections end together", streams::ended),
    attack("10", "idle streams, Watch, reflection: 60 × 256", streams::idle),
    attack("windows", "32 × 256 answers that no window has room for", streams::no_window),
    attack("unread-files", "16 × 256 times the bundle, unread", streams::unread),
    attack("11", "one connection that takes all watchers", streams::watchers),
    attack("events", "600 readers of /events that do not read", connections::events),
    attack("pipelining", "20 connections of pipelined GETs", cheap::pipelining),
    attack("slow-writers", "250 heads and 250 bodies, a byte at a time", connections::slow_writers),
    attack("half-closed", "500 connections that end their side at once", connections::half_closed),
    siege("churn", "connections opened and dropped, 64 at once", connections::churn),
    attack("continuation", "heads without an end", cheap::continuations),
    attack("hpack", "tables resized and filled", cheap::tables),
    attack("zero-data", "20 connections of empty DATA frames", cheap::empty_data),
    attack("resets", "20 connections of calls reset at once", cheap::resets),
    attack("line", "64 lines of NDJSON without an end", bodies::endless_lines),
    attack("unread-bulks", "64 bulks whose answers nobody reads", bodies::unread_bulks),
    attack("bulks", "16 JSON bulks of 8 MiB at once", bodies::json_bulks),
    attack("gzip", "gRPC messages of gzip that grow 150 times", bodies::bombs),
    attack("bulk-places", "one address that takes all places of bulks", connections::bulks),
    attack("long", "64 connections of numbers of 10,000 digits", bodies::long_numbers),
    attack("ranges", "64 connections of counts of all below 2^64", ranges::counts),
    attack("range-churn", "such counts, given up when they have begun", ranges::counts_given_up),
    attack("unread-lists", "64 lists of all below 2^64, unread", ranges::unread_lists),
    attack("searches", "64 searches beside numbers of 10,000 digits", ranges::searches),
    siege("tls", "500 connections that speak TLS", connections::tls),
    over_tls("tls-slow", "500 first messages, a byte at a time", handshakes::slow),
    over_tls("tls-half", "4,096 handshakes without an end, 16 addresses", handshakes::half),
    over_tls("tls-parked", "4,096 handshakes that stop at 15 KiB", handshakes::parked),
    over_tls("tls-flood", "whole handshakes, 64 at once", handshakes::flood),
    over_tls("tls-old", "versions that are spoken no more, and noise", handshakes::old),
    over_tls("tls-large", "messages of 16 MiB, chains of 60 certificates", handshakes::large),
    over_tls("tls-names", "names that the node does not have", handshakes::names),
    over_tls("tls-shown", "certificates expired, and of another CA", handshakes::certificates),
    over_tls("tls-records", "40 connections of records of one byte", handshakes::records),
    over_tls("tls-keys", "40 connections of new keys", handshakes::keys),
    over_tls("tls-crowd", "4,096 connections of 64 addresses after one GET", handshakes::crowd),
    over_tls("tls-unread", "2,000 readers of the bundle who do not read", handshakes::unread),
];
