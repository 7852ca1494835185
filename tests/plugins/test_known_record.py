"""An account that shows nothing is believed only while it shows what is known to be there."""

from __future__ import annotations

import pytest

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator.toolkit.known_record import BELIEVED_SECONDS, KnownRecord


class Account:
    """Shows a record, or nothing, or fails; counts how often it was asked."""

    def __init__(self) -> None:
        self.shows: tuple[str, ...] = ("a purchase",)
        self.fails = False
        self.asked = 0
        self.seconds = 100.0
        self.known = KnownRecord(self._look, "correct the rights", clock=lambda: self.seconds)

    def _look(self) -> tuple[str, ...]:
        self.asked += 1
        if self.fails:
            raise Unavailable("down")
        return self.shows


@pytest.fixture
def account() -> Account:
    return Account()


def test_a_record_that_was_seen_is_not_looked_for_again_for_a_while(account: Account) -> None:
    for _ in range(3):
        account.known.must_be_seen()
    account.seconds += BELIEVED_SECONDS - 1
    account.shows = ()
    account.known.must_be_seen()
    assert account.asked == 1


def test_an_account_that_became_blind_is_noticed_when_the_belief_has_lapsed(account: Account) -> None:
    account.known.must_be_seen()
    account.shows = ()
    account.seconds += BELIEVED_SECONDS
    for _ in range(2):
        with pytest.raises(AccessDenied, match="correct the rights"):
            account.known.must_be_seen()


def test_an_account_that_sees_again_is_believed_at_once(account: Account) -> None:
    account.shows = ()
    with pytest.raises(AccessDenied):
        account.known.must_be_seen()
    account.shows = ("a purchase",)
    account.known.must_be_seen()


def test_a_look_that_fails_is_no_proof(account: Account) -> None:
    account.fails = True
    with pytest.raises(Unavailable):
        account.known.must_be_seen()
    account.fails, account.shows = False, ()
    with pytest.raises(AccessDenied):
        account.known.must_be_seen()
