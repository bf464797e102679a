"""Links between documents lead somewhere: the file is there, and so is the heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import ROOT, pages, without_blocks

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A page named in passing, as `docs/scoring.md`.
NAMED = re.compile(r"`((?:docs|configs|benchmarks|deploy)/[\w./-]+\.(?:md|py|toml|yaml|csv))`")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+)$", without_blocks(page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(name, 0)
        names.add(f"{name}-{count}" if count else name)
        found[name] = count + 1
    return names


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = without_blocks(page.read_text())
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}: there is no such file"
        assert path.is_relative_to(ROOT), (
            f"{page.relative_to(ROOT)} links to {target}, outside of the repository"
        )
        if anchor:
            assert anchor in anchors(path), (
                f"{page.relative_to(ROOT)} links to {target}: there is no such heading"
            )
    for name in NAMED.findall(prose):
        assert (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}: there is no such file"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [it.partition("#")[0] for it in LINK.findall(without_blocks(page.read_text()))]
        local = [(page.parent / it).resolve() for it in targets if it and not re.match(r"[a-z]+:", it)]
        ahead += [it for it in local if it.suffix == ".md" and it.is_file()]
    missed = [str(page.relative_to(ROOT)) for page in pages() if page not in reached]
    assert not missed, f"no link leads to {missed}"


def test_headings_have_githubs_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# `hansa up`, and [more](x.md)\n\n```sh\n# no heading\n```\n## Two words\n## Two words\n"
    )
    assert anchors(page) == {"hansa-up-and-more", "two-words", "two-words-1"}
