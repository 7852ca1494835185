"""What a person does with a delivery: correct a dead letter and let it go on, or discard it; run a failed one again."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, select, update

from orchestrator.bootstrap import Application
from orchestrator.builtin.inbox import DeliveryState, body_of
from orchestrator.errors import ConfigurationError, NotRecorded
from orchestrator.gateway.accepting import subject_of
from orchestrator.gateway.hooks import Hook, hook_of
from orchestrator.gateway.mapping import Unfit, read_payload, request_from
from orchestrator.kernel.cancellation import close_failed
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.runs import Opening, RunState, new_run_id
from orchestrator.record.tables import inbox
from orchestrator.record.trail import Actor, Context, Draft, Sealer
from orchestrator.settings import WEBHOOK

STOPPED = (RunState.FAILED, RunState.CANCELLED)
"""How a run ends that can be started again."""


class DeadLetters:
    """Deliveries in the hands of a person.

    Args:
        app: The application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._record = app.record

    def payload(self, delivery: str) -> bytes:
        """Return the payload of a dead letter as it is now.

        Raises:
            NotRecorded: There is no such dead letter.
        """
        with self._record.store.write() as tx:
            return body_of(self._record, tx, _dead_letter(tx, delivery))

    def edit(self, delivery: str, payload: bytes, actor: Actor) -> str:
        """Put another payload in the place of a dead letter's; both go on the record, encrypted.

        Returns:
            Why it still does not fit; empty if it does.

        Raises:
            NotRecorded: There is no such dead letter.
            ConfigurationError: Its webhook is not configured any more.
        """
        with self._record.store.write() as tx:
            row = _dead_letter(tx, delivery)
            problem, sealer = self._problem(row, payload), Sealer()
            data = {"before": sealer(_text(body_of(self._record, tx, row))), "after": sealer(_text(payload))}
            self._replace(tx, row, payload, row.subject_ref, note=problem)
            self._append(tx, "delivery.edited", row, actor, data=data, sealer=sealer)
        return problem

    def resume(self, delivery: str, actor: Actor) -> str:
        """Open the run of a dead letter that fits by now.

        Returns:
            The run's id.

        Raises:
            NotRecorded: There is no such dead letter.
            ConfigurationError: It still does not fit, or its webhook is not configured any more.
        """
        with self._record.store.write() as tx:
            row = _dead_letter(tx, delivery)
            return self._open(tx, row, actor, kind="delivery.resumed")

    def discard(self, delivery: str, actor: Actor) -> None:
        """Throw a dead letter away; it stays where it is, but nobody waits for it any more.

        Raises:
            NotRecorded: There is no such dead letter.
        """
        with self._record.store.write() as tx:
            row = _dead_letter(tx, delivery)
            tx.execute(update(inbox).where(inbox.c.delivery == delivery).values(state=DeliveryState.DISCARDED))
            self._append(tx, "delivery.discarded", row, actor, data={})

    def rerun(self, delivery: str, actor: Actor) -> str:
        """Open a new run of a delivery whose run failed or was cancelled: it does again what that one did.

        A failed run is closed with it.

        Returns:
            The new run's id.

        Raises:
            NotRecorded: There is no such delivery, or its run has neither failed nor been cancelled.
            NotFound: Its body was deleted.
            ConfigurationError: It does not fit any more, or nothing is configured for it any more.
        """
        with self._record.store.write() as tx:
            row = _held(tx, delivery)
            if row is None or not row.run_id or self._app.runs.get(tx, row.run_id).state not in STOPPED:
                raise NotRecorded(
                    f"delivery {delivery} has no run that failed or was cancelled; see: orchestrator inbox, runs"
                )
            close_failed(self._record, tx, row.run_id, actor)
            return self._open(tx, row, actor, kind="delivery.rerun")

    def _open(self, tx: Connection, row: Any, actor: Actor, *, kind: str) -> str:
        payload, run_id = body_of(self._record, tx, row), new_run_id()
        process, request, subject_ref = self._input(tx, row, payload)
        context = Context(run_id=run_id, subject_ref=subject_ref, process=process.name)
        data = {"delivery": row.delivery, "previous_run": row.run_id}
        opening = Opening(
            definition=process,
            request=request,
            run_id=run_id,
            actor=actor,
            subject_ref=subject_ref,
            before=[Draft(kind=kind, context=context, data=data, actor=actor)],
        )
        self._app.runs.open(tx, opening)
        state = DeliveryState.STARTED if row.source.startswith(WEBHOOK) else DeliveryState.NEW
        self._replace(tx, row, payload, subject_ref, note="", state=state, run_id=run_id)
        return run_id

    def _input(self, tx: Connection, row: Any, payload: bytes) -> tuple[ProcessDefinition, BaseModel, str]:
        """Return what a delivery starts, with what, and whose it is."""
        if not row.source.startswith(WEBHOOK):
            mailbox = self._app.settings.mailboxes.get(row.source)
            if mailbox is None:
                raise ConfigurationError(f"[mailboxes.{row.source}]: is not configured any more; write it again")
            process = self._app.definition(mailbox.process)
            return process, process.request.model_validate({"delivery": row.delivery}), row.subject_ref
        hook = self._hook(row)
        try:
            request = _request(hook, payload)
        except Unfit as exc:
            raise ConfigurationError(
                f"delivery {row.delivery} does not fit: {exc}; correct it with: "
                f"orchestrator inbox edit {row.delivery}, or correct [webhooks.{hook.name}.input]"
            ) from None
        # Only now it is known whose it is: its payload goes under that person's key.
        return hook.process, request, subject_of(tx, self._record, hook, request)

    def _problem(self, row: Any, payload: bytes) -> str:
        try:
            _request(self._hook(row), payload)
        except Unfit as exc:
            return str(exc)
        return ""

    def _hook(self, row: Any) -> Hook:
        name = row.source.removeprefix(WEBHOOK)
        settings = self._app.settings.webhooks.get(name)
        if settings is None:
            raise ConfigurationError(f"[webhooks.{name}]: is not configured any more; write it again")
        return hook_of(name, settings, self._app.definition(settings.process))

    def _replace(self, tx: Connection, row: Any, payload: bytes, subject_ref: str, **columns: Any) -> None:
        nonce, ciphertext = self._record.vault.encrypt(tx, subject_ref, payload, bound_to=f"inbox/{row.delivery}")
        columns |= {"subject_ref": subject_ref, "nonce": nonce, "ciphertext": ciphertext}
        tx.execute(update(inbox).where(inbox.c.delivery == row.delivery).values(**columns))

    def _append(
        self, tx: Connection, kind: str, row: Any, actor: Actor, *, data: dict[str, Any], sealer: Sealer | None = None
    ) -> None:
        draft = Draft(
            kind=kind,
            context=Context(subject_ref=row.subject_ref),
            data={"delivery": row.delivery, **data},
            sealer=sealer or Sealer(),
            actor=actor,
        )
        self._record.trail.append_alone(tx, row.delivery, draft, self._record.clock())


def _request(hook: Hook, payload: bytes) -> BaseModel:
    return request_from(read_payload(payload), hook.sources, hook.process.request)


def _text(payload: bytes) -> str:
    """Return bytes as text that gives the same bytes again."""
    return payload.decode("utf-8", "surrogateescape")


def _held(tx: Connection, delivery: str) -> Any:
    """Read a row and keep others from changing it, which on SQLite the write transaction does."""
    return tx.execute(select(inbox).where(inbox.c.delivery == delivery).with_for_update()).one_or_none()


def _dead_letter(tx: Connection, delivery: str) -> Any:
    row = _held(tx, delivery)
    if row is None or row.state != DeliveryState.DEAD_LETTER:
        raise NotRecorded(f"{delivery} is no dead letter; list them with: orchestrator inbox --state dead-letter")
    return row
