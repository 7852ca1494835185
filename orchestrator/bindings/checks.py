"""Proves each connection: its credential works, and it sees something known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from typing import NamedTuple

from orchestrator.bindings.connections import Connections
from orchestrator.errors import OrchestratorError
from orchestrator.toolkit import within


class ConnectionCheck(NamedTuple):
    """What became of one check."""

    name: str
    connector: str
    ok: bool
    sentence: str
    """What was seen, or what is wrong and what to do."""


def check_connections(
    connections: Connections,
    names: Iterable[str] | None = None,
    *,
    at_once: int = 8,
    limit: timedelta = timedelta(seconds=60),
) -> Iterator[ConnectionCheck]:
    """Check connections at the same time.

    Args:
        connections: All connections.
        names: Those to check; without them, all.
        at_once: At most so many at a time.
        limit: Total time for one check.

    Yields:
        Each result as it comes.
    """
    with ThreadPoolExecutor(at_once, thread_name_prefix="check") as pool:
        checks = [pool.submit(_check, connections, name, limit) for name in (connections if names is None else names)]
        for check in as_completed(checks):
            yield check.result()


def _check(connections: Connections, name: str, limit: timedelta) -> ConnectionCheck:
    connector = connections.connector_of(name).name
    try:
        sentence = str(within(limit, lambda: connections.get(name).check()))
    except OrchestratorError as exc:
        return ConnectionCheck(name, connector, ok=False, sentence=str(exc))
    except TimeoutError:
        sentence = f"gave no answer within {limit.total_seconds():g} s; see whether its system can be reached"
        return ConnectionCheck(name, connector, ok=False, sentence=sentence)
    except Exception as exc:  # noqa: BLE001 (a check that breaks the contract must not hide the others)
        sentence = f"the connector failed with {type(exc).__name__}; report it to the connector's authors"
        return ConnectionCheck(name, connector, ok=False, sentence=sentence)
    return ConnectionCheck(name, connector, ok=True, sentence=sentence)
