//! Primacy: ask a cluster whether a number is prime.
//!
//! For those who need no cluster, [`is_prime`] decides any 64-bit number exactly, and [`prime::check`] any number of
//! up to 10,000 digits.
//!
//! # The map
//!
//! A request walks down through few rooms, and imports point downward only (`tests/it/layers.rs` reads them):
//!
//! ```text
//!   cli                  one file a command
//!   node                 one node: bind, build, spawn, wait, drain
//!   config               its settings
//!  ───────────────────── entrance
//!   gateway              HTTP and gRPC, listeners: takes requests, sends answers
//!  ─────────────────────
//!   scheduler            whom to ask, and asking
//!  ─────────────────────
//!   cluster              who is there and who leads, and the lanes to them
//!  ─────────────────────
//!   worker               bounded execution off the runtime's threads
//!   metrics              what is counted
//!   api                  what is said: a file a concept, its shapes and what turns one into another
//!   clock                the time
//!   connection           what listens, accepts and dials
//!   counted              counts that lower themselves
//!   text                 text of others, made harmless
//!   limits               the named limits
//!   proto                generated from proto/
//!  ───────────────────── crates of their own
//!   crates/election      who is there and who leads, without I/O, clock or runtime
//!   crates/prime         the mathematics
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cli;
mod node;
mod config;
mod reload;
mod gateway;
mod scheduler;
mod cluster;
mod worker;
mod metrics;
mod api;
mod clock;
mod connection;
mod counted;
mod text;
pub mod limits;
pub mod proto;

// What `main`, the tests and the benches name; the rest is private, so that the compiler finds what nobody uses.
pub use primacy_prime as prime;
pub use primacy_prime::is_prime;

pub use cli::main;
pub use cluster::{
    STOPPING,
    lane::{Ask, AskError, Lane, LaneAnswer},
    token::{Pass, PeerConnection, Token, TokenError},
};
pub use config::{ConfigError, NodeArgs, NodeConfig};
pub use connection::{Acceptor, Protocols};
pub use gateway::{listener::Listener, openapi};
pub use node::{Node, NodeError};
pub use scheduler::FORWARDED_BY;
pub use text::is_harmless;

/// What reads the bytes of strangers, clients, members, an etcd, and whatever answers a command: for the fuzzers in `fuzz/`, and
/// for nobody else. `docs/fuzzing.md` says what holds for each.
pub mod decoders {
    pub use crate::{
        api::{
            cluster::{ClusterAnswer, ClusterView, member_list_from_wire},
            election::{answer_from_wire, claim_from_wire, hand_over_from_wire, verdict_from_wire},
            error::ApiError,
            evidence::evidence_from_wire,
            next::Neighbour,
            prime::{Outcome, PrimeAnswer, number_from_wire, number_to_wire, parse_question},
            primes::{BatchOutcome, parse_item, parse_question as parse_questions},
            ranges::{
                NumberRange, Segment, SegmentFound, SegmentOutcome, parse_end, segment_from_wire,
                segment_to_wire,
            },
            results::Recorded,
        },
        cli::{
            client::identify::node,
            status::{harmless, text::text as status_text},
        },
        cluster::{
            etcd::wire as etcd,
            introduction::PeerCredentials,
            token::{Door, IDENTIFY},
            trace::Trace,
        },
        connection::tls::{ClientCertificates, TlsFiles},
        gateway::{
            admission::turn::Frames,
            bulk::lines::{InputLine, Lines},
            context::{echo, patience, trace_of},
            encoding::Encoding,
            grpc::{
                framing::Framed,
                peer::{bounded, single_asks},
                reflection::Known,
            },
            http::{
                host::expect_one,
                ranges::{accepts_lines, parse_limit},
            },
        },
        text::{bounded as bounded_text, is_name, is_short},
    };
}

/// The examples of the README compile and hold.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
