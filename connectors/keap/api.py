"""Calls of Keap's REST interface: signed, counted, and read as what the documentation says they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator.errors import RateLimited, Rejected, Unavailable
from orchestrator.toolkit.http import Exchange, HttpSystem, refusal
from orchestrator_connectors.keap.access import Access, AppAccess, KeyAccess
from orchestrator_connectors.keap.quota import Quota
from orchestrator_connectors.keap.settings import KeapSettings

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

PAGE_SIZE = 200
MOST_PAGES = 100


class Page(BaseModel, hide_input_in_errors=True):
    """What every list has besides its own things."""

    next_page_token: str | None = None


@dataclass(frozen=True)
class Session:
    """One operation's way to the account.

    Args:
        api: Makes the calls.
        exchange: Ends them together.
    """

    api: KeapApi
    exchange: Exchange

    @property
    def place(self) -> str:
        """Which account, for messages."""
        return self.api.system.place

    def get(self, path: str, model: type[M], query: Mapping[str, str] | None = None, *, about_one: bool = False) -> M:
        """Read one thing, or one page of a list.

        Args:
            path: Behind ``base_url``, such as ``/rest/v2/contacts``.
            model: What the answer is.
            query: What stands behind the question mark.
            about_one: Whether the path names one thing by its id.
        """
        answer = self.api.send(self.exchange, "GET", path, about_one=about_one, query=query)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise Rejected(f"{self.place}: the answer is not what Keap's documentation says: check base_url") from error

    def pages(self, path: str, model: type[M], query: Mapping[str, str], *, about_one: bool = False) -> Iterator[M]:
        """Read a list, page by page.

        Raises:
            Rejected: It does not end.
        """
        seen: set[str] = set()
        asked = {**query, "page_size": str(PAGE_SIZE)}
        while len(seen) < MOST_PAGES:
            page = self.get(path, model, asked, about_one=about_one)
            yield page
            token = page.next_page_token if isinstance(page, Page) else None
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
            asked["page_token"] = token
        raise Rejected(f"{self.place}: a list does not end after {len(seen)} pages")

    def post(self, path: str, body: Mapping[str, object], model: type[M], *, about_one: bool = False) -> M:
        """Change something."""
        answer = self.api.send(self.exchange, "POST", path, about_one=about_one, body=body)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:  # it has been done, and nobody knows as what
            message = f"{self.place}: done, with an answer that is not what Keap's documentation says"
            raise Unavailable(message, no_effect=False) from error


class KeapApi:
    """One account, over HTTP.

    Args:
        settings: Where it is, and as whom we come.
    """

    def __init__(self, settings: KeapSettings) -> None:
        self.system = HttpSystem("Keap", settings)
        self._quota = Quota()
        key = settings.api_key
        self.app = None if key else AppAccess(settings)
        self._access: Access = self.app or KeyAccess(key.get_secret_value() if key else "")

    def operation(self, ask: Callable[[Session], T]) -> T:
        """Do everything that belongs to one operation, within its time.

        Raises:
            ConnectorError: It did not come to its end; ``no_effect`` if nothing can have been changed.
        """
        return self.system.operation(lambda exchange: ask(Session(self, exchange)))

    def send(
        self,
        exchange: Exchange,
        method: str,
        path: str,
        *,
        about_one: bool,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> httpx.Response:
        """Make one call; if the credential has ended meanwhile, once more with a new one."""

        def ask(signed: Mapping[str, str]) -> httpx.Response:
            self._quota.admit(self.system.place)
            answer = self.system.ask(exchange, method, path, query=query, body=body, headers=signed, writes=writes)
            self._learn(answer)
            return answer

        writes, signed = method != "GET", self._access.headers()
        answer = ask(signed)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            answer = ask(self._access.renewed(signed))
        if answer.is_success:
            return answer
        raise refusal(answer, self.system.place, writes=writes, about_one=about_one)

    def _learn(self, answer: httpx.Response) -> None:
        wait = self._quota.learn(answer.headers)
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and wait and "retry-after" not in answer.headers:
            raise RateLimited(f"{self.system.place}: its quota is used up", retry_after=wait)
