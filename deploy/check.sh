#!/usr/bin/env bash
# Checks what is deployed as far as can be without deploying it: the compose files by Compose, the manifests by the
# schemas of Kubernetes and by check.py, the unit by systemd. Says what it leaves out for want of a program.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '   %s\n' "$*"; }

compose() {
    local tool over
    for tool in "docker compose" docker-compose; do
        $tool version >/dev/null 2>&1 || continue
        for over in etcd tls; do
            PRIMACY_USER=1:1 $tool -f docker-compose.yml -f "docker-compose.$over.yml" config >/dev/null
            say "docker-compose.$over.yml is valid over docker-compose.yml"
        done
        return
    done
    say "left out: no Docker Compose"
}

manifests() { "$(scripts/python.sh)" deploy/check.py; }

# As it is, and with all that it shows behind a #. The program need not be installed here.
units() {
    if ! command -v systemd-analyze >/dev/null; then
        say "left out: no systemd-analyze"
        return
    fi
    unit 's/^$//'
    unit -E 's/^#([A-Z][A-Za-z]+=)/\1/'
}

unit() {
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' deploy/systemd/primacy.service | sed "$@" >"$work/primacy.service"
    # It warns of what it ignores, and succeeds all the same.
    systemd-analyze verify "$work/primacy.service" 2>&1 | tee "$work/warnings"
    [ ! -s "$work/warnings" ]
    # In tenths: PrivateNetwork and IPAddressDeny are what a server cannot have.
    systemd-analyze security --offline=true --threshold=15 --no-pager "$work/primacy.service" | tail -n 1
}

compose
manifests
units
