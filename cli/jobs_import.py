"""`hansa jobs import`: at an organisation, a model that another member brought."""

from __future__ import annotations

from pathlib import Path

from hansa.cli.instance import MemberFolder
from hansa.cli.starting import check_size, read_start
from hansa.clients.starting import import_start
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.typed import read_toml


def import_model(member: MemberFolder, file: Path) -> str:
    """Keep an exported model in the member's folder, beside those of its own jobs; returns what to print.

    Raises
    ------
    InputError : it is no such file, of another feature contract, or with an organisation's own version in it
    """
    read = read_start(file)
    if read.personal:
        raise InputError(
            f"{file}: holds an organisation's own version, fitted without noise, which is not to leave it; "
            "have it written anew with: hansa jobs export --federated"
        )
    charter = read_toml(member.charter, Charter)
    if read.start.contract != charter.task.features.digest:
        raise InputError(
            f"{file}: the model was trained under another feature contract ({read.start.contract[:8]}, the "
            f"charter's is {charter.task.features.digest[:8]}): its columns mean others"
        )
    check_size(file, read.start, charter)
    path = import_start(member.folder, read.start, read.weights)
    return (
        f"{path}: the model of job {read.start.job[:8]}, {read.start.parameters} weights, "
        f"SHA-256 {read.start.weights}; a job whose plan names that digest may start from it here"
    )
