"""An agent killed at every point of an attempt, or put back to yesterday's files, never gives two shares of one prekey.

The server keeps everything and tries everything; its peers even sign what it likes, their starts excepted:
what a member says of its own prekeys is its own affair.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from federation import make_federation
from masked_side import Answer, Attempt, MaskedServer, ready
from slow import cases

from hansa.clients.protocol import Agent
from hansa.contract.keys import to_text
from hansa.contract.messages import Receipt, Witness
from hansa.contract.statements import active_statement, receipt_statement
from hansa.secagg import ring as ring_module
from hansa.secagg.active_set import receipt_valid
from hansa.secagg.ring import PrekeyRing
from hansa.secagg.starts import Taken

FIRST, SECOND, ALL = list("abc"), list("abd"), list("abcd")
Restart = Callable[[str], None]

# Where the process ends: during which request, in which call of the log, before or after it took effect;
# without a call when the answer has left.
POINTS = [
    ("train", "accept", "before"),
    ("train", "accept", "after"),
    ("train", "keep_reply", "before"),
    ("train", "keep_reply", "after"),
    ("train", "", "after"),
    ("agree", "agree", "before"),
    ("agree", "agree", "after"),
    ("agree", "", "after"),
    ("unmask", "agree", "before"),
    ("unmask", "agree", "after"),
    ("unmask", "", "after"),
]
KEPT = POINTS[3:]


class Killed(BaseException):
    """The process is gone; nothing that it would still have done happens."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MaskedServer]:
    """Four members, three of which sign and open; a copy of every log is taken after the job's approval."""
    server = ready(make_federation(4, mode="masked"), log=lambda name: tmp_path / f"{name}.sqlite")
    for name in server.agents:
        copy(tmp_path / f"{name}.sqlite", tmp_path / f"{name}.old")
    yield server
    for agent in server.agents.values():
        agent.attempts.close()


@pytest.fixture(params=["restarted", "restored"])
def restart(request: pytest.FixtureRequest, server: MaskedServer, tmp_path: Path) -> Restart:
    return (restarts if request.param == "restarted" else restores)(server, tmp_path)


def copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as log, closing(sqlite3.connect(target)) as other:
        log.backup(other)


def restarts(server: MaskedServer, folder: Path) -> Restart:
    return lambda name: server.restart(name, folder / f"{name}.sqlite")


def restores(server: MaskedServer, folder: Path) -> Restart:
    def restore(name: str) -> None:
        server.agents[name].attempts.close()
        copy(folder / f"{name}.old", folder / f"{name}.sqlite")
        server.agents[name] = server.federation.agent(name, folder / f"{name}.sqlite")

    return restore


def arm(agent: Agent, method: str, when: str) -> None:
    """The process ends in the next call of that method of its log."""
    real = getattr(agent.attempts, method)

    def dying(*arguments: Any) -> None:
        if when == "after":
            real(*arguments)
        raise Killed

    setattr(agent.attempts, method, dying)


def unmask_with_forgeries(server: MaskedServer, attempt: Attempt, name: str, active: list[str]) -> Answer:
    """Ask for shares with receipts and signatures of all the others, who sign what the server likes."""
    order, identities = attempt.order, server.federation.identities
    statement = active_statement(order.job, order.attempt, order.digest, tuple(active))
    for peer in active:
        said = identities[peer].sign(
            receipt_statement(order.job, order.attempt, order.digest, peer, Receipt())
        )
        attempt.receipts[peer] = Receipt(signature=to_text(said))
    # Of the member itself there is only what it signed.
    own = [receipt for member, receipt in server.receipts if member == name]
    fitting = (it for it in own if receipt_valid(name, order, it, server.parties))
    attempt.receipts[name] = next(fitting, Receipt())
    signatures = {peer: to_text(identities[peer].sign(statement)) for peer in active}
    return server.ask(name, attempt.unmask(active, signatures))


def live_until(server: MaskedServer, attempt: Attempt, point: tuple[str, str, str]) -> bytes | None:
    """Take member a through an attempt up to the point where it dies; returns the upload if it left."""
    upload: bytes | None = None
    for step in ("train", "agree", "unmask"):
        if step == point[0] and point[1]:
            arm(server.agents["a"], point[1], point[2])
        try:
            if step == "train":
                server.train(attempt, ["a"])
                upload = server.send("a", attempt.request).raw
            elif step == "agree":
                assert server.sign(attempt, "a", FIRST).said == "agree"
            else:
                assert unmask_with_forgeries(server, attempt, "a", FIRST).said == "unmask"
        except Killed:
            return upload
        if step == point[0]:
            return upload
    raise AssertionError("the member did not die")


def tempt(server: MaskedServer, attempt: Attempt) -> set[str]:
    """Everything that can be asked of a about an attempt that is over for it; every answer."""
    said = {server.send("a", attempt.request).said}
    for active in (FIRST, SECOND, ALL):
        said |= {server.sign(attempt, "a", active).said}
        said |= {unmask_with_forgeries(server, attempt, "a", active).said}
    return said


def tempt_with_old_prekeys(server: MaskedServer, attempt: Attempt, number: int) -> set[str]:
    """New attempts, each with one prekey of the old one and fresh ones of everybody else."""
    said = set()
    for name in ALL:
        lie = server.begin(number, {name: attempt.prekeys[name]})
        answer = server.send("a", lie.request)
        said |= {answer.said} | tempt(server, lie)
    return said


@pytest.mark.parametrize("point", POINTS, ids="-".join)
def test_whoever_died_gives_no_second_share(
    server: MaskedServer, restart: Restart, point: tuple[str, str, str], request: pytest.FixtureRequest
) -> None:
    attempt = server.train(server.begin(1), ["b", "c", "d"])
    upload = live_until(server, attempt, point)
    given = dict(server.given)
    restart("a")
    kept = "restarted" in request.node.name and point in KEPT
    answer = server.send("a", attempt.request)
    assert (answer.said == "upload") == kept
    assert not kept or upload is None or answer.raw == upload
    refusals = {"attempt-lost", "replayed", "prekey-unknown"} | ({"upload"} if kept else set())
    assert tempt(server, attempt) <= refusals
    server.exchange("a")
    assert tempt(server, attempt) <= refusals
    assert tempt_with_old_prekeys(server, attempt, 2) <= {"prekey-unknown", "replayed"}
    assert server.given == given
    # With fresh prekeys of everybody it takes part again, also where another set is active.
    fresh = server.train(server.begin(3))
    server.opened(fresh, SECOND)
    assert len(server.given) > len(given)
    assert not server.twice_given


def test_one_life_after_another(server: MaskedServer, tmp_path: Path) -> None:
    """Through every death in turn, restored every other time; the latest attempts are tried again in every life."""
    lives = [restarts(server, tmp_path), restores(server, tmp_path)]
    old: list[Attempt] = []
    for number, point in enumerate(POINTS, start=1):
        attempt = server.train(server.begin(10 * number), ["b", "c", "d"])
        live_until(server, attempt, point)
        old.append(attempt)
        lives[number % 2]("a")
        server.exchange("a")
        for earlier in old[-3:]:
            assert not tempt(server, earlier) & {"agree", "unmask"}
            assert tempt_with_old_prekeys(server, earlier, 10 * number + 1) <= {"prekey-unknown", "replayed"}
            server.exchange()
    assert {giver for giver, _ in server.given} == {"a"}
    assert not server.twice_given


@pytest.mark.parametrize("seed", cases(range(4), quick=lambda it: it == 0))
def test_whatever_a_lying_server_asks_in_whatever_order(
    server: MaskedServer, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members come and go at random; prekeys of which shares were given are offered again, every set is asked for."""
    # What happens here in seconds is what a server may do in hours: there is always room for new prekeys.
    monkeypatch.setattr(ring_module, "RECENT_S", -1.0)
    rng, attempts = Random(seed), [server.begin(1)]
    lives = [restarts(server, tmp_path), restores(server, tmp_path)]
    sets = [FIRST, SECOND, ALL, list("acd"), list("bcd")]
    for _ in range(400):
        name, attempt = rng.choice(ALL), rng.choice(attempts[-3:])
        action = rng.choices(range(6), [1, 4, 12, 4, 12, 2])[0]
        if action == 0:
            rng.choice(lives)(name)
        elif action == 1:
            shared = [server.seen[prekey] for _, prekey in server.given] if rng.random() < 0.65 else []
            reused = {server.parties.names[it.maker]: it for it in rng.sample(shared, min(len(shared), 1))}
            server.exchange()
            attempts.append(server.begin(rng.choice([1, len(attempts) + 1]), reused))
        elif action == 2:
            server.send(name, attempt.request)
        elif action == 3:
            server.sign(attempt, name, rng.choice(sets))
        elif action == 4:
            unmask_with_forgeries(server, attempt, name, rng.choice([it for it in sets if name in it]))
        else:
            server.exchange(name)
    assert len(server.given) >= 4
    assert not server.twice_given


def test_the_same_server_wins_against_an_agent_that_believes_every_prekey_fresh(
    server: MaskedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the start exchange is for: without the peers' numbers both secrets of one prekey come out."""

    def credulous(self: PrekeyRing, witnesses: tuple[Witness, ...]) -> None:
        for it in witnesses:
            self._peers.setdefault(it.witness, {})[it.made] = Taken()
            self._last[it.witness] = it.made

    monkeypatch.setattr(PrekeyRing, "take_witnesses", credulous)
    attempt = server.train(server.begin(1))
    assert unmask_with_forgeries(server, attempt, "a", FIRST).said == "unmask"
    restarts(server, tmp_path)("a")
    server.exchange("a")
    lie = server.begin(2, {"c": attempt.prekeys["c"]})
    assert server.send("a", lie.request).said == "upload"
    assert unmask_with_forgeries(server, lie, "a", SECOND).said == "unmask"
    assert server.twice_given == [("a", attempt.prekeys["c"].id)]
