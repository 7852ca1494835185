"""The form on which a person answers a question in the Prefect UI.

A flow run that is *Suspended* with a form shows it behind its button *Resume*. Prefect checks what is filled in,
keeps it as an input of the flow run, and schedules the flow run; our worker then takes the answer from there.

What is known of a customer never goes to Prefect: the form says what is asked, what each answer does, and where
the rest can be read. What the person writes is deleted there as soon as it is on the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient

from orchestrator.builtin.people import OpenQuestion
from orchestrator.capabilities import Decision, Option, Question
from orchestrator.record.trail import Actor

FILLED_IN = Actor(name="operator", auth="unattributed (prefect form)")
"""Prefect does not know who fills in a form."""
PREFIX = "question-"
MOST = 200
"""At most so many inputs of a flow run are read."""


@dataclass(frozen=True)
class Form:
    """The form of one question, as Prefect shows and checks it."""

    waiting: OpenQuestion

    def state(self) -> dict[str, Any]:
        """Return the state that makes Prefect show the form."""
        details = {"pause_reschedule": True, "run_input_keyset": {part: self.key(part) for part in _PARTS}}
        return {"type": "PAUSED", "name": "Suspended", "message": self._message(), "state_details": details}

    def key(self, part: str) -> str:
        """Return the name of a flow run's input: ``schema``, ``description`` or ``response``."""
        return f"{PREFIX}{self.waiting.question_id}-{part}"

    def schema(self) -> dict[str, Any]:
        """Return the fields as JSON Schema: which answer, and its text if one of them needs it."""
        options = self.waiting.question.options
        fields: dict[str, Any] = {
            "decision": {
                "title": "Your decision",
                "description": "What is to be done now.",
                "type": "string",
                "enum": [option.label for option in options],
                "position": 0,
            }
        }
        schema = {"title": "Answer", "type": "object", "properties": fields, "required": ["decision"]}
        writing = [option for option in options if option.needs_text]
        if writing:
            needed = "Only with the answers above that ask for it."
            fields["text"] = {"title": "Text", "description": needed, "type": "string", "position": 1}
            chosen = {"decision": {"enum": [option.label for option in writing]}}
            schema["if"] = {"properties": chosen, "required": ["decision"]}
            schema["then"] = {"properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]}
        return schema

    def description(self) -> str:
        """Return what stands above the fields, in Markdown."""
        waiting, question = self.waiting, self.waiting.question
        told = f"`orchestrator decisions show {waiting.question_id}`"
        case = f", case `{waiting.case_id}`" if waiting.case_id else ""
        return "\n\n".join(
            (
                f"### {question.title}",
                *_limits(waiting),
                f"What is known may name persons, so it is not shown here. Read it first: {told}. Then choose:",
                "\n".join(f"- **{option.label}**{_needs(option)}" for option in question.options),
                f"Process `{waiting.process}`, run `{waiting.run_id}`{case}",
            )
        )

    def _message(self) -> str:
        due_at = self.waiting.due_at
        until = "" if due_at is None else f"{' OVERDUE since' if self.waiting.overdue else ' until'} {due_at:{_TIME}}"
        return f"A person must decide{until}: {self.waiting.question.title}. Press Resume to answer."


_PARTS = ("schema", "description", "response")
_TIME = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True)
class FilledIn:
    """What somebody filled in."""

    question_id: str
    values: Mapping[str, Any]
    screen: str
    """A digest of the form that they had before them."""

    def decision(self, question: Question) -> Decision:
        """Return the decision; an option that is none of the question's is left empty."""
        keys = {option.label: option.key for option in question.options}
        return Decision(option=keys.get(self.values.get("decision", ""), ""), text=self.values.get("text") or "")


class Forms:
    """The forms of flow runs, kept in Prefect as inputs of theirs.

    Every call raises ``httpx.HTTPError`` if Prefect does not answer or is busy; repeating it is harmless.

    Args:
        client: Prefect's client.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def put(self, flow_run_id: UUID, form: Form) -> None:
        """Give a flow run the form, before or after it is suspended."""
        for part, value in (("schema", form.schema()), ("description", form.description())):
            try:
                self._client.create_flow_run_input(flow_run_id, form.key(part), json.dumps(value))
            except httpx.HTTPStatusError as exc:
                if exc.response.status_code != HTTPStatus.CONFLICT:  # it is there already
                    raise

    def filled_in(self, flow_run_id: UUID) -> Iterator[FilledIn]:
        """Return what was filled in and not taken away yet."""
        inputs = self._inputs(flow_run_id)
        for key, value in inputs.items():
            if key.endswith("-response"):
                base = key.removesuffix("-response")
                shown = "\n".join(inputs.get(f"{base}-{part}", "") for part in ("schema", "description"))
                digest = f"sha256:{sha256(shown.encode()).hexdigest()}"
                yield FilledIn(base.removeprefix(PREFIX), json.loads(value), digest)

    def take_away(self, flow_run_id: UUID) -> None:
        """Delete all forms of a flow run, and what was written on them."""
        for key in self._inputs(flow_run_id):
            self._client.delete_flow_run_input(flow_run_id, key)

    def _inputs(self, flow_run_id: UUID) -> dict[str, str]:
        found = self._client.filter_flow_run_input(flow_run_id, PREFIX, MOST, set())
        return {each.key: each.value for each in found}


def _needs(option: Option) -> str:
    return f" (write under *Text*: {option.needs_text})" if option.needs_text else ""


def _limits(waiting: OpenQuestion) -> Iterator[str]:
    """Say who is to answer, and until when."""
    question = waiting.question
    if question.role:
        yield f"For: **{question.role}**"
    if waiting.due_at is not None:
        labels = {option.key: option.label for option in question.options}
        late = f"this is done by itself: **{labels[question.otherwise]}**" if question.otherwise else "it is overdue"
        yield f"Answer until **{waiting.due_at:{_TIME}}**; after that, {late}"
