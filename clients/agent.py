"""The agent: an organisation's own process. It alone reads the data, holds the keys and trains.

    python -m hansa.clients.agent --folder members/NAME

Start-up, in order: read what was signed, read the data, cut the network, open the sockets.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.clients.isolation import enter_empty_network
from hansa.clients.lock import only_process
from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import add_log_options, say_always, say_failure, start_logging
from hansa.contract.scenario import MemberConfig
from hansa.contract.typed import read_toml, write_atomically

if TYPE_CHECKING:
    import polars as pl
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from hansa.clients.budget import Budget
    from hansa.clients.data.dataset import Dataset
    from hansa.clients.protocol import Agent
    from hansa.contract.charter import Charter, Member

log = logging.getLogger("hansa.agent")

# An upload that missed the floor leaves on the next multiple of this after it (PROTOCOL section 6).
BEAT_S = 0.25


def beat(elapsed: float, floor: float) -> float:
    """Seconds still to wait so that an upload's time tells nothing finer than a beat."""
    if floor == 0:
        return 0.0
    if elapsed <= floor:
        return floor - elapsed
    beats = -(-(elapsed - floor) // BEAT_S)
    return floor + beats * BEAT_S - elapsed


def build(folder: Path, config: MemberConfig, *, isolated: bool, table: pl.DataFrame | None = None) -> Agent:
    """An agent from a member's folder.

    Raises
    ------
    HansaError : the charter is not signed by all, was superseded, or does not name this member's key;
        or the data departs from the contract
    """
    from hansa.clients.attempt import LocalWork
    from hansa.clients.attempt_log import AttemptLog
    from hansa.clients.data.encode import encode, identifying
    from hansa.clients.data.sources import origin, read_source
    from hansa.clients.data.split import split
    from hansa.clients.forgotten import FORGOTTEN, Forgotten
    from hansa.clients.heads import HEADS, Heads
    from hansa.clients.membership import Membership, new_ring, new_starts
    from hansa.clients.outbox import OUTBOX, Outbox
    from hansa.clients.protocol import Agent
    from hansa.clients.witnesses import Witnesses
    from hansa.contract.errors import CharterError
    from hansa.contract.keys import SigningKey, from_text, read_private, to_text
    from hansa.contract.signatures import pin, verify_charter
    from hansa.models.registry import check_distribution, load_model

    verified = verify_charter(folder / config.charter, folder / config.signatures)
    charter = verified.charter
    identity = SigningKey.load(folder / "identity.key")
    member = charter.member(config.name)
    if member is None:
        raise CharterError(f"{folder / config.charter}: '{config.name}' is not among its members")
    if from_text(member.identity_key) != identity.public:
        raise CharterError(
            f"{folder / 'identity.key'}: its public part {to_text(identity.public)} is not the identity key "
            f"that the charter names for '{config.name}'"
        )
    check_distribution(charter.task.model)
    sealing_key = _sealing_key(folder, member) if charter.protection.masked else None
    # Only now: a charter that is not this member's own must not displace the one that is.
    pinned = pin(folder, verified)
    model = load_model(charter.task.model, charter.task.features)
    table = read_source(config.data, folder) if table is None else table
    records = encode(table, charter.task.features, origin(config.data, folder))
    if len(set(records.entities.tolist())) > charter.training.max_entities:
        # Leaving some out would let one person's coming push out another: it would count twice.
        log.warning(
            "there are more entities than the charter's training.max_entities = %d: "
            "sums beyond its bound will be clamped",
            charter.training.max_entities,
        )
    floor = charter.metrics.seconds_floor
    membership = Membership(config.name, charter, verified.hash, identity, frozenset(pinned.superseded))
    attempts = AttemptLog(folder / "agent.sqlite", verified.hash, first=not pinned.superseded)
    budget, witnesses, starts = None, None, None
    if charter.privacy.noise != "none":
        budget = _open_budget(folder, config, charter, records, identifying(table, charter.task.features))
        witnesses = Witnesses(
            Heads(folder / HEADS, charter),
            budget.ledger,
            event=lambda kind, sentence: attempts.event("", kind, sentence),
        )
        if sealing_key is None:
            starts = new_starts(membership, witnesses)
    secret = read_private(folder / "split.key", length=32)
    forgotten = Forgotten(folder / FORGOTTEN, secret, None if budget is None else budget.ledger)
    parts = split(
        forgotten.keep(records),
        secret=secret,
        holdout=charter.task.features.holdout,
        max_records=charter.training.max_records,
    )
    blind = None
    if sealing_key is not None and charter.protection.blind:
        from hansa.clients.blind import new_blind
        from hansa.clients.held import HELD, HeldJobs
        from hansa.clients.starting import kept_in

        blind = new_blind(membership, sealing_key, HeldJobs(folder / HELD), model, kept_in(folder))
    return Agent(
        membership,
        attempts,
        work=LocalWork(
            name=config.name,
            charter=charter,
            model=model,
            records=parts,
            folder=folder,
            keep_scores=config.keep_scores,
        ),
        pace=lambda elapsed: time.sleep(beat(elapsed, floor)),
        monotonic=time.monotonic,
        isolated=isolated,
        ring=None if sealing_key is None else new_ring(membership, sealing_key, witnesses),
        starts=starts,
        budget=budget,
        witnesses=witnesses,
        blind=blind,
        outbox=Outbox(folder / OUTBOX),
        forgotten=forgotten,
    )


def _open_budget(
    folder: Path, config: MemberConfig, charter: Charter, records: Dataset, columns: tuple[str, ...]
) -> Budget:
    """The member's ledger, which knows this version of its records from here on, and by which columns.

    Raises
    ------
    LedgerError : the file is damaged
    InputError : its records are those of another data set, or the clock went back
    """
    from hansa.clients.budget import Budget
    from hansa.clients.grants import Grants, Sides, people_of
    from hansa.clients.ledger import LEDGER, Ledger
    from hansa.contract.keys import read_private

    secret = read_private(folder / "split.key", length=32)
    grants = Grants(
        Ledger(folder / LEDGER),
        charter,
        data_set=config.data_set,
        people=people_of(records, secret),
        sides=Sides.of(charter.task.features, secret, columns),
    )
    if config.grant is not None:
        grants.begin(config.grant)
    return Budget(grants, charter)


def _sealing_key(folder: Path, member: Member) -> X25519PrivateKey:
    """The private part of the sealing key that the charter names for this member."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from hansa.contract.errors import CharterError
    from hansa.contract.keys import from_text, read_private, to_text

    path = folder / "sealing.key"
    private = X25519PrivateKey.from_private_bytes(read_private(path, length=32))
    public = private.public_key().public_bytes_raw()
    if from_text(member.sealing_key) != public:
        raise CharterError(
            f"{path}: its public part {to_text(public)} is not the sealing key "
            f"that the charter names for '{member.name}'"
        )
    return private


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Before numpy comes: products that threads share treat the rows at their seams in an order of their own.
    os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    parser = argparse.ArgumentParser(
        prog="hansa agent", description="An organisation's agent, beside its data."
    )
    parser.add_argument("--folder", type=Path, required=True, help="the member's folder, with member.toml")
    parser.add_argument("--ready-file", type=Path, help="written once both sockets answer")
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE",
        help="figures for node_exporter, a file that ends in .prom; default: as member.toml has it",
    )
    add_log_options(parser)
    options = parser.parse_args(argv)
    # Replies that are kept, scores and models are this organisation's alone, whatever its folder's mode is.
    os.umask(0o077)
    start_logging("agent", options.log_level, options.log_format)
    try:
        return serve(options.folder, options.ready_file, options.metrics)
    except HansaError as error:
        say_failure("agent", error, error.exit_code)
        return error.exit_code


def serve(folder: Path, ready_file: Path | None, metrics: Path | None = None) -> int:
    """Run one member's agent in this process."""
    config = read_toml(folder / "member.toml", MemberConfig)
    say_always(member=config.name)
    metrics = metrics or folder / config.agent_metrics
    if metrics.suffix != ".prom":
        # An agent listens to no network: it writes what others may read.
        raise InputError(f"--metrics {metrics}: expected a file that ends in .prom")
    with only_process(folder):
        return _serve(folder, config, ready_file, metrics)


def _serve(folder: Path, config: MemberConfig, ready_file: Path | None, metrics: Path) -> int:
    table = _read_over_network(config, folder)
    isolated = enter_empty_network() if config.network == "none" else False
    if not isolated:
        log.warning("agent not isolated: this process can reach a network")

    from hansa.clients.admin import MAX_COMMAND_BYTES, Administration
    from hansa.clients.agent_figures import agent_meter, counting, timed
    from hansa.contract.exposing import Exposure
    from hansa.contract.frames import serve_frames
    from hansa.contract.shown import privacy_sentence, protection_warnings

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    agent = build(folder, config, isolated=isolated, table=table)
    administration = Administration(agent, owner=os.getuid())
    meter = agent_meter(agent, config.name)
    agent.counted = counting(meter)
    work_mode = 0o660
    largest = agent.largest_request
    with (
        Exposure(meter, str(metrics)),
        serve_frames(
            folder / config.work_socket,
            lambda payload, _: timed(agent.handle, payload, meter),
            mode=work_mode,
            limit=largest,
            sent=agent.outbox.sent if agent.outbox is not None else lambda: None,
        ),
        serve_frames(
            folder / config.admin_socket, administration.answer, mode=0o600, limit=MAX_COMMAND_BYTES
        ),
    ):
        for warning in protection_warnings(agent.membership.charter):
            log.warning("%s", warning)
        log.info("%s", privacy_sentence(agent.membership.charter))
        log.info("agent of %s is ready%s", config.name, "" if isolated else " (agent not isolated)")
        if ready_file is not None:
            write_atomically(ready_file, b"ready\n")
        stopped.wait()
    agent.close()
    return 0


def _read_over_network(config: MemberConfig, folder: Path) -> pl.DataFrame | None:
    """Read a database before the network is cut, in a child process that ends with it."""
    if config.data.kind != "sql" or config.network != "none":
        return None
    from hansa.clients.data.sources import read_in_subprocess

    return read_in_subprocess(config.data, folder)


if __name__ == "__main__":
    sys.exit(main())
