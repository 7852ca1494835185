"""The systems that both sides talk to: a shop over HTTP, a file store, and a mail server, in a process of their own.

They do as little as possible, so that what is measured is the two sides. The process prints its ports in one line of
JSON, and then a line for each mail: when it was taken (``time.monotonic``), and for whom.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]


async def shop(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer each customer with one purchase."""
    while head := await _head(reader):
        (email,) = parse_qs(urlsplit(head.split()[1].decode()).query)["email"]
        purchase = {"order": "17", "product": "Watercolor course", "asset": {"key": "courses/watercolor.zip"}}
        purchases = [{**purchase, "email": email, "bought_on": "2026-01-01"}]
        writer.write(_answer(json.dumps(purchases).encode()))


async def files(reader: StreamReader, writer: StreamWriter) -> None:
    """Say that each file is there."""
    while await _head(reader):
        writer.write(_answer(b"", headers=b'ETag: "0"\r\n'))


async def mail(reader: StreamReader, writer: StreamWriter) -> None:
    """Take every mail (RFC 5321)."""
    recipient = ""
    writer.write(b"220 counterpart\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"RCPT":
            recipient = line.partition(b"<")[2].partition(b">")[0].decode()
        if verb == b"DATA":
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            _tell(f"{time.monotonic()} {recipient}")
        writer.write(b"250-counterpart\r\n250 SIZE\r\n" if verb == b"EHLO" else b"250 done\r\n")


async def _head(reader: StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _answer(body: bytes, *, headers: bytes = b"") -> bytes:
    headers += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (headers, body)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Serve until the standard input is closed."""
    servers = {each.__name__: await asyncio.start_server(_until_gone(each), HOST, 0) for each in (shop, files, mail)}
    _tell(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}))
    await asyncio.to_thread(sys.stdin.read)


def _until_gone(serve: Serve) -> Serve:
    async def served(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return served


if __name__ == "__main__":
    asyncio.run(main())
