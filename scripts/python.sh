#!/usr/bin/env bash
# Makes the virtual environment of the tests with the tools that were not written here, and prints its Python.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/venv
if ! cmp -s tests/python/requirements.txt "$venv/installed.txt"; then
    printf '\n── installing Python packages into %s\n' "$venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/python/requirements.txt >&2
    cp tests/python/requirements.txt "$venv/installed.txt"
fi
echo "$PWD/$venv/bin/python"
