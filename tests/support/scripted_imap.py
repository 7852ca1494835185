"""An IMAP server that answers as it is told."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator_connectors.mail import ImapSettings, MailSettings, SmtpSettings

DATE = '"22-Nov-2026 08:30:00 +0000"'
Answers = dict[str, tuple[str, str | None]]
"""By the beginning of the command: the untagged lines, and what follows the tag; None hangs up instead."""
WELL: Answers = {
    "CAPABILITY": ("* CAPABILITY IMAP4rev1", "OK"),
    "LOGIN": ("", "OK"),
    "EXAMINE": ("* 2 EXISTS\n* OK [UIDVALIDITY 7] x\n* OK [UIDNEXT 12] x", "OK [READ-ONLY]"),
    "UID SEARCH": ("* SEARCH 11 10", "OK"),
    "UID FETCH 10,11 (UID RFC822": (
        f"* 1 FETCH (UID 10 RFC822.SIZE 4 INTERNALDATE {DATE})\n* 2 FETCH (UID 11 RFC822.SIZE 4 INTERNALDATE {DATE})",
        "OK",
    ),
    "UID FETCH 10,11 (UID BODY.PEEK[]": (
        "* 1 FETCH (UID 10 BODY[] {4}\nten\n)\n* 2 FETCH (UID 11 BODY[] {4}\n11!\n)",
        "OK",
    ),
    "LIST": ('* LIST () "/" INBOX', "OK"),
    "LOGOUT": ("* BYE", "OK"),
}


class Conversation(socketserver.StreamRequestHandler):
    answers: Answers
    spoil = staticmethod(lambda answer: answer)

    def handle(self) -> None:
        idle = ""
        self.wfile.write(b"* OK ready\r\n")
        for line in self.rfile:
            tag, _, command = line.decode().strip().partition(" ")
            # A literal's length counts its line feed alone, so only the protocol's own lines end with CRLF.
            if tag == "DONE":
                tag, command = idle, tag
            idle = tag
            untagged, result = next((self.answers[key] for key in self.answers if command.startswith(key)), ("", "BAD"))
            answer = _crlf(untagged) if untagged else b""
            self.wfile.write(self.spoil(answer + (f"{tag} {result} done\r\n".encode() if result else b"")))
            if result is None:
                return


def _crlf(untagged: str) -> bytes:
    return (
        untagged.encode("latin-1")
        .replace(b"ten\n", b"ten\x00")
        .replace(b"11!\n", b"11!\x00")
        .replace(b"\n", b"\r\n")
        .replace(b"\x00", b"\n")
        + b"\r\n"
    )


@contextmanager
def served(
    answers: Answers, *, password: str = "secret", **spoil: object
) -> Iterator[tuple[ImapSettings, MailSettings]]:
    """Serve these answers; give the settings that lead there."""
    handler = type("Scripted", (Conversation,), {"answers": {**answers, **WELL, **answers}, **spoil})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        imap = ImapSettings(
            host="127.0.0.1", port=running.server_address[1], security="plain", username="shop", password=password
        )
        account = MailSettings(
            address="support@shop.example", smtp=SmtpSettings(host="127.0.0.1"), imap=imap, timeout_seconds=0.5
        )
        try:
            yield imap, account
        finally:
            running.shutdown()
            thread.join()
