"""Gmail on this computer, as far as Google's public documentation tells how it behaves.

Sources: developers.google.com/workspace/gmail/api (reference, guides "sync", "sending", "threads", "handle-errors") and
developers.google.com/identity/protocols/oauth2 ("native-app", "service-account"). It is stricter than Gmail where
that catches mistakes: what it does not know it refuses. It holds no quota; a test scripts what quotas do.
"""

from __future__ import annotations

from orchestrator.sandbox.gmail.account import GmailBox
from orchestrator.sandbox.gmail.oauth import Consents
from orchestrator.sandbox.gmail.post import smtp_to
from orchestrator.sandbox.gmail.server import READ_AND_SEND, GmailServer, refusal

__all__ = [
    "READ_AND_SEND",
    "Consents",
    "GmailBox",
    "GmailServer",
    "refusal",
    "smtp_to",
]
