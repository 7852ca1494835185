"""The documentation as a site: every link leads somewhere, and neither the build nor a reader fetches anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FETCHED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(https?://[^"'\s>]*)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True, timeout=120)
    return folder


def test_every_page_of_the_documentation_is_a_page_of_the_site(site: Path) -> None:
    docs = {file.relative_to(ROOT / "docs").with_suffix("") for file in (ROOT / "docs").rglob("*.md")}
    pages = {file.relative_to(site).with_suffix("") for file in site.rglob("*.html")}
    assert pages == docs | {Path(name) for name in ("index", "changes", "contributing", "404")}


def test_a_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    assert [found for page in site.rglob("*.html") for found in FETCHED.findall(page.read_text())] == []


def test_links_between_pages_lead_to_pages(site: Path) -> None:
    assert 'href="connectors/s3.html"' in (site / "index.html").read_text()
    assert 'href="how-it-works.html"' in (site / "contributing.html").read_text()
    assert "deploy/orchestrator.service" in (site / "operating.html").read_text()
    assert "../deploy/orchestrator.service" not in (site / "operating.html").read_text()
