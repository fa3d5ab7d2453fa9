#!/usr/bin/env bash
# Installs the Debian packages of the programs that are missing, and what a virtual environment of Python needs:
#
#   scripts/debian.sh PROGRAM=PACKAGE...      PROGRAM may be several names with | between them, of which one is enough
set -euo pipefail
# Where a user who is not root does not look for daemons.
PATH=$PATH:/usr/sbin
missing=()
for pair; do
    IFS='|' read -ra programs <<<"${pair%%=*}"
    command -v "${programs[@]}" >/dev/null || missing+=("${pair#*=}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
[ ${#missing[@]} -eq 0 ] && exit
printf '\n── installing %s\n' "${missing[*]}" >&2
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The tests start daemons themselves: one that a package starts would stay, and hold its port.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
