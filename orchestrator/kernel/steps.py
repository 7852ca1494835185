"""The capabilities as a process holds them: every call is a recorded step."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError
from sqlalchemy import Connection

from orchestrator.capabilities import Receipt, Recipient, operations_of
from orchestrator.errors import (
    AccessDenied,
    ConnectorError,
    Diverged,
    EffectAbandoned,
    OrchestratorError,
    RunError,
    RunPostponed,
    Unavailable,
)
from orchestrator.kernel.admission import Admission, LeftOut, Request
from orchestrator.kernel.codec import OperationForm, forms_of
from orchestrator.kernel.history import RecordedRun, RecordedStep
from orchestrator.kernel.instrumentation import Measured, Meter, attempt_measured, step_measured
from orchestrator.kernel.session import Session
from orchestrator.ledger.ledger import Ledger, error_name, wait_after
from orchestrator.ledger.model import Effect, effect_id
from orchestrator.logs import about
from orchestrator.plugins import Capability, DoubtClass, Settlement
from orchestrator.plugins.effect_ids import EFFECT_ID, asks_for_effect_id
from orchestrator.record.trail import Sealer

_OURS = Path(__file__).parents[1]


def _unproven(_operation: str) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What answers a need of a process, who may hold its effects, and whose probe has been proven (``mailer.send``)."""

    capability: Capability
    connection: str
    version: str
    instance: Any
    admit: Admission | None = None
    is_proven: Callable[[str], bool] = _unproven

    @cached_property
    def asks_for_id(self) -> frozenset[str]:
        """The effects whose methods take the effect's id: looked up once, since signatures are slow to read."""
        effects = (each.name for each in operations_of(self.capability.protocol).values() if each.kind == "effect")
        methods = {name: getattr(self.instance, name, None) for name in effects}
        return frozenset(name for name, method in methods.items() if method and asks_for_effect_id(method))


class StepWindow(Protocol):
    """Where steps are shown while they run; in Prefect, each is a task run."""

    shows_end: bool
    """Whether it also shows how the run ends; if not, the mirror does so later."""

    def show(self, title: str, step: Callable[[], Any]) -> Any:
        """Run the step, shown under its title, and return what it returns."""
        ...


class Plain:
    """Shows nothing."""

    shows_end = False

    def show(self, title: str, step: Callable[[], Any]) -> Any:  # noqa: ARG002 - the protocol's signature
        """Run the step."""
        return step()


class Steps:
    """Counts, replays, performs and records the steps of a run.

    Args:
        session: The owner's hold on the run.
        ledger: Performs effects.
        past: What the run has done already.
        private: The private values of that past.
        window: Where steps are shown.
        meter: Measures them.
    """

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        past: RecordedRun,
        private: Mapping[str, Any],
        window: StepWindow,
        meter: Meter,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._past = past
        self._private = private
        self._window = window
        self._meter = meter
        self.answered = False
        """Whether a mail went out that answers the case of the run."""
        self._count = 0
        self._stopped: Exception | None = None

    def take(self, form: OperationForm, bound: Bound, arguments: dict[str, Any]) -> Any:
        """Take the next step: answer it from the record, or do it and record it.

        What is not for the process to decide ends its run, even if the process swallows it.
        """
        self.go_on()
        self._go_on_if_wanted()
        self._count += 1
        step = _Step(number=self._count, form=form, bound=bound, arguments=arguments)
        try:
            answer = self._window.show(form.operation.title, lambda: self._take(step))
        except Exception as exc:
            if isinstance(exc, AccessDenied | RunPostponed):
                self._session.waits_for = bound.connection
            if isinstance(exc, AccessDenied) or not isinstance(exc, ConnectorError | EffectAbandoned):
                self._stopped = exc
            raise
        self.answered = self.answered or step.answers_case
        return answer

    def go_on(self) -> None:
        """Do nothing, unless the run has to stop: then raise again why."""
        if self._stopped is not None:
            raise self._stopped

    def _go_on_if_wanted(self) -> None:
        try:
            self._session.go_on()
        except RunError as exc:
            self._stopped = exc
            raise

    @property
    def left_out(self) -> bool:
        """Whether the process has not taken all the steps that the record holds."""
        return self._count < max(self._past.steps, default=0)

    def _take(self, step: _Step) -> Any:
        recorded = self._past.steps.get(step.number)
        if recorded is not None:
            self._refuse_divergence(step, recorded)
            if recorded.settled:
                return self._replay(step, recorded)
        with step_measured(self._meter, self._measured(step)):
            answer = self._do(step)
        self._session.progressed = True
        return answer

    def _do(self, step: _Step) -> Any:
        settlement = step.settlement()
        if settlement is None or settlement.doubt is DoubtClass.PURE:
            return self._read(step)
        return self._perform(step, settlement)

    def _invoke(self, step: _Step, key: str) -> Any:
        with about(connection=step.bound.connection), attempt_measured(self._meter, self._measured(step)):
            return step.invoke(key)

    def _measured(self, step: _Step) -> Measured:
        return Measured(process=self._session.run.process, connection=step.bound.connection, operation=step.form.name)

    def _replay(self, step: _Step, recorded: RecordedStep) -> Any:
        if recorded.error is not None:
            raise recorded.error
        if recorded.happened:
            return Receipt()
        return step.form.read_answer(recorded.answer, self._private)

    def _refuse_divergence(self, step: _Step, recorded: RecordedStep) -> None:
        settlement = None if recorded.settled else step.settlement()
        exact_replay = settlement is not None and settlement.exact_replay
        same = recorded.operation == step.form.name and step.form.same_arguments(
            recorded.request, self._private, step.arguments, exact_replay=exact_replay
        )
        if not same:
            raise Diverged(
                f"step {step.number} was {recorded.operation} when it was recorded and is {step.form.name} now, or "
                "asks for something else: the process changed while the run was under way; finish the run by hand, or "
                "bring the former version back and resume it"
            )

    def _read(self, step: _Step) -> Any:
        self._session.settle_up()
        sealer = Sealer()
        request = step.form.write_arguments(step.arguments, sealer)
        key = effect_id(self._session.run.run_id, step.number, step.form.name)
        try:
            answer = self._invoke(step, key)
        except Unavailable as exc:
            later = self._session.now() + wait_after(exc, self._session.run.postponed + 1)
            raise RunPostponed(str(exc), due_at=later) from exc
        except AccessDenied:
            raise  # no answer: it is asked again once a person has fixed it
        except ConnectorError as exc:
            self._refuse(step, exc, request, sealer)
            raise
        data = {"request": request, "answer": step.form.write_answer(answer, sealer)}
        self._session.keep(self._session.draft("step.answered", data, sealer=sealer, **step.about()))
        return answer

    def _refuse(self, step: _Step, error: ConnectorError, request: dict[str, Any], sealer: Sealer) -> None:
        data = {"request": request, "error": error_name(error), "message": str(error)}
        self._session.keep(self._session.draft("step.refused", data, sealer=sealer, **step.about()))

    def _perform(self, step: _Step, settlement: Settlement) -> Any:
        sealer = Sealer()
        request = step.form.write_arguments(step.arguments, sealer)
        key = effect_id(self._session.run.run_id, step.number, step.form.name)
        about = {name: value for name, value in step.about().items() if name != "step"}
        effect = Effect(
            effect_id=key,
            run_id=self._session.run.run_id,
            step=step.number,
            about=about,
            settlement=settlement,
            request=request,
            sealer=sealer,
            invoke=lambda: self._invoke(step, key),
            probe=lambda: look_for(step.bound.connection, step.form, settlement, key, step.arguments),
            absence_counts=lambda: step.bound.is_proven(step.form.name),
            write_answer=step.form.write_answer,
            admit=self._admission(step, key),
        )
        try:
            return self._ledger.perform(effect)
        except LeftOut as exc:  # nothing of it was planned
            self._refuse(step, exc, request, sealer)
            raise

    def _admission(self, step: _Step, key: str) -> Callable[[Connection], None] | None:
        admit, recipient = step.bound.admit, step.recipient
        if admit is None or recipient is None:
            return None
        request = Request(effect_id=key, run_id=self._session.run.run_id, recipient=recipient)
        return lambda tx: admit(tx, request)


@dataclass(frozen=True, kw_only=True)
class _Step:
    number: int
    form: OperationForm
    bound: Bound
    arguments: dict[str, Any]

    def about(self) -> dict[str, Any]:
        return {
            "step": self.number,
            "capability": self.form.capability,
            "operation": self.form.operation.name,
            "connection": self.bound.connection,
            "connector_version": self.bound.version,
            "title": self.form.operation.title,
        }

    @property
    def answers_case(self) -> bool:
        """Whether it tells a customer more than that something came in."""
        return self.recipient is not None and not self.recipient.acknowledges

    @property
    def recipient(self) -> Recipient | None:
        """Whom it reaches outside of the business, if anybody."""
        reaches = self.form.operation.reaches
        return None if reaches is None else reaches(**self.arguments)

    def settlement(self) -> Settlement | None:
        """How a doubt is settled, or None for a query."""
        if self.form.operation.kind == "query":
            return None
        settlement: Settlement = self.bound.instance.settlements[self.form.operation.name]
        return settlement

    def invoke(self, key: str) -> Any:
        """Call the system; whatever it raises comes out as an error of ours."""
        name = self.form.operation.name
        given = {EFFECT_ID: key} if name in self.bound.asks_for_id else {}
        try:
            return self.form.accept(getattr(self.bound.instance, name)(**self.arguments, **given))
        except (OrchestratorError, MemoryError):
            raise
        except ValidationError as exc:
            raise Unavailable(
                f"connection {self.bound.connection}: {self.form.name} answered with something else than the "
                f"capability promises ({misfit(exc)}); its plug-in must be fixed"
            ) from exc
        except Exception as exc:
            raise Unavailable(
                f"connection {self.bound.connection}: {self.form.name} failed with {type(exc).__name__} at "
                f"{where(exc)}; its plug-in must be fixed"
            ) from exc


class RecordedCapability:
    """A capability whose every call is a recorded step. A process holds nothing else.

    Args:
        bound: What answers it.
        steps: Where its calls go.
    """

    def __init__(self, bound: Bound, steps: Steps) -> None:
        self._forms = forms_of(bound.capability)
        self._bound = bound
        self._steps = steps

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            form = self._forms[name]
        except KeyError:
            raise AttributeError(name) from None
        return lambda *args, **kwargs: self._steps.take(form, self._bound, form.bind(args, kwargs))


def look_for(
    connection: str, form: OperationForm, settlement: Settlement, key: str, arguments: Mapping[str, Any]
) -> Any:
    """Let the probe of a connection look for an effect.

    Args:
        connection: The connection's name.
        form: The operation.
        settlement: How the connection settles a doubt about it.
        key: The effect's id.
        arguments: The effect's arguments.

    Returns:
        The answer of the effect if it happened, else None.

    Raises:
        ConnectorError: It cannot be told now; whatever the probe raises comes out as an error of ours.
    """
    if settlement.probe is None:
        raise Unavailable(f"connection {connection}: {form.name} has no probe")
    try:
        found = settlement.probe(key, **arguments)
        return None if found is None else form.accept(found)
    except (OrchestratorError, MemoryError):
        raise
    except ValidationError as exc:
        raise Unavailable(
            f"connection {connection}: the probe of {form.name} answered with something else than "
            f"the capability promises ({misfit(exc)}); its plug-in must be fixed"
        ) from exc
    except Exception as exc:
        raise Unavailable(
            f"connection {connection}: the probe of {form.name} failed with "
            f"{type(exc).__name__} at {where(exc)}; its plug-in must be fixed"
        ) from exc


def where(error: BaseException) -> str:
    """Return file and line: what a log may show of an error without its message.

    They are the innermost ones of the process or plug-in that we called, not of a library that it called in turn.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    called = next((frame for frame in frames if not Path(frame.filename).is_relative_to(_OURS)), None)
    folder = Path(called.filename).parent if called else _OURS
    theirs = [frame for frame in frames if called is None or Path(frame.filename).parent == folder]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}" if theirs else "an unknown place"


def misfit(error: ValidationError) -> str:
    """Return which field of an answer does not fit, and in what way, never what stood there."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the answer itself"
    return f"{field}: {first['type']}"
