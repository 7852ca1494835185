from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.bootstrap import Application, use
from orchestrator.builtin.inbox import Delivery, DeliveryState
from orchestrator.cli.inbox import inbox as command
from orchestrator.errors import ConfigurationError, NotRecorded, RunFailed
from orchestrator.gateway.accepting import Acceptance, Arrival
from orchestrator.gateway.dead_letters import DeadLetters
from orchestrator.gateway.hooks import hook_of
from orchestrator.gateway.mapping import Unfit, read_payload, request_from
from orchestrator.kernel.cancellation import cancel
from orchestrator.kernel.runs import Run, RunState
from orchestrator.record.tables import subject_key
from orchestrator.record.trail import Actor
from orchestrator.record.verify import verify
from tests.support.clock import HandClock
from tests.support.webhooks import HOOKS, configured, order

ANN = Actor(name="operator:ann", auth="test")
BROKEN = b'{"id": "evt_1", "customer": {"mail": "ann1@example.com"}} \xff'
UNMAPPED = b'{"id": "evt_1", "customer": {"mail": "ann1@example.com"}}'


@pytest.fixture
def app(record_url: str, tmp_path: Path, clock: HandClock) -> Iterator[Application]:
    app = configured(tmp_path, record_url, clock=clock)
    yield app
    app.record.store.close()


def accept(app: Application, body: bytes, name: str = "shop") -> str:
    settings = app.settings.webhooks[name]
    hook = hook_of(name, settings, app.definition(settings.process))
    request, problem = None, ""
    try:
        request = request_from(read_payload(body), hook.sources, hook.process.request)
    except Unfit as exc:
        problem = str(exc)
    arrival = Arrival(
        hook=hook, key="evt_1", body=body, received_at=app.record.clock(), request=request, problem=problem
    )
    (accepted,) = Acceptance(app.record, app.runs).accept([arrival])
    return accepted.delivery


def found(app: Application) -> Delivery:
    (delivery,) = app.inbox.listed(limit=9)
    return delivery


def run_of(app: Application, run_id: str | None) -> Run:
    with app.record.store.read() as tx:
        return app.runs.get(tx, str(run_id))


def told(app: Application, chain: str) -> list[tuple[str, str]]:
    with app.record.store.read() as tx:
        assert verify(tx).breaches == ()
        return [(event.kind, event.actor.name) for event in app.record.trail.chain(tx, chain)]


@pytest.mark.parametrize("body", [BROKEN, UNMAPPED], ids=["broken", "unmapped"])
def test_a_dead_letter_that_was_mended_goes_on(app: Application, body: bytes) -> None:
    delivery, letters = accept(app, body), DeadLetters(app)
    assert letters.payload(delivery) == body
    assert letters.edit(delivery, order(1), ANN) == ""
    run_id = letters.resume(delivery, ANN)
    assert app.kernel.execute(app.definition("serve"), run_id) == "served"
    assert (found(app).state, found(app).run_id, found(app).note) == (DeliveryState.STARTED, run_id, "")
    assert app.inbox.raw(delivery)[0] == order(1)
    assert told(app, delivery) == [("delivery.accepted", "webhook:shop"), ("delivery.edited", ANN.name)]
    kinds = told(app, run_id)
    assert kinds[:2] == [("delivery.resumed", ANN.name), ("run.opened", ANN.name)]


def test_what_a_person_changed_stands_on_the_record_encrypted(app: Application) -> None:
    delivery = accept(app, BROKEN)
    DeadLetters(app).edit(delivery, order(1), ANN)
    with app.record.store.read() as tx:
        edited = app.record.trail.chain(tx, delivery)[-1]
        private = app.record.trail.private_values(tx, [edited.event_id])
    assert "ann1" not in json.dumps(edited.data)
    texts = [private[edited.data[name]["$p"]].encode("utf-8", "surrogateescape") for name in ("before", "after")]
    assert texts == [BROKEN, order(1)]


def test_a_delivery_lies_under_the_key_of_the_person_as_soon_as_it_is_known(app: Application) -> None:
    delivery, letters = accept(app, UNMAPPED), DeadLetters(app)
    letters.edit(delivery, order(1), ANN)
    run = run_of(app, letters.resume(delivery, ANN))
    assert app.inbox.raw(delivery)[1].subject_ref == run.subject_ref
    with app.record.store.read() as tx:
        assert app.record.vault.find(tx, "ann1@example.com") == run.subject_ref
        assert tx.execute(select(subject_key)).all()


def test_an_edit_that_does_not_help_is_told_and_the_letter_stays(app: Application) -> None:
    delivery, letters = accept(app, BROKEN), DeadLetters(app)
    assert letters.edit(delivery, UNMAPPED, ANN) == "email is missing"
    with pytest.raises(ConfigurationError, match=f"{delivery} does not fit: email is missing; correct it with"):
        letters.resume(delivery, ANN)
    assert (found(app).state, found(app).note) == (DeliveryState.DEAD_LETTER, "email is missing")


def test_a_corrected_configuration_lets_a_dead_letter_go_on(app: Application, record_url: str, tmp_path: Path) -> None:
    delivery = accept(app, UNMAPPED)
    corrected = configured(
        tmp_path, record_url, HOOKS.replace('email = "/customer/email"', 'email = "/customer/mail"', 1)
    )
    assert run_of(corrected, DeadLetters(corrected).resume(delivery, ANN)).state is RunState.READY
    corrected.record.store.close()


def test_a_letter_whose_webhook_is_gone_says_so(app: Application, record_url: str, tmp_path: Path) -> None:
    delivery = accept(app, UNMAPPED)
    without = configured(tmp_path, record_url, "")
    for attempt in (DeadLetters(without).resume, lambda *args: DeadLetters(without).edit(args[0], b"", args[1])):
        with pytest.raises(ConfigurationError, match=r"\[webhooks.shop\]: is not configured any more"):
            attempt(delivery, ANN)
    DeadLetters(without).discard(delivery, ANN)
    without.record.store.close()


def test_a_discarded_letter_waits_for_nobody(app: Application) -> None:
    delivery, letters = accept(app, BROKEN), DeadLetters(app)
    letters.discard(delivery, ANN)
    assert found(app).state is DeliveryState.DISCARDED
    assert told(app, delivery)[-1] == ("delivery.discarded", ANN.name)
    assert accept(app, BROKEN) == delivery
    assert found(app).state is DeliveryState.DISCARDED


def test_only_a_dead_letter_is_edited_resumed_or_discarded(app: Application) -> None:
    delivery, letters = accept(app, order(1)), DeadLetters(app)
    for other in (delivery, "d-nothing"):
        with pytest.raises(NotRecorded, match=f"{other} is no dead letter"):
            letters.payload(other)
        with pytest.raises(NotRecorded):
            letters.edit(other, b"{}", ANN)
        with pytest.raises(NotRecorded):
            letters.resume(other, ANN)
        with pytest.raises(NotRecorded):
            letters.discard(other, ANN)
    assert found(app).state is DeliveryState.STARTED


def test_a_delivery_whose_run_failed_runs_again(app: Application) -> None:
    delivery, letters = accept(app, order(1), "keap"), DeadLetters(app)
    first = str(found(app).run_id)
    with pytest.raises(RunFailed):
        app.kernel.execute(app.definition("failing"), first)
    second = letters.rerun(delivery, ANN)
    assert run_of(app, second).state is RunState.READY
    assert (found(app).run_id, found(app).state) == (second, DeliveryState.STARTED)
    assert told(app, second) == [("delivery.rerun", ANN.name), ("run.opened", ANN.name)]
    assert run_of(app, first).state is RunState.CANCELLED  # nobody has to look after it any more
    with pytest.raises(NotRecorded, match="has no run that failed or was cancelled"):
        letters.rerun(delivery, ANN)


@pytest.mark.parametrize("stopped", [RunState.FAILED, RunState.CANCELLED])
def test_a_delivery_whose_run_stopped_can_be_closed(app: Application, stopped: RunState) -> None:
    delivery = accept(app, order(1), "keap")
    run_id = str(found(app).run_id)
    with pytest.raises(NotRecorded, match="has neither failed nor been cancelled"):
        app.inbox.close(delivery, ANN)
    if stopped is RunState.FAILED:
        with pytest.raises(RunFailed):
            app.kernel.execute(app.definition("failing"), run_id)
    else:
        cancel(app.record, run_id, ANN)
    app.inbox.close(delivery, ANN)
    assert (found(app).state, run_of(app, run_id).state) == (DeliveryState.SETTLED, RunState.CANCELLED)
    assert told(app, run_id)[-2:] == [("run.cancelled", ANN.name), ("delivery.closed", ANN.name)]


def test_a_delivery_whose_run_was_cancelled_runs_again(app: Application) -> None:
    delivery = accept(app, order(1))
    first = str(found(app).run_id)
    assert cancel(app.record, first, ANN)
    second = DeadLetters(app).rerun(delivery, ANN)
    assert app.kernel.execute(app.definition("serve"), second) == "served"
    assert run_of(app, first).state is RunState.CANCELLED


def test_what_has_not_failed_is_not_run_again(app: Application) -> None:
    for delivery in (accept(app, BROKEN), accept(app, order(1), "keap"), "d-nothing"):
        with pytest.raises(NotRecorded, match="has no run that failed"):
            DeadLetters(app).rerun(delivery, ANN)


# --- the command line --------------------------------------------------------------------------------------------


def call(*words: str) -> object:
    """Call ``orchestrator inbox`` with the words; return the exit code."""
    return command(words, result_action="return_value")


def test_a_person_mends_a_letter_in_their_editor(
    app: Application, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = accept(app, UNMAPPED)
    use(app)
    (tmp_path / "editor.py").write_text(
        "import pathlib, sys; path = pathlib.Path(sys.argv[1]); assert path.parent.stat().st_mode & 0o077 == 0\n"
        "path.write_text(path.read_text().replace('mail', 'email', 1))"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {tmp_path}/editor.py")
    call("show", delivery)
    call("edit", delivery)
    call("resume", delivery)
    printed = capsys.readouterr().out
    assert printed.startswith(f"note: email is missing\n\n{UNMAPPED.decode()}\nIt fits: orchestrator inbox resume")
    assert found(app).state is DeliveryState.STARTED


def test_a_person_mends_a_letter_from_a_file(
    app: Application, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    delivery = accept(app, UNMAPPED)
    use(app)
    (tmp_path / "new.json").write_bytes(UNMAPPED)
    call("edit", delivery, "--file", f"{tmp_path}/new.json")
    (tmp_path / "new.json").write_bytes(b"[]")
    call("edit", delivery, "--file", f"{tmp_path}/new.json")
    call("discard", delivery)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "Nothing was changed.",
        "Recorded. It still does not fit: email is missing",
        "Discarded.",
    ]
    call("--state", "discarded", "--json")
    assert json.loads(capsys.readouterr().out)[0]["delivery"] == delivery


def test_several_letters_are_dealt_with_at_once_and_one_that_does_not_fit_is_in_no_others_way(
    app: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, corrected = accept(app, BROKEN), accept(app, BROKEN, "slack")
    use(app)
    DeadLetters(app).edit(corrected, b'{"event": {"email": "ann1@example.com"}}', ANN)
    assert call("resume", broken, "d-nothing", corrected) == 1
    said = capsys.readouterr()
    assert said.out.startswith("Ready: run r-")
    assert [line.split(" ", 2)[:2] for line in said.err.splitlines()] == [["delivery", broken], ["d-nothing", "is"]]
    assert call("discard", broken) == 0


@pytest.mark.parametrize("editor", ["/nowhere/editor", f"{sys.executable} -c exit(3)"])
def test_an_editor_that_fails_changes_nothing(app: Application, editor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = accept(app, UNMAPPED)
    use(app)
    monkeypatch.setenv("VISUAL", editor)
    with pytest.raises(ConfigurationError, match=r"\$EDITOR: "):
        call("edit", delivery)
    assert DeadLetters(app).payload(delivery) == UNMAPPED
