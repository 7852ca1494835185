"""Private words stay out of what people read: each has a term of the field that can be searched for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

RETIRED = {
    r"mend(s|ed|ing)?": "fix, or correct",
    r"pen": "writer lock",
    r"anew": "again, or from scratch",
    r"bur(y|ied|ies)": "flood, or rate-limit",
    r"befall\w*": "happen to",
}
READ = ("orchestrator", "connectors", "flows", "docs", "config", "README.md", "CONTRIBUTING.md")


def pages() -> Iterator[Path]:
    """Return what people read: code with its messages, configuration and documentation."""
    for place in READ:
        path = ROOT / place
        found = [path] if path.is_file() else path.rglob("*")
        yield from (each for each in found if each.suffix in (".py", ".md", ".toml", ".j2", ".txt"))


@pytest.mark.parametrize(("word", "instead"), RETIRED.items())
def test_a_retired_word_is_not_used(word: str, instead: str) -> None:
    whole = re.compile(rf"\b({word})\b", re.IGNORECASE)
    lines = ((page, number, line) for page in pages() for number, line in enumerate(page.read_text().splitlines(), 1))
    found = [
        f"{page.relative_to(ROOT)}:{number}: write {instead}" for page, number, line in lines if whole.search(line)
    ]
    assert found == []
