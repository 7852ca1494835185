"""Tells systemd that this process lives, if it asks for that (``WatchdogSec``; man sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

import anyio

_MICROSECONDS = 1_000_000


async def keep_notifying(environment: Mapping[str, str] = os.environ) -> None:
    """Give systemd a sign of life twice in the time that it waits for one, until this is cancelled."""
    address, waits = environment.get("NOTIFY_SOCKET"), environment.get("WATCHDOG_USEC")
    if not address or not waits:
        return
    if address.startswith("@"):  # a name without a file (man unix(7), "abstract")
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
        while True:
            with suppress(OSError):  # the next one may reach it
                notify.sendto(b"WATCHDOG=1", address)
            await anyio.sleep(int(waits) / _MICROSECONDS / 2)
