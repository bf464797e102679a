"""How one more container of a service looks: as the one that Compose made of it, and no more than that may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hansa.sidecar.actuators.docker import MADE_HERE

NUMBER = "com.docker.compose.container-number"
_CONFIG = ("User", "Env", "Cmd", "Entrypoint", "WorkingDir", "Healthcheck", "StopSignal", "StopTimeout")
_HOST = (
    *("ReadonlyRootfs", "CapDrop", "SecurityOpt", "Tmpfs", "Memory", "NanoCpus", "CpuQuota", "CpuPeriod"),
    *("MemorySwap", "MemoryReservation", "CpuShares", "CpusetCpus", "Ulimits", "OomScoreAdj", "ExtraHosts"),
    *("PidsLimit", "RestartPolicy", "Init", "LogConfig", "ShmSize", "Binds", "Mounts", "NetworkMode"),
)
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_SAFE_OPTIONS = ("no-new-privileges:true", "no-new-privileges")


class Unsafe(Exception):
    """The service's own container may do what a gate must not hand out again; the sentence says what."""


def create_body(inspected: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The body of the engine's create request for container `number` of a service.

    Parameters
    ----------
    inspected : the engine's word on the container that Compose made

    Raises
    ------
    Unsafe : that container has privileges, or a way to its host
    """
    config, host = inspected["Config"], inspected["HostConfig"]
    _check(host)
    body: dict[str, Any] = {name: config[name] for name in _CONFIG if config.get(name) is not None}
    # By its digest: a tag may have been given to another image since.
    body["Image"] = inspected["Image"]
    body["Labels"] = {**config.get("Labels", {}), NUMBER: str(number), MADE_HERE: "1"}
    body["HostConfig"] = {name: host[name] for name in _HOST if host.get(name) is not None}
    networks = inspected["NetworkSettings"]["Networks"] or {}
    body["NetworkingConfig"] = {
        "EndpointsConfig": {name: {"Aliases": _aliases(it, inspected)} for name, it in networks.items()}
    }
    return body


def volumes(inspected: Mapping[str, Any]) -> list[str]:
    """Names of the volumes that such a container would mount: whoever made one may have pointed it at the host."""
    host = inspected["HostConfig"]
    bound = [it.partition(":")[0] for it in host.get("Binds") or []]
    mounted = [str(it.get("Source")) for it in host.get("Mounts") or [] if it.get("Type") == "volume"]
    return sorted({*bound, *(it for it in mounted if it)})


def check_volume(volume: Mapping[str, Any]) -> None:
    """Raises `Unsafe` for a volume whose driver was told where its files lie, as `device` does."""
    if volume.get("Driver") != "local" or volume.get("Options"):
        raise Unsafe(f"volume {volume.get('Name')} has a driver with options: it may be a folder of the host")


def _aliases(network: Mapping[str, Any], inspected: Mapping[str, Any]) -> list[str]:
    """Names that all containers of the service share; not those of that one."""
    own = (str(inspected["Name"]).removeprefix("/"), str(inspected["Id"])[:12])
    return [it for it in network.get("Aliases") or [] if it not in own]


def _check(host: Mapping[str, Any]) -> None:
    for name in ("Privileged", "Devices", "DeviceRequests", "DeviceCgroupRules", "VolumesFrom", "Links"):
        if host.get(name):
            raise Unsafe(f"it has {name}")
    if host.get("CapAdd"):
        raise Unsafe(f"it has capabilities {', '.join(host['CapAdd'])}")
    for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode", "NetworkMode"):
        value = str(host.get(name) or "")
        if value == "host" or value.startswith(("container:", "ns:")):
            raise Unsafe(f"its {name} is {value}")
    for option in host.get("SecurityOpt") or []:
        if option not in _SAFE_OPTIONS:
            raise Unsafe(f"it has security option {option}")
    for bind in host.get("Binds") or []:
        if not _VOLUME.fullmatch(bind.partition(":")[0]):
            raise Unsafe(f"{bind.partition(':')[0]} of the host is mounted into it")
    for mount in host.get("Mounts") or []:
        if mount.get("Type") not in ("volume", "tmpfs"):
            raise Unsafe(f"a {mount.get('Type')} is mounted into it")
        if (mount.get("VolumeOptions") or {}).get("DriverConfig"):
            raise Unsafe("a volume with options of a driver is mounted into it")
