#!/usr/bin/env bash
# The changes that docs/add-a-question.md shows still apply, build and answer: each is tried on a copy of this tree.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

work=$(mktemp -d)
node=
trap '[[ -z $node ]] || kill "$node"; rm -rf "$work"' EXIT

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# One copy of what is tracked for all patches, so that what two of them have in common is compiled once.
mkdir "$work/copy"
git ls-files -z | xargs -0 cp --parents -t "$work/copy"

# Applies a patch to the copy, builds the program there, and takes the patch back.
build_with() {
    (cd "$work/copy" && git apply "$root/$1" && cargo build --quiet --locked --package primacy && git apply --reverse "$root/$1")
    cp "$CARGO_TARGET_DIR/debug/primacy" "$work/primacy"
}

# Starts a node of that program, on free ports; its HTTP address is in $http.
start() {
    "$work/primacy" node --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 2>"$work/log" &
    node=$!
    for _ in $(seq 100); do
        http=$(sed -n 's/.* and HTTP on \(127.0.0.1:[0-9]*\).*/\1/p' "$work/log")
        [[ -z $http ]] || return 0
        sleep 0.1
    done
    fail "the node does not start: $(cat "$work/log")"
}

stop() {
    kill "$node"
    wait "$node" 2>/dev/null || true
    node=
}

# What a path answers must have this in it.
expect() {
    answer=$(curl --silent --max-time 10 "http://$http$1")
    [[ $answer == *"$2"* ]] || fail "$1 answers $answer, without $2"
}

changed=$(git apply --numstat docs/make-it-yours/palindrome.patch | awk '{ lines += $1 + $2 } END { print lines }')
((changed <= 60)) || fail "to put a function of one's own takes $changed changed lines; 60 are the most"
build_with docs/make-it-yours/palindrome.patch
start
expect /prime/12321 '"is_prime":true'
expect /prime/17 '"is_prime":false'
expect /prime/1234567890123456789009876543210987654321 '"is_prime":true'
stop

touched=$(git apply --numstat docs/add-a-question/next-twins.patch | wc -l)
((touched <= 10)) || fail "a new question touches $touched files; 10 are the most"
build_with docs/add-a-question/next-twins.patch
start
expect /prime/7/twins '"twin":"11"'
expect /prime/18446744073709550770/twins '"twin":"18446744073709550771"'
stop
printf 'both patches apply, build and answer: %d changed lines, %d files\n' "$changed" "$touched"
