"""Predictive scaling of the service's own workers: what is asked, what is decided, what it cost."""

from .policy import Scaler
from .signals import Band, ScalingDecision, ServiceLimits, Signals

__all__ = ["Band", "Scaler", "ScalingDecision", "ServiceLimits", "Signals"]
