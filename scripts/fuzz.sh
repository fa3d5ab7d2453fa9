#!/usr/bin/env bash
# Fuzzes every decoder of what others send, installing what it lacks: docs/fuzzing.md. Needs Rust, a C++ compiler and git.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]      SECONDS for each target, 1 by default, to which libFuzzer adds one; all targets by default
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-1}
# The gate tries the same each time; who asks for more gets something else each time.
seed=$([ $# -eq 0 ] && echo 1 || echo 0)
shift || true
scripts/debian.sh g++=g++

# Coverage as libFuzzer reads it. A named target keeps these flags from build scripts, which have no libFuzzer to link.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
export CARGO_TARGET_DIR
begun=$SECONDS
(cd fuzz && cargo build --locked --release --target "$host")
printf '── built in %d s; %d s a target\n\n' $((SECONDS - begun)) "$seconds" >&2

fuzzer=$CARGO_TARGET_DIR/$host/release/primacy-fuzz
[ $# -gt 0 ] || mapfile -t targets < <(PRIMACY_FUZZ=list "$fuzzer" 2>/dev/null)
[ $# -eq 0 ] || targets=("$@")
corpora=$PWD/target/fuzz-corpus
found=$PWD/target/fuzz-found
mkdir -p "$found"

# The value that libFuzzer says last under this name.
last() { sed -nE "s|.* $1: *([^ ]+).*|\1|p" "$found/$target.log" | tail -n 1; }

row='%-13s %12s %10s %7s %9s %7s  %s\n'
# shellcheck disable=SC2059 # The rows have one format.
printf "$row" target executions per-second edges features corpus found
failed=()
for target in "${targets[@]}"; do
    mkdir -p "$corpora/$target"
    verdict=nothing
    began=${EPOCHREALTIME/./}
    if ! PRIMACY_FUZZ=$target "$fuzzer" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -max_len=4096 \
        -print_final_stats=1 -seed="$seed" -artifact_prefix="$found/$target-" "$corpora/$target" "fuzz/seeds/$target" \
        >"$found/$target.log" 2>&1; then
        verdict='a fault'
        failed+=("$target")
    fi
    took=$((${EPOCHREALTIME/./} - began))
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/$target.log")
    # shellcheck disable=SC2059
    printf "$row" "$target" "${executions:-0}" $((${executions:-0} * 1000000 / took)) "$(last cov)" "$(last ft)" \
        "$(last corp | cut -d/ -f1)" "$verdict"
done

for target in "${failed[@]}"; do
    input=$(sed -n 's/.*Test unit written to //p' "$found/$target.log")
    printf '\n── %s:\n' "$target" >&2
    grep -m 1 -A 2 -E 'panicked|ERROR' "$found/$target.log" | cut -c -500 >&2 || true
    printf 'PRIMACY_FUZZ=%s %s %s\n' "$target" "$fuzzer" "${input:-fuzz/seeds/$target/*}" >&2
done
[ ${#failed[@]} -eq 0 ]
