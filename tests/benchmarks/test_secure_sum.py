"""The benchmark of secure aggregation runs, checks its own sums, and its figures stand in the relations they must."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "secure_sum.py"
PARAMETERS, MEMBERS = 200_000, 4
HE = ("he_client", "he_server", "he_decrypt", "he_check")


@pytest.mark.slow
@pytest.mark.alone
def test_masks_are_cheaper_than_ckks_and_memory_stays_within_three_vectors() -> None:
    options = ("--parameters", PARAMETERS, "--members", MEMBERS, "--repeat", 1, "--memory", "--json")
    command = [sys.executable, str(BENCHMARK), *map(str, options)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert (figures["parameters"], figures["members"]) == (PARAMETERS, MEMBERS)
    times = ("masked_client", "server", "ckks_client", "ckks_server", "round_client", "round_server", *HE)
    assert all(figures[f"{name}_ms"] > 0 for name in times)
    # An upload is its words, and beside them a header, a signature and one prekey.
    assert 4 < figures["masked_bytes_per_parameter"] < 4.1
    assert figures["ckks_bytes_per_parameter"] > 40
    assert figures["bytes_ratio"] > 10
    assert figures["masked_client_ms"] < figures["ckks_client_ms"]
    # 14 for each word, and what fills the last ciphertext.
    assert 14 < figures["he_bytes_per_parameter"] < 14.3
    assert (
        figures["he_check_ms"]
        < figures["he_decrypt_ms"]
        < figures["he_client_ms"]
        < figures["ckks_client_ms"]
    )
    # Two uploads and three model vectors; two uploads, and what a small model leaves of libraries.
    assert figures["he_client_memory"] < 2 * 14.2 + 3 * 8
    assert figures["he_server_memory"] < 2 * 14.2 + 4
    # Whatever else the machine does: a round contains the sum.
    assert figures["masked_client_ms"] < figures["round_client_ms"]
    # The reply alone is half a vector, the request at the server a whole one.
    for kind in ("", "_evaluated", "_noised"):
        assert 0.5 < figures[f"round_client_vectors{kind}"] < 3
        assert 1 < figures[f"round_server_vectors{kind}"] < 3
