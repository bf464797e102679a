"""The documents as tests see them: pages, their fenced blocks, the commands in a block of shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# `sh run` really runs, as a slow test; `sh e2e` starts real processes. A page's blocks share one folder, in order.
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: `language` is the first word of its info, `words` the others."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page a person reads."""
    found = [ROOT / "README.md"]
    for folder in ("docs", "configs", "deploy", "benchmarks"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return found


def blocks(*languages: str) -> list[Block]:
    """Blocks of these languages, all without any; in the order of pages."""
    found = [block for page in pages() for block in blocks_of(page)]
    return [block for block in found if not languages or block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    """A page's blocks in order."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, *words = match[3].split() or [""]
        yield Block(page, text.count("\n", 0, match.start()) + 1, language, tuple(words), match[4])


def without_blocks(text: str) -> str:
    """A page's prose."""
    return FENCE.sub("", text)


def shell_of(block: Block) -> str:
    """What is typed: of a `console` block the lines behind `$ `, with those that go on after a backslash."""
    if block.language != "console":
        return block.text
    typed, on = [], False
    for line in block.text.splitlines():
        if on or line.startswith("$ "):
            typed.append(line if on else line[2:])
            on = line.endswith("\\")
    return "\n".join(typed)


def commands(shell: str) -> list[list[str]]:
    """The words of each command of a shell text; assignments before it and redirections are left out."""
    return [command for words in _split(shell) if (command := _bare(words))]


def _bare(words: list[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in ("<", ">"):
            skip = True
        elif kept or not re.match(r"^[A-Za-z_][A-Za-z_0-9]*=", word):
            kept.append(word)
    return kept


def _split(shell: str) -> list[list[str]]:
    """Words by command. Knows quotes, backslashes, comments, `; & | ( )` and ends of lines."""
    found: list[list[str]] = [[]]
    word, quote, at = "", "", 0
    started = False

    def end_word() -> None:
        nonlocal word, started
        if started:
            found[-1].append(word)
        word, started = "", False

    while at < len(shell):
        letter = shell[at]
        at += 1
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            quote, started = letter, True
        elif letter == "\\" and at < len(shell):
            if shell[at] != "\n":
                word, started = word + shell[at], True
            at += 1
        elif letter == "#" and not started:
            at = end if (end := shell.find("\n", at)) >= 0 else len(shell)
        elif letter in " \t":
            end_word()
        elif letter in ";&|()\n":
            end_word()
            found.append([])
        elif letter in "<>":
            end_word()
            found[-1].append(letter)
        else:
            word, started = word + letter, True
    end_word()
    assert not quote, f"a quote is not closed in: {shell}"
    return found
