#!/usr/bin/env bash
# Installs the Debian packages of the programs that are missing, and what a virtual environment of Python needs:
#
#   scripts/debian.sh PROGRAM=PACKAGE...      PROGRAM may be several names with | between them, of which one is enough
set -euo pipefail
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
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}"
