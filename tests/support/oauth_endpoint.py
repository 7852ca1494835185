"""A token endpoint on 127.0.0.1 that rotates refresh tokens, and tells servers whose an access token is."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

CLIENT, SECRET = "client-1", "client-secret"


class OAuthEndpoint:
    """Use it as a context manager.

    Args:
        account: Whose mailbox the tokens open.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.refreshes = 0
        self.expires_in = 3600
        self.refresh_token = "refresh-0"
        self.scope = ""
        """What is granted; empty if the answers need not say so, because it is what was asked for."""
        self._valid: set[str] = set()
        self._codes: dict[str, str] = {}
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = endpoint.grant(dict(parse_qsl(body)))
                self._answer(400 if "error" in answer else 200, answer)

            def do_GET(self) -> None:
                (token,) = parse_qs(urlsplit(self.path).query).get("access_token", [""])
                if endpoint.opens(token):
                    self._answer(200, {"email": endpoint.account})
                else:
                    self._answer(401, {"error": "invalid_token"})

            def _answer(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def opens(self, token: str) -> bool:
        """Tell whether an access token opens the account."""
        return token in self._valid

    def revoke_access(self) -> None:
        """Let no access token be valid any more; the refresh token still is."""
        self._valid.clear()

    def revoke_all(self) -> None:
        """Let nothing be valid any more."""
        self._valid.clear()
        self.refresh_token = "revoked"

    def code_for(self, url: str) -> str:
        """Grant access in the browser; return the code."""
        asked = dict(parse_qsl(urlsplit(url).query))
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        self._codes["code-1"] = asked["code_challenge"]
        return "code-1"

    def grant(self, asked: dict[str, str]) -> dict[str, Any]:
        """Answer a request for tokens."""
        if (asked["client_id"], asked["client_secret"]) != (CLIENT, SECRET):
            return {"error": "invalid_client"}
        if asked["grant_type"] == "refresh_token" and asked["refresh_token"] != self.refresh_token:
            return {"error": "invalid_grant"}
        if asked["grant_type"] == "authorization_code" and not self._redeems(asked):
            return {"error": "invalid_grant"}
        self.refreshes += 1
        self.refresh_token, access = f"refresh-{self.refreshes}", f"access-{self.refreshes}"
        self._valid.add(access)
        told = {"scope": self.scope} if self.scope else {}
        return {"access_token": access, "refresh_token": self.refresh_token, "expires_in": self.expires_in} | told

    def _redeems(self, asked: dict[str, str]) -> bool:
        digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self._codes.pop(asked["code"], None) == challenge
