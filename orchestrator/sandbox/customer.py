"""Writes to the sandbox's support address as a customer does.

``python -m orchestrator.sandbox.customer PORT ADDRESS SUBJECT TEXT``, with the port where its mail provider takes mail.
"""

from __future__ import annotations

import smtplib
import sys
from email.message import EmailMessage
from email.utils import make_msgid

SUPPORT = "support@shop.example"


def write(port: int, sender: str, subject: str, text: str) -> None:
    """Write a mail to the support address."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, SUPPORT, subject
    mail["Message-ID"] = make_msgid(domain="mail.example.com")
    mail.set_content(text)
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.send_message(mail)


def main() -> None:
    """Write what the command line says."""
    port, sender, subject, text = sys.argv[1:]
    write(int(port), sender, subject, text)
    sys.stdout.write(f"Sent to {SUPPORT}. An answer comes to the mailbox of {sender}.\n")


if __name__ == "__main__":
    main()
