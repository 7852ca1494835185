"""A system on this computer that answers over HTTP as fakes do, and fails on demand.

A connector that is being written talks to it until its author has read the vendor's documentation:

- a query is ``GET /<operation>`` with its arguments as JSON values in the query string,
- an effect is ``POST /<operation>`` with its arguments as a JSON object,
- ``GET /look-for`` with ``operation`` and ``effect_id`` tells what became of an effect: its receipt, or null,
- ``GET /check`` tells what there is.

All are answered with 200 and the result as JSON; 410 says that a thing is not there, 422 that a request is refused.
A fake that was told to fail with ``Unavailable`` loses the connection. Past the network, a test sees the fake itself.

Once the connector asks as the vendor wants to be asked, answer so: inherit from ``StubServer`` and override ``answer``
(and ``admits``, if the credential is shown otherwise).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from orchestrator.capabilities import Receipt, operations_of
from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Unavailable
from orchestrator.plugins.effect_ids import EFFECT_ID
from orchestrator.plugins.host import installed_capabilities
from orchestrator.testing.http_server import Answer, FaultyServer, Request

_STATUS: dict[type[ConnectorError], int] = {NotFound: 410, RateLimited: 429, AccessDenied: 403}
"""Of what a fake raises; all else is a refusal."""


class StubServer(FaultyServer):
    """Serves fakes over HTTP while the context lasts; it can be handed to ``FaultsContract`` as ``faults``.

    Args:
        fakes: What answers, for example ``FakeFiles(...)``; each gives other operations.
    """

    def __init__(self, *fakes: Any) -> None:
        super().__init__()
        self.credential = secrets.token_hex(16)
        """What callers must bring: ``Authorization: Bearer <credential>``."""
        self.fakes = fakes
        self._operations = {name: each for fake in fakes for name, each in _operations_of(fake).items()}

    def revoke(self) -> None:
        """Let the credential end, as a vendor may at any time."""
        self.credential = secrets.token_hex(16)

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a caller has shown the credential."""
        return headers.get("Authorization") == f"Bearer {self.credential}"

    def answer(self, method: str, path: str, given: Mapping[str, Any]) -> tuple[int, Any]:  # noqa: ARG002 - of no matter here
        """Answer one call.

        Args:
            method: ``GET``, ``HEAD`` (of whose answer the client gets no body) or another.
            path: Without the query string.
            given: What stands in the query string, or in the body, as JSON values; what is no JSON is text. A key that
                the query string repeats has the list of its values.

        Returns:
            The status, and what is answered: bytes as they are, anything else as JSON.

        Raises:
            ConnectorError: A fake failed. ``Unavailable`` loses the connection; others become their status.
        """
        return 200, self._answered(path.removeprefix("/"), given)

    def respond(self, request: Request) -> Answer | None:
        """Answer one call, with the status of whatever failed."""
        if not self.admits(request.headers):
            return Answer(401, {"error": "unauthorized"})
        try:
            return Answer(*self.answer(request.method, request.path, _given(request)))
        except Unavailable:
            return None
        except ConnectorError as exc:
            return Answer(_STATUS.get(type(exc), 422), {"error": str(exc)})
        except (LookupError, TypeError, ValueError) as exc:
            return Answer(400, {"error": type(exc).__name__})

    def _answered(self, operation: str, given: Mapping[str, Any]) -> Any:
        if operation == "check":
            return {"seen": "; ".join(fake.check() for fake in self.fakes)}
        if operation == "look-for":
            probe = self._operations[given["operation"]].fake.settlements[given["operation"]].probe
            return TypeAdapter(Receipt | None).dump_python(probe(given["effect_id"]), mode="json")
        return self._operations[operation](given)


@dataclass(frozen=True)
class _Operation:
    """One operation of a fake, and how its arguments and its answer are written."""

    fake: Any
    name: str
    parameters: Mapping[str, TypeAdapter[Any]]
    result: TypeAdapter[Any]

    def __call__(self, given: Mapping[str, Any]) -> Any:
        arguments = {name: self.parameters[name].validate_json(json.dumps(value)) for name, value in given.items()}
        return self.result.dump_python(getattr(self.fake, self.name)(**arguments), mode="json")


def _operations_of(fake: Any) -> dict[str, _Operation]:
    """Return the operations of every capability that the fake has whole."""
    protocols = [each.protocol for each in installed_capabilities().values()]
    return {
        name: _operation(fake, protocol, name)
        for protocol in protocols
        if all(hasattr(fake, name) for name in operations_of(protocol))
        for name in operations_of(protocol)
    }


def _operation(fake: Any, capability: type, name: str) -> _Operation:
    hints = get_type_hints(vars(capability)[name], include_extras=True) | {EFFECT_ID: str | None}
    result = TypeAdapter(hints.pop("return"))
    return _Operation(fake, name, {each: TypeAdapter(hint) for each, hint in hints.items()}, result)


def _given(request: Request) -> Mapping[str, Any]:
    if request.method not in ("GET", "HEAD"):
        return json.loads(request.body or b"{}")  # type: ignore[no-any-return]
    given = {name: [_value(each) for each in values] for name, values in request.query.items()}
    return {name: values if len(values) > 1 else values[0] for name, values in given.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
