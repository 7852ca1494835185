from __future__ import annotations

import re
from itertools import product

import pytest

from orchestrator.errors import RecordError
from orchestrator.kernel import run_states
from orchestrator.kernel.run_states import ENDED, TRANSITIONS, Cause, RunState, advance, sources

ARROW = re.compile(r"^([A-Z]+|-) +--([a-z]+)--> +([A-Z]+)", re.MULTILINE)


def documented() -> set[tuple[RunState | None, Cause, RunState]]:
    """Return the ways that the module's own table draws."""
    drawn = ARROW.findall(run_states.__doc__ or "")
    return {(None if source == "-" else RunState[source], Cause(cause), RunState[end]) for source, cause, end in drawn}


def test_the_table_in_the_text_is_the_table_in_the_code() -> None:
    assert documented() == {(source, cause, target) for (source, cause), (target, _) in TRANSITIONS.items()}


@pytest.mark.parametrize(("state", "cause"), list(product([None, *RunState], Cause)), ids=str)
def test_every_way_that_is_not_in_the_table_is_refused(state: RunState | None, cause: Cause) -> None:
    if (state, cause) in TRANSITIONS:
        assert advance(state, cause) is TRANSITIONS[state, cause][0]
    else:
        with pytest.raises(RecordError, match="cannot"):
            advance(state, cause)


def test_every_cause_leads_to_one_state() -> None:
    assert all(len({advance(state, cause) for state in sources(cause)}) == 1 for cause in Cause if cause != Cause.OPEN)


def test_only_a_person_leads_out_of_an_end_and_only_out_of_a_failure() -> None:
    assert {key for key in TRANSITIONS if key[0] in ENDED} == {
        (RunState.FAILED, Cause.RESUME),
        (RunState.FAILED, Cause.CANCEL),
    }


def test_a_run_gets_on_only_while_somebody_owns_it() -> None:
    forward = {cause for source, cause in TRANSITIONS if source is RunState.RUNNING} - {Cause.TAKE, Cause.CANCEL}
    assert {source for source, cause in TRANSITIONS if cause in forward} == {RunState.RUNNING}


def test_an_end_can_be_reached_from_everywhere() -> None:
    reaching = set(ENDED)
    for _ in RunState:
        reaching |= {source for (source, _), (target, _) in TRANSITIONS.items() if source and target in reaching}
    assert reaching == set(RunState)


def test_a_run_that_stops_says_so_in_the_trail() -> None:
    silent = {target for target, kind in TRANSITIONS.values() if kind is None}
    assert silent == {RunState.READY, RunState.RUNNING}
