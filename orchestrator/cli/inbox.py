"""``orchestrator inbox``: mail and webhook deliveries that were taken in."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from cyclopts import App, Parameter

from orchestrator.bootstrap import recorded, this_user
from orchestrator.builtin.inbox import Delivery, DeliveryState, HostInbox, gone
from orchestrator.cli.output import COUNTED, Json, Several, each, fields, print_json, say, say_text, show
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.dead_letters import DeadLetters
from orchestrator.record.clock import moment
from orchestrator.settings import WEBHOOK

inbox = App(name="inbox", help="Mail and webhook deliveries that were taken in.")


@inbox.default
def deliveries(
    *,
    state: DeliveryState | None = None,
    lines: Annotated[int, Parameter(name=["-n", "--lines"])] = 50,
    json: Json = False,
) -> None:
    """List mail and webhook deliveries that were taken in, newest first.

    Example: ``orchestrator inbox --state for-person``

    Args:
        state: Only those in this state; ``for-person`` and ``dead-letter`` wait for somebody.
        lines: At most so many.
        json: Print JSON.
    """
    app = recorded()
    now = app.record.clock()
    rows = [_row(app.inbox, delivery, now) for delivery in app.inbox.listed(state=state, limit=lines)]
    columns = ("delivery", "age", "sender", "subject", "note", "state", "source", "received_at", "run_id", "case_id")
    total = app.inbox.count(state, at_most=COUNTED)
    show(rows, columns, as_json=json, empty="Nothing of that kind was taken in.", total=total)


def _row(box: HostInbox, delivery: Delivery, now: datetime) -> dict[str, Any]:
    head = box.head(delivery)
    name, at, domain = head.sender.partition("@")
    return {
        **fields(delivery),
        "age": now - moment(delivery.received_at),
        "sender": f"{name[:1]}…{at}{domain}" if at else "",
        "subject": head.subject,
    }


@inbox.command(name="show")
def show_delivery(delivery: str, *, raw: bool = False, json: Json = False) -> None:
    """Show a mail as far as it can be read, or the payload of a webhook's delivery.

    Example: ``orchestrator inbox show d-0123456789abcdef01234567``

    Args:
        delivery: The delivery's id.
        raw: Print it byte for byte instead.
        json: Print JSON.
    """
    box = recorded().inbox
    if raw:
        _write_raw(box.raw(delivery)[0])
        return
    held = box.get(delivery)
    if held.vacuumed_at is not None:
        _show_emptied(held, as_json=json)
        return
    payload, row = box.raw(delivery)
    if row.source.startswith(WEBHOOK):
        _show_payload(payload, row.note, as_json=json)
        return
    mail = box.read(delivery)
    if json:
        print_json(mail)
        return
    for name, value in mail.model_dump(mode="json", exclude={"text"}).items():
        say(f"{name.replace('_', ' ')}: {value}")
    say_text(f"\n{mail.text}")


@inbox.command
def close(deliveries: Several, /) -> int:
    """File deliveries that you have dealt with: those kept for a person, and those whose run failed or was cancelled.

    A failed run is closed with its delivery.

    Example: ``orchestrator inbox close d-0123456789abcdef01234567``

    Args:
        deliveries: The ids of the deliveries.
    """
    box = recorded().inbox

    def file(delivery: str) -> str:
        box.close(delivery, this_user())
        return "Filed."

    return each(deliveries, file)


@inbox.command
def edit(delivery: str, *, file: Path | None = None) -> None:
    """Correct the payload of a dead letter, in $EDITOR; then `orchestrator inbox resume` it.

    Example: ``orchestrator inbox edit d-0123456789abcdef01234567 --file corrected.json``

    Args:
        delivery: The delivery's id.
        file: Take the new payload from this file instead.
    """
    letters = DeadLetters(recorded())
    before = letters.payload(delivery)
    after = file.read_bytes() if file is not None else _edited(before)
    if after == before:
        say("Nothing was changed.")
        return
    problem = letters.edit(delivery, after, this_user())
    say(f"Recorded. It still does not fit: {problem}" if problem else f"It fits: orchestrator inbox resume {delivery}")


@inbox.command
def resume(deliveries: Several, /) -> int:
    """Start the process of each dead letter that fits by now.

    To let mails go out that were held: `orchestrator runs resume`.

    Example: ``orchestrator inbox resume d-0123456789abcdef01234567``

    Args:
        deliveries: The ids of the deliveries.
    """
    letters = DeadLetters(recorded())
    return each(deliveries, lambda delivery: _ready(letters.resume(delivery, this_user())))


@inbox.command
def rerun(deliveries: Several, /) -> int:
    """Start the process of each delivery again whose run failed or was cancelled. What that run did is done again.

    To go on where a failed run stopped instead: `orchestrator runs resume`.

    Example: ``orchestrator inbox rerun d-0123456789abcdef01234567``

    Args:
        deliveries: The ids of the deliveries.
    """
    letters = DeadLetters(recorded())
    return each(deliveries, lambda delivery: _ready(letters.rerun(delivery, this_user())))


@inbox.command
def discard(deliveries: Several, /) -> int:
    """Throw dead letters away.

    Example: ``orchestrator inbox discard d-0123456789abcdef01234567``

    Args:
        deliveries: The ids of the deliveries.
    """
    letters = DeadLetters(recorded())

    def throw_away(delivery: str) -> str:
        letters.discard(delivery, this_user())
        return "Discarded."

    return each(deliveries, throw_away)


def _write_raw(body: bytes) -> None:
    if sys.stdout.isatty():
        raise ConfigurationError("raw bytes can control a terminal; write them to a file: ... --raw > FILE")
    sys.stdout.buffer.write(body)


def _ready(run_id: str) -> str:
    return f"Ready: run {run_id}. The worker executes it."


def _show_emptied(held: Delivery, *, as_json: bool) -> None:
    if as_json:
        print_json(held)
        return
    for name, value in fields(held).items():
        say(f"{name.replace('_', ' ')}: {value or ''}".rstrip())
    say()
    say(gone(held))


def _show_payload(payload: bytes, note: str, *, as_json: bool) -> None:
    text = payload.decode("utf-8", "backslashreplace")
    if as_json:
        print_json({"note": note, "payload": text})
        return
    if note:
        say(f"note: {note}")
        say()
    say_text(text)


def _edited(payload: bytes) -> bytes:
    """Let the user edit a payload in a directory that nobody else can read."""
    with TemporaryDirectory(prefix="orchestrator-") as folder:
        draft = Path(folder) / "payload.json"
        draft.write_bytes(payload)
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            ended = subprocess.run([*editor, str(draft)], check=False)  # noqa: S603 - the user's own editor
        except OSError as exc:
            raise ConfigurationError(f"$EDITOR: {editor[0]} does not start; set EDITOR, or use --file") from exc
        if ended.returncode != 0:
            raise ConfigurationError(f"$EDITOR: {editor[0]} ended with {ended.returncode}; nothing was changed")
        return draft.read_bytes()
