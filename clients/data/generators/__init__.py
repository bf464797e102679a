"""Synthetic organisations: one generator a file, deterministic by seed, different by options.

Every generator takes the options below; each file documents its own columns and any further option.

    prevalence  share of positive labels, where the label is yes or no
    shift       how far this organisation's records lie from the others', in standard deviations
    drift       how far its own truth departs from the common one; 0 is none
    noise       standard deviation of what no column explains, in log-odds; of a number's logarithm
    missing     share of absent values in the columns that have gaps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.contract.errors import DataError
from hansa.contract.sources import SyntheticSource

if TYPE_CHECKING:
    import polars as pl

GENERATORS = (
    *("bank", "basket", "claims", "credit", "diagnosis", "hospital"),
    *("inventory", "manufacturing", "quality", "retail", "supply"),
)


def generate(source: SyntheticSource) -> pl.DataFrame:
    """The table of one synthetic organisation.

    Raises
    ------
    DataError : no such generator, or an option that it does not have
    """
    if source.generator not in GENERATORS:
        raise DataError(f"generator '{source.generator}' is not known; known are {', '.join(GENERATORS)}")
    from importlib import import_module

    import polars as pl

    module = import_module(f"hansa.clients.data.generators.{source.generator}")
    unknown = sorted(set(source.options) - set(module.OPTIONS))
    if unknown:
        known = ", ".join(module.OPTIONS)
        raise DataError(
            f"generator '{source.generator}' has no option '{unknown[0]}'; its options are {known}"
        )
    columns = module.records(source.rows, source.seed, {**module.OPTIONS, **source.options})
    return pl.DataFrame({name: pl.Series(name, values.tolist()) for name, values in columns.items()})
