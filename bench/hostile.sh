#!/usr/bin/env bash
# Attacks the release build, or the program that PRIMACY_BINARY names, and prints the table of `tests/hostile`:
# bench/hostile.sh [SECONDS [ATTACK…]], 30 s for each of all attacks if nothing else is said; `5 2 4`: 2, and 4a to 4d, for 5 s.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${PRIMACY_BINARY:-} ]]; then
    cargo build --locked --release --bin primacy
    PRIMACY_BINARY=$PWD/target/release/primacy
fi
export PRIMACY_BINARY PRIMACY_HOSTILE_SECONDS=${1:-30}
attacks=("${@:2}")
cargo test --locked --test hostile -- "${attacks[@]/#/attack_}"
