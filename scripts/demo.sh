#!/usr/bin/env bash
# Counts the primes of a range on one worker, and then on three of which one is killed in the middle: the count is the same, and
# comes sooner where there are cores. Each worker has one core. `scripts/demo.sh 1e11` counts for longer. Needs Linux.
set -euo pipefail
primacy=${PRIMACY_BINARY:-primacy}
to=${1:-2e10}
cores=$(nproc)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT

# A node with a core of its own, as far as there are cores: start PLACE ID NAME PEERS
start() {
    taskset -c $(($1 % cores)) "$primacy" node --id "$2" --name "$3" --grpc-addr "127.0.0.1:$((52160 + $1))" \
        --http-addr 127.0.0.1:0 --peers "$4" 2>/dev/null &
    pids[$1]=$!
}

# Waits until a node sees so many members alive: settled PLACE COUNT
settled() {
    for _ in $(seq 100); do
        alive=$("$primacy" status --endpoints "127.0.0.1:$((52160 + $1))" 2>/dev/null | grep -c ' alive ') || true
        [[ $alive != "$2" ]] || return 0
        sleep 0.1
    done
    echo "the nodes do not become a cluster" >&2
    exit 1
}

echo "one worker, which has one core:"
start 0 1 worker1 127.0.0.1:52160
settled 0 1
"$primacy" count 1 "$to" --endpoints 127.0.0.1:52160
kill "${pids[0]}"
wait "${pids[0]}" 2>/dev/null || true

echo "three workers, each with one core, of which worker3 is killed in the middle:"
start 3 4 leader 127.0.0.1:52160,127.0.0.1:52161,127.0.0.1:52162
for place in 0 1 2; do
    start $place $((place + 1)) worker$((place + 1)) 127.0.0.1:52163
done
settled 3 4
"$primacy" count 1 "$to" --endpoints 127.0.0.1:52163 &
counting=$!
sleep 0.5
# Else the shell would tell of its end.
disown "${pids[2]}"
kill -9 "${pids[2]}"
wait "$counting"
