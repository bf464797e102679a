"""From a scenario to an instance: keys, certificates, a charter that every member signed.

Everything is written into a hidden folder beside the target, which is renamed into place at the
end: an instance is there whole or not at all.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import tomli_w

from hansa.cli.certificates import check_name, issue_authority, issue_server
from hansa.cli.instance import Instance, InstanceFacts
from hansa.cli.member_keys import PublicPart, make_member_keys, private_folder
from hansa.cli.placing import building_place, is_mounted, put_in_place
from hansa.contract.charter import Charter, Member, Task, charter_hash, unbuilt
from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.plan import check_privacy
from hansa.contract.scenario import FirstGrant, MemberConfig, Scenario, ScenarioMember
from hansa.contract.signatures import Signatures, pin, signature_for, verify_charter, write_signatures
from hansa.contract.sources import CsvSource, ParquetSource, Source, SqlSource
from hansa.contract.typed import Frozen, write_atomically
from hansa.server.config import ServerConfig

CHARTER_LIFETIME = timedelta(days=365)
ALWAYS_NAMED = ("localhost", "superlink", "127.0.0.1", "::1")
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Addresses:
    """Where an instance's server listens, HOST:PORT, and how members call it."""

    superlink: str = "127.0.0.1:9440"
    fleet: str = "127.0.0.1:9443"
    control: str = "127.0.0.1:9480"
    # What members dial, where that is not `fleet` itself.
    server: str | None = None
    # More names and addresses for the server's certificate.
    names: tuple[str, ...] = field(default=())

    @property
    def certified(self) -> tuple[str, ...]:
        """Every name the certificate must hold, each once."""
        dialled = (self.server or self.fleet).rpartition(":")[0].strip("[]")
        return tuple(dict.fromkeys((*ALWAYS_NAMED, dialled, *self.names)))


def provision(
    scenario: Scenario,
    features: FeatureContract,
    *,
    origin: Path,
    out: Path,
    addresses: Addresses | None = None,
    keep_scores: bool = False,
    force: bool = False,
    passing: bool = False,
) -> Instance:
    """Write an instance folder for a demo; `origin` is where the scenario's relative paths start.

    Raises
    ------
    InputError : something is in the way, or the scenario does not make a valid charter
    """
    if out.exists() and not is_mounted(out) and not (out.is_dir() and not any(out.iterdir())):
        if not Instance(out).exists:
            raise InputError(f"{out}: is in the way and no instance; name another place with --out")
        if not force:
            raise InputError(f"{out}: an instance is there already; --force replaces it with new keys")
    check_privacy(scenario.job, scenario.privacy)
    for name in (addresses or Addresses()).certified:
        check_name(name)
    building = building_place(out)
    try:
        whole = Instance(building)
        _build(whole, scenario, features, origin.resolve(), addresses or Addresses(), keep_scores)
        _write_facts(whole, scenario, origin.resolve(), passing)
        put_in_place(building, out, Instance(out).facts_path.name)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return Instance(out)


def make_charter(
    scenario: Scenario,
    features: FeatureContract,
    members: Sequence[Member],
    operator_key: bytes,
    now: datetime,
) -> Charter:
    """Version 1 of the agreement that a scenario describes."""
    from hansa.models.registry import distribution_hash, load_model

    choice = scenario.model
    if not choice.distribution_hash:
        choice = choice.model_copy(update={"distribution_hash": distribution_hash(choice.distribution)})
    # A model that does not load here loads at no member; its options are checked by itself.
    load_model(choice, features)
    document = {
        "name": scenario.name,
        "version": 1,
        "expires": (now + CHARTER_LIFETIME).replace(microsecond=0),
        "operator_key": to_text(operator_key),
        "members": tuple(members),
        "task": Task(title=scenario.task, features=features, model=choice),
        "protection": scenario.protection,
        "training": scenario.training,
        "privacy": scenario.privacy,
        "knobs": scenario.knobs,
        "metrics": scenario.metrics,
        "approval": scenario.approval,
    }
    try:
        charter = Charter.model_validate(document)
    except ValueError as error:
        sentence = str(error.errors()[0]["msg"]) if hasattr(error, "errors") else str(error)
        raise InputError(f"scenario '{scenario.name}': {sentence.removeprefix('Value error, ')}") from None
    if sentence := unbuilt(charter):
        raise InputError(f"scenario '{scenario.name}': {sentence}")
    return charter


def to_toml(fact: Frozen) -> bytes:
    """A typed fact as TOML; what is not set is left out."""
    return tomli_w.dumps(fact.model_dump(mode="python", exclude_none=True)).encode()


def _build(
    instance: Instance,
    scenario: Scenario,
    features: FeatureContract,
    origin: Path,
    addresses: Addresses,
    keep_scores: bool,
) -> None:
    now = datetime.now(UTC)
    own = (
        *(instance.ca, instance.server, instance.control, instance.operator),
        *(instance.store, instance.sidecar, instance.monitoring),
    )
    for folder in (*own, instance.members_folder):
        private_folder(folder)
    public = {it.name: make_member_keys(instance.members_folder / it.name) for it in scenario.members}
    operator = SigningKey.generate()
    charter = make_charter(
        scenario, features, [_member(it, public[it.name]) for it in scenario.members], operator.public, now
    )
    content = to_toml(charter)
    signatures = _sign_by_all(instance, charter_hash(content), list(public))
    _write_server(instance, scenario, addresses, now)
    operator.save(instance.control / "operator.key")
    authority = (instance.ca / "ca.crt").read_bytes()
    for it in scenario.members:
        folder = instance.member_path(it.name)
        for where in (folder, folder / "node"):
            write_atomically(where / "ca.crt", authority)
        # Without noise nothing is charged, so that there is nothing to grant.
        grant = scenario.grant if scenario.privacy.noise != "none" else None
        config = _member_config(it, addresses, origin, keep_scores, grant)
        write_atomically(folder / "member.toml", to_toml(config), mode=0o600)
    folders = [instance.server, instance.control, *(instance.member_path(it.name) for it in scenario.members)]
    for folder in folders:
        write_atomically(folder / "charter.toml", content)
        write_signatures(folder / "charter.signatures.json", signatures)
    verified = verify_charter(instance.charter, instance.signatures)
    for it in scenario.members:
        pin(instance.member_path(it.name), verified)


def _write_facts(instance: Instance, scenario: Scenario, origin: Path, passing: bool) -> None:
    facts = InstanceFacts(
        name=scenario.name,
        title=scenario.title,
        scenario=str(origin),
        created=datetime.now(UTC).replace(microsecond=0),
        passing=passing,
    )
    write_atomically(instance.facts_path, to_toml(facts))


def _sign_by_all(instance: Instance, digest: str, names: Sequence[str]) -> Signatures:
    keys = {name: SigningKey.load(instance.member_path(name) / "identity.key") for name in names}
    return Signatures(
        charter=digest, signatures={name: signature_for(digest, key) for name, key in keys.items()}
    )


def _write_server(instance: Instance, scenario: Scenario, addresses: Addresses, now: datetime) -> None:
    authority = issue_authority(scenario.name, now)
    server = issue_server(authority, addresses.certified, now)
    write_atomically(instance.ca / "ca.crt", authority.certificate)
    write_atomically(instance.ca / "ca.key", authority.key, mode=0o600)
    write_atomically(instance.server / "ca.crt", authority.certificate)
    write_atomically(instance.server / "server.crt", server.certificate)
    write_atomically(instance.server / "server.key", server.key, mode=0o600)
    write_atomically(instance.server / "superexec.secret", secrets.token_urlsafe(48).encode(), mode=0o600)
    config = ServerConfig(
        store=f"{_SQLITE}../store/store.sqlite",
        superlink=addresses.superlink,
        fleet=addresses.fleet,
        control=addresses.control,
    )
    tokens = {name: secrets.token_urlsafe(32) for name in ("read", "steer", "write", "sign")}
    for folder in (instance.server, instance.control):
        write_atomically(folder / "server.toml", to_toml(config), mode=0o600)
    write_atomically(instance.control / "tokens.json", _json(tokens), mode=0o600)
    # The ServerApp asks for signatures; it starts no jobs and turns no knobs by hand.
    own = {name: tokens[name] for name in ("read", "sign")}
    write_atomically(instance.server / "tokens.json", _json(own), mode=0o600)
    # Who works with control needs neither its key nor the token that has orders signed.
    desk = {name: tokens[name] for name in ("read", "write")}
    write_atomically(instance.operator / "tokens.json", _json(desk), mode=0o600)
    # The sidecar steers what runs; it submits, stops and releases nothing.
    write_atomically(instance.sidecar / "tokens.json", _json({"steer": tokens["steer"]}), mode=0o600)
    # Prometheus reads control's figures, and nothing else of anybody's.
    write_atomically(instance.monitoring / "read.token", tokens["read"].encode(), mode=0o600)
    for folder in (instance.control, instance.operator):
        write_atomically(folder / "job.toml", to_toml(scenario.job))


def _member(member: ScenarioMember, public: PublicPart) -> Member:
    return Member(
        name=member.name,
        title=member.title,
        sector=member.sector,
        controller=member.controller or member.name,
        identity_key=public.identity_key,
        sealing_key=public.sealing_key,
        node_key=public.node_key,
        records=member.records,
    )


def _member_config(
    member: ScenarioMember, addresses: Addresses, origin: Path, keep_scores: bool, grant: FirstGrant | None
) -> MemberConfig:
    return MemberConfig(
        name=member.name,
        server=addresses.server or addresses.fleet,
        data=_anchored(member.data, origin),
        work_socket="work/work.sock",
        grant=grant,
        keep_scores=keep_scores,
    )


def _anchored(source: Source, origin: Path) -> Source:
    """The source with its path made absolute: member.toml stands elsewhere than the scenario."""
    if isinstance(source, CsvSource | ParquetSource):
        return source.model_copy(update={"path": str(origin / source.path)})
    if isinstance(source, SqlSource) and source.url.startswith(_SQLITE):
        return source.model_copy(update={"url": _SQLITE + str(origin / source.url.removeprefix(_SQLITE))})
    return source


def check_address(text: str, option: str) -> str:
    """HOST:PORT as given, or an `InputError` that names the option."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"{option} {text}: expected HOST:PORT, e.g. fl.example.org:9443")
    if ":" in host:
        try:
            ip_address(host.strip("[]"))
        except ValueError:
            raise InputError(f"{option} {text}: expected HOST:PORT, an IPv6 address in brackets") from None
    return text


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
