//! One program for all fuzzers, linked once: `PRIMACY_FUZZ` names the target, and the arguments are libFuzzer's. What each
//! target asserts is told in `docs/fuzzing.md`.

#![no_main]

mod bodies;
mod check;
mod commands;
mod election;
mod etcd;
mod files;
mod headers;
mod lanes;
mod messages;
mod numbers;
mod seeds;
mod streams;

use std::{env, sync::OnceLock};

type Target = fn(&[u8]);

/// Each takes bytes as somebody may send them, and panics if what must hold does not.
const TARGETS: [(&str, Target); 28] = [
    ("number", numbers::number),
    ("typed", numbers::typed),
    ("question", bodies::question),
    ("questions", bodies::questions),
    ("lines", streams::lines),
    ("range", bodies::range),
    ("timeout", headers::timeout),
    ("trace", headers::trace),
    ("host", headers::host),
    ("encoding", headers::encoding),
    ("token", headers::token),
    ("tokens", files::tokens),
    ("credentials", files::credentials),
    ("framing", streams::framing),
    ("frames", streams::frames),
    ("check", messages::check),
    ("evidence", messages::evidence),
    ("batch", messages::batch),
    ("segment", messages::segment),
    ("reflection", messages::reflection),
    ("lane-asks", lanes::asks),
    ("lane-answers", lanes::answers),
    ("members", election::members),
    ("election", election::election),
    ("replies", election::replies),
    ("etcd", etcd::etcd),
    ("identify", commands::identify),
    ("status", commands::status),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = env::var("PRIMACY_FUZZ").unwrap_or_default();
        CHOSEN.get_or_init(|| choose(&name));
    },
    |bytes: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            target(bytes);
        }
    }
);

/// The target of this name. `list` prints all names and `seeds` writes `seeds/`; both end the program.
fn choose(name: &str) -> Target {
    match name {
        "list" => TARGETS.iter().for_each(|(name, _)| println!("{name}")),
        "seeds" => seeds::write(),
        name => match TARGETS.iter().find(|(known, _)| *known == name) {
            Some((_, target)) => return *target,
            None => panic!("PRIMACY_FUZZ={name:?} is no target; PRIMACY_FUZZ=list prints them"),
        },
    }
    std::process::exit(0)
}
