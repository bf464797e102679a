"""Replies of every type, in form, signed and hostile, to the real strategy over the store and control's signature."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from desks import NOWHERE, SECRETS
from federation import JOB, make_federation, make_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_masked_job import ThroughControl

from hansa.contract import messages
from hansa.contract.messages import PREKEYS, Reply, ReplyHeader
from hansa.contract.typed import canonical_json
from hansa.contract.wire import (
    Segments,
    describe,
    digest,
    reply_header,
    request_header,
    seal,
    segments_of,
    unpack,
)
from hansa.server.control.desk import ControlDesk
from hansa.server.store import open_store
from hansa.server.tokens import Tokens
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid

LIAR = "e"
FEDERATION = make_federation(5, mode="masked", rows=30)
TYPES = {body.model_fields["type"].default: body for body in get_args(Reply)}

extremes = st.one_of(
    st.sampled_from(
        [0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**70, -(2**63), 1e308, -0.0, 0.5, True, False, None]
    ),
    st.sampled_from(
        ["", "a", "e", "z", "x" * 500, "x" * 10_000, "\x00", "ü\x1f\x7f", "0" * 32, "0" * 64, JOB]
    ),
    st.sampled_from(
        ["restarted", "prekey-unknown", "replayed", "bad-share", "attempt-lost", "A" * 64 + "=="]
    ),
)
values = st.recursive(
    extremes,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "b", "e", "z", "maker", "start", "first", "x" * 63]), inner, max_size=4
        ),
    ),
    max_leaves=6,
)
segments = st.one_of(
    st.none(),
    st.just({}),
    st.sampled_from([PREKEYS, "update", "evaluation"]).flatmap(
        lambda name: st.sampled_from(
            [
                {name: np.zeros(size, dtype)}
                for size in (0, 1, 3, 100_000)
                for dtype in (np.uint8, np.uint32, np.float64)
            ]
        )
    ),
)


@st.composite
def lies(draw: st.DrawFn) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    """From an honest body to a hostile one: of another type, or with some of its fields changed."""
    kind = draw(st.sampled_from(["", "", "", *TYPES]))
    changes = draw(st.dictionaries(st.integers(0, 20), values, max_size=3))

    def change(asked: str, honest: dict[str, Any]) -> dict[str, Any]:
        body = dict(honest) if not kind else {"type": kind}
        fields = [name for name in TYPES[kind or honest["type"]].model_fields if name != "type"]
        return body | {fields[place % len(fields)]: value for place, value in changes.items() if fields}

    return change


def hostile(agent: Any, lie: Any, with_segments: Segments | None, when: set[str]) -> Callable[[bytes], bytes]:
    """A node that answers requests of these types with a lie where that is in form, and honestly else."""

    def answer(payload: bytes) -> bytes:
        asked = request_header(unpack(payload)).body.type
        reply: bytes = agent.handle(payload)
        packed = unpack(reply)
        header = reply_header(packed)
        if asked not in when:
            return reply
        arrays = segments_of(packed, header.segments) if with_segments is None else with_segments
        document = {
            "charter": header.charter,
            "sender": LIAR,
            "request": digest(payload),
            "body": lie(asked, header.body.model_dump(mode="json")),
            "segments": [it.model_dump(mode="json") for it in describe(arrays)],
        }
        try:
            changed = ReplyHeader.model_validate_json(canonical_json(document), strict=True)
        except ValidationError:
            # Not in form: the strategy has to bear such bytes, too.
            return raw(canonical_json(document), arrays)
        return seal(changed, arrays, FEDERATION.identities[LIAR])

    return answer


def raw(header: bytes, arrays: Segments) -> bytes:
    """A signed message whose header is whatever bytes there are."""
    signature = FEDERATION.identities[LIAR].sign(messages.signed_part(header))
    prefix = messages.PREFIX.pack(messages.MAGIC, messages.PROTOCOL, len(header))
    return b"".join([prefix, header, signature, *(array.tobytes() for array in arrays.values())])


when_lied = st.sets(
    st.sampled_from(["hello", "witness", "job", "attempt", "agree", "unmask", "close"]), min_size=1
)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(lie=lies(), arrays=segments, when=when_lied)
def test_no_reply_of_a_member_ends_a_run(lie: Any, arrays: Segments | None, when: set[str]) -> None:
    check_run(lie, arrays, when)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(lie=lies(), arrays=segments, when=when_lied)
def test_no_reply_of_many_ends_a_run(lie: Any, arrays: Segments | None, when: set[str]) -> None:
    check_run(lie, arrays, when)


def check_run(lie: Any, arrays: Segments | None, when: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder)}/store.sqlite")
        desk = ControlDesk(
            store=store,
            charter=FEDERATION.charter,
            charter_hash=FEDERATION.hash,
            key=FEDERATION.operator,
            tokens=Tokens({scope: secret.encode() for scope, secret in SECRETS.items()}),  # type: ignore[misc]
            superlink=NOWHERE,
        )
        desk.submit(make_plan(rounds=2, deadline_s=2.0, reask_s=2.0))
        agents = FEDERATION.agents()
        nodes = {number: agent.handle for number, agent in enumerate(agents.values(), start=1)}
        nodes[5] = hostile(agents[LIAR], lie, arrays, when)
        strategy = ConsortiumStrategy(
            charter=FEDERATION.charter,
            charter_hash=FEDERATION.hash,
            model=FEDERATION.model,
            journal=store.claim(JOB, "run 1"),
            operator=ThroughControl(desk, []),
            gather_s=0.0,
            sleep=lambda _: None,
        )
        grid = InMemoryGrid(nodes, workers=5)
        try:
            strategy.start(grid)
        finally:
            grid.close()
        job = store.jobs.get(JOB)
        assert job.status == "finished" or (job.status == "paused" and job.reason)
        accused = {it.member for it in store.history.events(after=0, limit=1000) if it.kind == "bad-reply"}
        assert accused <= {LIAR, ""}
        store.close()
