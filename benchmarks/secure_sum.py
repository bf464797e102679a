"""What secure aggregation costs: Hansa's masks beside TenSEAL's CKKS as NVFlare provisions it, in one run on one core.

    python benchmarks/secure_sum.py [--parameters 1000000] [--members 10] [--repeat 5] [--memory] [--json]

All times are milliseconds of the clock, medians over members and repeats; the sides take turns. The process keeps to
one core; nothing here uses a thread of its own.

masked_client_ms
    From an update (float64, ready) to its masked words (uint32): `Grid.encode` and `MemberAttempt.mask`, which
    derives the mask keys of members - 1 pairs and of the self mask and adds all of their streams. Outside: taking
    part in the attempt, where peers' prekeys are checked and pair keys agreed on, and the message: these are in
    round_client_ms.
server_ms
    One attempt: `Summation.add` of every member's upload, `Unmasking.receive` of t members' shares (each checked
    against its hash), and `Unmasking.unmask`: reconstruct every seed, take every self mask off. Outside: messages.
agreement_ms
    What a member does in an attempt before it can mask, beyond masked_client_ms: `PrekeyRing.accept`, which checks the
    signature of every peer's prekey, opens every parcel and agrees on a key with every peer.
server_dropped_ms
    As server_ms, where members dropped: `one`, and `most` (n - t). The sum of the others is already there; per member
    that dropped its one-time key is reconstructed and the masks it shares with every active member taken off.
ckks_client_ms, ckks_server_ms
    Encrypt and serialise one update; load and add it, times the number of members. What a client pays to decrypt the
    sum is in neither.
masked_bytes_per_parameter, ckks_bytes_per_parameter
    The whole message of an upload, signature and new prekey included; the serialised ciphertexts alone.
round_client_ms, round_server_ms
    A whole undisturbed attempt through real messages (see `masked_consortium.py`): at one agent from request bytes to
    reply bytes of train and of unmask; at the server both requests, every reply, the masks off, and the sum as real
    numbers. In: signatures, hashes, prekeys, parcels, the agent's log on disk (two transactions that wait for it).
    Out: training, which is not done, and the network.
he_client_ms, he_server_ms
    Mode `he`, as masked_client_ms and server_ms: from an update to its upload, with check words, masks and the
    envelope of BFV, as bytes that travel; every upload added, masks off by plain additions, the sum as bytes.
he_decrypt_ms, he_check_ms
    What a member pays for the sum: bytes to words modulo p; its check words against them.
he_bytes_per_parameter
    The envelope alone.

With --memory, in a pass of its own: the peak that each side holds at a time beyond its inputs, in model vectors of
8 bytes a parameter (`round_client_vectors`: inputs are the request and the update; `round_server_vectors`: inputs are
the weights, the released model and one reply at a time). `_evaluated`: an attempt of a job's tail, in which a released
model that is not the weights is sent along and evaluated. `_noised`: one in which every member adds noise on the grid,
charges its ledger for it and keeps the others' receipts. It is the process's resident memory, so what libraries take
counts too. Of mode `he`, in bytes a parameter: `he_client_memory` (upload or opening, whichever holds more, beside the
update) and `he_server_memory` (one upload at a time, the sum, masks off).

Expected on one core, at 1,000,000 parameters: with 10 members masked_client_ms <= 20 and 4 bytes a parameter, with
100 masked_client_ms <= 150 and server_ms <= 200; memory within 3 vectors. In mode `he` with 10 members he_client_ms
<= 600, he_decrypt_ms <= 200, he_bytes_per_parameter <= 15.2; memory of a member within two uploads and three vectors
(54 bytes a parameter), of the server within two uploads (30).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from ckks_sum import CkksSum
from he_sum import HeMeters, HeSum, measure_he_memory
from masked_consortium import JOB, Consortium
from meters import Gauge, Watch, give_back_at_once
from numpy.typing import NDArray

from hansa.contract.keys import to_text
from hansa.contract.messages import Receipt
from hansa.contract.segments import UPDATE, divisor
from hansa.contract.statements import active_statement, receipt_statement
from hansa.secagg.server import Summation, Unmasking

# Attempts whose memory is measured: one that only trains, one that evaluates another model too, one with noise.
KINDS = ("", "_evaluated", "_noised")


@dataclass(frozen=True)
class MaskedTimes:
    """Milliseconds of one masked attempt: of each member before it masks and while it does, and of the server."""

    agreements: list[float]
    clients: list[float]
    server: float


def masked_sum(
    consortium: Consortium, number: int, update: NDArray[np.float64], dropped: int = 0
) -> MaskedTimes:
    """One attempt in which the last `dropped` members send nothing; the sum must be exact."""
    agents, parties = consortium.agents, consortium.desk.parties
    order, prekeys = consortium.take_order(number)
    for name, agent in agents.items():
        assert agent.ring is not None
        consortium.stock.add(name, np.frombuffer(agent.ring.make(1), np.uint8), 1)
    together = [prekeys[name] for name in order.cohort]
    agreements, clients, server = Watch(), Watch(), Watch()
    attempts = {}
    for name, agent in agents.items():
        assert agent.ring is not None
        with agreements.running():
            attempts[name] = agent.ring.accept(order, together)
    active = order.cohort[: len(agents) - dropped]
    summation = Summation(order.circles)
    for name in active:
        attempt = attempts[name]
        with clients.running():
            upload = {UPDATE: consortium.grid.encode(update)}
            attempt.mask(upload)
        with server.running():
            summation.add(name, upload)
    receipts = {}
    signatures = {}
    agreed = active_statement(order.job, order.attempt, order.digest, active)
    for name in active:
        identity = agents[name].membership.identity
        statement = receipt_statement(order.job, order.attempt, order.digest, name, Receipt())
        receipts[name] = Receipt(signature=to_text(identity.sign(statement)))
        if dropped:
            signatures[name] = to_text(identity.sign(agreed))
    unmasking = Unmasking(parties, order, prekeys, active)
    for name in active[: parties.threshold]:
        shares = attempts[name].give(
            active, order.cohort[len(active) :], receipts=receipts, signatures=signatures
        )
        with server.running():
            unmasking.receive(name, shares)
    with server.running():
        unmasking.unmask(summation)
    expected = consortium.grid.encode(update) * np.uint32(len(active))
    if not np.array_equal(summation.of(order.cohort)[UPDATE], expected):
        raise SystemExit("the masked sum is not the sum")
    return MaskedTimes(agreements.blocks, clients.blocks, server.ms)


def ckks_sum(ckks: CkksSum, update: NDArray[np.float64]) -> tuple[float, float, int]:
    """One client's milliseconds, the server's for one upload, and the upload's bytes; the sum must be near."""
    client, server = Watch(), Watch()
    with client.running():
        upload = ckks.encrypt(update)
    total = ckks.add(None, upload)
    with server.running():
        total = ckks.add(total, upload)
    if not np.allclose(ckks.decrypt(total), 2 * update, atol=1e-6):
        raise SystemExit("the CKKS sum is not near the sum")
    return client.ms, server.ms, len(upload)


def measure(members: int, parameters: int, repeat: int) -> dict[str, Any]:
    """Medians over `repeat` turns, after one that is not counted."""
    rng = np.random.default_rng(0)
    update, weights = rng.normal(size=parameters), rng.normal(size=parameters)
    ckks = CkksSum()
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        consortium = Consortium.start(members, update, Path(folder))
        threshold, he = consortium.desk.parties.threshold, HeSum(consortium)
        dropouts = {"one": 1, "most": members - threshold} if members > threshold else {}
        for turn in range(repeat + 1):
            if turn == 1:
                taken.clear()
            masked = masked_sum(consortium, 5 * turn + 1, update)
            taken["masked_client_ms"] += masked.clients
            taken["agreement_ms"] += masked.agreements
            taken["server_ms"].append(masked.server)
            for place, (name, missing) in enumerate(dropouts.items(), start=2):
                lost = masked_sum(consortium, 5 * turn + place, update, missing)
                taken[f"server_dropped_ms {name}"].append(lost.server)
            ckks_client, ckks_one, ckks_bytes = ckks_sum(ckks, update)
            taken["ckks_client_ms"].append(ckks_client)
            taken["ckks_server_ms"].append(members * ckks_one)
            client, server, opening, checking = Watch(), Watch(), Watch(), Watch()
            he_bytes = he.attempt(5 * turn + 4, update, HeMeters(client, server, opening, checking))
            taken["he_client_ms"] += client.blocks
            taken["he_server_ms"].append(server.ms)
            taken["he_decrypt_ms"].append(opening.ms)
            taken["he_check_ms"].append(checking.ms)
            clients, server = Watch(), Watch()
            found = consortium.attempt(5 * turn + 5, weights, server, clients)
            _check_mean(found.mean, update, consortium)
            # The trains come first, then the unmaskings, in the same order.
            trains, unmaskings = clients.blocks[:members], clients.blocks[members:]
            taken["round_client_ms"] += [a + b for a, b in zip(trains, unmaskings, strict=True)]
            taken["round_server_ms"].append(server.ms)
        consortium.close()
    medians = {name: statistics.median(values) for name, values in taken.items()}
    dropped_ms = {name: round(medians.pop(f"server_dropped_ms {name}"), 3) for name in dropouts}
    return {
        "parameters": parameters,
        "members": members,
        **{name: round(value, 3) for name, value in medians.items()},
        "server_dropped_ms": dropped_ms,
        "masked_bytes_per_parameter": found.upload_bytes / parameters,
        "ckks_bytes_per_parameter": ckks_bytes / parameters,
        "he_bytes_per_parameter": he_bytes / parameters,
        "client_ratio": medians["ckks_client_ms"] / medians["masked_client_ms"],
        "bytes_ratio": ckks_bytes / found.upload_bytes,
        # Processes that wanted to run, mean of the last minute: above 1, the times are too long.
        "load": os.getloadavg()[0],
    }


def measure_memory(members: int, parameters: int, kind: str) -> dict[str, float]:
    """Peaks of one attempt in model vectors, after one that is not counted.

    Parameters
    ----------
    kind : one of `KINDS`, which the figures' names end with
    """
    rng = np.random.default_rng(0)
    update, weights = rng.normal(size=parameters), rng.normal(size=parameters)
    released = rng.normal(size=parameters) if kind == "_evaluated" else None
    give_back_at_once()
    with tempfile.TemporaryDirectory() as folder:
        consortium = Consortium.start(members, update, Path(folder), noised=kind == "_noised")
        for attempt in (1, 2):
            clients, server = Gauge(together=False), Gauge(together=True)
            consortium.attempt(attempt, weights, server, clients, released)
        consortium.close()
    vector = 8 * parameters
    return {
        f"round_client_vectors{kind}": round(clients.peak / vector, 3),
        f"round_server_vectors{kind}": round(server.peak / vector, 3),
    }


def _check_mean(mean: NDArray[np.float64], update: NDArray[np.float64], consortium: Consortium) -> None:
    members = tuple(consortium.agents)
    total = len(members) * update / divisor(consortium.charter, JOB, members)
    if not np.allclose(mean, total, rtol=0, atol=1 / consortium.grid.scale):
        raise SystemExit("the round's mean update is not the mean")


def main() -> None:
    """Measure and print; with --json one object as the last line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=10, help="at least 3")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure memory too, in a pass of its own")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = measure(options.members, options.parameters, options.repeat)
    if options.memory:
        # A process of its own: what the allocator kept of the measurement above would hide what is needed here.
        for kind in KINDS:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                asked = pool.submit(measure_memory, options.members, options.parameters, kind)
                found |= asked.result()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found |= pool.submit(measure_he_memory, options.members, options.parameters).result()
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for kind, one in value.items():
                print(f"{f'{name} ({kind})':<28}{one:>14,.3f}")
            continue
        print(f"{name:<28}{value:>14,.3f}" if isinstance(value, float) else f"{name:<28}{value:>10,}")


if __name__ == "__main__":
    main()
