"""Blocks marked `sh run` and `sh e2e` really run, page by page, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, Block, blocks


def _pages(word: str) -> list[Path]:
    return sorted({block.page for block in blocks("sh") if word in block.words})


def _run(page: Path, word: str, folder: Path) -> None:
    # Beside the programs of this environment, and with the repository's files where a page says so.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["REPOSITORY"] = str(ROOT)
    try:
        for block in (it for it in blocks("sh") if it.page == page and word in it.words):
            _once(block, folder, environment)
    finally:
        if word == "e2e":
            subprocess.run(["hansa", "down"], cwd=folder, env=environment, check=False, capture_output=True)


def _once(block: Block, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, (
        f"{block} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", _pages("run"), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_that_are_marked_run(page: Path, tmp_path: Path) -> None:
    _run(page, "run", tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize("page", _pages("e2e"), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_with_real_processes_run(page: Path, tmp_path: Path) -> None:
    _run(page, "e2e", tmp_path)
