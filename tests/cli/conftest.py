"""The command line, and an application that it finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bootstrap import use
from tests.support.app_with_fakes import Office
from tests.support.console import Console


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    use(opened.app)
    yield opened
    opened.app.record.store.close()
