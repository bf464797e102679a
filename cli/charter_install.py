"""Put a signed charter into the folders of those who obey it, with the keys that it names.

Everything is checked in every folder before the first file is written; said again it goes on where it was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hansa.cli.certificates import read_certificates
from hansa.cli.instance import Instance, MemberFolder, charter_files, operator_key
from hansa.cli.rotation import KeyFile, key_files
from hansa.cli.run_record import held_in
from hansa.contract.amendment import check_follows, handed_over
from hansa.contract.charter import Charter, charter_hash, unbuilt
from hansa.contract.errors import CharterError, InputError
from hansa.contract.folders import check_inner_folder, inner_folder
from hansa.contract.signatures import (
    PIN,
    VerifiedCharter,
    check_pin,
    keep_charter,
    pin,
    read_charter,
    read_pin,
    verify_charter,
)
from hansa.contract.typed import read_file, write_atomically

# Folders of members that left, in an instance.
FORMER = "former"


@dataclass(frozen=True)
class Place:
    """One folder that a charter is put into, and what of it is there already.

    Attributes
    ----------
    member : whose it is; None for the consortium's own
    keys : with the public part that the charter names for each
    charter, signatures : where the folder's settings have them
    has : the charter is there and, at a member, pinned; all its keys are in use
    left : the member is none of this version: it is pinned, so that a later one that has it again follows, and no more
    """

    folder: Path
    member: str | None
    keys: tuple[tuple[KeyFile, str], ...]
    charter: Path
    signatures: Path
    has: bool
    left: bool = False


@dataclass(frozen=True)
class Installed:
    """What an installation did: a sentence for each folder, and whether anything is new there."""

    sentences: tuple[str, ...]
    new: bool


def install_into(
    folders: list[Path], charter: Path, signatures: Path, *, superseded: bool = False
) -> Installed:
    """Install a charter; `superseded`: though it is good for nothing by itself, since one follows it.

    Raises
    ------
    CharterError : not signed by all, does not follow what a folder has, names keys that it does not have, or nothing
        can run under it
    InputError : a folder that is neither a member's nor the consortium's
    """
    verified = verify_charter(charter, signatures)
    places = [_place(it, verified, alone=len(folders) == 1) for it in folders]
    new = not all(it.has for it in places)
    if new and not superseded:
        _check_useful(charter, verified.charter, datetime.now(UTC))
    content, signed = read_file(charter), read_file(signatures)
    if charter_hash(content) != verified.hash:
        raise CharterError(f"{charter}: was changed while it was read; say this again")
    return Installed(tuple(_install(it, verified, content, signed) for it in places), new)


def install_into_instance(
    instance: Instance, charter: Path, signatures: Path, *, superseded: bool = False
) -> Installed:
    """Install a charter into every folder of an instance that does not run; those who left are set aside.

    Raises
    ------
    CharterError, InputError : as `install_into`; or something runs there, or a new member has no folder here
    """
    here = {it: instance.member_path(it) for it in instance.members}
    _check_stopped(instance, list(here.values()))
    named = {it.name for it in verify_charter(charter, signatures).charter.members}
    for name in sorted(named - set(here)):
        raise InputError(
            f"{instance.member_path(name)}: no such folder; put the one there that 'hansa provision member "
            f"--name {name}' made; another one has other keys than those that were signed"
        )
    staying = [folder for name, folder in here.items() if name in named]
    untrusting = [
        path
        for folder in staying
        for path in (folder / "ca.crt", MemberFolder(folder).node_ca)
        if not path.exists()
    ]
    if untrusting:
        read_certificates(instance.server / "ca.crt")
    check_inner_folder(instance.folder / FORMER)
    leaving = [folder for name, folder in here.items() if name not in named]
    folders = [instance.server, instance.control, *staying, *leaving]
    done = install_into(folders, charter, signatures, superseded=superseded)
    for path in untrusting:
        write_atomically(path, read_file(instance.server / "ca.crt"))
    left = [_set_aside(instance, name) for name in here if name not in named]
    return Installed((*done.sentences, *left), done.new or bool(left))


def model_warning(charter: Path) -> str | None:
    """One sentence where the model that is installed here is not the one that a charter pins.

    Not refused: the agent may run in another Python than this command, and the model may be installed after the
    charter. An agent refuses to start until it is.
    """
    from hansa.models.registry import check_distribution

    try:
        check_distribution(read_charter(charter)[0].task.model)
    except InputError as error:
        return f"{error}; agents do not start under this charter until it is there"
    return None


def _check_stopped(instance: Instance, members: list[Path]) -> None:
    for folder in (instance.folder, instance.server, instance.control, *members):
        if (what := held_in(folder)) is not None:
            how = f"hansa down --instance {instance.folder}" if what == "up" else "Ctrl-C where it runs"
            raise InputError(f"{folder}: 'hansa {_started(what)}' runs; stop it first: {how}")


def _started(what: str) -> str:
    return what if what == "up" else f"{'client' if what == 'client' else 'server'} start"


def _check_useful(path: Path, charter: Charter, now: datetime) -> None:
    """Refuse to pin for good what nothing can run under."""
    problem = unbuilt(charter)
    if charter.expired(now):
        problem = f"ran out on {charter.expires:%Y-%m-%d %H:%M %Z}"
    if problem:
        raise CharterError(
            f"{path}: version {charter.version}: {problem}; nothing would run under it; if a version that follows it "
            "is signed, install this one with --superseded, then that one"
        )


def _keep_before(place: Place) -> None:
    """Keep the charter that is about to be replaced, where an older agent did not: its jobs are proved with it."""
    try:
        keep_charter(place.folder, verify_charter(place.charter, place.signatures))
    except InputError:
        # There is none, or what is there was stopped in the middle: then it was kept before.
        return


def _set_aside(instance: Instance, name: str) -> str:
    """Move the folder of a member that left; one that left before has the name already."""
    folder, former = instance.member_path(name), instance.folder / FORMER
    inner_folder(former)
    aside, count = former / name, 1
    while aside.exists():
        count += 1
        aside = former / f"{name}-{count}"
    folder.rename(aside)
    return f"{folder}: its member left; moved to {aside}"


def _place(folder: Path, verified: VerifiedCharter, *, alone: bool) -> Place:
    """What is to be done in a folder; `alone`: nobody else here answers for that the charter is the consortium's."""
    charter = verified.charter
    member = MemberFolder(folder)
    own, signatures = charter_files(folder)
    keys: tuple[tuple[KeyFile, str], ...] = ()
    name, pinned = None, True
    if member.config_path.is_file():
        name = member.config.name
        entry = charter.member(name)
        check_pin(folder, verified)
        before = read_pin(folder)
        pinned = before is not None and before.hash == verified.hash
        if entry is None:
            if alone and own.exists() and not handed_over(read_charter(own)[0], charter):
                raise CharterError(
                    f"{folder}: '{name}' is no member of version {charter.version}, and too few members signed that "
                    "with keys that they had before: it may be anybody's"
                )
            return Place(folder, name, keys, own, signatures, pinned, left=True)
        keys = tuple((it, getattr(entry, f"{kind}_key")) for kind, it in key_files(folder).items())
    elif (folder / "server.toml").is_file():
        _check_consortium(own, charter, verified.hash)
        keys = _operator(folder, charter)
    else:
        raise InputError(
            f"{folder}: neither a member's folder (member.toml) nor the consortium's (server.toml)"
        )
    for key, public in keys:
        key.check(public)
    has = (
        pinned
        and all(key.public == public for key, public in keys)
        and own.exists()
        and charter_hash(read_file(own)) == verified.hash
    )
    return Place(folder, name, keys, own, signatures, has)


def _operator(folder: Path, charter: Charter) -> tuple[tuple[KeyFile, str], ...]:
    """The operator's key where the folder is control's; the SuperLink's has none."""
    if not operator_key(folder).is_file():
        return ()
    return ((key_files(folder)["operator"], charter.operator_key),)


def _check_consortium(path: Path, charter: Charter, digest: str) -> None:
    """What control and the SuperLink obeyed last: a consortium's own folder has no pin."""
    if not path.exists():
        return
    before, own = read_charter(path)
    if own != digest:
        try:
            check_follows(before, own, charter)
        except InputError as error:
            raise CharterError(f"{path}: {error}") from None


def _install(place: Place, verified: VerifiedCharter, content: bytes, signed: bytes) -> str:
    if place.left:
        pin(place.folder, verified)
        return (
            f"{place.folder}: '{place.member}' is no member of version {verified.charter.version}, and no agent starts "
            "there any more; a later version that has it again may follow"
        )
    if place.member is not None:
        _keep_before(place)
    taken = [key.kind for key, named in place.keys if key.take(named)]
    waiting = [key.kind for key, _ in place.keys if key.waiting.exists()]
    write_atomically(place.signatures, signed)
    write_atomically(place.charter, content)
    if place.member is not None:
        pin(place.folder, verified)
    version = f"version {verified.charter.version}"
    said = f"had {version} already" if place.has else f"has {version}"
    if taken:
        said += f", and new keys: {', '.join(taken)}"
    if place.member is not None and not place.has:
        said += f" ({PIN} refuses older ones from now on)"
    if waiting:
        said += f"; keys wait on for a version that names them: {', '.join(waiting)}"
    return f"{place.folder}: {said}"
