"""Connections whose credential a person grants in a browser (OAuth 2.0 authorization code, RFC 6749 4.1)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Authorizable(Protocol):
    """What a connection has besides, if ``orchestrator connections authorize`` can give it its credential.

    Both methods are called on the same object, one after the other: what only this attempt may know, such as the
    verifier of RFC 7636 (PKCE), is kept in between by the connection.
    """

    def authorization_url(self, redirect_uri: str, state: str) -> str:
        """Say where a person grants access.

        Args:
            redirect_uri: Where the browser is sent afterwards, on this computer (RFC 8252 section 7.3).
            state: Comes back with the answer, unchanged; the caller compares it.

        Raises:
            ConfigurationError: The settings do not suffice, or this connection has another kind of credential.
        """
        ...

    def redeem(self, code: str, redirect_uri: str) -> str:
        """Exchange the code that the browser brought back, and store the token where every process finds it.

        Args:
            code: Serves once, and for a few minutes.
            redirect_uri: The same as before.

        Returns:
            One sentence of what was granted and where it is stored, without secrets or personal data.

        Raises:
            ConnectorError: The code was refused, or too little was granted; the message says what to do.
        """
        ...
