"""Recorded demands: held, not interpolated; what cannot be read is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.contract.errors import DataError
from hansa.sidecar.scaling.traces import read_trace


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_values_are_held_until_the_next(tmp_path: Path) -> None:
    rows = "timestamp,value\n2026-01-01 00:00:00,1\n2026-01-01 00:03:00,4\n2026-01-01 00:05:00,-2\n"
    trace = read_trace(written(tmp_path, rows))
    assert trace.demand.tolist() == [1, 1, 1, 4, 4, 0]
    assert trace.start == 1_767_225_600.0
    assert trace.capacity() == 4 / 15


def test_order_zones_gaps_and_seconds_do_not_matter(tmp_path: Path) -> None:
    rows = (
        "value,timestamp\n3,1767225720\n"
        "nan,2026-01-01T00:01:00Z\n1,2026-01-01T01:00:00+01:00\n2,1767225725.5\n,1767225780\n"
    )
    assert read_trace(written(tmp_path, rows)).demand.tolist() == [1, 1, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column timestamp and no column value"),
        ("time,value\n1,2\n", "no column timestamp"),
        ("timestamp,value\n", "no row has a value"),
        ("timestamp,value\n0,nan\n60,\n", "no row has a value"),
        ("timestamp,value\n0,1\n60,many\n", "line 3: the value 'many' is not a number"),
        ("timestamp,value\n0,1\n60,inf\n", "line 3: the value is infinite"),
        ("timestamp,value\nyesterday,1\n", "line 2: the timestamp 'yesterday' is neither"),
        ("timestamp,value\n-5,1\n", "is not in seconds since 1970"),
        ("timestamp,value\n0,1\n30,2\n", "within one minute"),
        ("timestamp,value\n0,0\n60,-1\n", "no value is above zero"),
        ("timestamp,value\n0,1\n99999999999,2\n", "at most 3000000 are read"),
    ],
)
def test_what_is_no_trace_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_trace(written(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_trace(tmp_path / "missing.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError):
        read_trace(tmp_path / "bytes.csv")
