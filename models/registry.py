"""Finding a model by its entry point and pinning the code that implements it.

The charter names an entry point of the group `hansa.models` and the hash of the
distribution that holds it: every member runs the model it agreed to.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import CharterError, InputError
from hansa.contract.features import FeatureContract
from hansa.models.model import Model
from hansa.models.source_tree import is_bytecode, source_files

GROUP = "hansa.models"
# Names by which models, scalers and encoders elsewhere learn from records.
_LOOKING = ("fit", "partial_fit", "fit_transform", "prepare", "calibrate")


def load_model(choice: ModelChoice, features: FeatureContract) -> Model:
    """The model a charter names, ready to use; only from the distribution that the charter names with it.

    Raises
    ------
    InputError : no such entry point in that distribution, it does not load, or an option is wrong
    """
    found = installed(choice.distribution)
    # Not by name over all that is installed: another distribution may offer the same name, and nobody hashed that one.
    offered = found.entry_points.select(group=GROUP) if found else ()
    entry = next((it for it in offered if it.name == choice.name), None)
    if entry is None:
        raise InputError(_not_offered(choice))
    try:
        constructor = entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"model '{choice.name}': entry point {entry.value} does not load: {error}") from None
    model: Model = constructor(features, choice.options)
    _check_holds_no_records(choice, model)
    return model


def _check_holds_no_records(choice: ModelChoice, model: Model) -> None:
    """What is learnt from records is a gradient sum, clipped and noised: a model that looks otherwise is refused."""
    for method in _LOOKING:
        if hasattr(model, method):
            raise InputError(
                f"model '{choice.name}': its method '{method}' prepares it from private records, for which nobody "
                "pays; declare ranges in the feature contract, or let jobs begin with the contract check"
            )


def _not_offered(choice: ModelChoice) -> str:
    everywhere = metadata.entry_points(group=GROUP)
    others = sorted({it.dist.name for it in everywhere if it.name == choice.name and it.dist is not None})
    missing = f"model '{choice.name}': '{choice.distribution}' has no entry point of that name in '{GROUP}'"
    if others:
        holds = " and ".join(f"'{it}'" for it in others)
        return f"{missing}; {holds} has one, but the charter names '{choice.distribution}': correct model.distribution"
    here = installed(choice.distribution)
    if here is not None:
        held = ", ".join(sorted(it.name for it in here.entry_points.select(group=GROUP))) or "none"
        return f"model '{choice.name}': distribution '{choice.distribution}' has no model of that name; it has {held}"
    known = ", ".join(sorted({it.name for it in everywhere})) or "none"
    return f"{missing}; install the package that holds it (pip install {choice.distribution}); found here: {known}"


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
    """SHA-256 over the files and entry points of an installed distribution, hex; the same wherever it is installed.

    Everything that its RECORD lists counts, libraries and data too, but what an installer or a build makes anew:
    bytecode, the metadata folder and the scripts of entry points. Of an editable installation the same files count,
    read from its source tree.

    Raises
    ------
    InputError : no such distribution, or one of its files is gone
    """
    distribution = installed(name)
    if distribution is None:
        raise InputError(f"distribution '{name}' is not installed; run: pip install {name}")
    source = _editable_source(distribution)
    try:
        digests = _recorded_digests(distribution, editable=source is not None)
        if source:
            digests |= {path: _digest(file.read_bytes()) for path, file in source_files(source).items()}
    except OSError as error:
        raise InputError(
            f"distribution '{name}': {error.filename}: {error.strerror}; install it again"
        ) from None
    entries = sorted((it.group, it.name, it.value) for it in distribution.entry_points)
    return hashlib.sha256(json.dumps([sorted(digests.items()), entries]).encode()).hexdigest()


def installed(name: str) -> metadata.Distribution | None:
    """The installed distribution of that name, spelt in any way, or None."""
    # A source tree in the current directory may show an egg-info of the same name: what is installed has a RECORD.
    return next((it for it in metadata.distributions(name=name) if it.read_text("RECORD")), None)


def _recorded_digests(distribution: metadata.Distribution, *, editable: bool) -> dict[str, str]:
    scripts = {it.name for it in distribution.entry_points if it.group in ("console_scripts", "gui_scripts")}
    digests = {}
    for file in distribution.files or []:
        if file.parts[0].endswith(".dist-info") or is_bytecode(file):
            continue
        # Written by the installer, with this machine's path in it.
        if ".." in file.parts and file.name.removesuffix(".exe") in scripts:
            continue
        # How an editable installation finds its source tree; the tree itself is hashed instead.
        if editable and len(file.parts) == 1 and (file.suffix == ".pth" or file.name.startswith("_")):
            continue
        # The file itself: RECORD says what was installed, not what stands there now.
        path = "/".join(part for part in file.parts if part != "..")
        digests[path] = _digest(Path(str(file.locate())).read_bytes())
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
