"""The pages for authors: their commands run, their files are written and work, their tables are those of the code."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.kit.reference import reference
from orchestrator.kit.tiers import RULES
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = ("writing-a-connector.md", "writing-a-capability.md", "writing-a-process.md", "plugin-reference.md")
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    for language, title, text in FENCE.findall((DOCS / page).read_text()):
        yield Block(language, title, text)


class Reader:
    """Does what a page says, in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self._place = folder
        self._site = folder / "site"

    def follow(self, block: Block) -> None:
        match block.language:
            case "console":
                for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                    self._run(*command.splitlines())
            case "python" | "toml" if block.title:
                (self._place / block.title).write_text(block.text)
            case "python":
                (self._place / "block.py").write_text(block.text)
                runpy.run_path(str(self._place / "block.py"))
            case "toml":
                tomllib.loads(block.text)
            case other:
                assert other == "text", f"nobody runs blocks of {other}"

    def _run(self, command: str, *expected: str) -> None:
        if command.startswith("cd "):
            self._place /= command.removeprefix("cd ")
            return
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **OFFLINE, "PATH": path, "PYTHONPATH": str(self._site)}
        environment |= {"PIP_TARGET": str(self._site)} if command.startswith("pip ") else {}
        done = subprocess.run(
            shlex.split(command),
            cwd=self._place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        assert not [line for line in expected if line not in done.stdout], f"{command}:\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in blocks(page):
        reader.follow(block)


def test_a_whole_connector_is_shorter_than_sixty_lines() -> None:
    (connector,) = [each.text for each in blocks("writing-a-connector.md") if each.title == "shelf_connector.py"]
    assert len(connector.splitlines()) < 60


def test_the_reference_is_that_of_the_code() -> None:
    assert (DOCS / "plugin-reference.md").read_text() == reference(), "run make reference"


def test_every_rule_stands_on_the_page() -> None:
    told = (DOCS / "writing-a-connector.md").read_text().partition("<!-- rules -->\n")[2].partition("<!-- end -->")[0]
    assert told.splitlines()[2:] == [f"| `{rule.name}` | {rule.tier} | {rule.demand} |" for rule in RULES]
