"""Files in one folder of a Dropbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field, SecretStr, StringConstraints

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
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.toolkit import within
from orchestrator.toolkit.http import HttpSettings
from orchestrator.toolkit.oauth import OAuthAccess, OAuthApp, TokenEndpoint
from orchestrator.toolkit.settings import BaseUrl, NetworkSettings
from orchestrator.toolkit.tokens import Tokens

if TYPE_CHECKING:
    from dropbox import Dropbox
    from requests import PreparedRequest, Request, Session

T = TypeVar("T")

TEMPORARY = timedelta(hours=4)
"""What a temporary link lives (dropbox.com/developers/documentation/http/documentation#files-get_temporary_link)."""
AUTHORIZE_URL = "https://www.dropbox.com/oauth2/authorize"
SCOPES = "files.metadata.read files.content.read sharing.read sharing.write"
_API = "https://api.dropboxapi.com"
"""Where the client library always goes; ``api_url`` stands in its place."""


class DropboxSettings(NetworkSettings, frozen=True):
    """Which app, which folder, and what kind of links."""

    app_key: Annotated[str, Field(min_length=1)]
    app_secret: SecretStr | None = None
    """An app without a secret is authorised with PKCE alone."""
    token_file: Path
    """Where ``orchestrator connections authorize`` keeps the tokens."""
    folder: Annotated[str, StringConstraints(pattern=r"^(/.*[^/])?$")] = ""
    """All assets lie in it: ``/Products``; empty for the app's own folder, or the whole Dropbox."""
    links: Literal["temporary", "shared"] = "temporary"
    """``temporary`` links live 4 hours. ``shared`` ones live as long as the process asks, are the same for all
    customers, and need a plan that lets links expire; where it does not, temporary ones are issued."""
    api_url: BaseUrl = _API
    known_asset: AssetKey | None = None
    """A file that is always there; ``check`` looks for it."""


class DropboxFiles:
    """One folder of product files.

    Args:
        settings: Which one, and how it is reached.
    """

    def __init__(self, settings: DropboxSettings) -> None:
        self._settings = settings
        url = f"{settings.api_url}/oauth2/token"
        reached = HttpSettings(base_url=url, ca_file=settings.ca_file, timeout_seconds=settings.timeout_seconds)
        app = OAuthApp(
            client_id=settings.app_key,
            client_secret=settings.app_secret,
            authorize_url=AUTHORIZE_URL,
            scope=SCOPES,
            more={"token_access_type": "offline"},
        )
        endpoint = TokenEndpoint("Dropbox", reached, setting="api_url", secrets="app_key or app_secret")
        self._access = OAuthAccess(app, settings.token_file, endpoint)
        # A temporary link is simply issued again; a file has its shared link once.
        doubt = DoubtClass.PURE if settings.links == "temporary" else DoubtClass.NATURAL
        self.settlements = {"link_to": Settlement(doubt=doubt, timeout=settings.timeout)}
        self._place = f"Dropbox folder {settings.folder or '/'!r}"

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there."""
        from dropbox.files import FileMetadata

        try:
            found = self._ask(lambda client: client.files_get_metadata(self._path(asset)))
        except NotFound:
            return False
        return isinstance(found, FileMetadata)

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Issue a link: a temporary one, or the file's shared one."""
        if valid_for < timedelta(seconds=1):
            raise Rejected("a link must be valid for at least one second")
        ends = datetime.now(UTC).replace(microsecond=0) + valid_for
        if self._settings.links == "shared" and (url := self._ask(lambda client: self._shared(client, asset, ends))):
            return Link(asset=asset, url=url, expires_at=ends, kind="shared")
        issued_at = datetime.now(UTC)
        url = self._ask(lambda client: client.files_get_temporary_link(self._path(asset)).link)
        return Link(asset=asset, url=url, expires_at=min(issued_at + TEMPORARY, ends), kind="temporary")

    def check(self) -> str:
        """See the folder, and the known asset in it."""
        known = self._settings.known_asset
        if known is not None and not self.exists(Asset(key=known)):
            raise NotFound(f"{self._place}: the known asset is not there; correct folder or known_asset")
        try:
            self._ask(lambda client: client.files_list_folder(self._settings.folder, limit=1))
        except NotFound as exc:
            raise NotFound(f"{self._place} does not exist: correct folder") from exc
        return f"{self._place} answers to this credential{' and holds the known asset' if known else ''}"

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person grants access (dropbox.com/developers/documentation/http, "/oauth2/authorize")."""
        return self._access.authorization_url(redirect_uri, state)

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code for tokens, and keep them."""
        self._access.redeem(code, redirect_uri)
        return f"Access is granted; it is kept in {self._settings.token_file}. Now run: orchestrator check"

    def _path(self, asset: Asset) -> str:
        return f"{self._settings.folder}/{asset.key}"

    def _shared(self, client: Dropbox, asset: Asset, ends: datetime) -> str:
        """Return the file's shared link, made or made to last long enough; empty if the plan lets none expire."""
        from dropbox.exceptions import ApiError
        from dropbox.sharing import CreateSharedLinkWithSettingsError, SharedLinkSettings

        settings = SharedLinkSettings(expires=ends.replace(tzinfo=None))
        try:
            made = client.sharing_create_shared_link_with_settings(self._path(asset), settings)
            return _for_download(made.url)
        except ApiError as exc:
            if not isinstance(exc.error, CreateSharedLinkWithSettingsError):
                raise
            if exc.error.is_settings_error():
                return ""
            if not exc.error.is_shared_link_already_exists():
                raise
        return self._existing(client, asset, ends)

    def _existing(self, client: Dropbox, asset: Asset, ends: datetime) -> str:
        """Return the shared link that the file has; one without an end is left as it is, for others may use it."""
        from dropbox.exceptions import ApiError
        from dropbox.sharing import SharedLinkSettings

        links = client.sharing_list_shared_links(self._path(asset), direct_only=True).links
        if not links:
            return ""
        (found, *_) = links
        if found.expires is not None and found.expires.replace(tzinfo=UTC) < ends:
            settings = SharedLinkSettings(expires=ends.replace(tzinfo=None))
            try:
                client.sharing_modify_shared_link_settings(found.url, settings)
            except ApiError as exc:
                if exc.error.is_settings_error():
                    return ""
                raise
        return _for_download(found.url)

    def _ask(self, question: Callable[[Dropbox], T]) -> T:
        """Ask with a token that is fresh; one that is refused all the same is refreshed once."""
        from dropbox.exceptions import AuthError

        def ask() -> T:
            tokens = self._access.fresh()
            try:
                return question(self._client(tokens))
            except AuthError as exc:
                if not (exc.error and exc.error.is_expired_access_token()):
                    raise
                return question(self._client(self._access.renewed(tokens)))

        return self._explained(lambda: within(self._settings.timeout, ask))

    def _explained(self, ask: Callable[[], T]) -> T:
        from dropbox.exceptions import DropboxException
        from requests import RequestException

        try:
            return ask()
        except ConnectorError:
            raise
        except TimeoutError as exc:
            raise Unavailable(f"{self._place} gave no answer within {self._settings.timeout_seconds:g} s") from exc
        except (DropboxException, RequestException) as exc:
            raise _translated(exc, self._place) from exc
        except Exception as exc:  # the library asserts, and validates answers with errors of its own
            raise Unavailable(f"{self._place} answered what its library cannot read ({type(exc).__name__})") from exc

    def _client(self, tokens: Tokens) -> Dropbox:
        from dropbox import Dropbox

        return Dropbox(
            oauth2_access_token=tokens.access_token,
            session=self._session,
            timeout=self._settings.timeout_seconds,
            # The runner tries again, not the client: else one call would last several time-outs.
            max_retries_on_error=0,
            max_retries_on_rate_limit=0,
        )

    @cached_property
    def _session(self) -> Session:
        try:
            from requests import Session
        except ImportError as exc:
            raise ConfigurationError(
                "the dropbox connector needs: pip install 'process-orchestrator[dropbox]'"
            ) from exc
        api_url = self._settings.api_url

        class AtOurUrl(Session):
            """The library knows one host alone."""

            def prepare_request(self, request: Request) -> PreparedRequest:
                request.url = str(request.url).replace(_API, api_url, 1)
                return super().prepare_request(request)

        session = AtOurUrl()
        session.verify = True if self._settings.ca_file is None else str(self._settings.ca_file)
        return session


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="dropbox", provides=(FileLinks,), settings=DropboxSettings, build=DropboxFiles))


def _for_download(url: str) -> str:
    """Turn the address of a page into that of the file (help.dropbox.com, "Force a file to download")."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), "dl": "1"}
    return parts._replace(query=urlencode(query)).geturl()


def _translated(error: Exception, place: str) -> ConnectorError:
    """Translate by what happens next. Its own text may hold a path or a link, so it stays out."""
    from requests import RequestException

    if isinstance(error, RequestException):
        return _lost(error, place)
    return _refused(error, place)


def _lost(error: Exception, place: str) -> ConnectorError:
    import requests

    match error:
        case requests.exceptions.SSLError():
            return AccessDenied(f"{place}: the server's certificate is not trusted; correct api_url or ca_file")
        case requests.ConnectionError():
            return Unavailable(f"{place} cannot be reached ({type(error).__name__}): check api_url and the network")
        case _:
            return Unavailable(f"{place} was lost in the middle of a call ({type(error).__name__})")


def _refused(error: Exception, place: str) -> ConnectorError:
    from dropbox import exceptions as dropbox

    match error:
        case dropbox.ApiError():
            return _refusal(error.error, place)
        case dropbox.RateLimitError():
            wait = None if error.backoff is None else timedelta(seconds=float(error.backoff))
            return RateLimited(f"{place} asks to slow down", retry_after=wait)
        case dropbox.AuthError():
            return AccessDenied(f"{place} refuses the token: {_why_no_access(error)}")
        case dropbox.InternalServerError():
            return Unavailable(f"{place} failed on its side ({error.status_code})")
        case dropbox.HttpError() if error.status_code < HTTPStatus.BAD_REQUEST:
            return AccessDenied(f"{place}: the answer points elsewhere; correct api_url", no_effect=False)
        case _:  # a bad path root, bad input, or an account that is refused
            return AccessDenied(f"{place} cannot be used by this app: correct app_key, folder or the app's permissions")


def _why_no_access(error: Any) -> str:
    if error.error is not None and error.error.is_missing_scope():
        return f"the app lacks a permission; give it {SCOPES}, and authorise again"
    return "authorise again, with: orchestrator connections authorize NAME"


def _refusal(error: Any, place: str) -> ConnectorError:
    """Tell what an operation's own error says (the unions of the library, by their tags)."""
    tag = getattr(error, "_tag", "")
    below = getattr(getattr(error, "_value", None), "_tag", "")
    if tag == "path" and below in ("not_found", "not_file", "malformed_path"):
        return NotFound(f"{place}: there is no such file")
    if tag == "email_not_verified":
        return AccessDenied(f"{place}: the account's e-mail address is not verified; verify it at dropbox.com")
    if tag in ("access_denied", "not_allowed", "banned_member") or below == "restricted_content":
        return AccessDenied(f"{place}: this file may not be shared ({below or tag})")
    return Rejected(f"{place} refuses ({' '.join(filter(None, [tag, below])) or 'without a reason'})")
