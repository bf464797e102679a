"""The agent's start: what it pins and when, its pace, and whether it is isolated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from hansa.cli.instance import Instance
from hansa.cli.provisioning import provision
from hansa.clients.agent import BEAT_S, beat, build
from hansa.clients.data.sources import read_source
from hansa.contract.charter import Protection
from hansa.contract.errors import CharterError
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import MemberConfig, read_scenario
from hansa.contract.signatures import read_pin
from hansa.contract.typed import read_toml


@pytest.mark.parametrize(
    ("elapsed", "floor", "wait"),
    [
        (0.01, 0.05, 0.04),
        (0.05, 0.05, 0.0),
        (0.06, 0.05, 0.24),
        (0.30, 0.05, 0.0),
        (0.31, 0.05, 0.24),
        (5.0, 0.0, 0.0),
    ],
)
def test_an_upload_leaves_at_the_floor_or_on_the_next_beat(elapsed: float, floor: float, wait: float) -> None:
    assert beat(elapsed, floor) == pytest.approx(wait, abs=1e-9)
    assert 0 <= beat(elapsed, floor) < floor + BEAT_S


def test_a_charter_that_is_not_the_members_own_is_not_pinned(tmp_path: Path) -> None:
    scenario, features = read_scenario(scenario_folder("hospitals"))
    one = provision(scenario, features, origin=tmp_path, out=tmp_path / "one")
    other = provision(scenario, features, origin=tmp_path, out=tmp_path / "other")
    name = one.members[0]
    folder = one.member_path(name)
    (folder / "pin.json").unlink()
    honest = {file: (folder / file).read_bytes() for file in ("charter.toml", "charter.signatures.json")}
    for file in honest:
        (folder / file).write_bytes((other.member_path(name) / file).read_bytes())
    config = read_toml(folder / "member.toml", MemberConfig)
    with pytest.raises(CharterError, match="is not the identity key"):
        build(folder, config, isolated=True)
    assert read_pin(folder) is None
    for file, content in honest.items():
        (folder / file).write_bytes(content)
    agent = build(folder, config, isolated=True)
    agent.attempts.close()
    assert read_pin(folder) is not None
    assert Instance(one.folder).exists


def test_a_host_with_nothing_but_a_loopback_is_left_all_the_same() -> None:
    program = (
        "import os, socket\n"
        "from hansa.clients.isolation import enter_empty_network\n"
        "before = os.readlink('/proc/self/ns/net')\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "isolated = enter_empty_network()\n"
        "try:\n"
        "    socket.create_connection(listener.getsockname(), 1)\n"
        "    reached = True\n"
        "except OSError:\n"
        "    reached = False\n"
        "print(isolated, reached, before != os.readlink('/proc/self/ns/net'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    isolated, reached, _ = done.stdout.split()
    # Where the kernel allows no namespace the agent says that it is not isolated; never both.
    assert (isolated, reached) in (("True", "False"), ("False", "True"))


def test_a_masked_agent_starts_with_the_sealing_key_of_its_charter_only(tmp_path: Path) -> None:
    scenario, features = read_scenario(scenario_folder("hospitals"))
    masked = scenario.model_copy(update={"protection": Protection(mode="masked")})
    instance = provision(masked, features, origin=tmp_path, out=tmp_path / "one")
    one, other = (instance.member_path(name) for name in list(instance.members)[:2])
    config = read_toml(one / "member.toml", MemberConfig)
    agent = build(one, config, isolated=True)
    agent.attempts.close()
    assert agent.ring is not None
    (one / "sealing.key").write_bytes((other / "sealing.key").read_bytes())
    with pytest.raises(CharterError, match="is not the sealing key"):
        build(one, config, isolated=True)


def test_a_column_that_gets_its_first_values_has_both_parts_added_up(tmp_path: Path) -> None:
    scenario, features = read_scenario(scenario_folder("consortium"))
    first = features.columns[0].model_copy(update={"optional": True})
    features = features.model_copy(update={"columns": (first, *features.columns[1:])})
    instance = provision(scenario, features, origin=tmp_path, out=tmp_path / "one")
    folder = instance.member_path(next(iter(instance.members)))
    config = read_toml(folder / "member.toml", MemberConfig)
    table = read_source(config.data, folder).head(300)
    without = table.drop(first.name)
    together = []
    for version in (without, without.with_columns(pl.lit(None).alias(first.name)), table):
        agent = build(folder, config, isolated=True, table=version)
        assert agent.budget is not None
        with agent.budget.ledger.held() as book:
            [data_set] = book.data_sets.values()
            together.append(data_set.together)
        agent.close()
    assert together == [False, False, True]


def test_products_are_taken_by_one_thread_whatever_the_surroundings_say() -> None:
    # Products that threads share treat the rows at their seams in an order of their own.
    program = (
        "import os, sys\n"
        "from hansa.clients import agent\n"
        "early = 'numpy' in sys.modules\n"
        "def serve(*_):\n"
        "    import numpy as np\n"
        "    square = np.ones((600, 600))\n"
        "    (square @ square).sum()\n"
        "    print(early, len(os.listdir('/proc/self/task')))\n"
        "    return 0\n"
        "if 'unpinned' in sys.argv:\n"
        "    serve()\n"
        "else:\n"
        "    agent.serve = serve\n"
        "    agent.main(['--folder', '.'])\n"
    )
    many = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")

    def told(*arguments: str) -> list[str]:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, env=many, capture_output=True, text=True, check=True).stdout.split()

    assert told() == ["False", "1"]
    if len(os.sched_getaffinity(0)) > 1:
        assert told("unpinned") == ["False", "2"]
