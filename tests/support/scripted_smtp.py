"""An SMTP server that answers as it is told, and a mailer that asks it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator_connectors.mail.settings import MailSettings, SmtpSettings
from orchestrator_connectors.mail.smtp import SmtpMailer

SHOP = "support@shop.example"
WELL = {
    "": "220 ready",
    "EHLO": "250 hello",
    "HELO": "250 hello",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go",
    ".": "250 ok",
    "RSET": "250 ok",
}


def mailer(port: int, *, timeout_seconds: float = 30, **smtp: object) -> SmtpMailer:
    server = SmtpSettings.model_validate({"host": "127.0.0.1", "port": port, "security": "plain"} | smtp)
    return SmtpMailer(MailSettings(address=f"The Shop <{SHOP}>", smtp=server, timeout_seconds=timeout_seconds))


class ScriptedConversation(socketserver.StreamRequestHandler):
    """Answers each command by its first word, and the end of a mail as "."; an answer of None hangs up."""

    answers: dict[str, str | None]
    later: dict[int, str]
    """What is answered to the second mail of a connection, and so on."""
    begun = 0

    def handle(self) -> None:
        going_on = self.say("")
        while going_on and (line := self.rfile.readline()):
            word = line.split()[0].decode().upper()
            going_on = self.say(word)
            if going_on and word == "DATA" and (self.answers["DATA"] or "").startswith("354"):
                while self.rfile.readline() not in {b".\r\n", b""}:
                    pass
                going_on = self.say(".")

    def say(self, word: str) -> bool:
        answer = self.answers.get(word, "500 unknown")
        if word == "MAIL":
            self.begun += 1
            answer = self.later.get(self.begun, answer)
        if answer is not None:
            self.wfile.write(answer.encode() + b"\r\n")
        return answer is not None


@contextmanager
def scripted(*, later: dict[int, str] | None = None, **changes: str | None) -> Iterator[int]:
    handler = type("Conversation", (ScriptedConversation,), {"answers": WELL | changes, "later": later or {}})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()
