"""Where a member's records come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.typed import Frozen


class SyntheticSource(Frozen):
    """A generator of the package, deterministic by `seed` and member."""

    kind: Literal["synthetic"] = "synthetic"
    generator: str
    rows: Annotated[int, Field(ge=1, le=100_000_000)]
    seed: Annotated[int, Field(ge=0)]
    # What makes this organisation different from the others; each generator documents its own.
    options: dict[str, float] = {}


class CsvSource(Frozen):
    """A CSV file with a header row; empty cells are missing values. A relative path starts at the config's folder."""

    kind: Literal["csv"] = "csv"
    path: str


class ParquetSource(Frozen):
    """A Parquet file."""

    kind: Literal["parquet"] = "parquet"
    path: str


class SqlSource(Frozen):
    """One SELECT at a database by SQLAlchemy URL; `${NAME}` in the URL is read from the environment."""

    kind: Literal["sql"] = "sql"
    url: str
    query: str


Source = Annotated[SyntheticSource | CsvSource | ParquetSource | SqlSource, Field(discriminator="kind")]
