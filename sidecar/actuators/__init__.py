"""Actuators: start and stop replicas of a service; one small protocol, four ways."""

from .replicas import Actuator, ActuatorError, Load, Replicas

__all__ = ["Actuator", "ActuatorError", "Load", "Replicas"]
