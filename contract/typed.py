"""Typed facts and typed files: one frozen model class, one way in for TOML."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hansa.contract.errors import InputError
from hansa.contract.folders import give_to_owner
from hansa.contract.visible import visible


class Frozen(BaseModel):
    """A fact: immutable, no unknown field, no silent conversion of a string to a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# A name that may become a folder, a column or an argument without quoting.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]

Fact = TypeVar("Fact", bound=BaseModel)

# What one party writes for another's people to read, or for its log: no control characters, not endless.
SENTENCE_CHARACTERS = 500
Sentence = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=SENTENCE_CHARACTERS)]

# As a `Sentence`, for what people agree on: neither the second set of controls, nor what breaks a line or turns
# the direction in which it is read.
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$"
Line = Annotated[str, Field(pattern=LINE_PATTERN, max_length=SENTENCE_CHARACTERS)]

# Of a document with more problems than this none is explained.
MOST_PROBLEMS = 1000


def clipped(text: str, longest: int = SENTENCE_CHARACTERS) -> str:
    """`text` as a `Sentence` may be: control characters become spaces, what is too long ends in an ellipsis."""
    start = "".join(
        " " if letter < " " or letter == "\x7f" or "\ud800" <= letter <= "\udfff" else letter
        for letter in text[: longest + 1]
    )
    return start if len(start) <= longest else start[: longest - 1] + "…"


def canonical_json(value: Any) -> bytes:
    """Bytes that are the same for equal values: sorted keys, no spaces, UTF-8."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def read_toml(path: Path, kind: type[Fact], *, limit: int | None = None) -> Fact:
    """Read a TOML file into `kind`; `limit` as of `read_file`.

    Raises
    ------
    InputError : naming the file, the field, what was expected and what stands there
    """
    return parse_toml(read_file(path, limit=limit), kind, path)


def read_file(path: Path, *, limit: int | None = None) -> bytes:
    """A file's bytes, or an `InputError` that names it: no such file, unreadable, or more than `limit` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read() if limit is None else file.read(limit + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if limit is not None and len(content) > limit:
        raise InputError(f"{path}: has more than {limit >> 20} MiB, so it is another kind of file")
    return content


def parse_toml(content: bytes, kind: type[Fact], origin: Path | str) -> Fact:
    """As `read_toml`, from bytes; `origin` is what the error names."""
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{origin}: not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{origin}: is nested too deeply; this is another kind of document") from None
    return parse_document(document, kind, origin)


def parse_document(document: Any, kind: type[Fact], origin: Path | str) -> Fact:
    """Validate plain data (from TOML or JSON) as `kind`."""
    try:
        # Through JSON, because pydantic's strict mode takes lists for tuples only there.
        return kind.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"{origin}: {explain(error)}") from None
    except RecursionError:
        raise InputError(f"{origin}: is nested too deeply; this is another kind of document") from None


def explain(error: ValidationError) -> str:
    """The first problem of a validation error, in one sentence, and how many more there are."""
    if error.error_count() > MOST_PROBLEMS:  # listing them takes far more memory than the document
        return f"{error.error_count()} problems; this is another kind of document"
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"]) or "document"
    if first["type"] == "extra_forbidden":
        sentence = f"field '{field}' is not known here; remove it or correct its name"
    elif first["type"] == "missing":
        sentence = f"field '{field}' is missing"
    else:
        given = repr(first.get("input"))
        given = given if len(given) <= 60 else given[:57] + "..."
        message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        if first.get("ctx", {}).get("pattern") == LINE_PATTERN:
            message = "must be one line, without control characters and without changes of direction"
        sentence = f"field '{field}': {message} (got {given})"
    more = len(problems) - 1
    # Names of fields, and what a check says of a value, are as the document has them.
    return visible(sentence) + (f"; and {more} more problem{'s' if more > 1 else ''}" if more else "")


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees all of it or the one before; private modes hold from the first byte.

    What root writes belongs to whom the file before belonged, or its folder, from before it is seen.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            give_to_owner(file.fileno(), path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk names no file, and another failure the hidden one.
            error.filename, error.filename2 = str(path), None
        raise
