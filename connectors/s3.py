"""Files in one bucket of Amazon S3, or of a store that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field, FilePath, SecretStr, StringConstraints, model_validator

from orchestrator.capabilities import Asset, FileLinks, Link
from orchestrator.capabilities.files import AssetKey
from orchestrator.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectorError,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
)
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl, within

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.httpsession import URLLib3Session
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

LONGEST_LINK = timedelta(days=7)
"""Signature version 4 allows no more (docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html)."""

_ENDPOINT = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?$"
_CODE = r"\w{1,60}"


class S3Settings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Which bucket, where, and as whom."""

    bucket: Annotated[str, Field(min_length=3)]
    region: Annotated[str, Field(min_length=1)] = "us-east-1"
    endpoint_url: Annotated[str, StringConstraints(pattern=_ENDPOINT)] | None = None
    """Scheme and host of a store other than Amazon's, as customers reach it: it stands in their links."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*/)?$")] = ""
    """Folder that all assets lie in; ends with a slash."""
    access_key_id: SecretStr | None = None
    """Without a key, the environment, the shared files or the machine's role are asked, as boto3 does."""
    secret_access_key: SecretStr | None = None
    ca_file: FilePath | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10
    """Total time for one call."""
    known_asset: AssetKey | None = None
    """A file that is always there; ``check`` downloads its first byte."""

    @model_validator(mode="after")
    def _has_both_keys_or_none(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: give both, or neither")
        return self


class S3Files:
    """One bucket of product files.

    Nothing here changes anything at S3, so that every failure is one without effect.
    """

    def __init__(self, settings: S3Settings) -> None:
        try:
            from botocore.session import get_session
        except ImportError as error:
            raise ConfigurationError("the s3 connector needs boto3: pip install 'process-orchestrator[s3]'") from error
        self._settings = settings
        self._core = get_session()
        if settings.access_key_id and settings.secret_access_key:
            keys = (settings.access_key_id, settings.secret_access_key)
            self._core.set_credentials(*(key.get_secret_value() for key in keys))
        self._making_client = Lock()
        self._place = f"bucket {settings.bucket!r} at {settings.endpoint_url or f'S3 in {settings.region}'}"

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there."""
        return self._ask(lambda: self._sees(asset))

    def link_to(
        self,
        asset: Asset,
        *,
        valid_for: timedelta,
        effect_id: str | None = None,  # noqa: ARG002 - signing leaves nothing behind that could carry it
    ) -> Link:
        """Sign a download link; S3 is not asked, so that the file may be missing."""
        seconds = int(min(valid_for, LONGEST_LINK).total_seconds())
        if seconds < 1:
            raise Rejected("a link must be valid for at least one second")
        # With a key of its own nothing is asked of anybody, and no deadline needs to be watched.
        ask = self._ask if self._settings.access_key_id is None else self._say
        return ask(lambda: self._signed(asset, seconds))

    def settlement(self, operation: str) -> Settlement:
        """Declare that a link is simply signed again."""
        if operation != "link_to":
            raise LookupError(f"the s3 connector has no effect {operation!r}")
        return Settlement(doubt=DoubtClass.PURE, timeout=self._limit)

    def check(self) -> str:
        """Open a link as a customer does: only that proves region, addressing, clock and key at once."""
        known = self._settings.known_asset
        if known is None:
            self._ask(lambda: self._open(self._url("list_objects_v2", 60, MaxKeys=1)))
            return f"{self._place} answers to this credential; with known_asset, a download is tried as well"
        self._ask(lambda: self._open(self._url("get_object", 60, Key=self._key(Asset(key=known)))))
        return f"{self._place}: a link to the known asset opens"

    @property
    def _limit(self) -> timedelta:
        return timedelta(seconds=self._settings.timeout_seconds)

    def _key(self, asset: Asset) -> str:
        return f"{self._settings.prefix}{asset.key}"

    def _sees(self, asset: Asset) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._client.head_object(Bucket=self._settings.bucket, Key=self._key(asset))
        except ClientError as error:
            if _status_of(error) != HTTPStatus.NOT_FOUND:
                raise
            if self._bucket_is_missing():
                raise AccessDenied(f"{self._place} does not exist: correct bucket, region or endpoint_url") from error
            return False
        return True

    def _bucket_is_missing(self) -> bool:
        """Ask apart, because the answer to a HEAD has no body: a missing bucket looks like a missing file."""
        from botocore.exceptions import ClientError

        try:
            self._client.head_bucket(Bucket=self._settings.bucket)
        except ClientError as error:
            if _status_of(error) not in _KEEP_OUT | {HTTPStatus.NOT_FOUND}:
                raise
            return _status_of(error) == HTTPStatus.NOT_FOUND
        return False

    def _signed(self, asset: Asset, seconds: int) -> Link:
        session_ends = self._session_ends()
        name = asset.file_name
        # An asset's key is plain ASCII without quotes, so that the simple form is enough (RFC 6266 4.1 and appendix D).
        disposition = f'attachment; filename="{name}"' if name else "attachment"
        url = self._url("get_object", seconds, Key=self._key(asset), ResponseContentDisposition=disposition)
        return Link(asset=asset, url=url, expires_at=min(_end_of(url), session_ends))

    def _session_ends(self) -> datetime:
        """Find when temporary credentials end, because every link that they signed ends with them."""
        credentials: Any = self._core.get_credentials()
        if credentials is None:
            return datetime.max.replace(tzinfo=UTC)
        credentials.get_frozen_credentials()  # refreshes them first, if they are about to end
        # botocore has no public name for it.
        ends = getattr(credentials, "_expiry_time", None)
        return ends if isinstance(ends, datetime) else datetime.max.replace(tzinfo=UTC)

    def _url(self, operation: Literal["get_object", "list_objects_v2"], seconds: int, **parameters: object) -> str:
        return self._client.generate_presigned_url(
            operation, Params={"Bucket": self._settings.bucket, **parameters}, ExpiresIn=seconds
        )

    def _open(self, url: str) -> None:
        """Fetch the first byte behind a link, and raise what the client raises for the same answer."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NotConnected

        request = AWSRequest("GET", url, headers={"Range": "bytes=0-0"}, stream_output=True)
        try:
            response = self._http.send(request.prepare())
        except (NotConnected, HTTPClientError) as error:
            # Its own message holds the signed link.
            raise HTTPClientError(error=type(error).__name__) from None
        try:
            if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                raise ClientError(_answer(response.status_code, response.headers, response.content), "GetObject")
        finally:
            response.raw.close()

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask within the time that one call may take."""
        return self._say(lambda: within(self._limit, question))

    def _say(self, question: Callable[[], T]) -> T:
        """Say in the orchestrator's words what goes wrong."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return question()
        except ClientError as error:
            raise _refusal(error, self._place) from error
        except (BotoCoreError, ValueError) as error:
            raise _failure(error, self._place) from error
        except TimeoutError as error:
            message = f"{self._place} gave no answer within {self._settings.timeout_seconds:g} s"
            raise Unavailable(message, no_effect=True) from error

    @property
    def _client(self) -> S3Client:
        with self._making_client:  # a session of botocore makes only one at a time
            return self._made_client

    @cached_property
    def _made_client(self) -> S3Client:
        """The client, made at the first call: without own keys, making it asks the machine's role over the network."""
        from botocore.config import Config

        settings = self._settings
        # For "auto", botocore signs links for the global host, which redirects, or refuses young regions,
        # and a signed link does not survive that. "virtual" names the region's host.
        amazons_choice = settings.endpoint_url is None and settings.addressing_style == "auto"
        config = Config(
            region_name=settings.region,
            signature_version="s3v4",
            s3={"addressing_style": "virtual" if amazons_choice else settings.addressing_style},
            connect_timeout=settings.timeout_seconds,
            read_timeout=settings.timeout_seconds,
            # The runner tries again, not the client: else one call would last several time-outs.
            retries={"total_max_attempts": 1},
        )
        client = self._core.create_client("s3", endpoint_url=settings.endpoint_url, verify=self._trusted, config=config)
        client.meta.events.register_first("needs-retry.s3", _refuse_at_once)
        return cast("S3Client", client)

    @property
    def _trusted(self) -> str | bool:
        """A file of authorities; True for those of the system."""
        return str(self._settings.ca_file or self._core.get_config_variable("ca_bundle") or "") or True

    @cached_property
    def _http(self) -> URLLib3Session:
        """What opens links: without credential, and otherwise set up as the client is."""
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        # botocore's stubs are narrower here than botocore.
        options: dict[str, Any] = {"verify": self._trusted, "timeout": self._settings.timeout_seconds}
        return URLLib3Session(proxies=get_environ_proxies(self._client.meta.endpoint_url), **options)


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="s3", provides=(FileLinks,), settings=S3Settings, build=S3Files))


def _refuse_at_once(response: Any, operation: Any, **_others: object) -> None:
    """Raise a refusal before botocore follows it to another region: its links would still name the wrong one.

    Behind a proxy that redirects every request, following also never ends (seen with botocore 1.44).
    """
    if response is not None and response[0].status_code >= HTTPStatus.MULTIPLE_CHOICES:
        from botocore.exceptions import ClientError

        raise ClientError(response[1], operation.name)


def _end_of(url: str) -> datetime:
    """Read from a signed link when it ends."""
    query = parse_qs(urlsplit(url).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))


_SLOW_DOWN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""S3 says "Reduce your request rate" with every 503, and a HEAD has no body to tell more."""
_KEEP_OUT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_SET_UP_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "AuthorizationQueryParametersError",
        "ExpiredToken",
        "IllegalLocationConstraintException",
        "InvalidToken",
        "NoSuchBucket",
        "TokenRefreshRequired",
        # What stands for the code when a HEAD is refused: an ended session, or another region's bucket.
        "400",
    }
)
"""Refusals that look like a wrong request or a missing file, yet come from a wrong set-up
(docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""


def _refusal(error: ClientError, place: str) -> ConnectorError:
    """Translate an answer of S3 by what happens next."""
    status, code = _status_of(error), error.response["Error"].get("Code", "")
    refused = f"{place} refused {error.operation_name} with {status} {code if re.fullmatch(_CODE, code) else ''}"
    if status in _SLOW_DOWN:
        return RateLimited(f"{refused}: it asks to slow down", retry_after=_retry_after(error))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code == "RequestTimeout":
        return Unavailable(f"{refused}: it failed on its side", no_effect=True)
    if status in _KEEP_OUT:
        return AccessDenied(
            f"{refused}: check the credential, the clock, and s3:GetObject on the files. Without s3:ListBucket on "
            "the bucket, S3 answers a missing file in the same way: grant it, so that the two can be told apart"
        )
    if code in _SET_UP_CODES or status < HTTPStatus.BAD_REQUEST:
        region = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "")
        lies = f"; the bucket lies in {region}" if re.fullmatch("[a-z0-9-]{1,30}", region) else ""
        return AccessDenied(f"{refused}: check that bucket, region, endpoint_url and credential belong together{lies}")
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{refused}: there is no such file")
    return Rejected(refused)


def _failure(error: Exception, place: str) -> ConnectorError:
    """Translate a failure on our side: the network's passes by itself, anything else is a wrong set-up."""
    from botocore import exceptions as botocore

    passing = (
        botocore.CapacityNotAvailableError,
        botocore.ChecksumError,
        botocore.ConnectionError,
        botocore.FlexibleChecksumError,
        botocore.HTTPClientError,
        botocore.IncompleteReadError,
        botocore.MetadataRetrievalError,
    )
    what = type(error).__name__
    if isinstance(error, passing):
        return Unavailable(f"{place} cannot be reached ({what}): check endpoint_url and ca_file", no_effect=True)
    return AccessDenied(f"{place} cannot be asked ({what}): check the credential, region, bucket and endpoint_url")


def _status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _retry_after(error: ClientError) -> timedelta | None:
    """Read how many seconds to wait (RFC 9110 10.2.3); a date is left to the runner's own back-off."""
    seconds = error.response["ResponseMetadata"]["HTTPHeaders"].get("retry-after", "")
    return timedelta(seconds=int(seconds)) if re.fullmatch("[0-9]{1,6}", seconds) else None


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Put a plain HTTP answer into the form that the client gives to its own."""
    code = re.search(rb"<Code>(\w+)</Code>", body)
    return {
        "Error": {"Code": code[1].decode() if code else ""},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "HTTPHeaders": {name.lower(): value for name, value in headers.items()},
        },
    }
