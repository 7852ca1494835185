"""Effects that reach a customer: the limits of what goes out hold for each, whatever capability it is of."""

from __future__ import annotations

from typing import Protocol

import pytest
from sqlalchemy import select

from orchestrator.capabilities import Private, Receipt, Recipient, effect
from orchestrator.errors import RunFailed, RunParked
from orchestrator.kernel.admission import Held, LeftOut, Request
from orchestrator.kernel.steps import Bound
from orchestrator.plugins import Capabilities, Capability, Settlement
from orchestrator.plugins.standard import STANDARD
from orchestrator.record.record import Record
from orchestrator.record.tables import customer_case
from tests.support.kernel_bench import EMAIL, Bench, Done, Errand, FakeSystem, process, send_link


class Texter(Protocol):
    """The system that sends text messages."""

    @effect(reaches=lambda number, text: Recipient(number, acknowledges=text == "We have it."))
    def text(self, number: Private[str], text: Private[str]) -> Receipt:
        """Send a text message."""
        ...


class TextingSystem(FakeSystem):
    @property
    def settlements(self) -> dict[str, Settlement]:
        declared = super().settlements
        return {**declared, "text": declared["send"]}

    def text(self, number: str, text: str, *, effect_id: str | None = None) -> Receipt:
        return self._act("text", effect_id)


def text_them(errand: Errand, *, texter: Texter) -> Done:
    """Acknowledge, and answer."""
    texter.text("+49 30 1", "We have it.")
    return Done(references=(texter.text("+49 30 1", errand.email).reference,))


class LimitedBench(Bench):
    """Remembers what was to be admitted, and refuses what it is told to."""

    def __init__(self, record: Record, system: object) -> None:
        super().__init__(record, system)
        self.asked: list[Request] = []
        self.refusals: list[Exception | None] = []

    def _bind(self, process: str, protocol: type) -> Bound:
        known = Capabilities([*STANDARD.values(), Capability(name="texter", protocol=Texter)])
        return Bound(
            capability=known.of(protocol), connection="fake", version="1", instance=self.system, admit=self._admit
        )

    def _admit(self, _tx: object, request: Request) -> None:
        self.asked.append(request)
        if self.refusals and (refusal := self.refusals.pop(0)):
            raise refusal


@pytest.fixture
def limited(record: Record) -> LimitedBench:
    return LimitedBench(record, TextingSystem())


def test_only_what_reaches_a_customer_is_counted(limited: LimitedBench) -> None:
    definition = process(send_link)
    run_id = limited.open(definition)
    limited.kernel.execute(definition, run_id)
    assert [(each.run_id, each.recipient) for each in limited.asked] == [(run_id, Recipient(EMAIL))]


def test_another_plugins_effect_is_counted_held_and_left_out_like_a_mail(limited: LimitedBench) -> None:
    definition = process(text_them)
    limited.refusals = [None, Held("one too many", also=lambda _: None)]
    with pytest.raises(RunParked, match="one too many"):
        limited.kernel.execute(definition, limited.open(definition))
    assert [each.recipient for each in limited.asked] == [
        Recipient("+49 30 1", acknowledges=True),
        Recipient("+49 30 1"),
    ]
    limited.refusals = [LeftOut("it can be spared")]
    run_id = limited.open(definition)
    with pytest.raises(RunFailed, match="it can be spared"):
        limited.kernel.execute(definition, run_id)
    assert "step.refused" in limited.kinds(run_id)


def test_a_case_is_answered_by_any_effect_that_says_more_than_that_something_came_in(limited: LimitedBench) -> None:
    definition = process(text_them, cased=True)
    limited.kernel.execute(definition, limited.open(definition))
    with limited.record.store.read() as tx:
        assert tx.execute(select(customer_case.c.answered_at)).scalar_one()


def test_a_printed_recipient_does_not_show_its_address() -> None:
    assert EMAIL not in repr(Recipient(EMAIL))
