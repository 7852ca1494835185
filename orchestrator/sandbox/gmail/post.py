"""How mail leaves the stand-in, and how it comes back."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

from orchestrator.sandbox.gmail.account import StoredMail


def bounce(address: str, mail: StoredMail, reason: str) -> bytes:
    """Write what comes back later: Gmail takes nearly every recipient at first."""
    written = EmailMessage(policy=SMTP)
    written["From"] = "Mail Delivery Subsystem <mailer-daemon@googlemail.com>"
    written["To"] = address
    written["Subject"] = "Delivery Status Notification (Failure)"
    written["In-Reply-To"] = written["References"] = mail.header("Message-ID")
    written["Auto-Submitted"] = "auto-replied"
    written.set_content(f"The mail could not be delivered: {reason}")
    return written.as_bytes()


def smtp_to(port: int) -> Callable[[str, str, bytes], None]:
    """Return what delivers mail to a server of 127.0.0.1."""

    def deliver(sender: str, recipient: str, raw: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost") as smtp:
            smtp.sendmail(sender, recipient, raw)

    return deliver
