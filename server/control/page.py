"""The API's page, rendered from its own schema: no script, no font, no request to anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2733 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #cdd6df } code, pre { font: 13px/1.5 ui-monospace, monospace }
details { border: 1px solid #cdd6df; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } .verb { display: inline-block; min-width: 4rem; font-weight: 600 }
.get { color: #14628c } .post, .put { color: #8a4b08 } table { border-collapse: collapse }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top } .note { color: #56636f }
@media (prefers-color-scheme: dark) { body { background: #10161c; color: #d7dfe6 } .get { color: #7cc4ee }
.post, .put { color: #eeb36b } details, h2 { border-color: #34404b } .note { color: #94a1ad } a { color: #7cc4ee } }
"""
# Nothing but the page's own style may load.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Schema = Mapping[str, Any]


def render(schema: Schema) -> str:
    """An HTML page of every operation and every type of an OpenAPI document."""
    info = schema["info"]
    return "".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} <small class=note>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info.get('description', ''))}</p>",
            '<p class=note>The same as a document for programs: <a href="openapi.json">openapi.json</a>.</p>',
            *_operations(schema),
            "<h2>Types</h2>",
            *(_type(name, it) for name, it in sorted(schema["components"]["schemas"].items())),
        )
    )


def _operations(schema: Schema) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, verbs in schema["paths"].items():
        for verb, operation in verbs.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(path, verb, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        yield from operations


def _operation(path: str, verb: str, operation: Schema) -> str:
    token = "needs a token" if operation.get("security") else "needs no token"
    rows = [_parameter(it) for it in operation.get("parameters", [])]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        rows.append(f"<tr><td>body<td>{_shape(body)}<td>")
    answers = [
        f"<tr><td>{status}<td>{_answer(answer)}<td>{escape(answer.get('description', ''))}"
        for status, answer in sorted(operation["responses"].items())
    ]
    return (
        f"<details><summary><span class='verb {escape(verb)}'>{escape(verb.upper())}</span> "
        f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))} <span class=note>({token})</span></p>"
        f"<table>{''.join(rows)}</table><p class=note>Answers</p><table>{''.join(answers)}</table></details>"
    )


def _parameter(parameter: Schema) -> str:
    note = parameter.get("description", "") + (" (required)" if parameter.get("required") else "")
    return (
        f"<tr><td><code>{escape(parameter['name'])}</code><td>{_shape(parameter['schema'])}<td>{escape(note)}"
    )


def _answer(answer: Schema) -> str:
    for kind, content in answer.get("content", {}).items():
        return _shape(content["schema"]) if "schema" in content else escape(kind)
    return ""


def _type(name: str, schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [
        f"<tr><td><code>{escape(field)}</code><td>{_shape(it)}<td>{'' if field in required else 'optional'}"
        for field, it in schema.get("properties", {}).items()
    ]
    return (
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        f"<p>{escape(schema.get('description', ''))}</p><table>{''.join(rows)}</table></details>"
    )


def _shape(schema: Schema) -> str:
    """A type in one line, with links to the named ones."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_shape(it) for it in schema[key])
    if "enum" in schema or "const" in schema:
        return " | ".join(
            f"<code>{escape(str(it))}</code>" for it in schema.get("enum", [schema.get("const")])
        )
    if schema.get("type") == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"names to {_shape(schema['additionalProperties'])}"
    return escape(str(schema.get("format") or schema.get("type") or "any value"))
