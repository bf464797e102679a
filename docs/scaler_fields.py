"""The section on scaler.toml: its reader runs over empty tables that write down what it asks for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tables import code, table

from hansa.sidecar.scaler import services
from hansa.sidecar.scaler.fields import Fields

SIGNALS = ("control", "metrics")
ACTUATORS = ("dry-run", "processes", "docker", "kubernetes")

MEANINGS = {
    "every_s": "Seconds between two looks.",
    "service": "One `[[service]]` for each scaled service, with a table `signals` and a table `actuator`.",
    "name": "Its name, here and in the journal.",
    "capacity": "Demand that one replica carries: jobs, or requests a minute.",
    "minimum": "Fewest replicas.",
    "maximum": "Most replicas.",
    "startup_s": "Seconds from asking for a replica until it works; so far ahead demand is forecast.",
    "violation_budget": "Share of the time in which demand may be above what the replicas carry.",
    "price": "What a replica costs an hour, in any currency.",
    "cooldown_s": "Seconds without a decrease after a change.",
    "policy": "`forecast`: what is cheapest at the violation budget. `demand`: as many as demand needs now.",
    "signals": "Where demand is read.",
    "actuator": "What starts and stops replicas.",
    "signals.kind": "`control`: jobs that wait or run. `metrics`: requests, out of what replicas say to Prometheus.",
    "signals.url": "http://HOST:PORT/PATH; each address of the host's name is a replica.",
    "signals.ports": "So many ports from that of the url on are asked.",
    "signals.requests": "Name of the counter of requests.",
    "signals.in_flight": "Name of the gauge of requests under way.",
    "signals.without": "A label of samples that do not count.",
    "actuator.kind": "What a replica is.",
    "actuator.replicas": "How many it pretends to find.",
    "actuator.command": "What a replica runs; see [scaler](../scaler.md) for the words that are filled in.",
    "actuator.env": "Variables of its environment.",
    "actuator.drain": "Signal that asks a replica to end.",
    "actuator.drain_s": "Seconds after which one that has not ended is killed.",
    "actuator.fixed": "Replicas that somebody else runs; they count and are left alone.",
    "actuator.port": "Port of the first replica, 0 for none.",
    "actuator.cpus": "Cores of one replica, for its load.",
    "actuator.memory_mb": "Memory of one replica, for its load; 0 where nothing is said.",
    "actuator.socket": "Unix socket of the Docker gate.",
    "actuator.service": "Name of the Compose service.",
    "actuator.deployment": "Name of the Deployment.",
    "actuator.namespace": "Its namespace; empty: the pod's own.",
    "actuator.server": "Address of the cluster's API; empty: that of the pod's own cluster.",
    "actuator.token_file": "File with the token; empty: the pod's own.",
    "actuator.ca_file": "The API's CA certificate; empty: the pod's own.",
}


class _Asked(Fields):
    """Answers every question with its default, or with what passes, and keeps the question."""

    # name -> (value, default), of all tables of one reading, in order; `kinds` says which kind a table is of.
    rows: dict[str, tuple[str, str]] = {}
    kinds: dict[str, str] = {}

    @property
    def _table_name(self) -> str:
        return self.where.rsplit(".", 1)[1] + "." if self.where.endswith((".signals", ".actuator")) else ""

    def _ask(self, name: str, value: str, default: Any, passes: Any) -> Any:
        shown = (
            "required" if default is None else code(f'"{default}"' if isinstance(default, str) else default)
        )
        self.rows.setdefault(self._table_name + name, (value, shown))
        self._table.pop(name, None)
        return passes if default is None else default

    def number(
        self, name: str, default: float | None = None, *, least: float = 0.0, most: float = 1e12
    ) -> float:
        limit = f" to {most:g}" if most < 1e12 else ""
        return float(self._ask(name, f"number from {least:g}{limit}", default, max(least, 1.0)))

    def whole(self, name: str, default: int | None = None, *, least: int = 0, most: int = 10_000) -> int:
        return int(self._ask(name, f"whole number from {least} to {most}", default, least))

    def text(self, name: str, default: str | None = None) -> str:
        return str(self._ask(name, "text", default, "http://127.0.0.1:9490/metrics"))

    def name(self, name: str) -> str:
        return str(self._ask(name, "lower-case letters, digits, - and _", None, "scoring"))

    def one_of(self, name: str, *choices: str, default: str | None = None) -> str:
        passes = self.kinds.get(self._table_name, choices[0]) if name == "kind" else choices[0]
        return str(self._ask(name, " or ".join(code(f'"{it}"') for it in choices), default, passes))

    def words(self, name: str) -> tuple[str, ...]:
        return (str(self._ask(name, "list of texts, at least 1", None, "true")),)

    def texts(self, name: str) -> dict[str, str]:
        self._ask(name, "table of text", {}, {})
        return {}

    def table(self, name: str) -> Fields:
        self._ask(name, "table", None, None)
        return _Asked({}, f"{self.where}.{name}")

    def tables(self, name: str) -> list[Any]:
        self._ask(name, "list of tables, at least 1", None, None)
        return [{}]


def quoted(text: str) -> str:
    """A text as TOML has it."""
    return f"'{text}'" if '"' in text else f'"{text}"'


def asked(signals: str, actuator: str) -> dict[str, tuple[str, str]]:
    """Fields that the reader asks for where the tables are of these kinds, in its order."""
    _Asked.rows, _Asked.kinds = {}, {"signals.": signals, "actuator.": actuator}
    with tempfile.NamedTemporaryFile(suffix=".toml") as empty, patch.object(services, "Fields", _Asked):
        services.read_services(Path(empty.name))
    return _Asked.rows


def scaler_section() -> str:
    """The section's text."""
    first = asked(SIGNALS[0], ACTUATORS[0])
    top = {name: it for name, it in first.items() if "." not in name}
    parts = ["## scaler.toml", "", "The services that are scaled; see [scaler](../scaler.md).", ""]
    parts += ["### The file and a service", "", _table(top, ""), ""]
    for prefix, kinds in (("signals.", SIGNALS), ("actuator.", ACTUATORS)):
        for kind in kinds:
            chosen = (kind, ACTUATORS[0]) if prefix == "signals." else (SIGNALS[0], kind)
            rows = {name: it for name, it in asked(*chosen).items() if name.startswith(prefix)}
            parts += [f"### {prefix.rstrip('.')} of kind {kind}", "", _table(rows, prefix), ""]
    return "\n".join(parts)


def _table(rows: dict[str, tuple[str, str]], prefix: str) -> str:
    lines = ((code(name.removeprefix(prefix)), *it, MEANINGS[name]) for name, it in rows.items())
    return table(("field", "value", "default", "meaning"), lines)
