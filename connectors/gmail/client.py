"""Calls of the Gmail API within a total time, each sent once. Imports Google's libraries, so import it late."""

from __future__ import annotations

import json
import logging
import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlencode

import httplib2
from google.auth.exceptions import TransportError
from google.auth.transport import Request
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.errors import HttpError

from orchestrator.toolkit import within
from orchestrator_connectors.gmail.access import Access, access
from orchestrator_connectors.gmail.failures import LIBRARIES, grant_refused, scopes_missing, translated
from orchestrator_connectors.gmail.settings import SCOPES, WIDER, GmailSettings
from orchestrator_connectors.mail.deadline import Deadline

T = TypeVar("T")

# It would log addresses, with the search in them, and answers that are no JSON.
logging.getLogger("googleapiclient").setLevel(logging.ERROR)

_MOST_IDS = 500
"""What Gmail lists at once (reference, users.messages.list and users.history.list)."""


class Client:
    """The way to one account.

    Args:
        settings: Where it is, and the credential.
    """

    def __init__(self, settings: GmailSettings) -> None:
        self._settings = settings
        self._access = access(settings)
        document = json.loads(get_static_doc("gmail", "v1"))
        # Not client_options.api_endpoint: uploads and batches would still go to Google.
        document["rootUrl"] = document["mtlsRootUrl"] = f"{settings.endpoint_url.rstrip('/')}/"
        self._users = build_from_document(document, http=httplib2.Http()).users()

    def ask(self, question: Callable[[Conversation], T]) -> T:
        """Have a conversation with Gmail; its connections are its own, and end with it.

        Raises:
            ConnectorError: Ambiguous only if something was sent and no definite answer to it was seen.
        """
        seconds = self._settings.timeout_seconds
        deadline = Deadline(seconds)
        http = _Http(deadline, self._settings)
        conversation = Conversation(self._users, http, self._access)

        def converse() -> T:
            try:
                with deadline:
                    return question(conversation)
            finally:
                http.close()

        try:
            return within(timedelta(seconds=seconds), converse)
        except LIBRARIES as exc:
            place = self._settings.place
            raise translated(exc, place=place, acted=http.end(), late=deadline.passed) from exc


class Conversation:
    """What can be asked. Every method raises what the libraries raise."""

    def __init__(self, users: Any, http: _Http, credential: Access) -> None:
        self._users = users
        self._messages = users.messages()
        self._http = http
        self._access = credential
        self._token_endpoint = _TokenEndpoint(http)

    def profile(self) -> Mapping[str, Any]:
        """Return the account's address, the number of its messages, and where its history is."""
        return self._ask(self._users.getProfile(userId="me", fields="emailAddress,messagesTotal,historyId"))

    def aliases(self) -> dict[str, str]:
        """Return the addresses that the account may send as, and how far each is verified."""
        found = self._ask(self._users.settings().sendAs().list(userId="me"))
        return {each["sendAsEmail"].lower(): each.get("verificationStatus", "accepted") for each in found["sendAs"]}

    def thread_of(self, message_id: str) -> str | None:
        """Find the thread of a mail by its Message-ID, wherever it lies."""
        query = f"rfc822msgid:{message_id.strip('<>')} in:anywhere"
        found = self._ask(
            self._messages.list(userId="me", q=query, includeSpamTrash=True, maxResults=1, fields="messages(threadId)")
        )
        return next((each["threadId"] for each in found.get("messages", ())), None)

    def send(self, raw: bytes, thread: str | None) -> None:
        """Send a mail, in a thread if that is still there."""
        # Not media_body: uploads need a second kind of address and bring nothing below 25 MB.
        message = {"raw": urlsafe_b64encode(raw).decode()}
        if thread is None or self._ask_for(self._sending({**message, "threadId": thread}), acts=True) is None:
            self._ask(self._sending(message), acts=True)

    def _sending(self, message: Mapping[str, str]) -> Any:
        return self._messages.send(userId="me", body=message, fields="id")

    def messages(self, query: str) -> Iterator[str]:
        """Return the ids of all messages that a search finds, the newest first."""
        token = None
        while True:
            page = self._ask(
                self._messages.list(
                    userId="me", q=query, maxResults=_MOST_IDS, pageToken=token, fields="messages(id),nextPageToken"
                )
            )
            yield from (each["id"] for each in page.get("messages", ()))
            if (token := page.get("nextPageToken")) is None:
                return

    def history(self, start: int, token: str | None) -> Mapping[str, Any] | None:
        """Return a page of what changed behind a history id; None if Gmail has forgotten it."""
        return self._ask_for(
            self._users.history().list(
                userId="me",
                startHistoryId=str(start),
                historyTypes=["messageAdded", "labelAdded"],
                maxResults=_MOST_IDS,
                pageToken=token,
            )
        )

    def outline(self, key: str) -> Mapping[str, Any] | None:
        """Return labels, date and size of a message; None if it is gone."""
        fields = "labelIds,internalDate,sizeEstimate"
        return self._ask_for(self._messages.get(userId="me", id=key, format="minimal", fields=fields))

    def raw(self, key: str) -> bytes | None:
        """Return a message byte for byte; None if it is gone."""
        found = self._ask_for(self._messages.get(userId="me", id=key, format="raw", fields="raw"))
        return None if found is None else decoded(found["raw"])

    def headers(self, key: str) -> list[tuple[str, str]] | None:
        """Return the headers of a message; None if it is gone."""
        found = self._ask_for(self._messages.get(userId="me", id=key, format="metadata", fields="payload(headers)"))
        if found is None:
            return None
        return [(each["name"], each["value"]) for each in found.get("payload", {}).get("headers", ())]

    def see_scopes(self, url: str) -> None:
        """See that the access token allows all that is needed, if the endpoint tells.

        Raises:
            AccessDenied: It does not.
        """
        answer = self._post_form(url, {"access_token": self._access.token(self._token_endpoint)})
        if answer.status != HTTPStatus.OK:
            return
        granted = set(json.loads(answer.data)["scope"].split())
        missing = [scope for scope in SCOPES if scope not in granted]
        if missing and not granted & WIDER:
            raise scopes_missing(missing)

    def redeem(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        """Exchange a code at the token endpoint; return its answer.

        Raises:
            AccessDenied: It refuses.
        """
        answer = self._post_form(url, form)
        content = json.loads(answer.data)
        if not isinstance(content, dict):
            raise TypeError("the answer is no JSON object")
        if answer.status != HTTPStatus.OK:
            raise grant_refused(content)
        return content

    def _post_form(self, url: str, form: Mapping[str, str]) -> _TokenAnswer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._token_endpoint(url, "POST", urlencode(form).encode(), headers)

    def _ask_for(self, request: Any, *, acts: bool = False) -> Mapping[str, Any] | None:
        """Ask for one thing; None if it is not there, in which case Gmail has not acted."""
        try:
            return self._ask(request, acts=acts)
        except HttpError as exc:
            if exc.status_code != HTTPStatus.NOT_FOUND:
                raise
        self._http.acted = False
        return None

    def _ask(self, request: Any, *, acts: bool = False) -> Mapping[str, Any]:
        token = self._access.token(self._token_endpoint)
        try:
            return self._execute(request, token, acts=acts)
        except HttpError as exc:
            if exc.status_code != HTTPStatus.UNAUTHORIZED:
                raise
        # Taken back before its time: Gmail has not acted, so that the same can be asked again.
        self._http.acted = False
        return self._execute(request, self._access.renewed(token, self._token_endpoint), acts=acts)

    def _execute(self, request: Any, token: str, *, acts: bool) -> Mapping[str, Any]:
        request.headers["authorization"] = f"Bearer {token}"
        self._http.acts = acts
        try:
            answer = request.execute(http=self._http, num_retries=0)
        except HttpError as exc:
            # A search, an answer's own words: they would stand in every traceback.
            exc.uri, exc.reason, exc.error_details = None, "", ""
            raise
        finally:
            self._http.acts = False
        # The client hands on as it is what is no JSON, also the empty rest of an answer that broke off.
        if not isinstance(answer, dict):
            raise TypeError("the answer is no JSON object")
        return answer


class _TokenEndpoint(Request):
    """Calls the token endpoint for google-auth, which would wait and try again by itself after a failure."""

    def __init__(self, http: _Http) -> None:
        self._http = http

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the whole conversation has one
        **_others: object,
    ) -> _TokenAnswer:
        try:
            response, content = self._http.request(url, method, body=body, headers=dict(headers or {}))
        except LIBRARIES as exc:
            raise _unanswered(exc) from exc
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _unanswered(f"status {response.status}")
        return _TokenAnswer(response.status, response, content)


def _unanswered(cause: object) -> TransportError:
    return TransportError(cause)  # type: ignore[no-untyped-call]  # google-auth is typed in part


class _TokenAnswer:
    """What google-auth wants to see of an answer."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data


class _Http(httplib2.Http):  # type: ignore[misc]  # httplib2 has no types
    """httplib2, except that a request is sent once and never after the deadline.

    By itself it sends a request again whose answer was lost, and a mail would go out twice.
    """

    def __init__(self, deadline: Deadline, settings: GmailSettings) -> None:
        # Proxies would need PySocks, and httplib2 fails oddly without it.
        super().__init__(
            timeout=settings.timeout_seconds,
            proxy_info=None,
            ca_certs=settings.ca_file and str(settings.ca_file),
        )
        self.follow_redirects = False
        self.acts = False
        """Whether the next request changes something."""
        self.acted = False
        """Whether one that does has begun to go out."""
        self._deadline = deadline
        self._over = False
        self._gate = Lock()

    def end(self) -> bool:
        """Let nothing go out any more.

        Returns:
            Whether something that acts has begun to go out, and no answer said that it had no effect.
        """
        with self._gate:
            self._over = True
            return self.acted

    def _conn_request(
        self, conn: Any, request_uri: str, method: str, body: bytes | str | None, headers: dict[str, str]
    ) -> tuple[httplib2.Response, bytes]:
        if not conn.sock:
            conn.connect()
            self._deadline.watch(conn.sock)
        content = body.encode() if isinstance(body, str) else body
        length = {"content-length": str(len(content))} if content else {}
        parts = self._parts(content, conn.sock) if content else None
        self._admit()
        conn.request(method, request_uri, parts, {**headers, **length, "accept-encoding": "identity"})
        answer = conn.getresponse()
        return httplib2.Response(answer), answer.read()

    def _parts(self, content: bytes, connection: socket.socket) -> Iterator[bytes]:
        """Yield the last byte apart: without it, there is no request that anybody could act on."""
        yield content[:-1]
        self._deadline.admit_end(connection)
        self._admit()
        yield content[-1:]

    def _admit(self) -> None:
        with self._gate:
            if self._over or self._deadline.passed:
                raise TimeoutError("the time is over")
            self.acted = self.acted or self.acts


def decoded(text: str) -> bytes:
    """Decode what Gmail gives as base64 for addresses (RFC 4648 section 5), with or without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
