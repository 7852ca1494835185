from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import RecordError
from orchestrator.ledger import states
from orchestrator.ledger.ledger import FIRST_DELAY, LONGEST_DELAY, delay
from orchestrator.ledger.states import (
    CALL_GRACE,
    FINAL,
    KEY_MARGIN,
    TRANSITIONS,
    Cause,
    Doubt,
    Remedy,
    State,
    advance,
    remedy,
)
from orchestrator.plugins import DoubtClass, Settlement

START = datetime(2026, 3, 1, tzinfo=UTC)
ARROW = re.compile(r"--([a-z-]+)-->\s+([A-Z_]+)")
SPANS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3))

DECISIONS = {Cause.HAPPENED, Cause.RETRY, Cause.GIVE_UP}
"""What an operator can say of an effect that nobody else can settle."""


def settlement(doubt: DoubtClass, *, delay: timedelta = timedelta(0), lifetime: timedelta | None = None) -> Settlement:
    return Settlement(doubt=doubt, visibility_delay=delay, key_lifetime=lifetime, probe=lambda *_, **__: None)


def documented() -> set[tuple[State | None, Cause, State]]:
    """Return the ways that the module's own table draws."""
    ways = set()
    for line in (states.__doc__ or "").splitlines():
        word = line.partition(" ")[0]
        if word == "-" or word in State.__members__:
            source = None if word == "-" else State[word]
            ways |= {(source, Cause(cause), State[target]) for cause, target in ARROW.findall(line)}
    return ways


def test_the_table_in_the_text_is_the_table_in_the_code() -> None:
    assert documented() == {(source, cause, target) for (source, cause), (target, _) in TRANSITIONS.items()}


@pytest.mark.parametrize(("state", "cause"), list(product([None, *State], Cause)), ids=str)
def test_every_way_that_is_not_in_the_table_is_refused(state: State | None, cause: Cause) -> None:
    if (state, cause) in TRANSITIONS:
        assert advance(state, cause) == TRANSITIONS[state, cause]
    else:
        with pytest.raises(RecordError, match="cannot"):
            advance(state, cause)


def test_nothing_leads_out_of_an_end_and_only_an_end_has_no_way_out() -> None:
    left = {source for source, _ in TRANSITIONS}
    assert {state for state in State if state not in left} == FINAL


def test_every_cause_is_used_and_every_state_is_reached() -> None:
    assert {cause for _, cause in TRANSITIONS} == set(Cause)
    assert {target for target, _ in TRANSITIONS.values()} == set(State)


def test_an_end_can_be_reached_from_everywhere() -> None:
    reaching = set(FINAL)
    for _ in State:
        reaching |= {source for (source, _), (target, _) in TRANSITIONS.items() if source and target in reaching}
    assert reaching == set(State)


def test_the_only_way_onto_the_wire_is_an_attempt_and_only_out_of_planned() -> None:
    ways = {key for key, (target, _) in TRANSITIONS.items() if target is State.ATTEMPTING}
    assert ways == {(State.PLANNED, Cause.ATTEMPT)}


def test_only_an_answer_a_probe_or_a_person_confirms() -> None:
    causes = {cause for (_, cause), (target, _) in TRANSITIONS.items() if target is State.CONFIRMED}
    assert causes == {Cause.SUCCEED, Cause.FOUND, Cause.HAPPENED}


def test_only_a_person_leads_out_of_a_decision() -> None:
    assert {cause for source, cause in TRANSITIONS if source is State.NEEDS_DECISION} == DECISIONS
    elsewhere = {key for key in TRANSITIONS if key[1] in DECISIONS and key[0] is not State.NEEDS_DECISION}
    assert elsewhere == {(State.PLANNED, Cause.GIVE_UP)}  # a person cancelled the run


def test_every_way_says_so_in_the_trail() -> None:
    assert all(re.fullmatch(r"effect\.[a-z_]+", kind) for _, kind in TRANSITIONS.values())


@given(waited=SPANS, doubt=st.sampled_from([DoubtClass.PURE, DoubtClass.NATURAL]))
def test_what_is_harmless_is_repeated_at_any_time(waited: timedelta, doubt: DoubtClass) -> None:
    found = remedy(settlement(doubt), Doubt(first_attempt_at=START, call_deadline=START), START + waited)
    assert found == (Remedy.REPEAT, START + waited)


@given(waited=SPANS)
def test_what_nobody_can_know_is_asked_at_any_time(waited: timedelta) -> None:
    doubt = Doubt(first_attempt_at=START, call_deadline=START)
    assert remedy(settlement(DoubtClass.NONE), doubt, START + waited)[0] is Remedy.ASK


@given(waited=SPANS, lifetime=SPANS)
def test_a_key_is_used_again_only_well_inside_its_life(waited: timedelta, lifetime: timedelta) -> None:
    doubt = Doubt(first_attempt_at=START, call_deadline=START + timedelta(minutes=1))
    chosen, _ = remedy(settlement(DoubtClass.NATIVE_KEY, lifetime=lifetime), doubt, START + waited)
    assert chosen is (Remedy.REPEAT if waited < lifetime - KEY_MARGIN else Remedy.ASK)


@given(waited=SPANS, delay=SPANS, timeout=SPANS)
def test_an_absence_is_believed_only_when_no_call_can_land_any_more(
    waited: timedelta, delay: timedelta, timeout: timedelta
) -> None:
    doubt = Doubt(first_attempt_at=START, call_deadline=START + timeout)
    chosen, until = remedy(settlement(DoubtClass.PROBE, delay=delay), doubt, START + waited)
    believable = START + timeout + CALL_GRACE + delay
    if START + waited >= believable:
        assert chosen is Remedy.PROBE
    else:
        assert (chosen, until) == (Remedy.WAIT, believable)


@given(st.integers(min_value=1, max_value=10_000))
def test_each_wait_is_at_least_as_long_as_the_one_before_and_never_beyond_an_hour(attempt: int) -> None:
    assert FIRST_DELAY <= delay(attempt) <= delay(attempt + 1) <= LONGEST_DELAY
