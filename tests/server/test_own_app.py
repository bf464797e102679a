"""Whoever reaches Control starts Hansa's own ServerApp, and no other by any field of the request."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import StartAutomationRequest, StartRunRequest, StartRunResponse
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar
from lane_side import Side

from hansa.contract.errors import InputError
from hansa.server.lane.own_app import OwnAppOnly, checked_request
from hansa.server.runs import CLIENT_APP, SERVER_APP, build_fab

OWN = build_fab({"job": ""})
OTHER = (
    '[project]\nname = "rogue"\nversion = "1.0.0"\nlicense = "Apache-2.0"\n'
    '[tool.flwr.app]\npublisher = "somebody"\n[tool.flwr.app.components]\n'
)


def _bundle(components: str, **files: str) -> bytes:
    content = {"pyproject.toml": (OTHER + components).encode()}
    return build_fab_from_files(content | {name: text.encode() for name, text in files.items()})[0]


def _fab(content: bytes) -> Fab:
    return Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)


def _plain_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr("notes.txt", "none")
    return file.getvalue()


SERVERAPP = f'serverapp = "{SERVER_APP}"\n'
REFUSED: dict[str, Callable[[], StartRunRequest]] = {
    "an app named beside our own bundle": lambda: StartRunRequest(
        fab=_fab(OWN), app_spec="@rogue/app==1.0.0"
    ),
    "an app by name": lambda: StartRunRequest(app_spec="@rogue/app"),
    "an app in store": lambda: StartRunRequest(fab=Fab(hash_str="0" * 64), app_spec="@rogue/app"),
    "a bundle in store": lambda: StartRunRequest(fab=Fab(hash_str="0" * 64)),
    "nothing": StartRunRequest,
    "another ServerApp": lambda: StartRunRequest(
        fab=_fab(_bundle(f'serverapp = "os:system"\nclientapp = "{CLIENT_APP}"\n'))
    ),
    "an agent beside our ServerApp": lambda: StartRunRequest(
        fab=_fab(_bundle(SERVERAPP + 'agentapp = "os:system"\n'))
    ),
    "another ClientApp": lambda: StartRunRequest(fab=_fab(_bundle(SERVERAPP + 'clientapp = "os:system"\n'))),
    "code": lambda: StartRunRequest(
        fab=_fab(_bundle(SERVERAPP + f'clientapp = "{CLIENT_APP}"\n', **{"hansa.py": "app = 1\n"}))
    ),
    "no pyproject": lambda: StartRunRequest(fab=_fab(_plain_zip())),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_with_another_way_for_code_is_refused(what: str) -> None:
    request = REFUSED[what]()
    with pytest.raises(InputError):
        checked_request(request.SerializeToString())


@pytest.mark.parametrize("body", [b"\xff\xff\xff", bytes(2 << 20)])
def test_garbage_starts_nothing(body: bytes) -> None:
    with pytest.raises(InputError):
        checked_request(body)


def test_only_what_was_checked_reaches_flower() -> None:
    asked = StartRunRequest(
        fab=Fab(hash_str="0" * 64, content=OWN, verifications={"a": "b"}),
        override_config={"job": Scalar(string="x")},
        federation="f",
        series_id=7,
        user_prompt="do",
        connector_refs=["c"],
        connector_ids=[1],
    )
    asked.override_federation_config.SetInParent()
    passed = StartRunRequest.FromString(checked_request(asked.SerializeToString() + b"\xfa\x07\x01x"))
    assert passed == StartRunRequest(
        fab=_fab(OWN), override_config={"job": Scalar(string="x")}, federation="f"
    )


def test_every_field_of_flowers_request_is_known_here() -> None:
    """A field that a new Flower adds is dropped; this says that somebody should look at it."""
    assert {field.name for field in StartRunRequest.DESCRIPTOR.fields} == {
        *("fab", "override_config", "federation"),
        *("app_spec", "override_federation_config", "series_id"),
        *("connector_refs", "connector_ids", "user_prompt"),
    }


class _Guarded(Side):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lane=True)
        self.outer: Any = OwnAppOnly(self.outer)


def test_hansas_own_run_starts_on_flower_itself_and_a_named_app_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Any] = []
    handlers = "flwr.superlink.servicer.control.control_handlers"
    monkeypatch.setattr(f"{handlers}._get_remote_fab", lambda *a: fetched.append(a) or (OWN, {}, None))
    side = _Guarded(tmp_path)
    own = StartRunRequest(fab=_fab(OWN))

    async def check() -> None:
        for suffix in ("", "/"):
            asked = REFUSED["an app named beside our own bundle"]()
            answer = await side.post(f"/v1/control/start-run{suffix}", asked)
            assert (answer.status_code, "fetches none" in answer.text) == (403, True)
        automation = StartAutomationRequest(start_run_request=own)
        assert (await side.post("/v1/control/start-automation", automation)).status_code == 403
        answer = await side.post("/v1/control/start-run", own)
        assert StartRunResponse.FromString(answer.content).run_id

    asyncio.run(check())
    assert fetched == []
