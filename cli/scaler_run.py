"""`hansa scaler run` at work: it looks, shows what is decided, its figures and its log, until it is told to end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hansa.cli.interrupts import Interruption
from hansa.cli.scaler_shown import decided_line, decided_sentence
from hansa.contract.errors import HansaError
from hansa.contract.exposing import expose
from hansa.contract.logs import about, form_of_environment
from hansa.contract.process_figures import process_meter
from hansa.sidecar.actuators import ActuatorError
from hansa.sidecar.figures import noted
from hansa.sidecar.scaler.running import RunningScaler

if TYPE_CHECKING:
    from hansa.sidecar.scaler.journal import Entry
    from hansa.sidecar.scaler.services import Services
    from hansa.sidecar.server_api import ServerApi

log = logging.getLogger("hansa.scaler")


@dataclass(frozen=True)
class Scaled:
    """What is scaled, and from where.

    Attributes
    ----------
    path : of `scaler.toml`, read as `services`
    folder : what the scaler that acts remembers
    control : asked for jobs and told of decisions; None where there is none
    """

    path: Path
    services: Services
    folder: Path
    control: ServerApi | None


def look_until_told(scaled: Scaled, *, act: bool, metrics: str | None, log_format: str | None) -> None:
    """Look at each service until a signal comes; what was started goes on.

    Parameters
    ----------
    act : whether replicas are started and stopped
    metrics : HOST:PORT or a file that ends in .prom; None: no figures are shown
    log_format : text or json; None: as the environment has it

    Raises
    ------
    InputError : the folder is another scaler's, or nothing can be shown at `metrics`
    HansaError : an actuator cannot be used here and now
    """
    # A dry run has a memory of its own: it must not be taken for what the scaler did.
    own = scaled.folder if act else scaled.folder.with_name(f"{scaled.folder.name}-dry")
    meter = process_meter("scaler")
    show = _shower(log_format or form_of_environment())

    def seen(entry: Entry) -> None:
        noted(meter, entry)
        show(entry)

    with Interruption() as interruption:
        exposure = expose(meter, metrics)
        try:
            scaler = RunningScaler(
                *(scaled.path, own, scaled.control), act=act, replicas=scaled.folder, tell=act, seen=seen
            )
            log.info("%s", _beginning(scaled.services, act))
            while scaler.alive and not interruption.wait(0.2):
                pass
            scaler.end()
        except ActuatorError as error:
            raise HansaError(str(error)) from None
        finally:
            if exposure is not None:
                exposure.close()


def _shower(form: str) -> Callable[[Entry], None]:
    """Decisions are lines for people on stdout, or lines of the log for programs."""
    if form != "json":
        return lambda it: typer.echo(decided_line(it))

    def logged(entry: Entry) -> None:
        with about(service=entry.decision.service):
            log.info("%s", decided_sentence(entry))

    return logged


def _beginning(services: Services, act: bool) -> str:
    number = len(services.services)
    said = f"{number} service{'s' * (number != 1)} every {services.every_s:g} s"
    return said if act else f"{said}; dry run: nothing is started or stopped without --act"
