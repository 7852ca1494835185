"""A Dropbox on this computer, as far as product files need it: written from the vendor's documentation.

Every answer is encoded, and every argument decoded, by the validators of the vendor's own library (Stone), so
that it cannot say what the real one could not.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.testing.http_server import Answer, FaultyServer, Request

APP_KEY, APP_SECRET = "sandbox-app", "sandbox-secret"
TOKEN_LIFE = timedelta(hours=4)
_TEMPORARY = "/temporary/"
_SHARED = "/scl/fi/"


class _RouteError(Exception):
    """A route's own error: status 409."""

    def __init__(self, route: Any, error: Any) -> None:
        super().__init__()
        self.route = route
        self.error = error


class _NoAccess(Exception):
    """The token is refused: status 401.

    Args:
        tag: Why, as ``auth.AuthError`` names it.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


class DropboxServer(FaultyServer):
    """One account with files, while the context lasts.

    Args:
        files: Content by path, for example ``{"/patterns/dress.zip": b"..."}``.
        links_may_expire: Whether the account's plan lets shared links expire.
    """

    def __init__(self, files: Mapping[str, bytes], *, links_may_expire: bool = True) -> None:
        super().__init__()
        self.files = dict(files)
        self.links_may_expire = links_may_expire
        self.shared: dict[str, datetime | None] = {}
        """The paths that have a shared link, and when it ends."""
        self.refreshes = 0
        self.access_tokens: dict[str, datetime] = {}
        self.refresh_tokens: set[str] = set()
        self._codes: dict[str, tuple[str, str]] = {}
        self._temporary: dict[str, str] = {}

    def grant(self) -> tuple[str, str]:
        """Let an app in as if a person had granted it: an access token and a refresh token."""
        access, refresh = f"sl.{secrets.token_hex(8)}", secrets.token_hex(16)
        self.access_tokens[access] = datetime.now(UTC) + TOKEN_LIFE
        self.refresh_tokens.add(refresh)
        return access, refresh

    def code_for(self, redirect_uri: str, challenge: str) -> str:
        """Return the code that a person's browser would bring back."""
        code = secrets.token_hex(16)
        self._codes[code] = (redirect_uri, challenge)
        return code

    def expire_access_tokens(self) -> None:
        """Let all access tokens end now."""
        self.access_tokens = dict.fromkeys(self.access_tokens, datetime.now(UTC))

    def revoke(self) -> None:
        """Take every token away."""
        self.access_tokens.clear()
        self.refresh_tokens.clear()

    # --- calls -------------------------------------------------------------------------------------------------

    def respond(self, request: Request) -> Answer:
        """Serve a download, the token endpoint or a route of the API."""
        if request.method == "GET":
            content = self.download(request.path, request.query)
            return Answer(410, b"") if content is None else Answer(200, content)
        if request.path == "/oauth2/token":
            return Answer(*self.token(request.form))
        status, document = self.call(request.path.removeprefix("/2/"), request.bearer, request.body.decode())
        return Answer(status, document.encode())

    def refusal(self, status: int, headers: Mapping[str, str]) -> Answer:
        """Refuse; a caller that is to slow down is told by a tag."""
        if status != 429:  # noqa: PLR2004 - its HTTP status
            return Answer(status, b"oops", headers)
        error = {"reason": {".tag": "too_many_requests"}, "retry_after": int(headers.get("Retry-After", "1"))}
        return Answer(status, {"error_summary": "too_many_requests/", "error": error}, headers)

    def token(self, form: Mapping[str, str]) -> tuple[int, Any]:
        """Answer the token endpoint (RFC 6749 5)."""
        if form.get("client_id") != APP_KEY or form.get("client_secret", APP_SECRET) != APP_SECRET:
            return 400, {"error": "invalid_client"}
        match form.get("grant_type"):
            case "refresh_token" if form.get("refresh_token") in self.refresh_tokens:
                with self.lock:
                    self.refreshes += 1
                access, _ = self.grant()
                return 200, {"access_token": access, "token_type": "bearer", "expires_in": 14400}
            case "authorization_code" if self._redeems(form):
                access, refresh = self.grant()
                gained = {"access_token": access, "refresh_token": refresh, "expires_in": 14400}
                return 200, {**gained, "token_type": "bearer", "account_id": "dbid:sandbox"}
            case _:
                return 400, {"error": "invalid_grant", "error_description": "it is not valid"}

    def _redeems(self, form: Mapping[str, str]) -> bool:
        expected = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        return expected == (form.get("redirect_uri"), urlsafe_b64encode(digest).rstrip(b"=").decode())

    def call(self, route: str, token: str, body: str) -> tuple[int, str]:
        """Answer one route of the API."""
        from dropbox import auth
        from stone.backends.python_rsrc import stone_serializers

        encode: Any = stone_serializers.json_encode
        decode: Any = stone_serializers.json_decode
        try:
            self._let_in(token)
            described, serve = _ROUTES[route]
            known = described()
            answer = serve(self, decode(known.arg_type, body))
            return 200, encode(known.result_type, answer)
        except _NoAccess as exc:
            error = json.loads(encode(auth.AuthError_validator, getattr(auth.AuthError, exc.tag)))
            return 401, json.dumps({"error_summary": f"{exc.tag}/", "error": error})
        except _RouteError as exc:
            encoded = json.loads(encode(exc.route.error_type, exc.error))
            return 409, json.dumps({"error_summary": "route/..", "error": encoded})

    def _let_in(self, token: str) -> None:
        if token not in self.access_tokens:
            raise _NoAccess("invalid_access_token")
        if self.access_tokens[token] <= datetime.now(UTC):
            raise _NoAccess("expired_access_token")

    # --- routes ------------------------------------------------------------------------------------------------

    def metadata(self, arg: Any) -> Any:
        """Serve ``files/get_metadata``."""
        from dropbox import files

        if arg.path not in self.files:
            raise _RouteError(files.get_metadata, files.GetMetadataError.path(files.LookupError.not_found))
        return self._file(arg.path)

    def temporary_link(self, arg: Any) -> Any:
        """Serve ``files/get_temporary_link``."""
        from dropbox import files

        if arg.path not in self.files:
            raise _RouteError(files.get_temporary_link, files.GetTemporaryLinkError.path(files.LookupError.not_found))
        name = secrets.token_urlsafe(16)
        self._temporary[name] = arg.path
        return files.GetTemporaryLinkResult(metadata=self._file(arg.path), link=f"{self.url}{_TEMPORARY}{name}")

    def list_folder(self, arg: Any) -> Any:
        """Serve ``files/list_folder``."""
        from dropbox import files

        if arg.path and not any(path.startswith(f"{arg.path}/") for path in self.files):
            raise _RouteError(files.list_folder, files.ListFolderError.path(files.LookupError.not_found))
        return files.ListFolderResult(entries=[], cursor="c", has_more=False)

    def create_shared_link(self, arg: Any) -> Any:
        """Serve ``sharing/create_shared_link_with_settings``."""
        from dropbox import files, sharing

        errors, route = sharing.CreateSharedLinkWithSettingsError, sharing.create_shared_link_with_settings
        if arg.path not in self.files:
            raise _RouteError(route, errors.path(files.LookupError.not_found))
        if arg.path in self.shared:
            raise _RouteError(route, errors.shared_link_already_exists(None))
        if arg.settings.expires is not None and not self.links_may_expire:
            raise _RouteError(route, errors.settings_error(sharing.SharedLinkSettingsError.not_authorized))
        self.shared[arg.path] = arg.settings.expires and arg.settings.expires.replace(tzinfo=UTC)
        return self._link(arg.path)

    def list_shared_links(self, arg: Any) -> Any:
        """Serve ``sharing/list_shared_links``."""
        from dropbox import sharing

        links = [self._link(arg.path)] if arg.path in self.shared else []
        return sharing.ListSharedLinksResult(links=links, has_more=False)

    def modify_shared_link(self, arg: Any) -> Any:
        """Serve ``sharing/modify_shared_link_settings``."""
        from dropbox import sharing

        if not self.links_may_expire:
            error = sharing.ModifySharedLinkSettingsError.settings_error(sharing.SharedLinkSettingsError.not_authorized)
            raise _RouteError(sharing.modify_shared_link_settings, error)
        path = next(path for path in self.shared if self._address(path) == arg.url)
        self.shared[path] = arg.settings.expires.replace(tzinfo=UTC)
        return self._link(path)

    def download(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
        """Return what lies behind a link, as a browser sees it; None if it has ended."""
        if path.startswith(_TEMPORARY):
            return self.files.get(self._temporary.get(path.removeprefix(_TEMPORARY), ""))
        shared = next((each for each in self.shared if urlsplit(self._address(each)).path == path), None)
        ends = shared and self.shared[shared]
        if shared is None or (ends and ends <= datetime.now(UTC)) or query.get("dl") != ["1"]:
            return None
        return self.files[shared]

    def _file(self, path: str) -> Any:
        from dropbox import files

        now = datetime(2026, 1, 1)  # noqa: DTZ001 - the library's times are UTC without saying so
        return files.FileMetadata(
            name=path.rpartition("/")[2],
            id=f"id:{hashlib.sha256(path.encode()).hexdigest()[:22]}",
            client_modified=now,
            server_modified=now,
            rev="0123456789abcdef",
            size=len(self.files[path]),
            path_lower=path.lower(),
            path_display=path,
        )

    def _address(self, path: str) -> str:
        digest = hashlib.sha256(path.encode()).hexdigest()[:22]
        return f"{self.url}{_SHARED}{digest}/{quote(path.rpartition('/')[2])}?rlkey=sandbox&dl=0"

    def _link(self, path: str) -> Any:
        from dropbox import sharing

        ends = self.shared[path]
        moment = datetime(2026, 1, 1)  # noqa: DTZ001 - as above
        permissions = sharing.LinkPermissions(
            can_revoke=True,
            visibility_policies=[],
            can_set_expiry=self.links_may_expire,
            can_remove_expiry=True,
            allow_download=True,
            can_allow_download=True,
            can_disallow_download=True,
            allow_comments=False,
            team_restricts_comments=False,
        )
        return sharing.FileLinkMetadata(
            url=self._address(path),
            name=path.rpartition("/")[2],
            link_permissions=permissions,
            client_modified=moment,
            server_modified=moment,
            rev="0123456789abcdef",
            size=len(self.files[path]),
            expires=ends and ends.replace(tzinfo=None),
        )


def _described(module: str, name: str) -> Callable[[], Any]:
    """Return how the vendor's library describes a route; it is imported at the first call."""

    def described() -> Any:
        from importlib import import_module

        return getattr(import_module(f"dropbox.{module}"), name)

    return described


_ROUTES: Mapping[str, tuple[Callable[[], Any], Callable[[DropboxServer, Any], Any]]] = {
    "files/get_metadata": (_described("files", "get_metadata"), DropboxServer.metadata),
    "files/get_temporary_link": (_described("files", "get_temporary_link"), DropboxServer.temporary_link),
    "files/list_folder": (_described("files", "list_folder"), DropboxServer.list_folder),
    "sharing/create_shared_link_with_settings": (
        _described("sharing", "create_shared_link_with_settings"),
        DropboxServer.create_shared_link,
    ),
    "sharing/list_shared_links": (_described("sharing", "list_shared_links"), DropboxServer.list_shared_links),
    "sharing/modify_shared_link_settings": (
        _described("sharing", "modify_shared_link_settings"),
        DropboxServer.modify_shared_link,
    ),
}
