"""What every connector must do when its system fails, and how it must behave besides."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec, module_from_spec
from typing import Any, Protocol, Self

import pytest

from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Unavailable
from orchestrator.plugins import DoubtClass, Settlement
from orchestrator.testing.measuring import NO_EFFECT
from orchestrator.toolkit.deadline import call_limited

WAIT = timedelta(seconds=7)


class Faults(Protocol):
    """Lets the system behind the connection fail at the next call.

    A protocol other than HTTP has the same faults under other names: give each the name that the protocol has for it.
    """

    def refuse(self, status: int, **headers: str) -> None:
        """Refuse with this status and these headers (``Retry_After`` is ``Retry-After``), and do nothing.

        Elsewhere than in HTTP, 429 stands for whatever asks to slow down, and 5xx for whatever says that the system
        failed and may work later.
        """

    def drop(self) -> None:
        """Act, and lose the connection before the answer."""

    def cut(self) -> None:
        """Act, and lose the connection in the middle of the answer."""

    def silence(self) -> None:
        """Act, and never answer."""

    def drip(self) -> None:
        """Act, and answer byte by byte, for ever."""

    def garbage(self) -> None:
        """Act, and answer what nobody can understand."""

    def fail_after_acting(self) -> None:
        """Act, and answer that it failed and may work later: 503 with ``Retry-After``."""

    def revoke(self) -> None:
        """Take the credential away, from now on."""


class FaultsContract:
    """Give the fixtures ``faults`` and ``ask``, and ``change`` and ``settlement`` if the connector has an effect.

    The connection under test must have a short total time-out: a second is enough.
    """

    @pytest.fixture
    def faults(self) -> Faults:
        """Lets the system fail."""
        raise NotImplementedError("give the fixture faults: what lets the system behind the connection fail")

    @pytest.fixture
    def ask(self) -> Callable[[], object]:
        """Make a call that changes nothing, of the connection under test."""
        raise NotImplementedError("give the fixture ask: a call of the connection that changes nothing")

    @pytest.fixture
    def change(self) -> Callable[[], object]:
        """Make a call that changes something; a connector without effects leaves it out, and its tests are skipped."""
        pytest.skip(NO_EFFECT)

    def test_the_wait_that_the_system_asks_for_is_handed_on(self, faults: Faults, ask: Callable[[], object]) -> None:
        faults.refuse(429, Retry_After="7")
        with pytest.raises(RateLimited) as caught:
            ask()
        assert (caught.value.retry_after, caught.value.no_effect) == (WAIT, True)

    def test_a_system_that_asks_to_slow_down_need_not_say_how_long(
        self, faults: Faults, ask: Callable[[], object]
    ) -> None:
        faults.refuse(429)
        with pytest.raises(RateLimited):
            ask()

    def test_a_credential_that_ends_in_the_middle_is_denied(self, faults: Faults, ask: Callable[[], object]) -> None:
        ask()
        faults.revoke()
        with pytest.raises(AccessDenied):
            ask()

    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_a_system_that_failed_may_work_later(self, faults: Faults, ask: Callable[[], object], status: int) -> None:
        faults.refuse(status)
        with pytest.raises(Unavailable):
            ask()
        ask()

    @pytest.mark.parametrize("fault", ["drop", "cut", "silence", "drip"])
    def test_no_answer_in_time_is_unavailable(self, faults: Faults, ask: Callable[[], object], fault: str) -> None:
        getattr(faults, fault)()
        with pytest.raises(Unavailable):
            ask()
        ask()

    @pytest.fixture
    def settlement(self) -> Settlement | None:
        """How a doubt about ``change`` is settled, if that is declared as ``PURE`` or ``NATURAL``: it may land late."""
        return None

    @pytest.mark.parametrize("fault", ["drop", "cut", "silence", "drip", "garbage", "fail_after_acting"])
    def test_a_change_whose_answer_was_lost_is_in_doubt(
        self, faults: Faults, change: Callable[[], object], fault: str
    ) -> None:
        getattr(faults, fault)()
        with pytest.raises(Unavailable) as caught:
            change()
        assert caught.value.no_effect is False, "it had acted: the failure must not claim that it has not"

    def test_a_change_that_is_put_off_has_no_effect(self, faults: Faults, change: Callable[[], object]) -> None:
        faults.refuse(429)
        with pytest.raises(RateLimited) as caught:
            change()
        assert caught.value.no_effect is True
        change()

    def test_a_change_is_not_sent_once_its_time_is_over(
        self, change: Callable[[], object], settlement: Settlement | None
    ) -> None:
        """The process stood still while it connected: others may have done the same since."""
        if settlement and settlement.doubt in (DoubtClass.PURE, DoubtClass.NATURAL):
            return
        with (
            _Listening() as heard,
            call_limited(lambda: 0 if "socket.connect" in heard.events else 60),
            pytest.raises(Unavailable) as caught,
        ):
            change()
        assert caught.value.no_effect is True
        change()

    def test_a_change_without_a_credential_has_no_effect(self, faults: Faults, change: Callable[[], object]) -> None:
        change()
        faults.revoke()
        with pytest.raises(AccessDenied) as caught:
            change()
        assert caught.value.no_effect is True

    def test_an_answer_that_nobody_understands_is_an_error_of_ours(
        self, faults: Faults, ask: Callable[[], object]
    ) -> None:
        faults.garbage()
        with pytest.raises(ConnectorError):
            ask()


class ConnectorHygieneContract:
    """Give the fixtures ``build``, ``secret``, ``unreachable`` and ``wrong_credential``."""

    @pytest.fixture
    def build(self) -> Callable[[], Any]:
        """Build the connection."""
        raise NotImplementedError("give the fixture build: a function that builds the connection")

    @pytest.fixture
    def secret(self) -> str:
        """The credential in its settings."""
        raise NotImplementedError("give the fixture secret: the credential in the settings")

    @pytest.fixture
    def unreachable(self) -> Any:
        """A connection to an address where nobody listens."""
        raise NotImplementedError("give the fixture unreachable: a connection to an address where nobody listens")

    @pytest.fixture
    def wrong_credential(self) -> Any:
        """A connection whose credential the system refuses."""
        raise NotImplementedError("give the fixture wrong_credential: a connection whose credential is refused")

    def test_building_it_asks_nobody(self, build: Callable[[], Any]) -> None:
        with _Listening() as heard:
            build()
        assert heard.events == []

    def test_importing_it_asks_nobody(self, build: Callable[[], Any]) -> None:
        spec = find_spec(type(build()).__module__)
        assert spec is not None
        assert spec.loader is not None
        with _Listening() as heard:
            spec.loader.exec_module(module_from_spec(spec))
        assert heard.events == []

    def test_it_does_not_show_its_credential(self, build: Callable[[], Any], secret: str) -> None:
        connection = build()
        assert secret not in repr(connection)
        assert secret not in repr(vars(connection))

    def test_a_check_explains_an_address_where_nobody_listens(self, unreachable: Any, secret: str) -> None:
        with pytest.raises(Unavailable) as caught:
            unreachable.check()
        assert len(str(caught.value).splitlines()) == 1
        assert secret not in str(caught.value)

    def test_a_check_explains_a_wrong_credential(self, wrong_credential: Any, secret: str) -> None:
        with pytest.raises(AccessDenied) as caught:
            wrong_credential.check()
        assert len(str(caught.value).splitlines()) == 1
        assert secret not in str(caught.value)


class _Listening:
    """Hears of every connection and name look-up (docs.python.org, "Audit events table") while the context lasts."""

    _heard: list[_Listening] | None = None

    def __init__(self) -> None:
        self.events: list[str] = []

    def __enter__(self) -> Self:
        if _Listening._heard is None:  # a hook can be added, and never taken away
            _Listening._heard = []
            sys.addaudithook(_hear)
        _Listening._heard.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        (_Listening._heard or []).remove(self)


def _hear(event: str, _arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        for each in _Listening._heard or ():  # noqa: SLF001 - of this module
            each.events.append(event)
