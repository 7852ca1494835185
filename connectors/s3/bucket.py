"""One bucket, asked and signed for with botocore."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from botocore.exceptions import ClientError

from orchestrator.errors import AccessDenied, NotFound, Rejected
from orchestrator_connectors.s3.access import Access
from orchestrator_connectors.s3.failures import (
    KEEP_OUT,
    clock_is_off,
    code_of,
    headers_of,
    no_store,
    refusal,
    status_of,
)
from orchestrator_connectors.s3.settings import S3Settings

LONGEST_LINK = timedelta(days=7)
"""Signature version 4 allows no more (docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html)."""

_CHECKED_LINK = timedelta(minutes=1)
_PLAIN_NAME = r"[A-Za-z0-9 ._()+-]+"

Found = Mapping[str, Any]
"""Names one object, as parameters of a request: ``Key``, and ``VersionId`` if it is pinned to a version."""


class Bucket:
    """The bucket. Everything here raises what botocore raises, unless it is known better.

    Args:
        settings: Where the bucket is, and as whom it is asked.
        place: What it is called in errors.
    """

    def __init__(self, settings: S3Settings, place: str) -> None:
        self._settings = settings
        self._place = place
        self._access = Access(settings, place)

    def holds(self, found: Found) -> bool:
        """See whether the object is there."""
        try:
            head = self._access.client.head_object(Bucket=self._settings.bucket, **found)
        except ClientError as error:
            if not _says_absent(error, pinned="VersionId" in found):
                raise
            if self._is_missing():
                raise AccessDenied(f"{self._place} does not exist: correct bucket, region or endpoint_url") from error
            return False
        if "ETag" not in head:  # every store gives one; a proxy's own page, or half of an answer, has none
            raise no_store(self._place)
        return True

    def signed(self, found: Found, valid_for: timedelta) -> tuple[str, datetime]:
        """Sign a link, and say when it ends: with the session that signs it, if that ends sooner."""
        ends = self._access.session_ends(least=min(valid_for, self._settings.least_link))
        lives = min(valid_for, LONGEST_LINK, ends - datetime.now(UTC))
        url = self._access.url("get_object", lives, **found, ResponseContentDisposition=_saved_as(found["Key"]))
        return url, min(_end_of(url), ends)

    def life_of_links(self) -> str:
        """Say how long links live that this credential signs."""
        left = self._access.session_ends(least=self._settings.least_link) - datetime.now(UTC)
        if left > LONGEST_LINK:
            return f"links live up to {LONGEST_LINK.days} days"
        role = self._settings.role
        longest = timedelta(hours=role.hours) if role else left
        return (
            f"links end with the session that signs them: they live {self._settings.least_link_minutes:g} to "
            f"{longest / timedelta(minutes=1):.0f} minutes, if a process asks for longer"
        )

    def list_opens(self) -> None:
        """Open a link to the bucket's list."""
        _, begins = self._access.open(self._access.url("list_objects_v2", _CHECKED_LINK, MaxKeys=1))
        if b"<ListBucketResult" not in begins:
            raise no_store(self._place)

    def known_opens(self, found: Found) -> None:
        """Open a link to the known asset."""
        try:
            headers, _ = self._access.open(self._access.url("get_object", _CHECKED_LINK, **found))
        except ClientError as error:
            told = refusal(error, self._place)
            if isinstance(told, NotFound | Rejected):
                wrong = "correct known_asset, prefix, or its line in objects"
                raise type(told)(f"{told}; {wrong}") from error
            if self._lacks_kms(found, error):
                raise AccessDenied(
                    f"{self._place}: the known asset is encrypted with KMS, and this credential may not use its key: "
                    "allow kms:Decrypt on it, in the policy of the credential and in that of the key"
                ) from error
            raise
        if "etag" not in headers:
            raise no_store(self._place)

    def _is_missing(self) -> bool:
        """Ask apart, because the answer to a HEAD has no body: a missing bucket looks like a missing file."""
        try:
            self._access.client.head_bucket(Bucket=self._settings.bucket)
        except ClientError as error:
            if status_of(error) not in KEEP_OUT | {HTTPStatus.NOT_FOUND}:
                raise
            return status_of(error) == HTTPStatus.NOT_FOUND
        return False

    def _lacks_kms(self, found: Found, refused: ClientError) -> bool:
        """Tell whether a file may be seen, and not be read, because of the key that it is encrypted with."""
        if code_of(refused) != "AccessDenied" or clock_is_off(refused):
            return False
        try:
            head = self._access.client.head_object(Bucket=self._settings.bucket, **found)
        except ClientError:
            return False
        return head.get("ServerSideEncryption", "").startswith("aws:kms")


def _says_absent(error: ClientError, *, pinned: bool) -> bool:
    """Tell whether the answer to a HEAD says that there is no such file, or no such version of it.

    A version that is no more than the mark of a deletion answers 405, one whose id S3 never gives 400
    (docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html).
    """
    match status_of(error):
        case HTTPStatus.NOT_FOUND:
            return True
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return headers_of(error).get("x-amz-delete-marker") == "true"
        case HTTPStatus.BAD_REQUEST:
            return pinned
        case _:
            return False


def _saved_as(key: str) -> str:
    """Name the file for the customer's browser (RFC 6266 4.1); letters beyond ASCII are written as RFC 8187 says."""
    name = key.rpartition("/")[2]
    if not name:
        return "attachment"
    plain = re.fullmatch(_PLAIN_NAME, name)
    return f'attachment; filename="{name}"' if plain else f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _end_of(url: str) -> datetime:
    """Read from a signed link when it ends."""
    query = parse_qs(urlsplit(url).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))
