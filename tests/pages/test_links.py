"""Each page leads to the sources and to the issues, at the addresses that the package states."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_each_page_links_to_source_and_issues(folder: Path) -> None:
    """By the addresses in `[project.urls]`."""
    urls = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["urls"]
    pages = sorted(folder.rglob("*.html"))
    without = [
        (page.name, name)
        for page in pages
        for name in ("Source", "Issues")
        if f'href="{urls[name]}"' not in page.read_text(encoding="utf-8")
    ]
    assert len(pages) > 60
    assert without == []


def test_a_page_links_to_its_own_source(folder: Path) -> None:
    """To read it or to propose a change of it."""
    urls = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["urls"]
    page = (folder / "tutorial.html").read_text(encoding="utf-8")
    assert f"{urls['Source']}/edit/main/docs/tutorial.rst" in page
