"""How the arguments and the answer of a capability's operation are written to the record and read from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from orchestrator.capabilities import SEAL, UNSEAL, WITHOUT_RENDERED, Operation, operations_of
from orchestrator.errors import RecordError
from orchestrator.plugins import Capability
from orchestrator.record.trail import COMMITMENT, Sealer


@dataclass(frozen=True)
class OperationForm:
    """One operation of a capability, with its signature.

    Args:
        capability: The capability's name in the configuration, for example ``file_links``.
        function: The protocol's method.
        operation: What the capability says of it.
    """

    capability: str
    function: Any
    operation: Operation

    @property
    def name(self) -> str:
        """The operation with its capability: ``mailer.send``."""
        return f"{self.capability}.{self.operation.name}"

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults included.

        Raises:
            TypeError: The call does not fit.
        """
        bound = self._signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name in self._parameters}

    def write_arguments(self, arguments: Mapping[str, Any], sealer: Sealer) -> dict[str, Any]:
        """Return the recorded form of a call's arguments."""
        return {name: _write(self._parameters[name], value, sealer) for name, value in arguments.items()}

    def same_arguments(
        self,
        recorded: Mapping[str, Any],
        private: Mapping[str, Any],
        arguments: Mapping[str, Any],
        *,
        exact_replay: bool,
    ) -> bool:
        """Tell whether a call's arguments are those that were recorded.

        Args:
            recorded: The recorded form.
            private: The private values behind its commitments.
            arguments: The arguments now.
            exact_replay: Whether rendered text must be the same as well.
        """
        if recorded.keys() != self._parameters.keys():
            return False
        context = {} if exact_replay else {WITHOUT_RENDERED: True}
        then = self.read_arguments(recorded, private)
        return all(
            adapter.dump_python(then[name], mode="json", context=context)
            == adapter.dump_python(arguments[name], mode="json", context=context)
            for name, adapter in self._parameters.items()
        )

    def read_arguments(self, recorded: Mapping[str, Any], private: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a recorded call.

        Raises:
            RecordError: They are not of the operation's present form, or their private values are gone.
        """
        try:
            return {name: self._read(name, value, private) for name, value in recorded.items()}
        except KeyError as exc:
            raise RecordError(f"the recorded request of {self.name} is not of its present form") from exc

    def _read(self, name: str, recorded: Any, private: Mapping[str, Any]) -> Any:
        try:
            return self._parameters[name].validate_json(json.dumps(recorded), context={UNSEAL: unsealer(private)})
        except ValidationError as exc:
            raise RecordError(f"the recorded request of {self.name} is not of its present form") from exc

    def write_answer(self, answer: Any, sealer: Sealer) -> Any:
        """Return the recorded form of an answer."""
        return _write(self._answer, answer, sealer)

    def read_answer(self, recorded: Any, private: Mapping[str, Any]) -> Any:
        """Return the answer that was recorded.

        Raises:
            RecordError: What stands there is no such answer, or its private values are gone.
        """
        try:
            return self._answer.validate_json(json.dumps(recorded), context={UNSEAL: unsealer(private)})
        except ValidationError as exc:
            raise RecordError(f"the recorded answer of {self.name} is not of its present form") from exc

    def accept(self, answer: Any) -> Any:
        """Return an answer as the capability types it.

        Raises:
            pydantic.ValidationError: It is of another type.
        """
        return self._answer.validate_python(answer)

    def answers_with(self, kind: type) -> bool:
        """Tell whether the operation answers with a value of this type."""
        return self._hints["return"] is kind

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _parameters(self) -> dict[str, TypeAdapter[Any]]:
        return {name: TypeAdapter(self._hints[name]) for name in list(self._signature.parameters)[1:]}

    @cached_property
    def _answer(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._hints["return"])


@cache
def forms_of(capability: Capability) -> dict[str, OperationForm]:
    """Return the operations of a capability by name."""
    protocol = capability.protocol
    return {
        operation.name: OperationForm(capability.name, vars(protocol)[operation.name], operation)
        for operation in operations_of(protocol).values()
    }


def unsealer(private: Mapping[str, Any]) -> Any:
    """Return the function that turns commitments back into values."""

    def unseal(recorded: Any) -> Any:
        if not (isinstance(recorded, dict) and COMMITMENT in recorded):
            return recorded
        try:
            return private[recorded[COMMITMENT]]
        except KeyError as exc:
            raise RecordError("a private value of this run was erased; the run cannot go on from its record") from exc

    return unseal


def opened(recorded: Any, private: Mapping[str, Any]) -> Any:
    """Return a recorded document with its private values in their places."""
    unseal = unsealer(private)
    match recorded:
        case {"$p": _}:
            return unseal(recorded)
        case dict():
            return {key: opened(value, private) for key, value in recorded.items()}
        case list():
            return [opened(value, private) for value in recorded]
        case _:
            return recorded


def _write(adapter: TypeAdapter[Any], value: Any, sealer: Sealer) -> Any:
    return adapter.dump_python(value, mode="json", context={SEAL: sealer})
