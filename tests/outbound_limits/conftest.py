from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.record.record import Record
from orchestrator.record.verify import verify


@pytest.fixture(autouse=True)
def _chains_are_whole(record: Record) -> Iterator[None]:
    yield
    with record.store.read() as tx:
        assert verify(tx).breaches == ()
