"""What went wrong, in the orchestrator's words."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httplib2
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from googleapiclient.errors import Error as ClientError
from googleapiclient.errors import HttpError

from orchestrator.errors import AccessDenied, ConnectorError, RateLimited, Rejected, Unavailable
from orchestrator.toolkit.tokens import AUTHORIZE as AGAIN
from orchestrator_connectors.gmail.settings import SCOPES

LIBRARIES = (
    ClientError,
    GoogleAuthError,
    httplib2.HttpLib2Error,
    http.client.HTTPException,
    OSError,
    # What reading an answer raises that is not what the documentation promises.
    LookupError,
    TypeError,
    ValueError,
)
"""What the client, its transport, and the reading of an answer raise."""

_DOUBT = ", and did not say whether it took the mail: look into the sent mail"
_REASON = re.compile(r"\w{1,60}")
_RETRY_AFTER = re.compile(r"Retry after (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_SLOW_DOWN = frozenset(
    {
        "concurrentLimitExceeded",
        "dailyLimitExceeded",
        "quotaExceeded",
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
    }
)
_GRANT_BOTH = f"{AGAIN}, and tick both; for a service account, delegate both"
_REMEDIES = {
    "insufficientPermissions": f"access was granted without the scopes {' and '.join(SCOPES)}: {_GRANT_BOTH}",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": f"the scopes {' and '.join(SCOPES)} are needed: {_GRANT_BOTH}",
    "accessNotConfigured": "enable the Gmail API for the project of this client in the Google Cloud console",
    "SERVICE_DISABLED": "enable the Gmail API for the project of this client in the Google Cloud console",
    "domainPolicy": "the domain's administrator must allow this app, or Gmail itself, for this account",
    "delegationDenied": "the credential belongs to another account than the mailbox",
    "failedPrecondition": "the account has no Gmail, or the service account acts for nobody: check "
    "service_account.user, and that domain-wide delegation is set up",
}
"""What a person does, by the reason that Gmail gives (Gmail API, "Resolve errors")."""

_ELSEWHERE = "it points elsewhere: correct endpoint_url"
_STATUS_REMEDIES = {
    HTTPStatus.MOVED_PERMANENTLY: _ELSEWHERE,
    HTTPStatus.FOUND: _ELSEWHERE,
    HTTPStatus.SEE_OTHER: _ELSEWHERE,
    HTTPStatus.TEMPORARY_REDIRECT: _ELSEWHERE,
    HTTPStatus.PERMANENT_REDIRECT: _ELSEWHERE,
    HTTPStatus.UNAUTHORIZED: f"it takes no new access token either: {AGAIN}, or exchange the service account's key",
    # What can be missing by itself, a message or a thread, was dealt with where it was asked for.
    HTTPStatus.NOT_FOUND: "correct endpoint_url",
    HTTPStatus.FORBIDDEN: "check what the account and its client may do",
}
"""What a person does, where Gmail gives no reason that says more."""

_GRANT_REMEDIES = {
    "invalid_grant": "the access was revoked or has ended (Google ends it seven days after a consent to an app in "
    "testing, after six months without use, and when the password changes); for a service account, check the clock, "
    "service_account.key_file and service_account.user",
    "invalid_rapt": "the domain demands that people sign in again; a service account need not",
    "unauthorized_client": "delegate to the service account's client id, in the Google Admin console under API "
    f"controls, exactly the scopes {', '.join(SCOPES)}",
    "invalid_client": "correct app.client_id and app.client_secret",
    "deleted_client": "make a new client in the Google Cloud console, and correct app.client_id and app.client_secret",
    "disabled_client": "enable the client in the Google Cloud console",
    "invalid_scope": f"the client must be allowed the scopes {', '.join(SCOPES)}",
    "admin_policy_enforced": "the domain's administrator must trust this app",
    "redirect_uri_mismatch": 'the client must be of the type "Desktop app"',
}
"""What a person does, by the error of the token endpoint (RFC 6749 section 5.2, and Google's own)."""


def translated(
    exc: Exception, *, place: str, setting: str = "endpoint_url", acted: bool = False, late: bool = False
) -> ConnectorError:
    """Say what happens next.

    Args:
        exc: What was raised; one of ``LIBRARIES``.
        place: The system, as messages name it.
        setting: What says where it is.
        acted: Whether a request that changes something had gone out.
        late: Whether the time was over.
    """
    match exc:
        case HttpError():
            return _refusal(exc, place, acted=acted)
        case GoogleAuthError():
            return not_granted(exc)
        case ssl.SSLCertVerificationError():
            return AccessDenied(
                f"{place} shows a certificate that is not trusted ({exc.verify_message}): "
                f"correct {setting} or set ca_file"
            )
        case _ if late:
            problem = f"{place} took longer than timeout_seconds"
            if not acted:
                problem += f": correct {setting}, or open the firewall"
        case OSError() | http.client.HTTPException() | httplib2.HttpLib2Error():
            problem = f"{place} cannot be reached or broke off ({_name(exc)}){_on_the_way(exc, setting)}"
        case _:
            problem = f"{place} gave an answer that cannot be read ({_name(exc)})"
    return Unavailable(f"{problem}{_DOUBT if acted else ''}", no_effect=not acted)


def _on_the_way(exc: Exception, setting: str) -> str:
    """Return what to change if nobody is there who could be asked."""
    match exc:
        case socket.gaierror():
            return f": there is no such host, correct {setting}"
        case ConnectionRefusedError():
            return f": nobody listens there, correct {setting}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return f": it speaks no TLS there, correct {setting}"
        case _:
            return ""


def scopes_missing(missing: Sequence[str]) -> AccessDenied:
    """Say that the credential does not allow all that is needed."""
    return AccessDenied(f"access was granted without {' and '.join(missing)}: {_GRANT_BOTH}")


def not_granted(exc: GoogleAuthError) -> ConnectorError:
    """Say why there is no access token; asking for one never changes anything outside."""
    if isinstance(exc, TransportError) or exc.retryable:
        cause = exc.args[0] if exc.args and isinstance(exc.args[0], Exception) else exc
        place = "Google's token endpoint"
        if cause is not exc:
            return translated(cause, place=place, setting="token_url")
        return Unavailable(f"{place} cannot be reached or failed ({exc})", no_effect=True)
    if isinstance(exc, RefreshError):
        answer = next((each for each in exc.args if isinstance(each, Mapping)), {})
        return grant_refused(answer)
    return AccessDenied(f"Google's sign-in cannot be used ({_name(exc)}): check the credential of this connection")


def grant_refused(answer: Mapping[str, Any]) -> AccessDenied:
    """Say why the token endpoint refused."""
    error = str(answer.get("error", ""))
    named = error if _REASON.fullmatch(error) else "no reason"
    remedy = _GRANT_REMEDIES.get(error, "check the credential of this connection")
    return AccessDenied(f"Google refuses access ({named}): {remedy}")


def _refusal(exc: HttpError, place: str, *, acted: bool) -> ConnectorError:
    status, reason = exc.status_code, _reason(exc.content)
    refused = f"{place} refuses with {status} {reason}".rstrip()
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and reason in _SLOW_DOWN):
        return RateLimited(f"{refused}: it asks to slow down", retry_after=_retry_after(exc))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        failed = f"{place} failed with {status} {reason}".rstrip()
        return Unavailable(f"{failed}{_DOUBT if acted else ''}", no_effect=not acted)
    if remedy := _REMEDIES.get(reason) or _STATUS_REMEDIES.get(status):
        # Who points elsewhere may have handed the mail on before.
        return AccessDenied(f"{refused}: {remedy}", no_effect=not acted or status >= HTTPStatus.BAD_REQUEST)
    return Rejected(f"{refused} the recipient or the content", no_effect=not acted or status >= HTTPStatus.BAD_REQUEST)


def _reason(content: bytes) -> str:
    """Read the machine's word out of an error, of the older or of the newer form."""
    try:
        error = json.loads(content)["error"]
        found = [*error.get("errors", ()), *error.get("details", ())]
        reason = next((str(each["reason"]) for each in found if each.get("reason")), str(error.get("status", "")))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return reason if _REASON.fullmatch(reason) else ""


def _retry_after(exc: HttpError) -> timedelta | None:
    """Read how long to wait: seconds in the header (RFC 9110 10.2.3), or a time in Gmail's words."""
    seconds = str(exc.resp.get("retry-after", ""))
    if re.fullmatch("[0-9]{1,6}", seconds):
        return timedelta(seconds=int(seconds))
    if named := _RETRY_AFTER.search(exc.content.decode(errors="replace")):
        until = datetime.fromisoformat(named[1]).replace(tzinfo=UTC)
        return max(until - datetime.now(UTC), timedelta(0))
    return None


def _name(exc: object) -> str:
    """Name a failure; its own words may hold a search, and so an address."""
    return str(getattr(exc, "strerror", None) or type(exc).__name__)
