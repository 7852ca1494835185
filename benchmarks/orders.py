"""A shop's orders over HTTP: the connector that the benchmarks install beside the built-in ones."""

from __future__ import annotations

import httpx
from pydantic import BaseModel, TypeAdapter

from orchestrator.capabilities import OrderRecords, Purchase
from orchestrator.errors import Rejected, Unavailable
from orchestrator.plugins import Connector, RegisterConnector, hookimpl

PURCHASES: TypeAdapter[tuple[Purchase, ...]] = TypeAdapter(tuple[Purchase, ...])


class OrdersSettings(BaseModel, frozen=True, extra="forbid"):
    """Where the shop answers."""

    base_url: str
    timeout_seconds: float = 10


class HttpOrders:
    """The shop's orders.

    Args:
        settings: Where they are.
    """

    def __init__(self, settings: OrdersSettings) -> None:
        self._http = httpx.Client(base_url=settings.base_url, timeout=settings.timeout_seconds)

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look up what the customer bought."""
        try:
            answer = self._http.get("/purchases", params={"email": email})
        except httpx.HTTPError as exc:
            raise Unavailable(f"the shop does not answer ({type(exc).__name__})") from exc
        if not answer.is_success:
            raise Rejected(f"the shop refuses with {answer.status_code}")
        return PURCHASES.validate_json(answer.content)

    def check(self) -> str:
        """Ask for nobody."""
        self.purchases_of("nobody@example.com")
        return "the shop answers"


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector ``http-orders``."""
    register(Connector(name="http-orders", provides=(OrderRecords,), settings=OrdersSettings, build=HttpOrders))
