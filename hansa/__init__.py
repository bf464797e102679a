"""Hansa: organisations train one model together and none shows its data.

    import hansa

    hansa.simulate("consortium", rounds=3)

What a notebook needs is here (docs/python-api.md); it is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hansa.cli.notebook import Drawing, LoadedScenario, Simulation, load_scenario, scenarios, simulate
    from hansa.contract.errors import HansaError, InputError

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(
        ("Drawing", "LoadedScenario", "Simulation", "load_scenario", "scenarios", "simulate"),
        "hansa.cli.notebook",
    ),
    **dict.fromkeys(("HansaError", "InputError"), "hansa.contract.errors"),
}
__all__ = [
    "Drawing",
    "HansaError",
    "InputError",
    "LoadedScenario",
    "Simulation",
    "load_scenario",
    "scenarios",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hansa' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
