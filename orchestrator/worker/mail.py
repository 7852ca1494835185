"""Takes mail in."""

from __future__ import annotations

import logging
from threading import Event

from orchestrator.bootstrap import Application
from orchestrator.errors import ConnectorError
from orchestrator.intake.mailboxes import Source

logger = logging.getLogger(__name__)


def take_mail(app: Application, source: Source, poll_seconds: float, stop: Event) -> None:
    """Take mail in from one mailbox until the worker stops."""
    while True:
        try:
            if taken := app.intake.take_in(source):
                logger.info("Mailbox %s: %d new", source.name, taken)
        except ConnectorError as exc:
            logger.warning("Mailbox %s: %s", source.name, exc)
        except Exception as exc:  # noqa: BLE001 - the next round tries again; nothing was moved
            logger.error("Mailbox %s: %s", source.name, type(exc).__name__)  # noqa: TRY400 - may name a person
        if stop.wait(poll_seconds):
            return
