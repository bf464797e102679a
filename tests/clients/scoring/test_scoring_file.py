"""The served file: whole or refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from scoring_side import facts, publish, tensors

from hansa.clients.scoring.model_file import model_bytes, parse_model, read_model
from hansa.contract.errors import InputError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    of = publish(tmp_path / "served", personal=True)
    found = read_model(tmp_path / "served")
    assert found.facts == of
    np.testing.assert_array_equal(found.tensors["weights"], tensors(of)["weights"])
    assert found.personal is not None
    assert found.personal.factor == 0.7
    assert stat.S_IMODE((tmp_path / "served").stat().st_mode) == 0o600


def test_a_changed_byte_anywhere_is_found() -> None:
    content = model_bytes(facts(), tensors(facts(), personal=True))
    refused = 0
    for place in range(0, len(content), 37):
        changed = bytearray(content)
        changed[place] ^= 0x20
        try:
            found = parse_model(bytes(changed), "t")
        except InputError:
            refused += 1
        else:
            # The labels that other programs read stand outside what is served.
            assert found.digest == parse_model(content, "t").digest
    assert refused > len(content) / 37 - 5


@pytest.mark.parametrize(
    "content", [b"", b"x" * 7, b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}", b"PK\x03\x04" * 99]
)
def test_another_kind_of_file_is_a_sentence(content: bytes) -> None:
    with pytest.raises(InputError, match="t: no model to serve can be read from it"):
        parse_model(content, "t")


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("weights", np.array([np.nan] * 3), "tensor 'weights' holds values that are not finite"),
        ("adjustment", np.zeros(3), "tensor 'adjustment' of float64"),
        ("calibration", None, "tensor 'calibration' is missing"),
        ("odd", np.zeros(2), "tensor 'odd' of float64"),
    ],
)
def test_tensors_that_do_not_belong_to_the_contract_are_refused(
    name: str, array: np.ndarray | None, sentence: str
) -> None:
    """Also where the digest is right: it says that a file is whole, not that it makes sense."""
    from hansa.clients.scoring.model_file import _digest

    content = model_bytes(facts(), tensors(facts(), personal=True))
    kept, text = load(content), facts().model_dump_json()
    kept = {key: value for key, value in {**kept, name: array}.items() if value is not None}
    forged = save(kept, metadata={"facts": text, "sha256": _digest(text, kept)})
    with pytest.raises(InputError, match=sentence):
        parse_model(forged, "t")


def test_nothing_in_it_is_code() -> None:
    content = model_bytes(facts(), tensors(facts()))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert {it["dtype"] for name, it in header.items() if name != "__metadata__"} == {"F64"}
    assert b"pickle" not in content
