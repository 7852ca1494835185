"""What every capability speaks in: frozen values, private values, queries and effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, SerializerFunctionWrapHandler, ValidationInfo
    from pydantic import ValidatorFunctionWrapHandler as Validator
    from pydantic_core.core_schema import SerializationInfo

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

SEAL = "seal"
"""Serialization context key: a callable that turns a private value into its recorded form."""
WITHOUT_RENDERED = "without-rendered"
"""Serialization context key: leaves rendered text out, to compare a step with its record."""
UNSEAL = "unseal"
"""Validation context key: a callable that turns the recorded form back into the value."""


class Value(BaseModel):
    """A frozen value that crosses the border between process and system."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave private fields out of ``repr``, and so out of logs and tracebacks."""
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            field = fields.get(name or "")
            if field is None or not any(isinstance(mark, _PrivateMarker) for mark in field.metadata):
                yield name, value


class _PrivateMarker:
    """Marks a value that may never lie open in the record, in logs or in Prefect."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        return core_schema.with_info_wrap_validator_function(
            _unseal,
            inner,
            serialization=core_schema.wrap_serializer_function_ser_schema(_seal, info_arg=True, schema=inner),
        )


def _seal(value: object, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> object:
    context = info.context
    recorded = plain(value)
    return context[SEAL](recorded) if isinstance(context, dict) and SEAL in context else recorded


def _unseal(value: object, validate: Validator, info: ValidationInfo) -> object:
    context = info.context
    return validate(context[UNSEAL](value) if isinstance(context, dict) and UNSEAL in context else value)


class _RenderedMarker:
    """Marks rendered text: another wording of it does not make a step another step."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        leave_out = core_schema.wrap_serializer_function_ser_schema(_leave_out, info_arg=True, schema=inner)
        return core_schema.no_info_after_validator_function(_as_it_is, inner, serialization=leave_out)


def _as_it_is(value: T) -> T:
    return value


def _leave_out(value: object, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> object:
    return "" if isinstance(info.context, dict) and WITHOUT_RENDERED in info.context else plain(value)


Rendered = Annotated[T, _RenderedMarker()]
"""``Private[Rendered[str]]``: text that was rendered from a template.

A run that goes on after somebody has edited the template still is the run that the record tells of.
"""

Private = Annotated[T, _PrivateMarker()]
"""``Private[str]`` (an optional one is ``Private[str | None]``): personal or secret.

The record keeps a salted commitment and, apart, the encrypted value.
"""


_NOT_IN_ADDRESS = r'[^@\s*<>,;:\\"()]'
EmailAddress = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        max_length=254,
        pattern=rf"^{_NOT_IN_ADDRESS}+@{_NOT_IN_ADDRESS}+$",
    ),
    Field(json_schema_extra={"format": "email"}),
]
"""One plain address, in lower case; no name, no wildcard, no list (RFC 5321 4.5.3.1.3 for its length)."""
_ADDRESS: TypeAdapter[str] = TypeAdapter(EmailAddress)


def is_address(text: str) -> bool:
    """Tell whether a text is one plain address that can be looked up; people and mails give others too."""
    try:
        _ADDRESS.validate_python(text)
    except ValidationError:
        return False
    return True


class Receipt(Value):
    """Proof that an effect happened.

    ``reference`` is the system's own name for what was done (a Message-ID, a note's id); it is empty
    if a person said that the effect happened.
    """

    reference: Private[str] = ""


@dataclass(frozen=True)
class Recipient:
    """Whom an effect reaches outside of the business: what the limits of outgoing mail count by.

    Args:
        address: What the person is known by there, such as an e-mail address or a telephone number.
        acknowledges: Whether they only learn that something came in. It answers no case, and where the limits leave no
            room it is not held for a person, but left out: the operation raises ``Rejected``.
    """

    address: str = field(repr=False)
    acknowledges: bool = False


@dataclass(frozen=True)
class Operation:
    """What the host knows of one operation of a capability.

    Args:
        name: The method's name.
        kind: Whether it changes the outside world.
        title: What it does, in one line.
        reaches: Tells whom it reaches outside of the business, from its arguments by name; None if it reaches nobody.
    """

    name: str
    kind: Literal["query", "effect"]
    title: str
    reaches: Callable[..., Recipient] | None = None


def query(function: F) -> F:
    """Mark an operation that only reads. Its docstring's first line is the step's title."""
    return _mark(function, "query")


@overload
def effect(function: F) -> F: ...
@overload
def effect(*, reaches: Callable[..., Recipient]) -> Callable[[F], F]: ...
def effect(function: Any = None, *, reaches: Callable[..., Recipient] | None = None) -> Any:
    """Mark an operation that changes the outside world. Its docstring's first line is the step's title.

    It answers with a ``Receipt`` unless repeating it is harmless.

    Args:
        function: The method.
        reaches: For what reaches a customer: tells whom, from the arguments. Then the limits of outgoing mail hold
            for it.
    """
    mark = partial(_mark, kind="effect", reaches=reaches)
    return mark if function is None else mark(function)


def operations_of(capability: type) -> dict[str, Operation]:
    """Return the operations of a capability by name, in the order they are written."""
    return {name: member.__operation__ for name, member in vars(capability).items() if hasattr(member, "__operation__")}


def _mark(function: F, kind: Literal["query", "effect"], reaches: Callable[..., Recipient] | None = None) -> F:
    title = (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    operation = Operation(name=function.__name__, kind=kind, title=title, reaches=reaches)
    marked: Any = function
    marked.__operation__ = operation
    return function
