"""What the host's own inbox and cases must do, and whatever stands in for them in tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from orchestrator.capabilities import Cases, Inbox, IncomingMail, Work
from orchestrator.errors import NotFound, Rejected
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ANN, TOM = "ann@example.com", "tom@example.com"


class InboxConnection(Inbox, Connection, Protocol):
    """The inbox under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class CasesConnection(Cases, Connection, Protocol):
    """The cases under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class Host(Protocol):
    """What the tests see of the host, and do to it."""

    @property
    def inbox(self) -> InboxConnection:
        """Stored mail."""

    @property
    def cases(self) -> CasesConnection:
        """The customers' cases."""

    @property
    def work(self) -> Work:
        """A run that can be started."""

    def deliver(self, sender: str, at: datetime) -> str:
        """Let a mail arrive and store it; returns its delivery."""

    def effect(self, number: int) -> str:
        """Return the id of an effect that the host has planned."""

    def answer(self, case_id: str, at: datetime) -> None:
        """Let a case have its answer."""

    def stop(self, case_id: str) -> None:
        """Let the runs that serve a case wait for a person."""

    def filed(self, delivery: str) -> tuple[str, str]:
        """See how a mail is filed, ``settled`` or ``for-person``, and why."""

    def started(self) -> list[str]:
        """See the ids of the runs that were started."""

    def due_at(self, run_id: str) -> datetime:
        """See when a started run is to be executed."""

    def case_of(self, run_id: str) -> str | None:
        """See the case that a started run belongs to."""

    @property
    def own_case(self) -> str:
        """The case of the run whose effects these are."""


class InboxAndCasesContract:
    """Give the fixture ``host``, with no mail and no case."""

    @pytest.fixture
    def host(self) -> Host:
        """The host under test."""
        raise NotImplementedError("give the fixture host: inbox and cases, and what is behind them")

    def test_a_stored_mail_is_read(self, host: Host) -> None:
        delivery = host.deliver(ANN, NOON)
        mail = host.inbox.read(delivery)
        assert isinstance(mail, IncomingMail)
        assert (mail.delivery, mail.sender, mail.received_at) == (delivery, ANN, NOON)

    def test_a_mail_lies_where_it_was_filed_last(self, host: Host) -> None:
        delivery = host.deliver(ANN, NOON)
        with_effect_id(host.inbox.settle, host.effect(1))(delivery, note="done")
        assert host.filed(delivery) == ("settled", "done")
        with_effect_id(host.inbox.keep_for_person, host.effect(2))(delivery, reason="odd")
        assert host.filed(delivery) == ("for-person", "odd")

    def test_a_mail_that_is_not_stored_is_not_found(self, host: Host) -> None:
        with pytest.raises(NotFound):
            host.inbox.read("d-0")
        with pytest.raises(NotFound):
            with_effect_id(host.inbox.settle, host.effect(1))("d-0", note="done")
        with pytest.raises(NotFound):
            with_effect_id(host.inbox.keep_for_person, host.effect(1))("d-0", reason="odd")
        with pytest.raises(NotFound):
            with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery="d-0")

    def test_the_first_mail_opens_a_case_and_the_next_one_joins_it(self, host: Host) -> None:
        first, second = host.deliver(ANN, NOON), host.deliver(ANN, NOON + MINUTE)
        opened = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=first)
        joined = with_effect_id(host.cases.open_or_join, host.effect(2))(ANN.upper(), delivery=second)
        assert (opened.state, joined.state) == ("opened", "joined")
        assert opened.case_id == joined.case_id

    def test_asking_again_with_the_same_effect_changes_nothing(self, host: Host) -> None:
        delivery = host.deliver(ANN, NOON)
        tickets = [with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=delivery) for _ in range(2)]
        assert tickets[0] == tickets[1]
        assert tickets[0].state == "opened"

    def test_another_customer_has_another_case(self, host: Host) -> None:
        first, second = host.deliver(ANN, NOON), host.deliver(TOM, NOON)
        anns = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=first)
        toms = with_effect_id(host.cases.open_or_join, host.effect(2))(TOM, delivery=second)
        assert (toms.state, anns.case_id == toms.case_id) == ("opened", False)

    @pytest.mark.parametrize(("minutes", "state"), [(-1, "joined"), (0, "joined"), (1, "answered")])
    def test_only_a_mail_that_came_after_the_answer_is_one_to_an_answered_case(
        self, host: Host, minutes: int, state: str
    ) -> None:
        answered_at = NOON + 5 * MINUTE
        first, second = host.deliver(ANN, NOON), host.deliver(ANN, answered_at + minutes * MINUTE)
        opened = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=first)
        host.answer(opened.case_id, answered_at)
        again = with_effect_id(host.cases.open_or_join, host.effect(2))(ANN, delivery=second)
        assert (again.case_id, again.state) == (opened.case_id, state)

    def test_a_mail_to_a_case_that_waits_for_a_person_says_so(self, host: Host) -> None:
        first, second = host.deliver(ANN, NOON), host.deliver(ANN, NOON + MINUTE)
        opened = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=first)
        with_effect_id(host.cases.start, host.effect(2))(host.work, case_id=opened.case_id)
        host.stop(opened.case_id)
        again = with_effect_id(host.cases.open_or_join, host.effect(3))(ANN, delivery=second)
        assert (again.case_id, again.state) == (opened.case_id, "with-person")

    def test_the_same_effect_starts_one_run(self, host: Host) -> None:
        case = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=host.deliver(ANN, NOON))
        receipts = [with_effect_id(host.cases.start, host.effect(2))(host.work, case_id=case.case_id) for _ in range(2)]
        assert receipts[0] == receipts[1]
        assert host.started() == [receipts[0].reference]

    def test_two_effects_start_two_runs(self, host: Host) -> None:
        case = with_effect_id(host.cases.open_or_join, host.effect(1))(ANN, delivery=host.deliver(ANN, NOON))
        receipts = [with_effect_id(host.cases.start, host.effect(n))(host.work, case_id=case.case_id) for n in (2, 3)]
        assert sorted(host.started()) == sorted(receipt.reference for receipt in receipts)

    def test_work_may_start_later_and_in_the_case_of_the_run_that_starts_it(self, host: Host) -> None:
        started = with_effect_id(host.cases.start, host.effect(1))(host.work, at=NOON + MINUTE)
        assert host.due_at(started.reference) == NOON + MINUTE
        assert host.case_of(started.reference) == host.own_case

    def test_a_time_without_a_time_zone_is_refused(self, host: Host) -> None:
        with pytest.raises(Rejected):
            with_effect_id(host.cases.start, host.effect(1))(host.work, at=NOON.replace(tzinfo=None))
        assert host.started() == []

    def test_a_doubt_is_settled_by_doing_it_again(self, host: Host) -> None:
        settlements = [host.inbox.settlements[operation] for operation in ("settle", "keep_for_person")]
        settlements += [host.cases.settlements[operation] for operation in ("open_or_join", "start")]
        assert {settlement.doubt for settlement in settlements} == {DoubtClass.NATURAL}
