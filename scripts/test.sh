#!/usr/bin/env bash
# Passes every test, installing what it lacks. Needs Rust, a C compiler and git; takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n── %s\n' "$*" >&2; }

# Debian packages for the programs that are missing.
install() {
    local missing=()
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    command -v curl >/dev/null || missing+=(curl)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    command -v etcd >/dev/null || missing+=(etcd-server)
    command -v openssl >/dev/null || missing+=(openssl)
    command -v chromium chromium-browser google-chrome >/dev/null || missing+=(chromium)
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
}

install
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
