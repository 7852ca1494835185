"""Gmail by its API: mail out and mail in for one account."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator.capabilities import Mailbox, Mailer, MailPage, Notice, Notifier, OutgoingMail, Receipt
from orchestrator.errors import AccessDenied, ConfigurationError, Rejected
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.toolkit.oauth import OAuthAccess, OAuthApp
from orchestrator_connectors.gmail.mailbox import GmailMailbox
from orchestrator_connectors.gmail.settings import SCOPES, AppSettings, GmailSettings, ServiceAccountSettings
from orchestrator_connectors.mail.message import compose, message_id, tell

if TYPE_CHECKING:
    from orchestrator_connectors.gmail.client import Client, Conversation

__all__ = ["AppSettings", "GmailAccount", "GmailSettings", "ServiceAccountSettings", "register_connectors"]

_SEARCHABLE = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`|~.@-]+>")
"""Message-IDs that mean only themselves in a search; the sender chooses them, and others could mean more."""


class GmailAccount:
    """One account.

    Args:
        settings: Its address and credential.
    """

    def __init__(self, settings: GmailSettings) -> None:
        if find_spec("googleapiclient") is None:
            raise ConfigurationError(
                "the gmail connector needs google-api-python-client: pip install 'process-orchestrator[gmail]'"
            )
        self._settings = settings
        self._mailbox = GmailMailbox(max_size_bytes=settings.max_size_bytes, timeout_seconds=settings.timeout_seconds)
        by_message_id = Settlement(
            doubt=DoubtClass.PROBE,
            timeout=settings.timeout,
            visibility_delay=timedelta(seconds=settings.visibility_delay_seconds),
            probe=self.find_sent,
        )
        self.settlements = {"send": by_message_id, "notify": by_message_id}
        self._making_client = Lock()

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send the mail, below the one that it answers if that lies in this account.

        Raises:
            ConnectorError: Without effect, unless the mail went out and Gmail's answer to it was not seen.
        """
        try:
            identifier = message_id(effect_id, self._settings.id_domain)
            message = compose(mail, sender=self._settings.sender, identifier=identifier)
            raw = message.as_bytes()
        except ValueError as exc:
            raise Rejected(f"the mail cannot be written: {exc}") from exc
        answered = str(message["In-Reply-To"] or "")

        def send(gmail: Conversation) -> None:
            thread = gmail.thread_of(answered) if _SEARCHABLE.fullmatch(answered) else None
            gmail.send(raw, thread)

        self._client.ask(send)
        return Receipt(reference=identifier)

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Mail the notice to ``notices_to``."""
        if not self._settings.notices_to:
            raise AccessDenied("nobody is named whom notices go to: set notices_to")
        return self.send(tell(notice, to=self._settings.notices_to), effect_id=effect_id)

    def position(self) -> str:
        """Find where new mail begins."""
        return self._client.ask(self._mailbox.position)

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read new mail; a page holds at most 50 mails and ``max_size_bytes``."""
        return self._client.ask(lambda gmail: self._mailbox.page(gmail, cursor, limit))

    def check(self) -> str:
        """Open the account, and see that it may send, and as ``address``."""
        return self._client.ask(self._seen)

    def find_sent(self, effect_id: str, **_arguments: object) -> Receipt | None:
        """Look whether the mail was sent; in every folder, because somebody may have moved it.

        Raises:
            ConnectorError: It cannot be told now.
        """
        identifier = message_id(effect_id, self._settings.id_domain)
        found = self._client.ask(lambda gmail: gmail.thread_of(identifier))
        return Receipt(reference=identifier) if found else None

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person grants access (developers.google.com/identity/protocols/oauth2/native-app).

        Raises:
            ConfigurationError: This connection has a service account.
        """
        return self._access.authorization_url(redirect_uri, state)

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code, and store the token.

        Raises:
            ConnectorError: Google refuses it, or a scope was not granted.
        """
        self._access.redeem(code, redirect_uri)
        file = self._access.store.path
        return f"Access to read and to send is granted; it is kept in {file}. Now run: orchestrator check"

    @cached_property
    def _access(self) -> OAuthAccess:
        app = OAuthApp(
            client_id=self._app.client_id,
            client_secret=self._app.client_secret,
            authorize_url=self._settings.auth_url,
            scope=" ".join(SCOPES),
            more={
                "access_type": "offline",
                # Else Google gives no refresh token to an app that was granted access before.
                "prompt": "consent",
                "login_hint": self._settings.sender.addr_spec,
            },
        )

        def ask(form: dict[str, str]) -> object:
            return self._client.ask(lambda gmail: gmail.redeem(self._settings.token_url, form))

        return OAuthAccess(app, self._app.token_file, ask)

    @property
    def _app(self) -> AppSettings:
        if self._settings.app is None:
            raise ConfigurationError(
                "this connection uses a service account, to which the domain's administrator delegates access "
                "(docs/connectors/gmail.md); there is nothing to grant in a browser"
            )
        return self._settings.app

    def _seen(self, gmail: Conversation) -> str:
        profile, address = gmail.profile(), self._settings.sender.addr_spec.lower()
        gmail.see_scopes(self._settings.tokeninfo_url)
        own = str(profile["emailAddress"]).lower() == address
        if not own and gmail.aliases().get(address) != "accepted":
            raise AccessDenied(
                "the account behind this credential may not send as 'address', and Gmail would put its own address "
                'into From: grant access with the right account, or verify the address under "Send mail as" '
                "in Gmail's settings"
            )
        sends = "it sends as itself" if own else "it sends as an address that it has verified"
        return f"{self._settings.place} shows an account with {profile['messagesTotal']} messages; {sends}"

    @property
    def _client(self) -> Client:
        with self._making_client:
            return self._made_client

    @cached_property
    def _made_client(self) -> Client:
        # Google's libraries take a tenth of a second to import: only who talks to Gmail waits for them.
        from orchestrator_connectors.gmail.client import Client

        return Client(self._settings)


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector ``gmail``."""
    provides = (Mailer, Mailbox, Notifier)
    register(Connector(name="gmail", provides=provides, settings=GmailSettings, build=GmailAccount, lacks=_lacks))


def _lacks(settings: GmailSettings, capability: type) -> str:
    return "set its notices_to" if capability is Notifier and settings.notices_to is None else ""
