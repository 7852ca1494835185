"""Keap, formerly Infusionsoft: orders and contact cards through REST v2, REST hooks through v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from orchestrator.capabilities import Contacts, OrderRecords, Purchase, Receipt
from orchestrator.errors import ConfigurationError, NotFound, Rejected
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.plugins.subscriptions import Change, Subscription
from orchestrator.toolkit.known_record import KnownRecord
from orchestrator_connectors.keap import cards, hooks, orders
from orchestrator_connectors.keap.access import AppAccess
from orchestrator_connectors.keap.api import KeapApi, Session
from orchestrator_connectors.keap.settings import KeapSettings

__all__ = ["KeapAccount", "KeapSettings", "register_connectors"]


class KeapAccount:
    """One Keap account.

    Args:
        settings: Where it is, as whom we come, and which files belong to its products.
    """

    def __init__(self, settings: KeapSettings) -> None:
        self._settings = settings
        self._api = KeapApi(settings)
        timeout, delay = self._api.system.limit, timedelta(seconds=settings.visibility_delay_seconds)
        self.settlements = {
            "tag": Settlement(doubt=DoubtClass.NATURAL, timeout=timeout),
            "note": Settlement(doubt=DoubtClass.PROBE, timeout=timeout, visibility_delay=delay, probe=self._find_note),
        }
        self._known = KnownRecord(
            lambda: self._api.operation(lambda session: self._purchases_of(session, settings.known_email)),
            f"{self._api.system.place}: shows no purchase of known_email, so that it is not believed that others "
            "bought nothing: check the account, the credential's permissions, known_email and assets",
        )

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look up what the customer bought with this address: paid orders of products that have a file.

        Raises:
            AccessDenied: There is nothing, and the account does not even show the known order.
        """
        address = cards.plain_address(email)
        found = self._api.operation(lambda session: self._purchases_of(session, address))
        if not found:
            self._known.must_be_seen()
        return found

    def tag(self, email: str, tag: str) -> Receipt:
        """Apply a tag to the contact; of several with this address, to the oldest."""
        address = cards.plain_address(email)
        return self._api.operation(lambda session: cards.tag_card(session, address, tag))

    def note(self, email: str, text: str, *, effect_id: str | None = None) -> Receipt:
        """Add a note to the contact's card; its last line names the effect, so that it can be looked for."""
        address = cards.plain_address(email)
        if self._settings.note_user is None:
            raise Rejected("Keap wants to know in whose name a note is written: set note_user")
        note: dict[str, object] = {
            "user_id": self._settings.note_user,
            "title": self._settings.note_title,
            "text": f"{text}\n\n{_marker(effect_id)}" if effect_id else text,
        }
        return self._api.operation(lambda session: cards.note_on_card(session, address, note))

    def check(self) -> str:
        """See the known customer, and an order of theirs if there are files to sell."""
        seen = self._api.operation(self._see_known)
        return f"{self._api.system.place} {seen}"

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person lets our app into the account."""
        return self._app.authorization_url(redirect_uri, state)

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code for the first tokens, and keep them in ``token_file``."""
        return self._app.redeem(code, redirect_uri)

    def subscriptions(self) -> Sequence[Subscription]:
        """List the account's REST hooks."""
        return self._api.operation(hooks.hooks_of)

    def subscribe(self, url: str, event: str) -> Subscription:
        """Subscribe to an event such as ``order.add``; Keap calls the address at once to verify it."""
        return self._api.operation(lambda session: hooks.subscribe(session, url, event))

    def verify(self, key: str) -> Subscription:
        """Let Keap verify a hook again."""
        return self._api.operation(lambda session: hooks.verify(session, key))

    def changes(self, event: str, since: datetime) -> Sequence[Change]:
        """Ask for new and changed contacts or orders, page by page."""
        return self._api.operation(lambda session: list(hooks.changes(session, event, since)))

    def told(self, payload: object) -> Mapping[str, datetime]:
        """Read which contacts or orders a hook told of."""
        return hooks.told(payload)

    @property
    def _app(self) -> AppAccess:
        if self._api.app is None:
            raise ConfigurationError("this connection has an api_key, so that there is no access to grant")
        return self._api.app

    def _purchases_of(self, session: Session, address: str) -> tuple[Purchase, ...]:
        return orders.purchases_of(session, address, self._settings.assets)

    def _see_known(self, session: Session) -> str:
        if not cards.cards_of(session, self._settings.known_email):
            raise NotFound(f"{session.place}: no contact has known_email: check the account, or known_email")
        if not self._settings.assets:
            return "shows the known contact; with assets, a known purchase is looked for as well"
        if not (found := self._purchases_of(session, self._settings.known_email)):
            raise NotFound(f"{session.place}: no purchase of known_email: check assets, or known_email")
        return f"shows the known contact, purchases of theirs: {len(found)}"

    def _find_note(self, effect_id: str, email: str, text: str) -> Receipt | None:  # noqa: ARG002 - the marker alone tells
        address = cards.plain_address(email)
        return self._api.operation(lambda session: cards.find_note(session, address, _marker(effect_id)))


def _marker(effect_id: str) -> str:
    return f"[ref:{effect_id}]"


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="keap", provides=(OrderRecords, Contacts), settings=KeapSettings, build=KeapAccount))
