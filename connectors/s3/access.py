"""How the bucket is reached: the credential, the session that it may be, and the client that signs with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as NotConnected
from botocore.httpsession import URLLib3Session
from botocore.session import Session, get_session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from orchestrator.errors import AccessDenied, Unavailable
from orchestrator_connectors.s3.failures import answer_in
from orchestrator_connectors.s3.settings import S3Role, S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NEVER = datetime.max.replace(tzinfo=UTC)
_BEGINNING = 10_000
_SESSION_NAME = "process-orchestrator"
"""How sessions of a role are called in the logs of the account (CloudTrail)."""


class Access:
    """The bucket, reached with one credential. Making it may ask the machine's role over the network.

    Args:
        settings: Where the bucket is, and as whom it is asked.
        place: What it is called in errors.
    """

    def __init__(self, settings: S3Settings, place: str) -> None:
        self._settings = settings
        self._place = place
        self._session = self._given()
        if settings.role is not None:
            self._session = self._with_role(settings.role, self._session)
        self._credentials: Any = self._session.get_credentials()
        if isinstance(self._credentials, RefreshableCredentials):
            _renew_early(self._credentials, settings.least_link)
        self.client = cast("S3Client", self._made_client(self._session, "s3"))

    def session_ends(self, least: timedelta) -> datetime:
        """Return when the credential ends, because every link that it signs ends with it.

        Args:
            least: How long it must last; it is renewed before, if it can be.

        Raises:
            ConnectorError: It ends too soon, or nobody knows when.
        """
        ends, renewable = _NEVER, isinstance(self._credentials, RefreshableCredentials)
        if renewable:
            self._credentials.get_frozen_credentials()  # renews them first, if it is time
            ends = self._credentials._expiry_time  # noqa: SLF001 - botocore has no public name for it
        elif self._credentials is not None and self._credentials.token:
            if self._settings.session_ends is None:
                raise AccessDenied(
                    f"{self._place}: this credential is a session, and nobody says when it and its links end: give "
                    "its end too (AWS_CREDENTIAL_EXPIRATION), or a credential that says it itself"
                )
            ends = self._settings.session_ends
        if ends - datetime.now(UTC) >= least:
            return ends
        short = f"{self._place}: links would end with the session, at {ends:%H:%M} UTC on {ends:%d %B}"
        if renewable:
            raise Unavailable(f"{short}, before least_link_minutes; it waits for a new session", no_effect=True)
        raise AccessDenied(f"{short}: give new keys, with their session_token and session_ends")

    def url(self, operation: str, lives: timedelta, **parameters: Any) -> str:
        """Sign a link; nobody is asked, unless it is time to renew the session."""
        given = {"Bucket": self._settings.bucket, **parameters}
        return self.client.generate_presigned_url(operation, Params=given, ExpiresIn=int(lives.total_seconds()))

    def open(self, url: str) -> tuple[Mapping[str, str], bytes]:
        """Begin to download what is behind a link, as a customer does.

        Returns:
            The answer's headers, by their names in lower case, and how its body begins.

        Raises:
            ClientError: It does not open; as the client raises it for the same answer.
        """
        request = AWSRequest("GET", url, headers={"Range": "bytes=0-0"}, stream_output=True)
        try:
            response = self._browser().send(request.prepare())
            begins = response.raw.read(_BEGINNING)
            response.raw.close()  # not every store keeps to the range
        except (NotConnected, HTTPClientError, HTTPError) as error:
            # Its own message holds the signed link.
            untold: Any = ResponseStreamingError if isinstance(error, HTTPError) else type(error)
            raise untold(endpoint_url="a link", proxy_url="a proxy", error="while a link was opened") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise ClientError(answer_in(response.status_code, headers, begins), "GetObject")
        return headers, begins

    def _given(self) -> Session:
        """Return a session with the credential of the settings, or with whatever botocore finds."""
        settings, session = self._settings, get_session()
        if settings.access_key_id and settings.secret_access_key:
            given = (settings.access_key_id, settings.secret_access_key, settings.session_token)
            session.set_credentials(*(secret.get_secret_value() for secret in given if secret is not None))
        return session

    def _with_role(self, role: S3Role, given: Session) -> Session:
        """Return a session that takes on the role with the credential of the given one, at its first use."""
        source = given.get_credentials()
        if source is None:
            raise NoCredentialsError
        asked = {"RoleSessionName": _SESSION_NAME, "DurationSeconds": round(role.hours * 3600)}
        if role.external_id is not None:
            asked["ExternalId"] = role.external_id
        fetcher = AssumeRoleCredentialFetcher(
            lambda service, **keys: self._made_client(given, service, **keys),
            source,
            role.arn,
            extra_args=asked,
            expiry_window_seconds=round(self._settings.least_link.total_seconds()),
        )
        session = get_session()
        session.register_component("credential_provider", CredentialResolver([_TakenOn(fetcher)]))
        return session

    def _made_client(self, session: Any, service: str, **keys: Any) -> Any:
        settings = self._settings
        # For "auto", botocore signs links for the global host, which redirects, or refuses young regions,
        # and a signed link does not survive that. "virtual" names the region's host.
        amazons_choice = settings.endpoint_url is None and settings.addressing_style == "auto"
        config = Config(
            region_name=settings.region,
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "virtual" if amazons_choice else settings.addressing_style},
            connect_timeout=settings.timeout_seconds,
            read_timeout=settings.timeout_seconds,
            # The runner tries again, not the client: else one call would last several time-outs.
            retries={"total_max_attempts": 1},
        )
        # Stores other than Amazon's take on roles at the address of the store itself (MinIO, Ceph).
        client = session.create_client(
            service,
            endpoint_url=settings.endpoint_url,
            verify=self._trusted,
            config=config,
            **keys,
        )
        client.meta.events.register_first(f"needs-retry.{service}", _refuse_at_once)
        return client

    @property
    def _trusted(self) -> str | bool:
        """A file of authorities; True for those of the system."""
        return str(self._settings.ca_file or self._session.get_config_variable("ca_bundle") or "") or True

    def _browser(self) -> URLLib3Session:
        """Return what opens links: without credential, and otherwise set up as the client is."""
        # botocore's stubs are narrower here than botocore.
        options: dict[str, Any] = {"verify": self._trusted, "timeout": self._settings.timeout_seconds}
        return URLLib3Session(proxies=get_environ_proxies(self.client.meta.endpoint_url), **options)


class _TakenOn(CredentialProvider):
    """Gives the sessions of a role, each renewed in time."""

    METHOD = "assume-role"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> Credentials:
        return DeferredRefreshableCredentials(self._fetched, self.METHOD)

    def _fetched(self) -> Any:
        try:
            return self._fetcher.fetch_credentials()
        except (AttributeError, LookupError, TypeError) as error:  # an answer that holds no session
            raise CredentialRetrievalError(provider=self.METHOD, error_msg=type(error).__name__) from error


def _renew_early(credentials: Any, least: timedelta) -> None:
    """Let botocore renew a session as soon as it leaves a link too little.

    botocore takes this only when it makes the object itself, and gives it no public name.
    """
    credentials._advisory_refresh_timeout = credentials._mandatory_refresh_timeout = least.total_seconds()  # noqa: SLF001


def _refuse_at_once(response: Any, operation: Any, **_others: object) -> None:
    """Raise a refusal before botocore follows it to another region: its links would still name the wrong one.

    Behind a proxy that redirects every request, following also never ends (seen with botocore 1.44). The refusal's own
    text stays out: STS may repeat the request in it, with its token.
    """
    if response is not None and response[0].status_code >= HTTPStatus.MULTIPLE_CHOICES:
        told: Any = {**response[1], "Error": {**response[1].get("Error", {}), "Message": "refused"}}
        raise ClientError(told, operation.name)
