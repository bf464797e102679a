"""Put a signed charter into the folders of those who obey it, with the keys that it names.

Everything is checked in every folder before the first file is written; said again it goes on where it was stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hansa.cli.federation import record_path
from hansa.cli.instance import Instance, MemberFolder
from hansa.cli.rotation import OPERATOR_KEY, KeyFile, key_files
from hansa.cli.run_record import is_held
from hansa.contract.amendment import check_follows
from hansa.contract.charter import Charter
from hansa.contract.errors import CharterError, InputError
from hansa.contract.scenario import MemberConfig
from hansa.contract.signatures import PIN, VerifiedCharter, check_pin, pin, read_charter, verify_charter
from hansa.contract.typed import read_file, read_toml, write_atomically
from hansa.server.config import read_server_config

# Folders of members that left, in an instance.
FORMER = "former"


@dataclass(frozen=True)
class Place:
    """One folder that a charter is put into.

    Attributes
    ----------
    member : whose it is; None for the consortium's own
    keys : with the public part that the charter names for each
    """

    folder: Path
    member: str | None
    keys: tuple[tuple[KeyFile, str], ...]


def install_into(folders: list[Path], charter: Path, signatures: Path) -> list[str]:
    """Install a charter; a sentence for each folder.

    Raises
    ------
    CharterError : not signed by all, does not follow what a folder has, or names keys that it does not have
    InputError : a folder that is neither a member's nor the consortium's
    """
    verified = verify_charter(charter, signatures)
    places = [_place(it, verified) for it in folders]
    content, signed = read_file(charter), read_file(signatures)
    return [_install(it, verified, content, signed) for it in places]


def install_into_instance(instance: Instance, charter: Path, signatures: Path) -> list[str]:
    """Install a charter into every folder of an instance that does not run; those who left are set aside.

    Raises
    ------
    CharterError, InputError : as `install_into`; or the instance runs, or a new member has no folder here
    """
    if is_held(record_path(instance.folder, "up")):
        raise InputError(f"{instance.folder}: runs; stop it first: hansa down --instance {instance.folder}")
    named = {it.name for it in verify_charter(charter, signatures).charter.members}
    here = {it: instance.member_path(it) for it in instance.members}
    for name in sorted(named - set(here)):
        raise InputError(
            f"{instance.member_path(name)}: no such member's folder; make it with: hansa provision member "
            f"--name {name} --out {instance.member_path(name)} --server HOST:PORT --csv FILE"
        )
    staying = [folder for name, folder in here.items() if name in named]
    said = install_into([instance.server, instance.control, *staying], charter, signatures)
    authority = read_file(instance.server / "ca.crt")
    for folder in staying:
        for path in (folder / "ca.crt", MemberFolder(folder).node_ca):
            if not path.exists():
                write_atomically(path, authority)
    for name, folder in here.items():
        if name not in named:
            aside = instance.folder / FORMER / name
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            if aside.exists():
                raise InputError(f"{aside}: is in the way of {folder}; move it elsewhere and say this again")
            folder.rename(aside)
            said.append(f"{folder}: its member left; moved to {aside}")
    return said


def _place(folder: Path, verified: VerifiedCharter) -> Place:
    charter = verified.charter
    member = MemberFolder(folder)
    if member.config_path.is_file():
        entry = charter.member(member.config.name)
        if entry is None:
            raise CharterError(
                f"{folder}: '{member.config.name}' is no member of version {charter.version}; stop its processes"
            )
        check_pin(folder, verified)
        files = key_files(folder)
        keys = tuple((files[kind], getattr(entry, f"{kind}_key")) for kind in files)
        place = Place(folder, entry.name, keys)
    elif (folder / "server.toml").is_file():
        _check_consortium(folder, charter, verified.hash)
        keys = (
            ((key_files(folder)["operator"], charter.operator_key),)
            if (folder / OPERATOR_KEY).exists()
            else ()
        )
        place = Place(folder, None, keys)
    else:
        raise InputError(
            f"{folder}: neither a member's folder (member.toml) nor the consortium's (server.toml)"
        )
    for key, named in place.keys:
        key.check(named)
    return place


def _files(folder: Path) -> tuple[Path, Path]:
    """The charter and its signatures, where the folder's own settings have them."""
    member, server = folder / "member.toml", folder / "server.toml"
    config = read_toml(member, MemberConfig) if member.is_file() else read_server_config(server)
    return folder / config.charter, folder / config.signatures


def _check_consortium(folder: Path, charter: Charter, digest: str) -> None:
    """What control and the SuperLink obeyed last: a consortium's own folder has no pin."""
    path, _ = _files(folder)
    if not path.exists():
        return
    before, own = read_charter(path)
    if own != digest:
        try:
            check_follows(before, own, charter)
        except InputError as error:
            raise CharterError(f"{path}: {error}") from None


def _install(place: Place, verified: VerifiedCharter, content: bytes, signed: bytes) -> str:
    taken = [key.kind for key, named in place.keys if key.take(named)]
    charter, signatures = _files(place.folder)
    write_atomically(signatures, signed)
    write_atomically(charter, content)
    if place.member is not None:
        pin(place.folder, verified)
    new = f", and new keys: {', '.join(taken)}" if taken else ""
    kept = f" ({PIN} refuses older ones from now on)" if place.member is not None else ""
    return f"{place.folder}: has version {verified.charter.version}{new}{kept}"
