"""`hansa evidence JOB`: everything that an organisation can prove about a job, gathered and signed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hansa.cli.budgets_export import HOW_TO_CHECK
from hansa.cli.budgets_ledger import open_ledger
from hansa.cli.evidence_charters import LATER, agreed_for
from hansa.cli.evidence_decisions import decisions_of
from hansa.cli.instance import MemberFolder
from hansa.cli.outbox_shown import as_record
from hansa.cli.outbox_source import outbox_entries, outbox_older
from hansa.clients.evidence_records import JobRecords, read_job, read_jobs
from hansa.clients.forgotten import FORGOTTEN, read_decisions
from hansa.clients.outbox_reading import Entry, Query
from hansa.contract.archive import Manifest, pack_signed
from hansa.contract.errors import InputError
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.messages import Seen
from hansa.contract.shown import privacy_sentence, protection_sentence
from hansa.contract.signatures import VerifiedCharter
from hansa.contract.typed import read_file
from hansa.privacy.book import Book
from hansa.privacy.records import ChargeRow, Row

# Distributions whose versions decide what was computed.
_DISTRIBUTIONS = (
    "hansa",
    "flwr",
    "numpy",
    "polars",
    "cryptography",
    "pydantic",
    "dp-accounting",
    "torch",
    "opacus",
    "tenseal",
)


def whole_job(member: MemberFolder, beginning: str) -> str:
    """The one job of this organisation that begins so.

    Raises
    ------
    InputError : none does, or several
    """
    found = [it for it in read_jobs(member.folder) if it.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(it[:8] for it in read_jobs(member.folder)[-10:]) or "none"
    raise InputError(
        f"job {beginning}: {len(found)} jobs of {member.config.name} begin so; it was shown: {known}"
    )


def collect(member: MemberFolder, job: str, now: datetime) -> bytes:
    """The signed archive.

    Raises
    ------
    HansaError : a file is damaged; the charter is not signed by all
    """
    records = read_job(member.folder, job)
    agreed = agreed_for(member, records.charter)
    verified = agreed.verified
    # What left is read before the rows: what is charged meanwhile is in them, and not missing there.
    entries = list(outbox_entries(member, Query(job=job)))
    older = [it.model_dump(mode="json") for it in outbox_older(member) if it.job == job]
    rows = [] if verified.charter.privacy.noise == "none" else list(open_ledger(member).rows())
    book = Book(rows)
    identity = SigningKey.load(member.identity_key)
    files = {
        "charter.toml": read_file(agreed.charter),
        "charter-signatures.json": read_file(agreed.signatures),
        LATER: _json([it.model_dump(mode="json") for it in agreed.later]),
        "organisation.json": _json(_organisation(member, verified)),
        "versions.json": _json(_versions(verified)),
        "job.json": _json(
            {"job": job, "state": records.state, "reason": records.reason, "plan": records.plan}
        ),
        "approvals.json": _json(decisions_of(rows, job)),
        "ledger.json": _json(_ledger(rows)),
        "receipts.json": _json(_receipts(entries, records)),
        "attempts.json": _json(_attempts(records)),
        "uploads.json": _json(records.uploads),
        "outbox.json": _json(
            [as_record(it) | {"facts": it.leaving.model_dump(mode="json")} for it in entries]
        ),
        "older.json": _json(older),
        "events.json": _json(records.events),
        "refusals.json": _json(records.refusals),
        "models.json": _json(_models(member, job)),
        "forgotten.json": _json(read_decisions(member.folder / FORGOTTEN)),
    }
    files["readme.txt"] = _readme(member, verified, records, rows, entries, now).encode()
    manifest = Manifest(
        organisation=member.config.name,
        job=job,
        made=now.astimezone(UTC).isoformat(timespec="seconds"),
        charter=verified.hash,
        identity_key=to_text(identity.public),
        head_sequence=book.head.sequence,
        head_hash=book.head.hash,
    )
    return pack_signed(files, manifest, identity)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _organisation(member: MemberFolder, verified: VerifiedCharter) -> dict[str, Any]:
    own = verified.charter.member(member.config.name)
    if own is None:
        raise InputError(f"{member.charter}: '{member.config.name}' is not among its members")
    return own.model_dump(mode="json")


def _versions(verified: VerifiedCharter) -> dict[str, Any]:
    installed = {}
    for name in _DISTRIBUTIONS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "distributions": installed,
        "code": _code(),
        "model": verified.charter.task.model.model_dump(mode="json"),
        "contract": verified.charter.task.features.digest,
    }


def _code() -> dict[str, str]:
    """SHA-256 of every module of this installation, and over all of them."""
    import hansa

    found: dict[str, str] = {}
    for package in (
        "cli",
        "clients",
        "contract",
        "models",
        "privacy",
        "secagg",
        "server",
        "sidecar",
        "strategies",
    ):
        folder = _package(package)
        for path in sorted(folder.rglob("*.py")):
            name = f"hansa/{package}/{path.relative_to(folder)}"
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    found["hansa/__init__.py"] = hashlib.sha256(Path(str(hansa.__file__)).read_bytes()).hexdigest()
    whole = hashlib.sha256("".join(f"{name} {it}\n" for name, it in sorted(found.items())).encode())
    return {"all": whole.hexdigest(), **found}


def _package(name: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(f"hansa.{name}")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _ledger(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "rows": [{**it.model_dump(mode="json"), "hash": it.hash} for it in rows],
        "how_to_check": list(HOW_TO_CHECK),
    }


def _receipts(entries: Sequence[Entry], records: JobRecords) -> dict[str, Any]:
    own = [
        Seen(
            job=it.leaving.job, attempt=it.leaving.attempt, order=it.leaving.order, receipt=it.leaving.receipt
        )
        for it in entries
        if it.leaving.receipt is not None and it.leaving.order
    ]
    once = {it.receipt.signature: it for it in own}
    return {"own": [it.model_dump(mode="json") for it in once.values()], "others": records.seen}


def _attempts(records: JobRecords) -> list[dict[str, Any]]:
    return [
        {**it, "cohort": str(it["cohort"]).split(), "active": str(it["active"] or "").split()}
        for it in records.attempts
    ]


def _models(member: MemberFolder, job: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(member.folder.glob(f"*{job}*.npz")):
        content = read_file(path)
        found.append(
            {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        )
    return found


def _readme(
    member: MemberFolder,
    verified: VerifiedCharter,
    records: JobRecords,
    rows: Sequence[Row],
    entries: Sequence[Entry],
    now: datetime,
) -> str:
    charter, name = verified.charter, member.config.name
    charged = sum(isinstance(it.body, ChargeRow) and it.body.job == records.job for it in rows)
    return f"""Evidence of job {records.job}
Organisation: {name}. Consortium: {charter.name}, charter version {charter.version}.
Made on {now.astimezone(UTC):%Y-%m-%d at %H:%M} UTC; signed with the identity key that the charter names for {name}.

{protection_sentence(charter)}
{privacy_sentence(charter)}

The job is {records.state}. {len(entries)} kinds of messages are on record, {charged} charges were made.

charter.toml, charter-signatures.json  the agreement that the job ran under, and every member's signature on it
later-charters.json                    the versions since, signed: the last one names the key that signs here
organisation.json                      this organisation as the charter names it
versions.json                          what ran: versions, and the SHA-256 of every module
job.json                               the job as it was proposed, and what became of it
approvals.json                         who granted what, who said yes to the job, what it was charged
ledger.json                            the whole ledger; a chain of hashes, and how to check it
receipts.json                          signed receipts: this organisation's own, and what it kept of the others'
attempts.json, uploads.json            attempts it took part in, and what was released in each
outbox.json                            what left for this job, one by one, as long as the outbox keeps it so
older.json                             what left before that, as sums: of each kind how many messages and bytes
events.json, refusals.json             what the agent noted, and what it refused (the newest 10,000 of all jobs)
models.json                            SHA-256 of the models it keeps; no weights are in here
forgotten.json                         how many people were forgotten, when and why; no names
manifest.json, manifest.signature      SHA-256 of every file, and the signature on that

No record, no key and nobody's name in the data is in here. The ledger holds keyed hashes of whom the records are
about, under a key that never leaves the organisation. People who decided are named, as they named themselves.

Check it anywhere: hansa evidence verify FILE --charter CHARTER, with a charter.toml that you had from somebody else.
It proves what this organisation wrote down and signed. It does not prove that its agent ran the code it names.
"""
