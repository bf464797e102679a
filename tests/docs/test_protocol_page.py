"""docs/protocol.md speaks of every message and every refusal that there is."""

from __future__ import annotations

import re
from typing import get_args

from documents import ROOT
from pydantic import BaseModel

from hansa.contract.errors import REFUSAL_CODES
from hansa.contract.messages import Reply, Request

PAGE = (ROOT / "docs" / "protocol.md").read_text()


def test_every_refusal_is_named_once_in_its_section() -> None:
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|$", PAGE.partition("## 8.")[2], re.MULTILINE)
    assert sorted(re.findall(r"`([a-z-]+)`", " ".join(rows))) == sorted(REFUSAL_CODES)


def test_every_message_is_named() -> None:
    kinds: list[type[BaseModel]] = [*get_args(Request), *get_args(Reply)]
    for kind in kinds:
        name = kind.model_fields["type"].default
        assert f"`{name}`" in PAGE.partition("## 2.")[0], name


def test_sections_have_the_numbers_that_the_code_names() -> None:
    sections = {int(it) for it in re.findall(r"^## (\d)\.", PAGE, re.MULTILINE)}
    named = set()
    for path in (
        it
        for folder in ("contract", "clients", "secagg", "strategies")
        for it in (ROOT / folder).rglob("*.py")
    ):
        for numbers in re.findall(
            r"PROTOCOL (?:sections? )?((?:\d(?:\.\d)?(?:, | and )?)+)", path.read_text()
        ):
            named |= {int(it) for it in re.findall(r"(\d)(?:\.\d)?", numbers)}
    assert named
    assert named <= sections
