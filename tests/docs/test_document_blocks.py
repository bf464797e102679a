"""What stands in the documents works: Python runs, commands exist with their options, TOML fits its model."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from documents import ROOT, Block, blocks, blocks_of, commands, pages, shell_of
from pydantic import TypeAdapter

from hansa.cli.app import build
from hansa.contract.charter import Charter
from hansa.contract.features import FeatureContract
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import MemberConfig, Scenario
from hansa.contract.typed import parse_document
from hansa.server.config import ServerConfig
from hansa.sidecar.scaler.services import read_services

LANGUAGES = ("console", "ini", "json", "python", "sh", "text", "toml", "yaml")
RUNS = ("run", "e2e")


def test_every_block_says_what_it_is() -> None:
    for block in blocks():
        assert block.language in LANGUAGES, f"{block}: write ```text, ```sh or another of {LANGUAGES}"
        if block.language == "sh":
            assert set(block.words) <= set(RUNS), f"{block}: {block.words}"


def test_no_command_hides_in_an_indented_block() -> None:
    for page in pages():
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            assert not re.match(r" {4,}hansa ", line) or _fenced(page, number), f"{page}:{number}: use ```sh"


def _fenced(page: Path, line: int) -> bool:
    return any(it.line <= line <= it.line + it.text.count("\n") for it in blocks_of(page))


@pytest.mark.parametrize("block", blocks("sh", "console"), ids=str)
def test_commands_exist_with_their_options(block: Block) -> None:
    for words in commands(shell_of(block)):
        if problem := departure(words):
            pytest.fail(f"{block}: {' '.join(words)}: {problem}")


def departure(words: list[str]) -> str:
    """What is wrong with a command, as far as can be known without running it; empty where nothing is."""
    name, *rest = words
    checks: Mapping[str, Callable[[list[str]], str]] = {"hansa": _hansa, "make": _make, "python": _python}
    return checks[name](rest) if name in checks else ""


def _hansa(words: list[str]) -> str:
    command: click.Command = build()
    context: click.Context | None = None
    name = "hansa"
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not isinstance(command, click.Group):
                return ""
            words = [*context._protected_args, *context.args]
            if not words:
                return ""
            name, *words = words
            inner = command.get_command(context, name)
            if inner is None:
                return f"no such command '{name}'"
            command = inner
    except click.exceptions.Exit:
        return ""  # --help, --version
    except click.ClickException as error:
        return error.format_message()


def _make(words: list[str]) -> str:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = [word for word in words if "=" not in word and word not in targets]
    return f"the Makefile has no target '{unknown[0]}'" if unknown else ""


def _python(words: list[str]) -> str:
    if words[0] == "-m":
        if not words[1].startswith("hansa"):
            return ""
        found = importlib.util.find_spec(words[1])
        path = Path(found.origin or "") if found else None
        # A package is run by its __main__.
        path = path.with_name("__main__.py") if path and path.name == "__init__.py" else path
    else:
        path = ROOT / words[0] if words[0].startswith(("benchmarks/", "docs/")) else None
        if path is None:
            return ""
    if path is None or not path.is_file():
        return "no such program"
    # Programs take their options with argparse: what it knows stands in the source as it is typed.
    source = path.read_text()
    unknown = [it for it in words if it.startswith("--") and f'"{it.partition("=")[0]}"' not in source]
    return f"no such option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ("hansa nowhere", "no such command 'nowhere'"),
        ("hansa jobs nothing", "no such command 'nothing'"),
        ("hansa up --round 3", "No such option"),
        ("hansa up --rounds many", "Invalid value"),
        ("hansa budgets freeze", "Missing argument"),
        ("hansa up a b", "unexpected extra argument"),
        ("make nothing", "no target"),
        ("python benchmarks/nothing.py", "no such program"),
        ("python benchmarks/utility.py F --no-such", "no such option"),
        ("python -m hansa.nothing", "no such program"),
    ],
)
def test_what_is_wrong_is_found(typed: str, wrong: str) -> None:
    assert wrong.lower() in departure(commands(typed)[0]).lower()


def test_shell_is_split_as_a_shell_would() -> None:
    text = (
        "A=1 hansa up \\\n  --set 'a b=c' # more\nX=$(cat file) curl -s > out; hansa down | tail 2>&1\n# end"
    )
    assert commands(text) == [
        ["hansa", "up", "--set", "a b=c"],
        ["cat", "file"],
        ["curl", "-s"],
        ["hansa", "down"],
        ["tail", "2"],
        ["1"],
    ]


PYTHON_PAGES = sorted({block.page for block in blocks("python")})


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks_of(page):
        if block.language == "python":
            # Line numbers of errors are those of the page.
            exec(compile("\n" * block.line + block.text, str(page), "exec"), shared)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_fits_the_file_that_it_is_of(block: Block, tmp_path: Path) -> None:
    checks: Mapping[str, Callable[[Mapping[str, Any], Path], object]] = {
        "charter": _charter,
        "features": lambda part, _: _merged("consortium/features.toml", part, FeatureContract),
        "member": lambda part, _: parse_document({**_MEMBER, **part}, MemberConfig, "member.toml"),
        "scaler": lambda _, file: read_services(file),
        "scenario": lambda part, _: _merged("consortium/scenario.toml", part, Scenario),
        "server": lambda part, _: parse_document(part, ServerConfig, "server.toml"),
        # Files of other programs: valid TOML is all that can be asked.
        "flower": lambda part, _: part,
    }
    assert len(block.words) == 1, f"{block}: say which file it is of: ```toml {' or '.join(checks)}"
    assert block.words[0] in checks, f"{block}: say which file it is of: ```toml {' or '.join(checks)}"
    file = tmp_path / "block.toml"
    file.write_text(block.text)
    checks[block.words[0]](tomllib.loads(block.text), file)


_MEMBER = {"name": "it", "server": "localhost:9443", "data": {"kind": "csv", "path": "records.csv"}}


def _merged(name: str, part: Mapping[str, Any], kind: Any) -> object:
    """A part of a file, laid over a whole one."""
    folder, file = name.split("/")
    whole = tomllib.loads((scenario_folder(folder) / file).read_text())
    return parse_document(_over(whole, part), kind, name)


def _over(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _over(whole[key], it) for key, it in part.items() if isinstance(it, dict) and key in whole}
    return {**whole, **part, **both}


def _charter(part: Mapping[str, Any], _: Path) -> None:
    """Fields of a charter, each by its own type; what holds between them takes a whole one."""
    for name, value in part.items():
        assert name in Charter.model_fields, f"field '{name}' is not known in a charter"
        field = TypeAdapter(Charter.model_fields[name].rebuild_annotation())
        field.validate_json(json.dumps(value, default=str), strict=True)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)
