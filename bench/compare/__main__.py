"""Primacy beside its peers: `bench/compare.sh --help`."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import plots
import tables
from parts import GRPC_PORT, HTTP_PORT, PARTS, Bench, Plan
from systems import SCRATCH, Cluster, Failed, Processes


def main():
    parser = argparse.ArgumentParser(prog="bench/compare.sh", description="Measures Primacy beside its peers.")
    parser.add_argument("--quick", action="store_true", help="short runs and few points: some two minutes")
    parts = f"one of {', '.join(PARTS)}; repeatable"
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=parts)
    args = parser.parse_args()
    wanted = args.only or list(PARTS)
    # What was started is stopped when this is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    SCRATCH.mkdir(parents=True, exist_ok=True)
    try:
        with Cluster(3, HTTP_PORT, GRPC_PORT) as cluster, Processes() as processes:
            bench = Bench(Plan(args.quick), cluster, processes)
            for part in PARTS:
                if part in wanted:
                    print(f"── measuring: {part}", file=sys.stderr, flush=True)
                    PARTS[part](bench)
    except Failed as failed:
        sys.exit(f"\nno figures: {failed}")
    report(bench, plotted="http" in wanted and not args.quick)


def report(bench, plotted):
    results = Path("bench/results")
    results.mkdir(exist_ok=True)
    saved = results / time.strftime("%Y-%m-%dT%H-%M-%S.json")
    saved.write_text(json.dumps(plain(bench.runs), indent=1))
    print(f"all runs: {saved}\n", file=sys.stderr)
    if uneven := list(bench.uneven()):
        sys.exit("no figures: the work was not shared evenly:\n  " + "\n  ".join(uneven))
    print(tables.everything(bench))
    if plotted:
        plots.write(bench, Path("docs"))


def plain(runs):
    """The runs with keys that JSON can have."""
    if not isinstance(runs, dict):
        return runs
    return {key if isinstance(key, str) else ", ".join(map(str, key)): plain(value) for key, value in runs.items()}


main()
