"""Finds what does not fit about webhooks: secrets, addresses, and the input that payloads are made into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.settings import Constant, Problem, Settings, WebhookSettings, problems_in, variable
from orchestrator.spelling import suggestion
from orchestrator.toolkit.standard_webhooks import signing_key

SHORTEST_SECRET = 16


class WebhookFit:
    """Judges one webhook's section, apart from which process it names.

    Args:
        settings: The configuration.
        name: The webhook's name.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._hook: WebhookSettings = settings.webhooks[name]

    def proof_problems(self) -> Iterator[Problem]:
        """Find what is missing to tell genuine calls from forged ones."""
        verify = self._hook.verify
        yield from self._secret_problems()
        if verify == "none" and self._hook.path_secret is None:
            remedy = f"set {self._variable('path_secret')} to 32 random letters and digits or more"
            yield self._problem(
                "path_secret", 'is missing: with verify = "none" the address is the only secret', remedy
            )
        if verify == "hubspot-v3" and self._hook.external_url is None:
            remedy = "write external_url = ... with the whole address that HubSpot calls"
            yield self._problem("external_url", "is missing: HubSpot signs it", remedy)
        if verify == "hmac" and self._hook.hmac is None:
            remedy = f'write hmac = {{header = "X-Signature"}} below [webhooks.{self._name}]'
            yield self._problem("hmac", "is missing: nothing says where the signature stands", remedy)
        if verify != "hmac" and self._hook.hmac is not None:
            yield self._problem("hmac", f'is not used with verify = "{verify}"', 'remove it, or write verify = "hmac"')

    def input_problems(self, process: str, model: type[BaseModel]) -> Iterator[Problem]:
        """Find input fields that the process does not have, or needs and does not get."""
        fields = model.model_fields
        for field in self._hook.input:
            if field not in fields:
                what = f'the input of process "{process}" has no such field'
                yield self._problem(("input", field), what, suggestion(field, fields))
        for field, info in fields.items():
            if info.is_required() and field not in self._hook.input:
                remedy = f'write {field} = "/..." below [webhooks.{self._name}.input]'
                yield self._problem(("input", field), f'is missing: process "{process}" needs it', remedy)
        yield from self._batch_problems()
        yield from self._constant_problems(model)

    def _secret_problems(self) -> Iterator[Problem]:
        if self._hook.verify == "none":
            if self._hook.secrets:
                remedy = "remove them, or write how the sender signs"
                yield self._problem("secrets", 'are not used with verify = "none"', remedy)
            return
        if not self._hook.secrets:
            yield self._problem("secrets", "is missing", f"set {self._variable('secrets')}, one secret a line")
        for place, secret in enumerate(self._hook.secrets):
            text = secret.get_secret_value()
            if len(text) < SHORTEST_SECRET:
                remedy = f"agree on one of {SHORTEST_SECRET} characters or more with the sender"
                yield self._problem(("secrets", place), "is so short that it can be guessed", remedy)
            elif self._hook.verify == "standard-webhooks" and not _is_standard(text):
                remedy = "write it as the sender shows it: whsec_ and base64"
                yield self._problem(("secrets", place), "is no secret of Standard Webhooks", remedy)

    def _batch_problems(self) -> Iterator[Problem]:
        """HubSpot sends up to 100 events in one list: a pointer to one of them would lose the others."""
        for field, source in self._hook.input.items():
            if self._hook.verify == "hubspot-v3" and isinstance(source, str) and source[1:2].isdecimal():
                remedy = f'write {field} = "", which is the whole list, and let the process take a list'
                yield self._problem(("input", field), "takes one event of a list, and loses the others", remedy)

    def _constant_problems(self, model: type[BaseModel]) -> list[Problem]:
        fixed = {field: source.const for field, source in self._hook.input.items() if isinstance(source, Constant)}
        try:
            model.model_validate(fixed)
        except ValidationError as exc:
            path = ("webhooks", self._name, "input")
            found = problems_in(exc, model, lambda place: self._settings.where(*place), below=path)
            wrong = [bool(each["loc"]) and _is_constant(each["loc"][0], fixed, model) for each in exc.errors()]
            return [problem for problem, is_ours in zip(found, wrong, strict=True) if is_ours]
        return []

    def _problem(self, field: str | tuple[str | int, ...], what: str, remedy: str) -> Problem:
        path = (field,) if isinstance(field, str) else field
        return Problem(self._settings.where("webhooks", self._name, *path), what, remedy)

    def _variable(self, field: str) -> str:
        return variable(("webhooks", self._name, field))


def _is_constant(field: Any, fixed: dict[str, Any], model: type[BaseModel]) -> bool:
    return field in fixed and field in model.model_fields


def _is_standard(secret: str) -> bool:
    try:
        return bool(signing_key(secret))
    except ValueError:
        return False
