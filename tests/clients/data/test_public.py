"""Public tables in the form in which their sources hand them out become the organisations that they hold."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from hansa.clients.data.encode import encode
from hansa.clients.data.public import TABLES, scenario_from_public
from hansa.clients.data.sources import read_source
from hansa.contract.errors import DataError, InputError

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
# Rows of an organisation that are looked at.
MOST = 300
# Recipe -> the same table already split, and the columns and their order in the downloaded file.
SPLIT = {
    "heart-disease": "heart_disease_4hosp",
    "machine-failure": "ai4i2020",
    "online-shoppers": "online_shoppers_regions",
    "orange-juice": "oj_5stores",
}


def as_downloaded(name: str, split: Path, out: Path) -> None:
    """The split tables put together again as their source has them."""
    known, rows = TABLES[name], {}
    yes, no = {"Revenue": ("TRUE", "FALSE"), "Purchase": ("MM", "CH"), "num": ("2", "0")}.get(
        known.label, ("1", "0")
    )
    for path in sorted(split.glob("*.csv")):
        for row in list(csv.DictReader(path.open()))[:MOST]:
            values = {**row, known.label: yes if row.pop("y") == "1" else no}
            values.pop("y")
            if known.by:
                member = path.stem.removeprefix("reg").removeprefix("store")
                values |= {known.by[0]: member.upper(), **dict.fromkeys(known.dropped, "7")}
            file = next(it for it, organisation in known.files.items() if organisation in ("", path.stem))
            rows.setdefault(file, []).append({it: values[it] or "?" for it in (known.header or values)})
    for file, content in rows.items():
        with (out / file).open("w") as target:
            writer = csv.DictWriter(target, list(content[0]))
            if not known.header:
                writer.writeheader()
            writer.writerows(content)


@pytest.mark.skipif(not DATA.is_dir(), reason="no tables in HANSA_DATA")
@pytest.mark.parametrize("name", TABLES)
def test_a_downloaded_table_becomes_its_organisations(name: str, tmp_path: Path) -> None:
    split = DATA / SPLIT[name]
    (tmp_path / "downloaded").mkdir()
    as_downloaded(name, split, tmp_path / "downloaded")
    made = scenario_from_public(name, tmp_path / "downloaded", tmp_path / "made")
    expected = {path.stem: min(len(path.read_text().splitlines()) - 1, MOST) for path in split.glob("*.csv")}
    assert len(made.scenario.members) == len(expected)
    sizes = []
    for member in made.scenario.members:
        records = encode(read_source(member.data, made.folder), made.features, member.name)
        assert 0 < records.y.mean() < 1
        sizes.append(len(records))
    assert sorted(sizes) == sorted(expected.values())
    assert not {column.name for column in made.features.columns} & TABLES[name].dropped
    assert TABLES[name].url in (tmp_path / "made" / "README.md").read_text()
    assert made.scenario.industry


HEART = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0\n67,1,4,160,0,0,2,108,1,1.5,2,?,?,2\n"


def test_a_small_table_is_split_by_file_with_its_gaps(tmp_path: Path) -> None:
    for file in TABLES["heart-disease"].files:
        (tmp_path / file).write_text(HEART * 20)
    scenario_from_public("heart-disease", tmp_path, tmp_path / "made")
    lines = (tmp_path / "made" / "heart-disease" / "va.csv").read_text().splitlines()
    assert lines[0].startswith("y,age,sex,cp,trestbps,chol")
    assert lines[2] == "1,67,1,4,160,,0,2,108,1,1.5,2,,"
    with pytest.raises(InputError, match="exists already"):
        scenario_from_public("heart-disease", tmp_path, tmp_path / "made")


def test_what_is_wrong_with_a_download_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'hearts' is not known; known are heart-disease"):
        scenario_from_public("hearts", tmp_path, tmp_path / "made")
    with pytest.raises(InputError, match=r"OJ\.csv: no such file; download it from https://"):
        scenario_from_public("orange-juice", tmp_path, tmp_path / "made")
    (tmp_path / "OJ.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="column 'Purchase' is missing"):
        scenario_from_public("orange-juice", tmp_path, tmp_path / "made")
    (tmp_path / "OJ.csv").write_text("Purchase,StoreID\nMM\n")
    with pytest.raises(DataError, match="row 1: expected 2 values, found 1"):
        scenario_from_public("orange-juice", tmp_path, tmp_path / "made")
    for file in TABLES["heart-disease"].files:
        (tmp_path / file).write_text(HEART.replace(",0\n", ",x\n"))
    with pytest.raises(DataError, match="row 1: 'x' is no value of 'num'"):
        scenario_from_public("heart-disease", tmp_path, tmp_path / "made")
