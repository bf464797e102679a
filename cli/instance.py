"""An instance: the folder that `hansa provision` writes and every other command finds its files in.

    INSTANCE/
      instance.toml          which scenario it was made from
      ca/                    the CA's key, needed again only to renew certificates
      server/                SuperLink and ServerApp: server.toml, charter, TLS, SuperExec secret
      control/               control: server.toml, charter, operator's key, tokens, job.toml
      operator/              who works with control: its tokens to read and to write, job.toml
      sidecar/               what the sidecar remembers of jobs; it works with the operator's tokens;
                             scaler.toml, where somebody wrote one: the services that it scales
      monitoring/            read.token: what Prometheus needs of control
      store/                 jobs, rounds, metrics, checkpoints; both of the above write there
      members/NAME/          the agent: keys, charter, pin, member.toml, its own records of what it did
      members/NAME/node/     the node: its key and the CA's certificate, nothing else
      members/NAME/work/     work.sock, the only thing agent and node share
      logs/  run/            of the processes that run here

One owner a folder: each can be a volume of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hansa.contract.errors import InputError
from hansa.contract.scenario import MemberConfig, ScenarioJob
from hansa.contract.typed import Frozen, Slug, read_file, read_toml
from hansa.server.config import ServerConfig, read_server_config

DEFAULT_ROOT = Path(".hansa")
_said: set[str] = set()


class InstanceFacts(Frozen):
    """`instance.toml`."""

    name: Slug
    title: str = ""
    scenario: str
    created: datetime
    # Made by `hansa up` for one run: the next one may replace it.
    passing: bool = False


@dataclass(frozen=True)
class MemberFolder:
    """One organisation's files, in an instance or wherever that organisation keeps them."""

    folder: Path

    @property
    def config_path(self) -> Path:
        return self.folder / "member.toml"

    @property
    def config(self) -> MemberConfig:
        """The organisation's settings, read anew."""
        return read_toml(self.config_path, MemberConfig)

    @property
    def identity_key(self) -> Path:
        return self.folder / "identity.key"

    @property
    def sealing_key(self) -> Path:
        return self.folder / "sealing.key"

    @property
    def split_key(self) -> Path:
        return self.folder / "split.key"

    @property
    def node_key(self) -> Path:
        return self.folder / "node" / "node.key"

    @property
    def node_public(self) -> Path:
        return self.folder / "node" / "node.pub"

    @property
    def node_ca(self) -> Path:
        """The node's own copy of the CA's certificate."""
        return self.folder / "node" / "ca.crt"

    @property
    def charter(self) -> Path:
        return charter_files(self.folder)[0]

    @property
    def signatures(self) -> Path:
        return charter_files(self.folder)[1]

    @property
    def held_out(self) -> Path:
        """Exact scores on held-out records, where `keep_scores` is set and a job was closed."""
        return self.folder / "held_out.npz"


@dataclass(frozen=True)
class Instance:
    """Typed paths of one instance folder."""

    folder: Path

    @property
    def facts_path(self) -> Path:
        return self.folder / "instance.toml"

    @property
    def facts(self) -> InstanceFacts:
        return read_toml(self.facts_path, InstanceFacts)

    @property
    def exists(self) -> bool:
        """Whether a whole instance stands here; provisioning makes it appear in one step."""
        return self.facts_path.is_file()

    @property
    def run_records(self) -> list[Path]:
        """Where supervisors of its processes leave their records."""
        # The lock is there first.
        patterns = ("run/*.lock", "*/run/*.lock", "members/*/run/*.lock")
        found = (path for pattern in patterns for path in self.folder.glob(pattern))
        return sorted(path.with_suffix(".json") for path in found)

    @property
    def runs(self) -> bool:
        """Whether a supervisor of any of its processes lives."""
        from hansa.cli.run_record import is_held

        return any(is_held(path) for path in self.run_records)

    @property
    def ca(self) -> Path:
        return self.folder / "ca"

    @property
    def server(self) -> Path:
        return self.folder / "server"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def operator(self) -> Path:
        """What commands need of control: neither its key nor what signs."""
        return self.folder / "operator"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def monitoring(self) -> Path:
        """Prometheus' token to read control's figures."""
        return self.folder / "monitoring"

    @property
    def sidecar(self) -> Path:
        """What the sidecar remembers of jobs."""
        return self.folder / "sidecar"

    @property
    def scaler_services(self) -> Path:
        """Services that the sidecar scales, where somebody wrote that file."""
        return self.sidecar / "scaler.toml"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def members_folder(self) -> Path:
        return self.folder / "members"

    @property
    def server_config_path(self) -> Path:
        return self.server / "server.toml"

    @property
    def control_config_path(self) -> Path:
        return self.control / "server.toml"

    @property
    def server_config(self) -> ServerConfig:
        return read_server_config(self.server_config_path)

    @property
    def charter(self) -> Path:
        return charter_files(self.server)[0]

    @property
    def signatures(self) -> Path:
        return charter_files(self.server)[1]

    @property
    def tokens_path(self) -> Path:
        """The operator's tokens; control's own in an instance from before there was that folder."""
        path = self.operator / "tokens.json"
        return path if path.exists() else self.control / "tokens.json"

    @property
    def sidecar_tokens_path(self) -> Path:
        """The sidecar's token; the operator's in an instance from before it had one."""
        path = self.sidecar / "tokens.json"
        return path if path.exists() else self.tokens_path

    @property
    def tokens(self) -> dict[str, str]:
        """The control API's bearer tokens by what they allow: read, write."""
        path = self.tokens_path
        try:
            document = json.loads(read_file(path))
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}") from None
        return {str(name): str(token) for name, token in document.items()}

    @property
    def control_url(self) -> str:
        return f"http://{self.server_config.control}"

    @property
    def job(self) -> ScenarioJob:
        """The job that `hansa up` submits."""
        path = self.operator / "job.toml"
        return read_toml(path if path.exists() else self.control / "job.toml", ScenarioJob)

    @property
    def members(self) -> list[str]:
        """Names of the members whose folders are here, sorted."""
        if not self.members_folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.members_folder.glob("*/member.toml"))

    def member_path(self, name: str) -> Path:
        """Where a member's folder stands or will stand."""
        return self.members_folder / name

    def member(self, name: str) -> MemberFolder:
        """One member's folder.

        Raises
        ------
        InputError : no such member here, with the names there are
        """
        found = MemberFolder(self.member_path(name))
        if not found.config_path.is_file():
            names = ", ".join(self.members) or "none"
            raise InputError(
                f"no organisation '{name}' in {self.folder}; the organisations there are {names}"
            )
        return found


def charter_files(folder: Path) -> tuple[Path, Path]:
    """The charter and its signatures, where a member's folder, the server's or control's has them by its settings."""
    config: MemberConfig | ServerConfig = ServerConfig()
    if (folder / "member.toml").is_file():
        config = MemberFolder(folder).config
    elif (folder / "server.toml").is_file():
        config = read_server_config(folder / "server.toml")
    return folder / config.charter, folder / config.signatures


def operator_key(folder: Path) -> Path:
    """Where control's folder has, or would have, the operator's key."""
    path = folder / "server.toml"
    config = read_server_config(path) if path.is_file() else ServerConfig()
    return folder / config.operator_key


def find_instance(path: Path | None = None) -> Instance:
    """The instance at `path`, else the one that runs under `.hansa` in the current directory, else the newest there.

    Where that leaves a choice, one line on stderr says which is meant.

    Raises
    ------
    InputError : there is none, or `path` holds none
    """
    if path is not None:
        instance = Instance(path)
        if not instance.exists:
            raise InputError(f"{path}: no instance here (instance.toml is missing); run: hansa provision")
        return instance
    found = _instances()
    if not found:
        raise InputError(
            "no instance under .hansa in this directory; run: hansa up, or hansa provision SCENARIO"
        )
    running = [it for it in found if it.runs]
    meant = (running or found)[0]
    if len(running) > 1:
        others = ", ".join(str(it.folder) for it in running[1:])
        _say_once(
            f"{meant.folder} is meant, the newest that runs; {others} runs too: --instance names another"
        )
    elif meant is not found[0]:
        _say_once(
            f"{meant.folder} is meant, which runs; {found[0].folder} is newer: --instance names another"
        )
    return meant


def any_instance() -> bool:
    """Whether there is one under `.hansa` in the current directory."""
    return bool(_instances())


def others_that_run(instance: Instance) -> list[Instance]:
    """Instances that run beside one, in the same folder as it or under `.hansa`."""
    beside = {it.folder.resolve(): it for it in (*_instances(instance.folder.parent), *_instances())}
    return [it for folder, it in beside.items() if folder != instance.folder.resolve() and it.runs]


def _instances(root: Path = DEFAULT_ROOT) -> list[Instance]:
    """Those in a folder, the newest first."""
    # Hidden ones are being written, or on their way out.
    written = (file for file in root.glob("*/instance.toml") if not file.parent.name.startswith("."))
    return [Instance(it.parent) for it in sorted(written, key=lambda it: it.stat().st_mtime, reverse=True)]


def _say_once(sentence: str) -> None:
    """One line on stderr; a command looks for its instance more than once."""
    if sentence not in _said:
        _said.add(sentence)
        print(sentence, file=sys.stderr)


def choose_member(org: str | None, folder: Path | None, instance: Path | None) -> MemberFolder:
    """One organisation's folder: `folder` itself, or the one called `org` in an instance.

    Raises
    ------
    InputError : no such organisation, or the folder belongs to another one
    """
    if folder is None:
        found = find_instance(instance)
        if org is None:
            raise InputError(f"--org: name one of the organisations: {', '.join(found.members)}")
        return found.member(org)
    member = MemberFolder(folder)
    name = member.config.name
    if org is not None and org != name:
        raise InputError(f"{member.config_path}: belongs to '{name}', not to '{org}'")
    return member
