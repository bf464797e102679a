"""What the lane leans on inside Flower, checked at start.

These are internals of one minor version. When one is not as written here the stock application is
served instead, with a warning that names it: rounds get slower, nothing gets wrong.
"""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from typing import Any

FLOWER_MINOR = "1.41"


@dataclass(frozen=True)
class Leant:
    """A callable of Flower and the parameters it is called with."""

    module: str
    name: str
    parameters: tuple[str, ...]


_FLEET = "flwr.superlink.servicer.fleet.fleet_handlers"
_RUNTIME = "flwr.superlink.servicer.runtime.runtime_handlers"
_CORE = "flwr.supercore.servicer.runtime.runtime_handlers"
_TRANSLATION = "flwr.supercore.protobuf.translation"
_STATE = "flwr.server.superlink.linkstate"

LEANT_ON: tuple[Leant, ...] = (
    Leant("flwr.superlink.main", "create_app", ("config", "superlink_lifespan_class")),
    Leant("flwr.superlink.cli.flower_superlink", "SuperLinkLifespan", ("config", "state_factory")),
    Leant("flwr.superlink.routers.fleet.node_auth", "authenticate_node", ("request",)),
    Leant("flwr.supercore.dependencies.task", "authenticate_task", ("request", "token", "state")),
    Leant(
        "flwr.supercore.dependencies.superexec",
        "authenticate_superexec_request",
        ("request", "state", "method"),
    ),
    Leant(
        "flwr.supercore.dependencies.version",
        "VersionDependency",
        ("component_name", "connection_name", "reject_incompatible"),
    ),
    Leant("flwr.supercore.error", "http_error_translator", ("request", "call_next")),
    Leant(_TRANSLATION, "ProtobufTranslationMiddleware._check_request_media_type", ("request",)),
    Leant(_TRANSLATION, "ProtobufTranslationMiddleware._parse_request", ("body", "request_type")),
    *(
        Leant(_FLEET, name, ("request", "state"))
        for name in ("activate_node", "send_node_heartbeat", "push_messages", "push_object", "pull_object")
    ),
    *(
        Leant(_FLEET, name, ("request", "state", "store"))
        for name in ("pull_messages", "confirm_message_received")
    ),
    *(
        Leant(_RUNTIME, name, ("request", "state", "task"))
        for name in (
            "get_nodes",
            "push_messages",
            "pull_messages",
            "push_object",
            "pull_object",
            "confirm_message_received",
        )
    ),
    Leant(_RUNTIME, "acquire_task", ("request", "state")),
    Leant(_CORE, "send_task_heartbeat", ("request", "state", "task")),
    Leant(_STATE, "InMemoryLinkState.get_node_id_by_public_key", ("self", "public_key")),
    Leant(_STATE, "InMemoryLinkState.deactivate_node", ("self", "node_id")),
    Leant(_STATE, "InMemoryLinkState.get_message_ids_from_run_id", ("self", "run_id")),
    Leant(_STATE, "InMemoryLinkState.delete_messages", ("self", "message_ins_ids")),
    Leant("flwr.supercore.inflatable.inflatable_object", "get_object_id", ("object_content",)),
    Leant("flwr.supercore.inflatable.inflatable_object", "iterate_object_tree", ("tree",)),
)


def reasons_to_step_aside(app: Any = None) -> list[str]:
    """Why the lane must not be used: empty when Flower is the one it was written for.

    `app`, when given, is also asked for what the lane would pass over: event logs and extensions.
    """
    reasons = [reason for it in LEANT_ON if (reason := _difference(it)) is not None]
    version = importlib.import_module("flwr.supercore.version").package_version
    if version.split(".")[:2] != FLOWER_MINOR.split("."):
        reasons.insert(0, f"flwr {version} is installed, the lane was written for {FLOWER_MINOR}")
    if os.getenv("FLWR_TRACING_ENABLED") == "1":
        reasons.append("FLWR_TRACING_ENABLED is set, and the lane does not trace")
    if app is not None:
        if getattr(app.state, "fleet_event_log_plugin", None) is not None:
            reasons.append("Fleet event logging is on, and the lane does not write it")
        if importlib.import_module("flwr.superlink.extensions").get_middleware():
            reasons.append("a SuperLink extension adds middleware that the lane would pass over")
    return reasons


def _difference(leant: Leant) -> str | None:
    where = f"{leant.module}.{leant.name}"
    try:
        found: Any = importlib.import_module(leant.module)
        for part in leant.name.split("."):
            found = getattr(found, part)
        names = tuple(inspect.signature(found).parameters)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        return f"{where} is gone ({error})"
    if names != leant.parameters:
        return f"{where} takes {names}, expected {leant.parameters}"
    return None
