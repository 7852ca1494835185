"""``tests/README.md`` lists every helper in the words of its own docstring."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.paths import TESTS

LISTED = (TESTS / "README.md").read_text().splitlines()
HELPERS = [path for path in sorted((TESTS / "support").glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("helper", HELPERS, ids=lambda path: path.stem)
def test_a_helper_is_listed_with_the_first_line_of_its_docstring(helper: Path) -> None:
    docstring = ast.get_docstring(ast.parse(helper.read_text())) or ""
    assert f"| `{helper.stem}` | {docstring.splitlines()[0]} |" in LISTED


def test_no_helper_is_listed_that_does_not_exist() -> None:
    assert sum(line.startswith("| `") for line in LISTED) == len(HELPERS)
