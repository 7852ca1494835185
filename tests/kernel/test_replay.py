from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from orchestrator.capabilities import Contacts, Mailer, OrderRecords, OutgoingMail
from orchestrator.errors import (
    AccessDenied,
    ConnectorError,
    NotFound,
    RateLimited,
    Rejected,
    RunParked,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.runs import RunState
from tests.support.clock import HandClock
from tests.support.kernel_bench import (
    Bench,
    Done,
    Errand,
    FakeSystem,
    Killed,
    dying,
    look_up,
    process,
    send_link,
    send_one,
)
from tests.support.tampering import chain_of, change, disarm

SEND_LINK, SEND_ONE, LOOK_UP = process(send_link), process(send_one), process(look_up)


class VendorRejected(Rejected):
    """A connector's own kind of refusal."""


def sends(*texts: str, swallow: type[Exception] | None = None) -> Callable[..., Done]:
    def body(errand: Errand, *, mailer: Mailer) -> Done:
        for each in texts:
            with suppress(*([swallow] if swallow else [])):
                mailer.send(OutgoingMail(to=errand.email, subject="One", text=each))
        return Done()

    return body


def notes_then_sends(errand: Errand, *, mailer: Mailer, contacts: Contacts) -> Done:
    contacts.note(errand.email, "One")
    mailer.send(OutgoingMail(to=errand.email, subject="One", text="One"))
    return Done()


def sends_to_another(errand: Errand, *, mailer: Mailer) -> Done:
    for each in ("One", "Two"):
        mailer.send(OutgoingMail(to=f"another-{errand.email}", subject="One", text=each))
    return Done()


def test_a_template_that_was_edited_meanwhile_does_not_stop_the_run(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(process(sends("One", "Two")))
    system.before.extend([None, Unavailable("down", no_effect=True)])
    with pytest.raises(RunPostponed):
        bench.kernel.execute(process(sends("One", "Two")), run_id)
    clock.advance(hours=1)
    assert bench.kernel.execute(process(sends("One, in other words", "Two")), run_id) == Done()
    assert system.calls == ["send", "send", "send"]


@pytest.mark.parametrize(
    "changed", [sends_to_another, notes_then_sends, sends("One", "Another"), sends("One"), sends()]
)
def test_a_process_that_departs_from_its_record_is_parked(
    bench: Bench, system: FakeSystem, clock: HandClock, changed: Callable[..., Done]
) -> None:
    run_id = bench.open(process(sends("One", "Two")))
    system.before.extend([None, Killed()])
    with pytest.raises(Killed):
        bench.kernel.execute(process(sends("One", "Two")), run_id)
    clock.advance(hours=1)
    with pytest.raises(RunParked, match=r"changed while"):
        bench.kernel.execute(process(changed), run_id)
    assert system.calls == ["send", "send"]
    assert bench.run(run_id).state is RunState.PARKED
    assert bench.events(run_id)[-1].data["error"] == "Diverged"
    bench.runs.resume(run_id, actor=bench.events(run_id)[0].actor)
    assert bench.kernel.execute(process(sends("One", "Two")), run_id) == Done()


def test_a_process_with_more_steps_goes_on_after_its_record(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_ONE)
    system.before.append(Unavailable("down", no_effect=True))
    with pytest.raises(RunPostponed):
        bench.kernel.execute(process(sends("One")), run_id)
    clock.advance(hours=1)
    assert bench.kernel.execute(process(sends("One", "Two")), run_id) == Done()
    assert system.calls == ["send", "send", "send"]


def careful(errand: Errand, *, orders: OrderRecords, mailer: Mailer) -> str:
    """Ask and send, and tell how each was refused."""
    asks: list[Callable[[], object]] = [
        lambda: orders.purchases_of(errand.email),
        lambda: mailer.send(OutgoingMail(to=errand.email, subject="One", text="One")),
    ]
    return ", ".join(refusal(ask) for ask in asks)


def refusal(ask: Callable[[], object]) -> str:
    try:
        ask()
    except Rejected as exc:
        return f"Rejected: {exc}"
    except NotFound as exc:
        return f"NotFound: {exc}"
    except ConnectorError as exc:
        return f"ConnectorError: {exc}"
    return "no refusal"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (Rejected("no such recipient"), "Rejected"),
        (VendorRejected("no such recipient"), "Rejected"),
        (NotFound("no such recipient"), "NotFound"),
        (ConnectorError("no such recipient", no_effect=True), "ConnectorError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_refusal_reaches_the_process_and_is_replayed_as_the_same_error(
    bench: Bench, system: FakeSystem, clock: HandClock, error: ConnectorError, name: str
) -> None:
    run_id = bench.open(process(careful))
    system.before.extend([error, error])
    with pytest.raises(Killed):
        Bench(dying(bench.record, at_commit=4), system).kernel.execute(process(careful), run_id)
    clock.advance(hours=1)
    told = bench.kernel.execute(process(careful), run_id)
    assert told == f"{name}: no such recipient, {name}: no such recipient"
    assert system.calls == ["purchases_of", "send"]
    assert bench.kinds(run_id).count("step.refused") == bench.kinds(run_id).count("effect.refused") == 1


@pytest.mark.parametrize(
    "stop",
    [
        Unavailable("down", no_effect=True),
        Unavailable("down"),
        RateLimited("slow down"),
        AccessDenied("the password is wrong"),
        OSError("lost"),
    ],
    ids=lambda stop: type(stop).__name__,
)
def test_a_process_that_swallows_the_reason_to_wait_does_not_go_on(
    bench: Bench, system: FakeSystem, stop: Exception
) -> None:
    deaf = process(sends("One", "Two", swallow=Exception))
    run_id = bench.open(deaf)
    system.before.append(stop)
    with pytest.raises((RunPostponed, RunParked)):
        bench.kernel.execute(deaf, run_id)
    assert system.calls == ["send"]
    assert bench.run(run_id).state in (RunState.READY, RunState.PARKED)


def test_a_process_that_swallows_the_reason_to_wait_at_its_last_step_does_not_end(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    deaf = process(sends("One", swallow=Exception))
    run_id = bench.open(deaf)
    system.before.append(Unavailable("down"))
    with pytest.raises(RunPostponed):
        bench.kernel.execute(deaf, run_id)
    clock.advance(hours=1)
    assert bench.kernel.execute(deaf, run_id) == Done()
    assert set(system.applied.values()) == {1}


def test_a_run_that_goes_on_is_answered_from_its_record(bench: Bench, system: FakeSystem, clock: HandClock) -> None:
    run_id = bench.open(SEND_LINK)
    system.before.extend([None, None, None, Killed()])
    with pytest.raises(Killed):
        bench.kernel.execute(SEND_LINK, run_id)
    clock.advance(hours=1)
    done = bench.kernel.execute(SEND_LINK, run_id)
    assert system.calls == ["purchases_of", "link_to", "send", "note", "note"]
    assert [done.references[0]] == [f"<{next(iter(system.applied))}@test>"]
    assert set(system.applied.values()) == {1}


def test_a_finished_run_returns_its_recorded_result_and_calls_nothing(bench: Bench, system: FakeSystem) -> None:
    run_id = bench.open(SEND_LINK)
    done = bench.kernel.execute(SEND_LINK, run_id)
    system.calls.clear()
    assert bench.kernel.execute(SEND_LINK, run_id) == done
    assert system.calls == []
    assert bench.kinds(run_id).count("run.finished") == 1


def test_nothing_is_done_on_the_word_of_a_record_that_was_changed(
    bench: Bench, system: FakeSystem, clock: HandClock
) -> None:
    run_id = bench.open(SEND_LINK)
    system.before.extend([None, None, None, Killed()])
    with pytest.raises(Killed):
        bench.kernel.execute(SEND_LINK, run_id)
    clock.advance(hours=1)
    with bench.record.store.write() as tx:
        disarm(tx)
        changed = chain_of(tx, run_id)[1]
        change(tx, changed, actor="operator:nobody")
    with pytest.raises(RunParked, match="event 2 does not verify: column actor"):
        bench.kernel.execute(SEND_LINK, run_id)
    assert system.calls == ["purchases_of", "link_to", "send", "note"]
    with bench.record.store.write() as tx:
        change(tx, changed, actor=changed.actor)
