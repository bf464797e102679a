"""Public tables as scenarios: somebody downloads a table, a recipe here splits it into organisations.

Nothing is downloaded by this program. A recipe knows the files as their source hands them out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.clients.data.from_csv import DerivedScenario, derive_scenario, scenario_toml, slug
from hansa.contract.errors import DataError, InputError
from hansa.contract.typed import write_atomically

Record = dict[str, str]
# As spellings of an absent value; the CSV that is written has empty cells.
_ABSENT = {"?", "NA", ""}


@dataclass(frozen=True)
class PublicTable:
    """One public table and how it becomes organisations.

    Attributes
    ----------
    files : its files' names as its source has them, each with the organisation that it is of; "" where `by` says
    header : column names of files without a header row
    by : column whose values are the organisations, and what stands before them in their names
    label, positive : the column to predict, and whether a value of it means yes
    dropped : columns that tell the label or only number rows
    zero_is_absent : columns in which 0 was written for a missing value
    """

    title: str
    industry: str
    task: str
    url: str
    licence: str
    files: Mapping[str, str]
    label: str
    positive: Callable[[str], bool]
    header: tuple[str, ...] = ()
    by: tuple[str, str] | None = None
    dropped: frozenset[str] = frozenset()
    zero_is_absent: frozenset[str] = frozenset()


_HEART = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
TABLES: Mapping[str, PublicTable] = {
    "heart-disease": PublicTable(
        title="Four hospitals on heart disease (UCI 45)",
        industry="health care",
        task="diagnose coronary heart disease",
        url="https://archive.ics.uci.edu/dataset/45/heart+disease",
        licence="CC BY 4.0",
        files={f"processed.{name}.data": name for name in ("cleveland", "hungarian", "switzerland", "va")},
        header=(*_HEART, "num"),
        label="num",
        positive=lambda value: float(value) > 0,
        zero_is_absent=frozenset({"chol", "trestbps"}),
    ),
    "machine-failure": PublicTable(
        title="Three product lines on machine failure (AI4I 2020, UCI 601)",
        industry="manufacturing",
        task="predict machine failure",
        url="https://archive.ics.uci.edu/dataset/601/ai4i+2020+predictive+maintenance+dataset",
        licence="CC BY 4.0",
        files={"ai4i2020.csv": ""},
        by=("Type", "line"),
        label="Machine failure",
        positive=lambda value: value == "1",
        dropped=frozenset({"UDI", "Product ID", "TWF", "HDF", "PWF", "OSF", "RNF"}),
    ),
    "online-shoppers": PublicTable(
        title="Nine regions on sessions that end in a purchase (UCI 468)",
        industry="retail",
        task="predict whether a session ends in a purchase",
        url="https://archive.ics.uci.edu/dataset/468/online+shoppers+purchasing+intention+dataset",
        licence="CC BY 4.0",
        files={"online_shoppers_intention.csv": ""},
        by=("Region", "region"),
        label="Revenue",
        positive=lambda value: value.upper() == "TRUE",
    ),
    "orange-juice": PublicTable(
        title="Five stores on which juice is bought (ISLR OJ)",
        industry="retail",
        task="predict which brand a customer buys next",
        url="https://vincentarelbundock.github.io/Rdatasets/csv/ISLR/OJ.csv",
        licence="GPL-2, with R's package ISLR",
        files={"OJ.csv": ""},
        by=("StoreID", "store"),
        label="Purchase",
        positive=lambda value: value == "MM",
        dropped=frozenset({"", "rownames", "Store7", "STORE"}),
    ),
}


def scenario_from_public(name: str, source: Path, out: Path, *, overwrite: bool = False) -> DerivedScenario:
    """Make a scenario of a public table that lies in `source`.

    Raises
    ------
    InputError : no such recipe, a file that is missing, or a scenario stands in `out` already
    DataError : a file that is not as its source has it
    """
    if name not in TABLES:
        raise InputError(f"public table '{name}' is not known; known are {', '.join(TABLES)}")
    known = TABLES[name]
    if not overwrite and (out / "scenario.toml").exists():
        raise InputError(f"{out / 'scenario.toml'} exists already; choose another folder or --force")
    tables: dict[str, list[Record]] = {}
    for file, organisation in known.files.items():
        for record in _records(source / file, known):
            key = known.by[0] if known.by else ""
            member = slug(f"{known.by[1]}-{record.pop(key)}") if known.by else organisation
            tables.setdefault(member, []).append(record)
    folder = out / name
    for member, rows in sorted(tables.items()):
        write_atomically(folder / f"{member}.csv", _csv(rows))
    derived = derive_scenario(folder, label="y", out=out, overwrite=True)
    update = {"title": known.title, "industry": known.industry, "task": known.task}
    scenario = derived.scenario.model_copy(update=update)
    write_atomically(out / "scenario.toml", scenario_toml(scenario))
    page = (out / "README.md").read_text().partition("\n")[2]
    write_atomically(out / "README.md", f"# {known.title}\n\n{known.url}, {known.licence}.\n{page}".encode())
    return DerivedScenario(out, scenario, derived.features, derived.warnings)


def _records(path: Path, known: PublicTable) -> Iterator[Record]:
    """The file's rows without dropped columns, the label as y = 0 or 1 in front."""
    try:
        # Some of these files begin with a mark of their encoding.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; download it from {known.url} and unpack it there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    reader = csv.reader(io.StringIO(text))
    header = list(known.header) or next(reader, [])
    missing = [it for it in (known.label, *(known.by or ())[:1]) if it not in header]
    if missing:
        raise DataError(
            f"{path}: column '{missing[0]}' is missing; this is not the table that {known.url} has"
        )
    for number, cells in enumerate(reader, start=1):
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(f"{path}, row {number}: expected {len(header)} values, found {len(cells)}")
        row = dict(zip(header, (it.strip() for it in cells), strict=True))
        label = row.pop(known.label)
        try:
            y = "1" if known.positive(label) else "0"
        except ValueError:
            raise DataError(f"{path}, row {number}: '{label[:40]}' is no value of '{known.label}'") from None
        yield {
            "y": y,
            **{name: _cell(name, it, known) for name, it in row.items() if name not in known.dropped},
        }


def _cell(name: str, value: str, known: PublicTable) -> str:
    absent = value in _ABSENT or (name in known.zero_is_absent and value.strip("0.") == "")
    return "" if absent else value


def _csv(rows: list[Record]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
