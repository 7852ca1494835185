"""Released: FileLinks, OrderRecords, Mailer, Mailbox, Contacts, Notifier."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.capabilities import (
    Asset,
    Contacts,
    FileLinks,
    Link,
    Mailbox,
    Mailer,
    MailPage,
    Notice,
    Notifier,
    OrderRecords,
    OutgoingMail,
    Purchase,
    Receipt,
)
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.plugins.documents import document, in_query, value_of
from orchestrator.plugins.http import HttpSettings, HttpSystem
from pydantic import SecretStr


class ReleasedSettings(HttpSettings, frozen=True):
    """What stands in the connection's section; base_url, ca_file and timeout_seconds are there already."""

    # Write here what else the vendor needs to know; a secret is a SecretStr.
    token: SecretStr


class ReleasedConnection:
    """One account at Released. Building it asks nobody; each method is one operation of a capability."""

    def __init__(self, settings: ReleasedSettings) -> None:
        def credential() -> dict[str, str]:
            # Write here how the vendor wants to see the credential.
            return {"Authorization": f"Bearer {settings.token.get_secret_value()}"}

        self._system = HttpSystem("Released", settings, credential)

    def exists(self, asset: Asset) -> bool:
        """Check that the file is there."""
        # Write here the vendor's path, what it is given, and how its answer becomes bool.
        asked = in_query(asset=asset)
        answer = self._system.read("/exists", query=asked)
        return value_of(bool, answer)

    def link_to(self, asset: Asset, *, valid_for: timedelta, effect_id: str | None = None) -> Link:
        """Issue a fresh download link."""
        # Write here the vendor's path, what it is given, and how its answer becomes Link.
        wanted = document(asset=asset, valid_for=valid_for, effect_id=effect_id)
        answer = self._system.change("POST", "/link_to", wanted, about_one=True)
        return value_of(Link, answer, changed=True)

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look up what the customer bought."""
        # Write here the vendor's path, what it is given, and how its answer becomes tuple[Purchase, ...].
        asked = in_query(email=email)
        answer = self._system.read("/purchases_of", query=asked)
        return value_of(tuple[Purchase, ...], answer)

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send the mail."""
        # Write here the vendor's path, what it is given, and how its answer becomes Receipt.
        wanted = document(mail=mail, effect_id=effect_id)
        answer = self._system.change("POST", "/send", wanted)
        return value_of(Receipt, answer, changed=True)

    def position(self) -> str:
        """Find where new mail begins."""
        # Write here the vendor's path, what it is given, and how its answer becomes str.
        answer = self._system.read("/position")
        return value_of(str, answer)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read new mail."""
        # Write here the vendor's path, what it is given, and how its answer becomes MailPage.
        asked = in_query(cursor=cursor, limit=limit)
        answer = self._system.read("/new_mail", query=asked)
        return value_of(MailPage, answer)

    def tag(self, email: str, tag: str, *, effect_id: str | None = None) -> Receipt:
        """Tag the customer."""
        # Write here the vendor's path, what it is given, and how its answer becomes Receipt.
        wanted = document(email=email, tag=tag, effect_id=effect_id)
        answer = self._system.change("POST", "/tag", wanted, about_one=True)
        return value_of(Receipt, answer, changed=True)

    def note(self, email: str, text: str, *, effect_id: str | None = None) -> Receipt:
        """Note what happened on the customer's card."""
        # Write here the vendor's path, what it is given, and how its answer becomes Receipt.
        wanted = document(email=email, text=text, effect_id=effect_id)
        answer = self._system.change("POST", "/note", wanted, about_one=True)
        return value_of(Receipt, answer, changed=True)

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Tell the people who run the business."""
        # Write here the vendor's path, what it is given, and how its answer becomes Receipt.
        wanted = document(notice=notice, effect_id=effect_id)
        answer = self._system.change("POST", "/notify", wanted)
        return value_of(Receipt, answer, changed=True)

    def settlement(self, operation: str) -> Settlement:
        """Declare how a doubt is settled: what to do if nobody knows whether an effect happened."""
        # Write here the class of each effect. PURE: nothing changes outside; NATURAL: twice does no harm; NATIVE_KEY:
        # the vendor takes effect_id as an idempotency key; PROBE: it can be looked for; NONE: a person must decide.
        if operation == "link_to":
            return Settlement(doubt=DoubtClass.PURE, timeout=self._system.limit)
        if operation == "send":
            probe = self._look_for_send
            return Settlement(doubt=DoubtClass.PROBE, timeout=self._system.limit, probe=probe)
        if operation == "tag":
            return Settlement(doubt=DoubtClass.NATURAL, timeout=self._system.limit)
        if operation == "note":
            probe = self._look_for_note
            return Settlement(doubt=DoubtClass.PROBE, timeout=self._system.limit, probe=probe)
        if operation == "notify":
            return Settlement(doubt=DoubtClass.NATURAL, timeout=self._system.limit)
        raise LookupError(f"Released has no effect {operation!r}")

    def check(self) -> str:
        """Prove the credential, and see something that is known to be there."""
        # Write here a call that changes nothing; say what was seen, without an address, a name or a secret.
        answer = self._system.read("/check")
        return f"{self._system.place} answers: {value_of(dict[str, str], answer)['seen']}"

    def _look_for_send(self, effect_id: str, **_arguments: object) -> Receipt | None:
        # Write here how to find what this effect did; None says for certain that it did not happen.
        answer = self._system.read("/look-for", query=in_query(operation="send", effect_id=effect_id))
        return None if answer is None else value_of(Receipt, answer)

    def _look_for_note(self, effect_id: str, **_arguments: object) -> Receipt | None:
        # Write here how to find what this effect did; None says for certain that it did not happen.
        answer = self._system.read("/look-for", query=in_query(operation="note", effect_id=effect_id))
        return None if answer is None else value_of(Receipt, answer)


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(
        Connector(
            name="released",
            provides=(FileLinks, OrderRecords, Mailer, Mailbox, Contacts, Notifier),
            settings=ReleasedSettings,
            build=ReleasedConnection,
            api="1.0",
        )
    )
