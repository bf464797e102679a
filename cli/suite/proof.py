"""The part of the privacy officer: what left, evidence made and checked, and whether a changed copy is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.cli.suite.found import Fact, Found, Rows
from hansa.cli.suite.running import Stage
from hansa.contract.errors import HansaError

if TYPE_CHECKING:
    from hansa.cli.instance import Instance, MemberFolder
    from hansa.cli.suite.outgoing import Outgoing
    from hansa.cli.suite.restored import Restored
    from hansa.cli.suite.tampering import Verdict


@dataclass(frozen=True)
class Archive:
    """An archive of evidence and what its check said.

    Parameters
    ----------
    problem : why it does not hold; empty where it does
    lines, open : what was checked, and what could not be, as `hansa evidence verify` says
    """

    member: str
    path: Path
    bytes: int
    lines: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    problem: str = ""

    @property
    def refused(self) -> int:
        """Changed copies that did not pass."""
        return sum(it.refused for it in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        passed = [it.change for it in self.verdicts if not it.refused]
        return {
            "member": self.member,
            "file": str(self.path),
            "bytes": self.bytes,
            "checked": list(self.lines),
            "not_checked": list(self.open),
            "tampered": len(self.verdicts),
            "refused": self.refused,
            "passed": passed,
            "problem": self.problem,
        }


@dataclass
class _Gathered:
    """What the part has so far."""

    left: list[Outgoing] = field(default_factory=list)
    archives: list[Archive] = field(default_factory=list)
    restored: Restored | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ProofPart:
    """Outbox, evidence and backup of every organisation, by the functions of the officer's commands.

    Parameters
    ----------
    out : folder of the archives; those of an earlier run are replaced
    """

    out: Path
    name: str = "proof"
    title: str = "what left each organisation, evidence of it, a backup put back"
    command: str = "hansa evidence JOB --org NAME --instance .hansa/federated"

    def run(self, stage: Stage) -> Found:
        """Every organisation in turn, then the backup of the first."""
        from hansa.cli.instance import Instance

        data = stage.data_of("federated")
        instance, job, found = Instance(Path(data["instance"])), str(data["job"]), _Gathered()
        for name in instance.members:
            stage.check(lambda: _found(found))
            try:
                stage.say(f"proof: {name}, {self._look(instance, name, job, found)}")
            except HansaError as error:
                # One organisation's fault must not take the others' figures with it.
                found.problems.append(f"{name}: {error}")
        stage.check(lambda: _found(found))
        try:
            _rehearse(instance.member(instance.members[0]), found)
        except HansaError as error:
            found.problems.append(f"{instance.members[0]}: its backup: {error}")
        return _found(found)

    def _look(self, instance: Instance, name: str, job: str, found: _Gathered) -> str:
        """Outbox and evidence of one organisation; a sentence on them."""
        from hansa.cli.suite.outgoing import files_noted, outgoing

        member = instance.member(name)
        left = outgoing(member)
        found.left.append(left)
        if left.unknown:
            found.problems.append(f"{name}: the upload of attempt {left.unknown[0]} is not in the outbox")
        archive = self._evidence(instance, member, job)
        found.archives.append(archive)
        found.problems += _problems(archive)
        if "evidence" not in files_noted(member):
            found.problems.append(f"{name}: that evidence was taken out is not in the outbox")
        return f"{left.entries} entries, {archive.refused} of {len(archive.verdicts)} changed copies refused"

    def _evidence(self, instance: Instance, member: MemberFolder, job: str) -> Archive:
        """Made, checked under a charter from another member, and changed in every way there is."""
        from hansa.cli.evidence import take_out
        from hansa.cli.evidence_checked import Pinned
        from hansa.cli.evidence_collect import whole_job
        from hansa.cli.evidence_verify import check_archive
        from hansa.cli.suite.tampering import judge, tampered_copies
        from hansa.contract.archive import InvalidArchive
        from hansa.contract.keys import SigningKey
        from hansa.contract.typed import read_file

        name = member.config.name
        other = next((it for it in instance.members if it != name), name)
        pinned = Pinned(read_file(instance.member(other).charter))
        path = self.out / f"{name}.zip"
        take_out(member, whole_job(member, job), path)
        content = read_file(path)
        try:
            done = check_archive(content, pinned)
        except InvalidArchive as error:
            return Archive(name, path, len(content), problem=str(error))
        verdicts = judge(tampered_copies(content, SigningKey.load(member.identity_key)), pinned)
        return Archive(name, path, len(content), tuple(done.lines), tuple(done.open), tuple(verdicts))


def _rehearse(member: MemberFolder, found: _Gathered) -> None:
    from hansa.cli.suite.outgoing import files_noted
    from hansa.cli.suite.restored import rehearse

    found.restored = rehearse(member)
    found.problems += _restored_problems(found.restored)
    if "backup" not in files_noted(member):
        found.problems.append(f"{member.config.name}: that a backup was taken is not in the outbox")


def _problems(archive: Archive) -> list[str]:
    if archive.problem:
        return [f"{archive.member}: its evidence does not hold: {archive.problem}"]
    return [
        f"{archive.member}: evidence with a change was not refused: {it.change}"
        for it in archive.verdicts
        if not it.refused
    ]


def _restored_problems(restored: Restored) -> list[str]:
    found = [f"{restored.member}: its backup: {it}" for it in restored.problems]
    if not restored.same:
        found.append(f"{restored.member}: the ledger of its backup does not end where its own does")
    return found + [
        f"{restored.member}: its backup: not refused: {it.change}"
        for it in restored.verdicts
        if not it.refused
    ]


def _found(gathered: _Gathered) -> Found:
    from hansa.cli.suite.outgoing import outgoing_drawing, outgoing_tables
    from hansa.cli.suite.restored import restored_table

    left, archives, restored = gathered.left, gathered.archives, gathered.restored
    if not left:
        return Found()
    changed = sum(len(it.verdicts) for it in archives) + (len(restored.verdicts) if restored else 0)
    refused = sum(it.refused for it in archives)
    refused += sum(it.refused for it in restored.verdicts) if restored else 0
    tables = [*outgoing_tables(left), _evidence_table(archives), _tampered_table(archives)]
    return Found(
        sentences=(
            "Each organisation's own outbox, read as `hansa outbox` does. Evidence of the job was made of each as "
            "`hansa evidence` does, checked under the charter that another member has, and then in changed copies.",
            "Archives lie beside this report, in evidence/: no record and no key is in them, but whoever decided is, "
            "by name. The backup held private keys and was deleted.",
        ),
        headline=(
            Fact("left", sum(it.bytes for it in left) / 1000, "kB"),
            Fact("entries in outboxes", sum(it.entries for it in left)),
            Fact("evidence holds", f"{sum(not it.problem for it in archives)} of {len(archives)}"),
            Fact("changed copies refused", f"{refused} of {changed}"),
        ),
        tables=tuple(tables if restored is None else [*tables, restored_table(restored)]),
        drawings=(outgoing_drawing(left),),
        data={
            "outbox": [it.as_json() for it in left],
            "evidence": [it.as_json() for it in archives],
            "backup": None if restored is None else restored.as_json(),
        },
        files=tuple(f"{it.path.parent.name}/{it.path.name}" for it in archives),
        problem=gathered.problems[0] if gathered.problems else "",
    )


def _evidence_table(archives: Sequence[Archive]) -> Rows:
    rows = tuple(
        (
            it.member,
            f"{it.bytes / 1000:.0f} kB",
            str(len(it.lines)),
            str(len(it.open)),
            f"{it.refused} of {len(it.verdicts)}",
            it.problem or "holds",
        )
        for it in archives
    )
    columns = ("organisation", "size", "checked", "left open", "changed copies refused", "evidence")
    first = next((it for it in archives if it.lines), None)
    note = f"Checked at {first.member}: {'; '.join(first.lines)}." if first else ""
    return Rows("Evidence of the job", columns, rows, note)


def _tampered_table(archives: Sequence[Archive]) -> Rows:
    """Every kind of change: how many copies, how many were refused, and with which words one was."""
    every = [it for archive in archives for it in archive.verdicts]
    rows = []
    for change in dict.fromkeys(it.change for it in every):
        kind = [it for it in every if it.change == change]
        passed = sum(not it.refused for it in kind)
        said = next((it.short for it in kind if it.refused), "")
        rows.append((change, str(len(kind)), str(len(kind) - passed), said))
    return Rows(
        "Changed copies of the evidence", ("change", "copies", "refused", "in these words"), tuple(rows)
    )
