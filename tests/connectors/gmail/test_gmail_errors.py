"""Every exception of Google's client and of its transport is told by what happens next."""

from __future__ import annotations

import http.client
import inspect
import socket
import ssl
from typing import Any

import httplib2
import pytest
from google.auth import exceptions as auth
from googleapiclient import errors as client
from httplib2 import error as transport

from orchestrator.errors import AccessDenied, RateLimited, Rejected, Unavailable
from orchestrator_connectors.gmail.failures import LIBRARIES, grant_refused, translated

PLACE = "Gmail at gmail.googleapis.com"
BY_STATUS = "HttpError BatchError ResumableUploadError"
UNREADABLE = """
InvalidChunkSizeError InvalidJsonError InvalidNotificationError MediaUploadSizeError UnacceptableMimeTypeError
UnexpectedBodyError UnexpectedMethodError UnknownApiNameOrVersion UnknownFileType UnknownLinkType Error
"""
CREDENTIAL = """
ClientCertError DefaultCredentialsError GoogleAuthError InvalidOperation InvalidResource InvalidType InvalidValue
MalformedError MutualTLSChannelError OAuthError OSError ReauthFailError ReauthSamlChallengeFailError RefreshError
ResponseError TimeoutError UserAccessTokenError
"""
NETWORK = """
FailedToDecompressContent HttpLib2Error HttpLib2ErrorWithResponse MalformedHeader ProxiesUnavailableError
RedirectLimit RedirectMissingLocation RelativeURIError ServerNotFoundError UnimplementedDigestAuthOptionError
UnimplementedHmacDigestAuthOptionError
"""
FOUND = {
    (module.__name__, name): kind
    for module in (client, auth, transport)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == module.__name__
}
MAPPED: dict[str, type] = {
    **dict.fromkeys(UNREADABLE.split(), Unavailable),
    **dict.fromkeys(NETWORK.split(), Unavailable),
    **dict.fromkeys(CREDENTIAL.split(), AccessDenied),
    "TransportError": Unavailable,
}


def test_no_exception_of_the_libraries_is_forgotten() -> None:
    assert {name for _, name in FOUND} - set(MAPPED) == set(BY_STATUS.split())
    assert all(issubclass(kind, LIBRARIES) for kind in FOUND.values())


@pytest.mark.parametrize(("module", "name"), sorted(each for each in FOUND if each[1] in MAPPED))
def test_every_exception_of_the_libraries_is_told_by_what_happens_next(module: str, name: str) -> None:
    kind = FOUND[module, name]
    raised: Any = kind.__new__(kind)
    raised.args = ()
    if isinstance(raised, auth.GoogleAuthError):
        raised._retryable = False
    told = translated(raised, place=PLACE)
    assert type(told) is MAPPED[name]
    assert told.no_effect


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (TimeoutError("timed out"), Unavailable),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Unavailable),
        (ConnectionRefusedError(111, "Connection refused"), Unavailable),
        (http.client.RemoteDisconnected("closed"), Unavailable),
        (http.client.IncompleteRead(b"ann@example.com"), Unavailable),
        (ssl.SSLError(1, "[SSL] wrong version number"), Unavailable),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Unavailable),
        (ValueError("no JSON: ann@example.com"), Unavailable),
        (KeyError("historyId"), Unavailable),
    ],
)
@pytest.mark.parametrize("acted", [False, True])
def test_what_the_network_does_is_in_doubt_only_after_a_mail_went_out(
    raised: Exception, error: type, acted: bool
) -> None:
    told = translated(raised, place=PLACE, acted=acted)
    assert type(told) is error
    assert told.no_effect is not acted
    assert "ann@" not in str(told)
    assert str(told).startswith(PLACE)


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (404, b'{"error": {"errors": [{"reason": "notFound"}]}}', AccessDenied),
        (408, b"", Unavailable),
        (429, b'{"error": {"status": "RESOURCE_EXHAUSTED"}}', RateLimited),
        (403, b'{"error": {"status": "RESOURCE_EXHAUSTED"}}', RateLimited),
        (403, b'{"error": {"details": [{"@type": "x"}, {"reason": "RATE_LIMIT_EXCEEDED"}]}}', RateLimited),
        (403, b'{"error": {"details": [{"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}', AccessDenied),
        (400, b'{"error": {"details": "ann@example.com"}}', Rejected),
        (400, b'{"error": {"errors": [{"reason": "ann@example.com"}]}}', Rejected),
        (400, b'["ann@example.com"]', Rejected),
        (400, b'{"error": "invalid_ann@example.com"}', Rejected),
        (401, b"\xff\xfe", AccessDenied),
        (500, b"null", Unavailable),
    ],
)
def test_a_refusal_is_read_in_every_form(status: int, content: bytes, error: type) -> None:
    answer = client.HttpError(httplib2.Response({"status": str(status)}), content)
    told = translated(answer, place=PLACE, acted=True)
    assert type(told) is error
    assert told.no_effect is (status < 500 and status != 408)
    assert "ann@" not in str(told)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "invalid_grant"}, "was revoked or has ended"),
        ({"error": "invalid_rapt"}, "sign in again"),
        ({"error": "unauthorized_client"}, "delegate to the service account's client id"),
        ({"error": "invalid_client"}, "correct app.client_id and app.client_secret"),
        ({"error": "ann@example.com"}, "(no reason)"),
        ({}, "(no reason)"),
    ],
)
def test_a_refused_grant_says_what_to_do(answer: dict[str, str], words: str) -> None:
    told = grant_refused(answer)
    assert words in str(told)
    assert "ann@" not in str(told)
