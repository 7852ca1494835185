"""What every connector that tells people something must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from orchestrator.capabilities import Notice, Notifier
from orchestrator.errors import Unavailable
from orchestrator.plugins import Connection, DoubtClass, Settlement, with_effect_id
from orchestrator.testing.contracts.doubts import finds, settle

NOTICE = Notice(
    title="2 runs wait for a person",
    lines=("r-1: <who> bought & what?", "r-2: größer, 日本語 \U0001f4e6"),
    severity="warning",
)


class NoticeConnection(Notifier, Connection, Protocol):
    """The connection under test."""

    @property
    def settlements(self) -> Mapping[str, Settlement]:
        """How doubts are settled."""
        ...


class Readers(Protocol):
    """What the tests see of the people who are told, past the connection."""

    def told(self) -> Sequence[str]:
        """Return everything that they can read, one text a notice."""

    def drop_next_answer(self) -> None:
        """Let the next call act, and then lose its connection."""


class NotifierContract:
    """Give the fixtures ``notifier`` and ``readers``."""

    @pytest.fixture
    def notifier(self) -> NoticeConnection:
        """The connection under test."""
        raise NotImplementedError("give the fixture notifier: the connection under test")

    @pytest.fixture
    def readers(self) -> Readers:
        """The people behind it."""
        raise NotImplementedError("give the fixture readers: what the people behind the connection can read")

    def test_a_notice_is_read_word_for_word(self, notifier: NoticeConnection, readers: Readers) -> None:
        assert with_effect_id(notifier.notify, "f-1")(NOTICE).reference
        (text,) = readers.told()
        assert all(words in text for words in (NOTICE.title, *NOTICE.lines))

    def test_two_notices_alike_are_read_twice(self, notifier: NoticeConnection, readers: Readers) -> None:
        for effect_id in ("f-1", "f-2"):
            with_effect_id(notifier.notify, effect_id)(NOTICE)
        assert len(readers.told()) == len(("f-1", "f-2"))

    def test_a_probe_finds_what_was_done(self, notifier: NoticeConnection, readers: Readers) -> None:
        with_effect_id(notifier.notify, "f-1")(NOTICE)
        assert len(readers.told()) == 1
        assert finds(notifier.settlements["notify"], "f-1", notice=NOTICE)

    def test_a_notice_whose_answer_was_lost_is_never_lost(self, notifier: NoticeConnection, readers: Readers) -> None:
        readers.drop_next_answer()
        with pytest.raises(Unavailable) as caught:
            with_effect_id(notifier.notify, "f-1")(NOTICE)
        assert caught.value.no_effect is False, "it had acted: the failure must not claim that it has not"
        settlement = notifier.settlements["notify"]
        settle(settlement, "f-1", lambda: with_effect_id(notifier.notify, "f-1")(NOTICE), notice=NOTICE)
        assert readers.told()
        if settlement.doubt in (DoubtClass.PROBE, DoubtClass.NATIVE_KEY):
            assert len(readers.told()) == 1, "it can tell that it was told: nobody must read it twice"

    def test_a_check_says_in_one_line_what_it_saw_and_tells_nobody(
        self, notifier: NoticeConnection, readers: Readers
    ) -> None:
        assert len(notifier.check().splitlines()) == 1
        assert not readers.told()
