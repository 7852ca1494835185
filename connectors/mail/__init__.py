"""Mail out by SMTP and mail in by IMAP, for any provider that speaks them."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.capabilities import Mailbox, Mailer, MailPage, Notice, Notifier, OutgoingMail, Receipt
from orchestrator.errors import AccessDenied, ConfigurationError
from orchestrator.plugins import Connector, DoubtClass, MailWatch, RegisterConnector, Settlement, hookimpl
from orchestrator_connectors.mail.examining import explained
from orchestrator_connectors.mail.imap import ImapMailbox
from orchestrator_connectors.mail.message import message_id, tell
from orchestrator_connectors.mail.oauth import MailTokens
from orchestrator_connectors.mail.settings import ImapSettings, MailSettings, SmtpSettings
from orchestrator_connectors.mail.smtp import SmtpMailer
from orchestrator_connectors.mail.watch import ImapWatch

__all__ = ["ImapSettings", "MailAccount", "MailSettings", "SmtpSettings", "register_connectors"]

_NO_MAILBOX = "this connection has no mailbox: add its section 'imap'"


class MailAccount:
    """One mail account.

    Args:
        settings: Its address and servers.
    """

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        oauth = settings.oauth
        self._tokens = MailTokens(oauth, timeout_seconds=settings.timeout_seconds) if oauth else None
        self._mailer = SmtpMailer(settings, tokens=self._tokens)
        imap = settings.imap
        self._mailbox = ImapMailbox(imap, account=settings, tokens=self._tokens) if imap else None
        looks_up = imap is not None and imap.sent_folder is not None
        settlement = Settlement(
            doubt=DoubtClass.PROBE if looks_up else DoubtClass.NONE,
            timeout=settings.timeout,
            visibility_delay=timedelta(seconds=settings.visibility_delay_seconds),
            probe=self.find_sent if looks_up else None,
        )
        self.settlements = {"send": settlement, "notify": settlement}

    def send(self, mail: OutgoingMail, *, effect_id: str | None = None) -> Receipt:
        """Send the mail. Filing it in the sent folder is the provider's part: our own copy would prove nothing."""
        return self._mailer.send(mail, effect_id=effect_id)

    def notify(self, notice: Notice, *, effect_id: str | None = None) -> Receipt:
        """Mail the notice to ``notices_to``."""
        if not self._settings.notices_to:
            raise AccessDenied("nobody is named whom notices go to: set notices_to")
        return self._mailer.send(tell(notice, to=self._settings.notices_to), effect_id=effect_id)

    def position(self) -> str:
        """Find where new mail begins."""
        return self._incoming().position()

    def new_mail(self, cursor: str | None, *, limit: int) -> MailPage:
        """Read new mail; a page holds at most 100 mails and ``max_size_bytes``."""
        return self._incoming().new_mail(cursor, limit=limit)

    def watch(self) -> MailWatch:
        """Watch the mailbox over one kept conversation, in which the server tells of new mail if it can."""
        if self._settings.imap is None:
            raise AccessDenied(_NO_MAILBOX)
        return ImapWatch(self._settings.imap, account=self._settings, tokens=self._tokens)

    def check(self) -> str:
        """Log in to the servers that are configured, see that we may send as ``address``, and open the folders."""
        patience = self._settings.timeout_seconds
        with explained(self._settings.smtp, "smtp", patience):
            outgoing = self._mailer.check()
        if self._mailbox is None or self._settings.imap is None:
            return outgoing
        with explained(self._settings.imap, "imap", patience):
            return f"{outgoing}; {self._mailbox.check()}"

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person grants access to this account."""
        return self._granted_tokens().access.authorization_url(redirect_uri, state)

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code for tokens, and keep them."""
        access = self._granted_tokens().access
        access.redeem(code, redirect_uri)
        return f"Access is granted; it is kept in {access.store.path}. Now run: orchestrator check"

    def find_sent(self, effect_id: str, **_arguments: object) -> Receipt | None:
        """Look whether the mail was sent.

        Raises:
            ConnectorError: It cannot be told now.
        """
        identifier = message_id(effect_id, self._settings.id_domain)
        folder = self._settings.imap and self._settings.imap.sent_folder
        if not folder:
            raise AccessDenied("sent mail cannot be looked up: set imap.sent_folder")
        found = self._incoming().holds(identifier, folder=folder)
        return Receipt(reference=identifier) if found else None

    def _incoming(self) -> ImapMailbox:
        if self._mailbox is None:
            raise AccessDenied(_NO_MAILBOX)
        return self._mailbox

    def _granted_tokens(self) -> MailTokens:
        if self._tokens is None:
            raise ConfigurationError("this mail account logs in with a password: there is nothing to authorise")
        return self._tokens


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector ``mail``."""
    provides = (Mailer, Mailbox, Notifier)
    register(Connector(name="mail", provides=provides, settings=MailSettings, build=MailAccount, lacks=_lacks))


def _lacks(settings: MailSettings, capability: type) -> str:
    if capability is Mailbox and settings.imap is None:
        return "add its section 'imap'"
    return "set its notices_to" if capability is Notifier and settings.notices_to is None else ""
