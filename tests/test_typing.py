"""A type checker sees what an author of a process writes: the form, the needs with their fakes, and the result."""

from __future__ import annotations

import re

import pytest
from mypy import api

from tests.support.paths import ROOT

SAMPLE = """
from __future__ import annotations

from orchestrator.capabilities import Notifier, OrderRecords, Value, Work
from orchestrator.process import process
from orchestrator.testing.notices import FakeNotifier
from orchestrator.testing.orders import FakeOrders


class Lost(Value):
    email: str

    def case_key(self) -> str:
        return self.email


class Other(Value):
    name: str

    def case_key(self) -> str:
        return self.name


def find(request: Lost, *, orders: OrderRecords, notifier: Notifier) -> int:
    return len(orders.purchases_of(request.email))


plain = process("plain")(find)
cased = process("cased", case_key=Lost.case_key)(find)
orders, notifier = FakeOrders(), FakeNotifier()
"""
ACCEPTED = """
found: int = plain.body(Lost(email=""), orders=orders, notifier=notifier)
again: int = cased.body(Lost(email=""), orders=orders, notifier=notifier)
executed: int = cased(Lost(email=""))
work: Work = plain.work(Lost(email=""))
"""
REFUSED = {
    'plain.body(Other(name=""), orders=orders, notifier=notifier)': 'has incompatible type "Other"; expected "Lost"',
    'plain.body(Lost(email=""), orders=notifier, notifier=notifier)': 'has incompatible type "FakeNotifier"',
    'plain.body(Lost(email=""), orders=orders)': 'Missing named argument "notifier"',
    'plain.body(Lost(email=""), orders=orders, notifier=notifier).real.name': '"int" has no attribute "name"',
    'cased.body(Other(name=""), orders=orders, notifier=notifier)': 'has incompatible type "Other"; expected "Lost"',
    'cased.work(Other(name=""))': 'has incompatible type "Other"; expected "Lost"',
    'cased(Lost(email="")).name': '"int" has no attribute "name"',
    'process("other", case_key=Other.case_key)(find)': "has incompatible type",
    'process("case", case_key=lambda request: request.emial)(find)': 'has no attribute "emial"',
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What mypy says, by line of the sample."""
    file = tmp_path_factory.mktemp("typing") / "sample.py"
    file.write_text(SAMPLE + ACCEPTED + "\n".join(REFUSED) + "\n")
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    printed, failed, _ = api.run([*config, "--hide-error-codes", str(file)])
    assert "error" in printed, failed
    # Not by the file: from its cache, mypy repeats the name that the same text had in an earlier run.
    return {int(number): message for number, message in re.findall(r":(\d+): error: (.*)", printed)}


def test_what_fits_is_accepted(told: dict[int, str]) -> None:
    assert [line for line in told if line <= (SAMPLE + ACCEPTED).count("\n")] == []


@pytest.mark.parametrize(("number", "written"), [*enumerate(REFUSED, start=1)], ids=REFUSED)
def test_what_does_not_fit_is_refused(told: dict[int, str], number: int, written: str) -> None:
    assert REFUSED[written] in told.get((SAMPLE + ACCEPTED).count("\n") + number, "nothing")
