"""The anomaly watch: readings of round and service metrics in, alarms out; state that goes through JSON."""

from .alarms import Alarm, Reading, standing_out
from .ops import OpsMetric, OpsRule
from .rounds import ROUND_RULES, RoundMetric, RoundRule
from .watch import Watch

__all__ = [
    "ROUND_RULES",
    "Alarm",
    "OpsMetric",
    "OpsRule",
    "Reading",
    "RoundMetric",
    "RoundRule",
    "Watch",
    "standing_out",
]
