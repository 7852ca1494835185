"""Sees which names the programs of a test look up, in whatever process."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path

RECORDER = """
import socket

_looked_up = socket.getaddrinfo

def _recorded(host, *arguments, **options):
    with open({told!r}, "a") as told:
        told.write(f"{{host.decode() if isinstance(host, bytes) else host}}\\n")
    return _looked_up(host, *arguments, **options)

socket.getaddrinfo = _recorded
"""


def record_lookups(folder: Path) -> Path:
    """Write what Python loads at its start from ``PYTHONPATH``; return the file where each name is written down."""
    told = folder / "looked-up"
    told.touch()
    (folder / "sitecustomize.py").write_text(RECORDER.format(told=str(told)))
    return told


def foreign(told: Path) -> set[str]:
    """Return the names that were looked up, without this machine's."""
    return {name for name in told.read_text().splitlines() if not _is_here(name)}


def _is_here(name: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name in ("localhost", "None", "")
