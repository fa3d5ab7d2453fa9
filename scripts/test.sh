#!/usr/bin/env bash
# Passes every test, installing what it lacks. Needs Rust, a C compiler and git; takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n── %s\n' "$*" >&2; }

scripts/debian.sh systemd-analyze=systemd curl=curl etcd=etcd-server openssl=openssl nginx=nginx \
    nc=netcat-openbsd socat=socat go=golang-go promtool=prometheus \
    'chromium|chromium-browser|google-chrome=chromium'
PRIMACY_PYTHON=$(scripts/python.sh)
export PRIMACY_PYTHON
say "what is deployed"
deploy/check.sh
say "the README"
cargo test --locked --test it readme -- --ignored
# Early: the ports of the seed are lent to outgoing connections too, and the tests below make many.
say "containers, as the seed runs them"
scripts/compose-test.sh
say "all that needs nothing but Rust"
cargo test --locked
say "what else plain \`cargo test\` leaves out"
cargo test --locked --test it -- --ignored --skip readme --test-threads=1
