"""How a derived scenario trains: what `benchmarks/utility.py` measures, the same for every table.

Nothing here was fitted to one table, and nothing looks at records: contract, public sizes and the label's
prevalence to one digit say the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.clients.data.derive_label import one_digit
from hansa.contract.charter import KnobRange
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import ServerRule
from hansa.models.linear import RowModel, curvature, label_curvature
from hansa.models.model import Model

ROUNDS = 60
# Ridge penalty on the summed loss of all members; in the mean loss it is divided by their records.
RIDGE = 0.1
# Heavy ball: steps of RATE over the second derivative of the loss by the output. With a row of norm 1, most of which
# no column has for itself, they converge; the clip bounds them where columns all say the same.
RATE, MOMENTUM, AVERAGED = 8.0, 0.8, 0.75
# A typical record's gradient has norm |residual|: less than that costs little signal and saves as much noise.
CLIP = 0.3
# Of models that are no linear function of their columns, and of training without noise
# (`benchmarks/federated_vs_pooled.py`): large enough to leave most records as they are.
OTHER_CLIP, OTHER_RATE = 4.0, 0.6


@dataclass(frozen=True)
class Recipe:
    """What a scenario starts from."""

    clip: float
    rule: ServerRule
    server_rate: KnobRange
    rounds: int = ROUNDS


def recipe(model: Model, features: FeatureContract, records: int) -> Recipe:
    """The recipe of a model, contract and public number of records."""
    decay = one_digit(RIDGE / records)
    if not isinstance(model, RowModel):
        rate = KnobRange(default=OTHER_RATE, low=0.01, high=2.0)
        return Recipe(OTHER_CLIP, ServerRule(decay=decay), rate)
    step = one_digit(RATE / label_curvature(features.label))
    rule = ServerRule(
        name="fedavgm",
        beta1=MOMENTUM,
        tail=AVERAGED,
        decay=decay,
        curvature=float(f"{curvature(features, model.parameters):.1e}"),
    )
    return Recipe(CLIP, rule, KnobRange(default=step, low=step / 100, high=3 * step))
