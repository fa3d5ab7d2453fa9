#!/usr/bin/env bash
# Passes every test, installing what it lacks. Needs Rust, a C compiler and git; takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

# Says what comes next, and how long the part before it took.
begun=$SECONDS
part=
say() {
    if [[ -n $part ]]; then
        printf '\n── took %d s: %s\n' $((SECONDS - begun)) "$part" >&2
    fi
    begun=$SECONDS
    part=$*
    [[ -z $part ]] || printf '\n── %s\n' "$part" >&2
}

say "what the tests need beside Rust"
scripts/debian.sh systemd-analyze=systemd curl=curl etcd=etcd-server openssl=openssl nginx=nginx \
    nc=netcat-openbsd socat=socat go=golang-go promtool=prometheus caddy=caddy certutil=libnss3-tools \
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
# One after the other: they load every core, measure, or keep leases of seconds.
cargo test --locked --test it --test evidence -- --ignored --skip readme --test-threads=1
say "the decoders of what others send, fuzzed for a second or two each"
scripts/fuzz.sh
# Last: it leaves another program in target/debug.
say "the changes that the documents show"
scripts/try-patches.sh
say
printf '\n── all passed in %d s\n' "$SECONDS" >&2
