"""The HTTP side of the stand-in for Gmail: its API and Google's authorization server on one port."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.sandbox.gmail.account import GmailBox, Refused, StoredMail
from orchestrator.sandbox.gmail.oauth import Consents, OAuthRefused
from orchestrator.sandbox.gmail.post import bounce
from orchestrator.testing.http_server import Answer, FaultyServer, Request

_SCOPES = "https://www.googleapis.com/auth/gmail."
READ_AND_SEND = (f"{_SCOPES}readonly", f"{_SCOPES}send")
_READ = frozenset({f"{_SCOPES}readonly", f"{_SCOPES}modify"})
_SEND = frozenset({f"{_SCOPES}send", f"{_SCOPES}compose", f"{_SCOPES}modify"})
_MOST_RESULTS = 500
_USER = "/gmail/v1/users/me/"
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}

_OPERATIONS = {
    ("GET", "profile"): "profile",
    ("GET", "settings/sendAs"): "sendAs",
    ("GET", "history"): "history.list",
    ("GET", "messages"): "messages.list",
    ("POST", "messages/send"): "messages.send",
    ("GET", "/o/oauth2/v2/auth"): "auth",
    ("POST", "/token"): "token",
    ("POST", "/revoke"): "revoke",
    ("POST", "/tokeninfo"): "tokeninfo",
}

Query = Mapping[str, list[str]]


def refusal(status: int, reason: str = "", message: str = "", **headers: str) -> Answer:
    """Write a refusal in Google's error format."""
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": reason}]}
    body = {"error": {**error, "status": _STATUS.get(status, "UNAVAILABLE")}}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class GmailServer(FaultyServer):
    """Gmail for one account, on a free port of 127.0.0.1, while the context lasts.

    Args:
        box: The account.
        consents: Who may do what.
        deliver: Called with each mail for somebody else: sender, recipient and the mail; without it, such mails
            only lie among the sent ones.
        tls: The server's certificate.
    """

    def __init__(
        self,
        box: GmailBox,
        consents: Consents | None = None,
        *,
        deliver: Callable[[str, str, bytes], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls=tls)
        self.box = box
        self.consents = consents or Consents()
        self.aliases: dict[str, str] = {}
        """Other addresses that the account may send as, and whether each is ``accepted`` or ``pending``."""
        self._deliver = deliver

    def revoke(self) -> None:
        """Let the owner of the account take all access back."""
        self.consents.revoke_all()

    def name_of(self, request: Request) -> str:
        """Name the operation as Google's reference does: ``messages.send``, ``token`` and so on."""
        return _operation(request).partition("/")[0]

    def refusal(self, status: int, headers: Mapping[str, str]) -> Answer:
        """Refuse as Google does."""
        return refusal(status, "as scripted", **headers)

    def respond(self, request: Request) -> Answer:
        """Carry one call out."""
        operation = _operation(request)
        try:
            match operation:
                case "auth":
                    given = {name: values[0] for name, values in request.query.items()}
                    return Answer(302, b"", {"Location": self.consents.consent(given)})
                case "token" | "tokeninfo":
                    ask = self.consents.token if operation == "token" else self.consents.told_of
                    return Answer(200, ask(request.form))
                case "revoke":
                    self.consents.revoke(request.form["token"])
                    return Answer(200, {})
                case _:
                    self._allow(operation, request.bearer)
                    return Answer(200, self._api(operation, request.query, request.body))
        except OAuthRefused as exc:
            status = 401 if exc.error == "invalid_client" else 400
            return Answer(status, {"error": exc.error, "error_description": str(exc)})
        except Refused as exc:
            return refusal(exc.status, exc.reason, str(exc))

    def _allow(self, operation: str, token: str) -> None:
        scopes = self.consents.scopes_of(token)
        if scopes is None:
            raise Refused(401, "authError", "Request had invalid authentication credentials.")
        if not scopes & (_SEND if operation == "messages.send" else _READ):
            raise Refused(403, "insufficientPermissions", "Request had insufficient authentication scopes.")

    def _api(self, operation: str, query: Query, body: bytes) -> dict[str, Any]:
        match operation.split("/"):
            case ["profile"]:
                return {
                    "emailAddress": self.box.address,
                    "messagesTotal": len(self.box.mails),
                    "historyId": str(self.box.history_id),
                }
            case ["sendAs"]:
                own = {"sendAsEmail": self.box.address, "isPrimary": True}
                return {
                    "sendAs": [own, *({"sendAsEmail": a, "verificationStatus": s} for a, s in self.aliases.items())]
                }
            case ["history.list"]:
                return self._history(query)
            case ["messages.list"]:
                return self._list(query)
            case ["messages.get", message_id]:
                return _shown(self._mail(message_id), _one(query, "format", "full"))
            case ["messages.send"]:
                return self._send(json.loads(body))
            case _:
                raise Refused(404, "notFound", "Requested entity was not found.")

    def _history(self, query: Query) -> dict[str, Any]:
        records = self.box.changes(int(_one(query, "startHistoryId", "0")), query.get("historyTypes", ()))
        page = _page("history", records, query)
        return {**page, "historyId": str(self.box.history_id)}

    def _list(self, query: Query) -> dict[str, Any]:
        spam = _one(query, "includeSpamTrash", "false") == "true"
        found = self.box.found(_one(query, "q", ""), query.get("labelIds", ()), with_spam_and_trash=spam)
        return {**_page("messages", [mail.names for mail in found], query), "resultSizeEstimate": len(found)}

    def _mail(self, message_id: str) -> StoredMail:
        if message_id not in self.box.mails:
            raise Refused(404, "notFound", "Requested entity was not found.")
        return self.box.mails[message_id]

    def _send(self, message: Mapping[str, str]) -> dict[str, Any]:
        try:
            raw = urlsafe_b64decode(message.get("raw", ""))
        except NoBase64 as exc:
            raise Refused(400, "invalidArgument", "Invalid value at 'message.raw' (TYPE_BYTES)") from exc
        sent, recipients = self.box.send(raw, message.get("threadId"))
        if self._deliver is not None:
            for recipient in recipients:
                try:
                    self._deliver(self.box.address, recipient, sent.raw)
                except smtplib.SMTPException as exc:
                    self.box.deliver(bounce(self.box.address, sent, str(exc)))
        return {**sent.names, "labelIds": sorted(sent.labels)}


def _operation(request: Request) -> str:
    """Name the operation, with the message's id behind a slash."""
    name = request.path.removeprefix(_USER)
    if request.method == "GET" and (shown := re.fullmatch(r"messages/(\w+)", name)):
        return f"messages.get/{shown[1]}"
    return _OPERATIONS.get((request.method, name), "unknown")


def _page(name: str, items: list[dict[str, Any]], query: Query) -> dict[str, Any]:
    """Cut one page; without any item, Gmail leaves the list out."""
    start = int(_one(query, "pageToken", "0"))
    end = start + min(int(_one(query, "maxResults", "100")), _MOST_RESULTS)
    page: dict[str, Any] = {name: items[start:end]} if items[start:end] else {}
    return {**page, "nextPageToken": str(end)} if end < len(items) else page


def _shown(mail: StoredMail, form: str) -> dict[str, Any]:
    match form:
        case "minimal":
            return mail.outline
        case "raw":
            return {**mail.outline, "raw": urlsafe_b64encode(mail.raw).decode()}
        case "metadata":
            headers = [{"name": n, "value": " ".join(str(v).split())} for n, v in mail.headers.items()]
            return {**mail.outline, "payload": {"headers": headers}}
        case _:
            raise Refused(400, "invalidArgument", f"this stand-in cannot show the format {form!r}")


def _one(query: Query, name: str, default: str) -> str:
    return query.get(name, [default])[0]
