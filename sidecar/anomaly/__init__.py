"""The anomaly watch: readings of round and service metrics in, alarms out; state that goes through JSON."""

from .alarms import Alarm, Reading, standing_out
from .rounds import ROUND_RULES, RoundMetric, RoundRule

__all__ = ["ROUND_RULES", "Alarm", "Reading", "RoundMetric", "RoundRule", "standing_out"]
