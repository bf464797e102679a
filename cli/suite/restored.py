"""A backup of one organisation's folder, put back elsewhere; changed copies of it and of the ledger in it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hansa.cli.archive import put_back
from hansa.cli.backup import take_backup
from hansa.cli.budgets_proof import prove
from hansa.cli.instance import MemberFolder
from hansa.cli.suite.found import Rows
from hansa.cli.suite.tampering import Verdict, changed_backup, halve_newest_charge, verdict
from hansa.clients.ledger import LEDGER


@dataclass(frozen=True)
class Restored:
    """What became of a backup.

    Parameters
    ----------
    bytes : of the archive
    same : whether the ledger that was put back ends at the row at which the organisation's own does
    """

    member: str
    files: int
    bytes: int
    rows: int
    same: bool
    problems: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        tampered = [{"change": it.change, "refused": it.refused, "reason": it.reason} for it in self.verdicts]
        return vars(self) | {"problems": list(self.problems), "verdicts": tampered}


def rehearse(member: MemberFolder) -> Restored:
    """Back an organisation's folder up and put it back, as `hansa backup` and `hansa restore` do.

    All copies lie in a folder of their own and are deleted at the end: they hold private keys.

    Raises
    ------
    HansaError : the backup cannot be made or put back, or the ledger in it is damaged
    """
    with tempfile.TemporaryDirectory(prefix="hansa-backup-") as name:
        place = Path(name)
        archive, back = place / "member.tar.gz", place / "back"
        files = take_backup(member.folder, archive)
        put_back(archive, back)
        own, found = prove(member), prove(MemberFolder(back))
        return Restored(
            member=member.config.name,
            files=files,
            bytes=archive.stat().st_size,
            rows=found.verified.rows,
            same=own.verified.head == found.verified.head,
            problems=tuple(found.problems),
            verdicts=(*_backups(archive, place), _ledger(MemberFolder(back))),
        )


def restored_table(found: Restored) -> Rows:
    """What was done, and what came of it."""
    lines = [
        (f"{found.files} files backed up", f"{found.bytes / 1000:.0f} kB"),
        ("put back, its ledger recomputed", found.problems[0] if found.problems else "holds"),
        (
            "the ledger's newest row",
            f"the same, number {found.rows}" if found.same else "not the organisation's",
        ),
    ]
    lines += [(it.change, f"refused: {it.short}" if it.refused else "NOT REFUSED") for it in found.verdicts]
    return Rows(f"Backup of {found.member}, put back elsewhere", ("what", "found"), tuple(lines))


def _backups(archive: Path, place: Path) -> list[Verdict]:
    content, found = archive.read_bytes(), []
    changed_backup(archive, place / "changed.tar.gz", LEDGER)
    (place / "cut.tar.gz").write_bytes(content[: len(content) // 2])
    for change, name in (
        ("a byte of the ledger in the backup changed", "changed"),
        ("the backup cut", "cut"),
    ):
        said = verdict(change, partial(put_back, place / f"{name}.tar.gz", place / name))
        # The folder is this suite's own; what is said of the file in it is what counts.
        found.append(Verdict(said.change, said.reason.removeprefix(f"{place / name}.tar.gz: ")))
    return found


def _ledger(member: MemberFolder) -> Verdict:
    sequence = halve_newest_charge(member.folder / LEDGER)
    return verdict(f"the charge in row {sequence} halved, its hash made to fit", partial(_prove, member))


def _prove(member: MemberFolder) -> None:
    prove(member).check()
