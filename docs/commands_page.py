"""docs/reference/commands.md: every command with its arguments and options, out of the command tree itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from tables import NOTE, code, table

from hansa.cli.app import COMMANDS, build

INTRO = """# Commands

`hansa COMMAND --help` says the same. Exit codes: 0 done, 1 failed, 2 wrong input; a refusal is one line on stderr.
"""


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, groups before what is in them, in the order of `--help`."""
    root = build()
    context = click.Context(root, info_name="hansa")
    yield from _below(("hansa",), root, context)


def _below(
    path: tuple[str, ...], command: click.Command, context: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is None or inner.hidden:
            continue
        here = (*path, name)
        yield here, inner
        yield from _below(here, inner, click.Context(inner, info_name=name, parent=context))


def page() -> str:
    """The page's text."""
    summary = table(
        ("command", "what it is for"), ((f"[`{n}`](#hansa-{n})", text) for n, (_, text) in COMMANDS.items())
    )
    sections = [_section(path, command) for path, command in commands()]
    return "\n".join([INTRO, NOTE, "", summary, "", *sections])


def _section(path: tuple[str, ...], command: click.Command) -> str:
    parts = [f"{'#' * len(path)} {' '.join(path)}", "", _help(path, command), ""]
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return "\n".join(parts)
    parts += ["```text", _usage(path, command), "```", ""]
    rows = [_row(param) for param in command.params if not getattr(param, "hidden", False)]
    if rows:
        parts += [table(("", "value", "default", ""), rows), ""]
    return "\n".join(parts)


def _help(path: tuple[str, ...], command: click.Command) -> str:
    text = command.help or command.short_help or (COMMANDS[path[1]][1] if len(path) == 2 else "")
    # Click's marks for paragraphs are not for Markdown.
    return text.replace("\b", "").replace("\f", "").strip()


def _usage(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    return " ".join([" ".join(path), *command.collect_usage_pieces(context)])


def _row(param: click.Parameter) -> tuple[str, str, str, str]:
    if isinstance(param, click.Argument):
        name = code(param.make_metavar(click.Context(click.Command(""))))
    else:
        name = ", ".join(code(it) for it in (*param.opts, *param.secondary_opts))
    text = getattr(param, "help", None) or ""
    more = [" May be given several times." if param.multiple or param.nargs == -1 else ""]
    more.append(" Required." if param.required and isinstance(param, click.Option) else "")
    return name, _value(param), _default(param), (text + "".join(more)).strip()


def _value(param: click.Parameter) -> str:
    kind = param.type
    if getattr(param, "is_flag", False):
        return ""
    if isinstance(kind, click.Choice):
        return " or ".join(code(it) for it in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        name = "whole number" if isinstance(kind, click.IntRange) else "number"
        low = "" if kind.min is None else f" from {kind.min:g}"
        return name + low + ("" if kind.max is None else f" to {kind.max:g}")
    names = {"integer": "whole number", "float": "number", "directory": "path", "file": "path"}
    return names.get(kind.name, kind.name)


def _default(param: click.Parameter) -> str:
    default: Any = param.default
    if default is None or default is False or callable(default) or default in ((), [], ""):
        return ""
    # A value of an enumeration says itself; a flag that is on by default has a name for off.
    default = getattr(default, "value", default)
    return "on" if default is True else code(default)
