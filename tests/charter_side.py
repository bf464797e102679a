"""The next version of an instance's charter: amended, and signed by all with the keys that it names."""

from __future__ import annotations

from pathlib import Path

from cli_side import Commands

from hansa.cli.instance import Instance
from hansa.contract.signatures import read_charter


def entry(hansa: Commands, instance: Instance, *arguments: str) -> Path:
    """What `hansa provision` prints, in a file."""
    said = hansa("provision", *arguments)
    assert said.code == 0, said.err
    path = instance.folder / f"entry-{len(list(instance.folder.glob('entry-*')))}.toml"
    path.write_text(said.out)
    return path


def next_version(hansa: Commands, instance: Instance, *changes: str) -> Path:
    charter = instance.folder / "now" / "charter.toml"
    charter.parent.mkdir(exist_ok=True)
    charter.write_bytes(instance.charter.read_bytes())
    charter.with_name("charter.signatures.json").write_bytes(instance.signatures.read_bytes())
    said = hansa("charter", "amend", str(charter), *changes)
    assert said.code == 0, said.err
    assert "not signed yet" in said.out
    return charter.with_name("charter.next.toml")


def sign_by_all(hansa: Commands, path: Path, instance: Instance) -> None:
    """Each with the key that the version names for it, from where it waits or is in use."""
    for it in read_charter(path)[0].members:
        folder = instance.member_path(it.name)
        for key in (folder / "next" / "identity.key", folder / "identity.key"):
            words = ("charter", "sign", str(path), "--name", it.name, "--identity", str(key))
            if key.exists() and hansa(*words).code == 0:
                break
        else:
            raise AssertionError(it.name)
