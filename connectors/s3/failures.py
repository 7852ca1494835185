"""What went wrong, in the orchestrator's words: one sentence that says what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from botocore import exceptions as botocore
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from orchestrator.errors import AccessDenied, ConnectorError, NotFound, RateLimited, Rejected, Unavailable

LIBRARY = (botocore.BotoCoreError, ResponseParserError, RuntimeError, ValueError)
"""What botocore raises besides refusals; RuntimeError for a session that is renewed and has ended all the same."""

_CODE = r"[A-Za-z][\w.]{0,59}"
_SLOW_DOWN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""S3 says "Reduce your request rate" with every 503, and a HEAD has no body to tell more."""
_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException"})
KEEP_OUT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_CLOCK_MAY_BE_OFF = timedelta(minutes=1)

_KEY = "access_key_id is not known there, or not active: correct it"
_SESSION = (
    "the session has ended, or its token is that of other keys: where it stands in the settings, give new keys, with "
    "their session_token and session_ends"
)
_REGION = "check that bucket, region, endpoint_url and credential belong together"
_CLOCK = "this machine's clock is wrong: set it, and keep it by NTP"
_REMEDIES = {
    "InvalidAccessKeyId": _KEY,
    "InvalidClientTokenId": _KEY,
    "SignatureDoesNotMatch": "secret_access_key does not belong to access_key_id: correct it",
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "ExpiredToken": _SESSION,
    "ExpiredTokenException": _SESSION,
    "InvalidToken": _SESSION,
    "TokenRefreshRequired": _SESSION,
    "AuthorizationHeaderMalformed": _REGION,
    "AuthorizationQueryParametersError": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RegionDisabledException": "STS is not active in this region: activate it in the account, or correct region",
    "NoSuchBucket": "there is no such bucket: correct bucket, region or endpoint_url",
    "InvalidObjectState": "the file lies in an archive: restore it, or store it in another class",
    "ValidationError": "the role cannot be taken on like this: role.hours is more than it allows (a role that takes on "
    "another one gets 1), or role.arn is wrong",
    # What stands for the code when a HEAD is refused: an ended session, or another region's bucket.
    "400": f"{_REGION}, and that its session has not ended",
}
"""Refusals that come from a wrong set-up, some of which look like a wrong request or a missing file
(docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, .../STS/latest/APIReference/API_AssumeRole.html)."""
_NO_PERMISSION = (
    "check the credential, the clock, and s3:GetObject on the files (for a pinned version s3:GetObjectVersion, for one "
    "encrypted with KMS kms:Decrypt on its key); without s3:ListBucket on the bucket, S3 answers a missing file in the "
    "same way: grant it, so that the two can be told apart"
)
_NO_ROLE = (
    "the role cannot be taken on: allow sts:AssumeRole on role.arn to this credential, and let the role's trust policy "
    "name it, with role.external_id if it asks for one"
)
_CERTAIN = (botocore.ConnectTimeoutError, botocore.EndpointConnectionError, botocore.ProxyConnectionError)
_PASSING = (
    botocore.CapacityNotAvailableError,
    botocore.ChecksumError,
    botocore.ConnectionError,
    botocore.FlexibleChecksumError,
    botocore.HTTPClientError,
    botocore.IncompleteReadError,
    botocore.MetadataRetrievalError,
)


def refusal(error: ClientError, place: str) -> ConnectorError:
    """Translate an answer of S3, or of STS, by what happens next."""
    status, code = status_of(error), code_of(error)
    refused = f"{place} refused {error.operation_name} with {status}{f' {code}' if re.fullmatch(_CODE, code) else ''}"
    # A role that is taken on leaves a session behind, perhaps also when the answer says that STS failed.
    undone = error.operation_name != "AssumeRole" or status < HTTPStatus.INTERNAL_SERVER_ERROR
    if status in _SLOW_DOWN or code in _THROTTLED:
        return RateLimited(f"{refused}: it asks to slow down", retry_after=_retry_after(error), no_effect=undone)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code == "RequestTimeout":
        return Unavailable(f"{refused}: it failed on its side", no_effect=undone)
    if remedy := _remedy(error, status, code):
        return AccessDenied(f"{refused}: {remedy}")
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{refused}: there is no such file")
    return Rejected(refused)


def _remedy(error: ClientError, status: int, code: str) -> str:
    """Return what to change in the set-up; empty if nothing is wrong with it."""
    if status in KEEP_OUT and clock_is_off(error):
        return _CLOCK
    if code.startswith("KMS."):
        return "the KMS key of the file cannot be used: enable it again, or store the file under another one"
    if code not in _REMEDIES and error.operation_name == "AssumeRole":
        return _NO_ROLE
    if code not in _REMEDIES and status in KEEP_OUT:
        return _NO_PERMISSION
    remedy = _REMEDIES.get(code, _REGION if status < HTTPStatus.BAD_REQUEST else "")
    return f"{remedy}{_where_the_bucket_lies(error)}" if remedy else ""


def failure(error: Exception, place: str, *, effect: bool = False) -> ConnectorError:
    """Translate a failure on our side: the network's passes by itself, anything else is a wrong set-up.

    Args:
        error: What botocore raised.
        place: Where.
        effect: Whether a session of a role may have been opened meanwhile.
    """
    what, no_effect = type(error).__name__, not effect or isinstance(error, _CERTAIN)
    if isinstance(error, botocore.SSLError):
        trust = "its certificate is not trusted, or it speaks no TLS there: correct ca_file or endpoint_url"
        return Unavailable(f"{place} cannot be reached ({what}): {trust}", no_effect=True)
    if isinstance(error, _PASSING):
        check = "check that endpoint_url is right and ca_file its authority"
        return Unavailable(f"{place} cannot be reached ({what}): {check}", no_effect=no_effect)
    if isinstance(error, ResponseParserError):
        return no_store(place, no_effect=no_effect)
    if isinstance(error, RuntimeError):
        return AccessDenied(f"{place} cannot be asked ({what}): {_SESSION}")
    return AccessDenied(f"{place} cannot be asked ({what}): check the credential, region, bucket and endpoint_url")


def no_store(place: str, *, no_effect: bool = True) -> Unavailable:
    """Return what is raised if something else answers than a store, such as a proxy with a page of its own."""
    return Unavailable(f"{place} answered what no store answers: check endpoint_url and proxies", no_effect=no_effect)


def status_of(error: ClientError) -> int:
    """Return the status of a refusal."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def code_of(error: ClientError) -> str:
    """Return the code of a refusal."""
    return error.response["Error"].get("Code", "")


def headers_of(error: ClientError) -> Mapping[str, str]:
    """Return the headers of a refusal, by their names in lower case."""
    return error.response["ResponseMetadata"]["HTTPHeaders"]


def clock_is_off(error: ClientError) -> bool:
    """Compare our clock with that of whoever refused (RFC 9110 6.6.1); refusals name it in many ways, or not at all."""
    try:
        theirs = parsedate_to_datetime(headers_of(error).get("date", "")).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(datetime.now(UTC) - theirs) > _CLOCK_MAY_BE_OFF


def answer_in(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Put a plain HTTP answer, its headers in lower case, into the form that the client gives to its own."""
    told = {name: re.search(rf"<{name}>({_CODE}|[a-z0-9-]+)</{name}>".encode(), body) for name in ("Code", "Region")}
    return {
        "Error": {name: found[1].decode() if found else "" for name, found in told.items()},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }


def _where_the_bucket_lies(error: ClientError) -> str:
    told: Any = error.response["Error"]
    region = headers_of(error).get("x-amz-bucket-region") or told.get("Region", "")
    return f"; the bucket lies in {region}" if re.fullmatch("[a-z0-9-]{1,30}", region) else ""


def _retry_after(error: ClientError) -> timedelta | None:
    """Read how many seconds to wait (RFC 9110 10.2.3); a date is left to the runner's own back-off."""
    seconds = headers_of(error).get("retry-after", "")
    return timedelta(seconds=int(seconds)) if re.fullmatch("[0-9]{1,6}", seconds) else None
