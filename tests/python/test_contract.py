"""The contract, by a client that tries all that it allows, and what it does not: Schemathesis, at two seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parent / "schemathesis.toml"
# Requests for each operation, beside those that cover each rule of its schemas: some 10 s for each seed.
EXAMPLES = 100
WAIT = 80


@pytest.mark.parametrize("seed, role", [(17, "leader"), (2026, "worker")])
def test_a_node_keeps_the_contract(cluster, seed, role):
    node = cluster.leader if role == "leader" else cluster.workers[0]
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run", node.url("/openapi.json")]
    ran = subprocess.run(
        [*command, f"--max-examples={EXAMPLES}", f"--seed={seed}"], capture_output=True, text=True, timeout=WAIT
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
