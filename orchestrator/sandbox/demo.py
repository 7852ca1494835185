"""The main job, from a customer's mail to the file on their disk, each stage seen to work."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import cached_property
from typing import Any

from orchestrator.bootstrap import Application
from orchestrator.kernel.runs import Run, RunState
from orchestrator.record.trail import Event
from orchestrator.record.verify import verify
from orchestrator.sandbox.shop import ONE_PURCHASE
from orchestrator.sandbox.systems import Sandbox, SandboxError, wait_until

PATIENCE_SECONDS = 60.0
Say = Callable[[str], None]


@dataclass
class Seen:
    """What the demo saw, stage by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    reply_after_seconds: float = 0.0
    """From the start of the demo to the reply in the customer's mailbox."""
    prefect_start_seconds: float = 0.0
    """What Prefect's own server took to start, beside our worker."""
    reply_subject: str = ""
    bytes_downloaded: int = 0
    run: str = ""
    events: int = 0
    chains: int = 0
    prefect_states: dict[str, str] = field(default_factory=dict)
    prefect_ui: str = ""


class Demo:
    """Runs the main job in the sandbox.

    Args:
        sandbox: The systems.
        say: Prints a line of progress.
    """

    def __init__(self, sandbox: Sandbox, say: Say) -> None:
        self._sandbox = sandbox
        self._say = say
        self._started = time.monotonic()
        self.seen = Seen()

    def run(self) -> Seen:
        """Go through all stages.

        Raises:
            SandboxError: A stage was not seen to work.
        """
        with self._stage("Mail provider, file store, shop and CRM"):
            self._sandbox.start_systems()
        self._start_in_background()
        with self._stage(f"Mail from {ONE_PURCHASE}: 'I lost my download', and the reply to it"):
            self._write_mail()
            reply = self._reply()
        self.seen.reply_after_seconds = time.monotonic() - self._started
        self._show_reply(reply)
        with self._stage("Download, compared with the file in the store"):
            self._download(reply)
        with self._stage("Prefect server, and our processes registered as deployments"):
            self._prefect_is_there.result()
            self._sandbox.wait_for_worker()
        with self._stage("The run, finished on the record and in Prefect"):
            run = self._finished_run()
            self._see_in_prefect()
        self._show_timeline(run)
        with self._stage("The record verifies"):
            self._verify()
        self.seen.prefect_ui = self._sandbox.prefect_url
        return self.seen

    def _start_in_background(self) -> None:
        """Start all that is ours, and Prefect; the customer does not wait for it to be complete."""
        self._say("… Gateway, worker and Prefect server start in the background")
        self._sandbox.start_service()
        self._prefect_is_there = ThreadPoolExecutor(1).submit(self._await_prefect, time.monotonic())

    def _await_prefect(self, began: float) -> None:
        self._sandbox.wait_for_prefect()
        self.seen.prefect_start_seconds = round(time.monotonic() - began, 2)

    @cached_property
    def _app(self) -> Application:
        return self._sandbox.application()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self._say(f"… {name}")
        yield
        self.seen.seconds[name] = round(time.monotonic() - began, 2)
        self._say(f"✓ {name} ({self.seen.seconds[name]:.1f} s)")

    def _write_mail(self) -> None:
        self._sandbox.write_mail(
            ONE_PURCHASE,
            "I lost my download",
            "Hello,\n\nI bought the linen dress pattern in August, and my computer has died since.\n"
            "Could you send me the download again?\n\nThank you\nAnna\n",
        )

    def _reply(self) -> Message:
        def arrived() -> Message | None:
            self._sandbox.refuse_dead_service()
            return self._sandbox.newest_mail(ONE_PURCHASE)

        reply = wait_until(arrived, PATIENCE_SECONDS)
        if reply is None:
            raise SandboxError(f"no reply after {PATIENCE_SECONDS:.0f} s; see: orchestrator runs")
        self.seen.reply_subject = str(reply["Subject"])
        found: Message = reply
        return found

    def _show_reply(self, reply: Message) -> None:
        self._say("")
        for line in (*(f"{name}: {reply[name]}" for name in ("From", "To", "Subject")), "", *_text(reply).splitlines()):
            self._say(f"    {line}")
        self._say("")

    def _download(self, reply: Message) -> None:
        found = re.search(r"http://\S+", _text(reply))
        if found is None:
            raise SandboxError("the reply holds no link")
        with urllib.request.urlopen(found.group(), timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own store
            content = answer.read()
        if content != self._sandbox.files.files["patterns/linen-summer-dress.zip"]:
            raise SandboxError("the link gives another file than the one in the store")
        self.seen.bytes_downloaded = len(content)

    def _finished_run(self) -> Run:
        runs = self._app.runs
        done = wait_until(lambda: _all_done(runs.listed(limit=10)), PATIENCE_SECONDS)
        if not done:
            raise SandboxError("a run has not finished; see: orchestrator runs")
        run: Run = next(run for run in done if run.process == "lost-download")
        self.seen.run = run.run_id
        return run

    def _see_in_prefect(self) -> None:
        def finished() -> dict[str, str]:
            states = {run.process: self._prefect_state(run) for run in self._app.runs.listed(limit=10)}
            return states if set(states.values()) == {"Completed"} else {}

        self.seen.prefect_states = wait_until(finished, PATIENCE_SECONDS) or {}
        if not self.seen.prefect_states:
            raise SandboxError("Prefect does not show the runs as completed")

    def _prefect_state(self, run: Run) -> str:
        if run.prefect_run_id is None:
            return "not shown yet"
        answer = self._sandbox.ask_prefect("GET", f"/flow_runs/{run.prefect_run_id}") or {}
        return str(answer.get("state_name", "unknown"))

    def _show_timeline(self, run: Run) -> None:
        record = self._app.record
        with record.store.read() as tx:
            events = record.trail.chain(tx, run.run_id)
        self._say(f"\n    What happened in run {run.run_id}:")
        for event in events:
            self._say(f"    {event.at[11:23]}  {_told(event)}")
        self._say("")

    def _verify(self) -> None:
        with self._app.record.store.read() as tx:
            found = verify(tx)
        if found.breaches:
            raise SandboxError("the record does not verify; see: orchestrator audit verify")
        self.seen.events, self.seen.chains = found.events, found.chains


def _all_done(runs: list[Run]) -> list[Run]:
    return runs if runs and all(run.state is RunState.DONE for run in runs) else []


def _text(mail: Any) -> str:
    return str(mail.get_body(("plain",)).get_content())


def _told(event: Event) -> str:
    context = event.context
    step = f"step {context.step}: {context.capability}.{context.operation} through {context.connection}"
    return f"{event.kind:<16} {step if context.step else ''}".rstrip()
