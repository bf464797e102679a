"""docs/reference/configuration.md: every file that is read, out of the types that read it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from field_meanings import MEANINGS
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from scaler_fields import scaler_section
from tables import NOTE, code, table

from hansa.contract.charter import Charter
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import JobPlan
from hansa.contract.scenario import MemberConfig, Scenario
from hansa.contract.typed import LINE_PATTERN
from hansa.server.config import ServerConfig

INTRO = """# Configuration

Every file is TOML, read once, strictly: a field that is not known, or a value of another type, is one line that names
file and field, and exit code 2. What a value may be and its default come from the types that read the file, and what it
means from the comment beside the field.
"""

# File -> (heading, model, who writes and reads it).
FILES: tuple[tuple[str, type[BaseModel], str], ...] = (
    (
        "scenario.toml",
        Scenario,
        "A consortium before there are keys: `hansa provision`, `hansa up` and `hansa simulate` read it.",
    ),
    (
        "features.toml",
        FeatureContract,
        "The feature contract, beside `scenario.toml`; a charter holds it as a whole.",
    ),
    ("charter.toml", Charter, "The agreement that every member signs; its hash is that of the file's bytes."),
    ("member.toml", MemberConfig, "One organisation's own settings, beside its keys; nobody else reads it."),
    ("server.toml", ServerConfig, "The consortium's server."),
    (
        "Job plan",
        JobPlan,
        "What a job is fixed to when it is submitted: the scenario's `[job]`, changed by `--set` and `--rounds`.",
    ),
)


# The list of parameters of a docstring begins so.
_SECTION = re.compile(r"^(?:Parameters|Attributes)\n-+$", re.MULTILINE)


def page() -> str:
    """The page's text."""
    done: set[str] = set()
    parts = [INTRO, NOTE, ""]
    for heading, model, sentence in FILES:
        parts += [f"## {heading}", "", sentence, "", *_fields(model)]
        done.add(model.__name__)
        for inner in _inner(model):
            if inner.__name__ not in done:
                done.add(inner.__name__)
                parts += [f"### {inner.__name__}", "", _told(inner), "", *_fields(inner)]
    return "\n".join([*parts, scaler_section()])


def undescribed() -> tuple[list[str], list[str]]:
    """Fields that nothing is said of, and entries of `MEANINGS` that nothing needs, as Class.field."""
    models = {it.__name__: it for _, model, _ in FILES for it in (model, *_inner(model))}
    silent = {
        f"{it.__name__}.{name}" for it in models.values() for name, text in _comments(it).items() if not text
    }
    silent = {it for it in silent if not it.endswith(".kind")}  # which of several types it is says itself
    return sorted(silent - set(MEANINGS)), sorted(set(MEANINGS) - silent)


def _fields(model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    comments = _comments(model)
    rows = [
        (
            code(name),
            _kind(schema["properties"][name]),
            _default(field),
            _meaning(model, name, comments[name]),
        )
        for name, field in model.model_fields.items()
    ]
    return [table(("field", "value", "default", "meaning"), rows), ""]


def _meaning(model: type[BaseModel], name: str, comment: str) -> str:
    said = comment or MEANINGS.get(f"{model.__name__}.{name}", "")
    # A type that several fields share says what it is in its own words.
    return _plain(
        ". ".join(it.rstrip(".") for it in (said, model.model_fields[name].description) if it) + "."
    )


def _told(model: type[BaseModel]) -> str:
    return _plain(" ".join(_SECTION.split(inspect.cleandoc(model.__doc__ or ""))[0].split()))


def _plain(text: str) -> str:
    """Without references that only the code's readers have."""
    text = re.sub(r"DESIGN section \d+, |,? ?\(?DESIGN section \d+\)|DESIGN section \d+", "", text)
    return re.sub(r"PROTOCOL (sections? )?", r"[protocol](../protocol.md) \1", text).replace(
        "section ", "section "
    )


def _inner(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Models within it, each once, as they come."""
    seen: dict[type[BaseModel], None] = {}

    def look(annotation: Any) -> None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if is_model and annotation not in seen:
            seen[annotation] = None
            for field in annotation.model_fields.values():
                look(field.annotation)
        for part in get_args(annotation):
            look(part)

    for field in model.model_fields.values():
        look(field.annotation)
    return iter(seen)


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment above each field, or what the class says of it; empty where there is neither."""
    source = textwrap.dedent(inspect.getsource(model))
    lines, body = source.splitlines(), ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    at = {
        it.target.id: it.lineno
        for it in body.body
        if isinstance(it, ast.AnnAssign) and isinstance(it.target, ast.Name)
    }
    listed = _listed(inspect.cleandoc(model.__doc__ or ""))
    return {name: _comment(lines, at.get(name, 0)) or listed.get(name, "") for name in model.model_fields}


def _listed(text: str) -> dict[str, str]:
    """What a docstring's list of parameters says of each."""
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^(\w+(?:, \w+)*) : (.+)$", _SECTION.split(text, 1)[-1], re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), meaning)
    return found


def _comment(lines: list[str], line: int) -> str:
    found: list[str] = []
    for text in reversed(lines[: max(line - 1, 0)]):
        if not text.strip().startswith("#"):
            break
        found.insert(0, text.strip().lstrip("# "))
    return " ".join(found)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        heading = next((it for it, model, _ in FILES if model.__name__ == name), name)
        return f"[{name}](#{heading.lower().replace('.', '').replace(' ', '-')})"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(_kind(it) for it in options if it.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return " or ".join(code(f'"{it}"') for it in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}" + _count(schema)
    if schema.get("type") == "object":
        return f"table of {_kind(schema.get('additionalProperties', {}))}"
    return _scalar(schema)


def _count(schema: dict[str, Any]) -> str:
    least = schema.get("minItems")
    return f", at least {least}" if least else ""


def _scalar(schema: dict[str, Any]) -> str:
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    words = [names.get(str(schema.get("type")), "any")]
    if schema.get("format") == "date-time":
        words = ["date and time with its zone"]
    if "minimum" in schema or "exclusiveMinimum" in schema:
        words.append(
            f"from {schema['minimum']:g}" if "minimum" in schema else f"above {schema['exclusiveMinimum']:g}"
        )
    if "maximum" in schema:
        words.append(f"to {schema['maximum']:g}")
    if "exclusiveMaximum" in schema:
        words.append(f"below {schema['exclusiveMaximum']:.16g}")
    if schema.get("pattern") == LINE_PATTERN:
        words.append("of one line")
    elif "pattern" in schema:
        words.append(f"like `{schema['pattern']}`")
    return " ".join(words)


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else ""
    default = field.default
    if default is None:
        return ""
    if isinstance(default, BaseModel):
        return "its defaults"
    text = {True: "true", False: "false"}.get(default) if isinstance(default, bool) else None
    if isinstance(default, str):
        text = f'"{default}"'
    if default == {} or default == ():
        text = "empty"
    return code(text if text is not None else default)
