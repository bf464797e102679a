"""Finding a model by its entry point and pinning the code that implements it.

The charter names an entry point of the group `hansa.models` and the hash of the
distribution that holds it: every member runs the model it agreed to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import CharterError, InputError
from hansa.contract.features import FeatureContract
from hansa.models.model import Model

GROUP = "hansa.models"


def load_model(choice: ModelChoice, features: FeatureContract) -> Model:
    """The model a charter names, ready to use.

    Raises
    ------
    InputError : no such entry point, it does not load, or an option is wrong
    """
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    entry = found.get(choice.name)
    if entry is None:
        raise InputError(
            f"model '{choice.name}': no entry point of that name in the group '{GROUP}'; install the package that "
            f"holds it (pip install {choice.distribution}); found here: {', '.join(sorted(found)) or 'none'}"
        )
    try:
        constructor = entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"model '{choice.name}': entry point {entry.value} does not load: {error}") from None
    model: Model = constructor(features, choice.options)
    return model


def check_distribution(choice: ModelChoice) -> None:
    """Whether the installed code is what the charter pins; a charter without a hash pins nothing.

    Raises
    ------
    CharterError : another version is installed
    """
    if not choice.distribution_hash:
        return
    installed = distribution_hash(choice.distribution)
    if installed != choice.distribution_hash:
        raise CharterError(
            f"model '{choice.name}': distribution '{choice.distribution}' has hash {installed[:16]}..., the charter "
            f"pins {choice.distribution_hash[:16]}...; install the version that the charter was signed for"
        )


def distribution_hash(name: str) -> str:
    """SHA-256 over the Python files of an installed distribution, hex; the same wherever they are installed.

    Raises
    ------
    InputError : no such distribution
    """
    # A source tree in the current directory may show an egg-info of the same name: what is installed has a RECORD.
    found = [it for it in metadata.distributions(name=name) if it.read_text("RECORD")]
    if not found:
        raise InputError(f"distribution '{name}' is not installed; run: pip install {name}")
    distribution = found[0]
    source = _editable_source(distribution)
    digests = _source_digests(source) if source else _recorded_digests(distribution)
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def _recorded_digests(distribution: metadata.Distribution) -> dict[str, str]:
    digests = {}
    for file in distribution.files or []:
        if file.suffix == ".py" and ".." not in file.parts:
            # The file itself: RECORD says what was installed, not what stands there now.
            digests[file.as_posix()] = _digest(Path(str(file.locate())).read_bytes())
    return digests


def _digest(content: bytes) -> str:
    """As RECORD writes it: URL-safe base64 without padding."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _editable_source(distribution: metadata.Distribution) -> Path | None:
    content = distribution.read_text("direct_url.json")
    if not content:
        return None
    origin = json.loads(content)
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(origin["url"]).path))


def _source_digests(folder: Path) -> dict[str, str]:
    """As the wheel would list them, by path below the package."""
    digests = {}
    for package, directory in _packages(folder).items():
        for file in sorted(directory.glob("*.py")):
            digests[f"{package.replace('.', '/')}/{file.name}"] = _digest(file.read_bytes())
    return digests


def _packages(folder: Path) -> dict[str, Path]:
    """Packages of a source tree and their folders: from `tool.setuptools`, else whatever has an `__init__.py`."""
    pyproject = folder / "pyproject.toml"
    document = tomllib.loads(pyproject.read_text()) if pyproject.is_file() else {}
    settings = document.get("tool", {}).get("setuptools", {})
    names = settings.get("packages")
    if not isinstance(names, list):
        root = folder / "src" if (folder / "src").is_dir() else folder
        found = (path.parent for path in root.rglob("__init__.py") if not _ignored(path.relative_to(root)))
        return {".".join(path.relative_to(root).parts): path for path in found}
    mapping: dict[str, str] = settings.get("package-dir", {})
    return {name: folder / _directory(name, mapping) for name in names}


def _directory(package: str, mapping: dict[str, str]) -> str:
    """Where setuptools looks for a package: the longest mapped prefix, then the rest of its name."""
    parts = package.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in mapping:
            return "/".join([mapping[prefix], *parts[length:]])
    return "/".join([part for part in (mapping.get(""),) if part] + parts)


def _ignored(path: Path) -> bool:
    return any(part.startswith(".") or part in ("site-packages", "build", "tests") for part in path.parts)
