"""A shop's orders in any database that SQLAlchemy reaches, by a query that the operator writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID
from weakref import finalize

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy import exc as sql

from orchestrator.capabilities import Asset, OrderRecords, Purchase
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
from orchestrator.plugins import Connector, RegisterConnector, hookimpl
from orchestrator.toolkit import within
from orchestrator.toolkit.known_record import KnownRecord
from orchestrator.toolkit.settings import TimeSettings

_LITERAL_OR_COMMENT = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*.*?\*/ | \$(\w*)\$.*?\$\1\$""", re.DOTALL | re.VERBOSE
)
_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
"""What SQLAlchemy's ``text()`` takes for a bound parameter, wherever it stands."""


def _is_a_url(url: SecretStr) -> SecretStr:
    try:
        make_url(url.get_secret_value())
    except sql.ArgumentError:
        raise ValueError("write a SQLAlchemy URL: dialect+driver://user:password@host/database") from None
    return url


def _asks_for_one_email(query: str) -> str:
    code = _LITERAL_OR_COMMENT.sub(" ", query)
    if ";" in code.rstrip().removesuffix(";"):
        raise ValueError("the query holds more than one statement: leave one SELECT")
    asked = _PARAMETER.findall(code).count("email")
    if not asked:
        raise ValueError("the query has no parameter :email: look the customer up with WHERE lower(email) = :email")
    if surplus := Counter(_PARAMETER.findall(query)) - Counter(email=asked):
        raise ValueError(
            f"the query has parameters that nobody gives: :{', :'.join(sorted(surplus))}; "
            "where a plain colon is meant, also in a text or a comment, write \\:"
        )
    return query


class ShopSqlSettings(TimeSettings, frozen=True):
    """Which database, and how it is asked."""

    url: Annotated[SecretStr, AfterValidator(_is_a_url)]
    """SQLAlchemy's URL. With SQLite, ``sqlite:///file:/path/shop.db?mode=ro&uri=true`` never makes a missing file."""
    query: Annotated[str, AfterValidator(_asks_for_one_email)]
    """One SELECT that answers the purchases of one customer.

    ``:email`` is bound to the customer's address, case-folded, so that the query compares it with
    ``lower(...)``, and never with LIKE: an underscore is common in addresses. Its columns are ``order``,
    ``product``, ``asset``, ``email`` (the address on the order), ``bought_on``, ``refunded`` (0 or 1) and, if
    there is one, ``name``.
    """
    known_email: Annotated[str | None, Field(repr=False)] = None
    """A customer who is always there: with one, nothing is believed of a database that hides their purchases."""


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | Decimal | UUID) else value


def _as_day(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            # Falls through, because Python's own message holds the value.
            value = None
    if not isinstance(value, date):
        raise ValueError("it must be a date, or be written as 2026-01-31")  # noqa: TRY004 - pydantic takes no TypeError
    return value.date() if isinstance(value, datetime) else value


def _as_flag(value: object) -> object:
    if value not in (0, 1):
        raise ValueError("it must be 0 or 1")
    return bool(value)


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_as_text)]


class _Row(BaseModel, hide_input_in_errors=True):
    """One row of the query, as databases and their drivers may write it."""

    order: _Text
    product: _Text
    asset: Annotated[AssetKey, BeforeValidator(lambda value: value.strip() if isinstance(value, str) else value)]
    email: _Text
    name: str | None = None
    bought_on: Annotated[date, BeforeValidator(_as_day)]
    refunded: Annotated[bool, BeforeValidator(_as_flag)]

    def purchase(self) -> Purchase:
        """Say it in the words of the capability."""
        return Purchase(
            order=self.order,
            product=self.product,
            asset=Asset(key=self.asset),
            email=self.email,
            name=(self.name or "").strip(),
            bought_on=self.bought_on,
            refunded=self.refunded,
        )


_REQUIRED = frozenset(name for name, field in _Row.model_fields.items() if field.is_required())


class ShopSqlOrders:
    """The orders of a shop, read with the operator's query and never changed: no transaction is committed."""

    def __init__(self, settings: ShopSqlSettings) -> None:
        self._settings = settings
        url = make_url(settings.url.get_secret_value())
        self._place = f"the shop's database ({url.drivername} at {url.host or url.database})"
        self._query = text(settings.query)
        try:
            # Bound values are addresses: they must not stand in errors. Idle connections may have been closed.
            self._engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
        except (sql.ArgumentError, ImportError) as error:
            raise ConfigurationError(
                f"url: SQLAlchemy cannot load {url.drivername!r}: install its driver, or correct the URL's beginning"
            ) from error
        self._known = self._known_record(settings.known_email)
        finalize(self, self._engine.dispose)

    def purchases_of(self, email: str) -> tuple[Purchase, ...]:
        """Look up what the customer bought: newest first, and within one day in the query's own order.

        Raises:
            AccessDenied: There is nothing, and the database does not even show a purchase of ``known_email``.
        """
        found = self._purchases_of(email)
        if not found and self._known:
            self._known.must_be_seen()
        return found

    def _purchases_of(self, email: str) -> tuple[Purchase, ...]:
        wanted = email.casefold()
        purchases = [self._purchase(row, place, wanted) for place, row in enumerate(self._ask(wanted), start=1)]
        return tuple(sorted(purchases, key=lambda purchase: purchase.bought_on, reverse=True))

    def check(self) -> str:
        """Run the query, and see a known purchase if one was named."""
        known = self._settings.known_email
        if known is None:
            self._purchases_of("nobody@example.invalid")
            return f"{self._place} answers the query; with known_email, a known purchase is looked for as well"
        if not (purchases := self._purchases_of(known)):
            raise NotFound(f"{self._place} has no purchase of known_email: correct the query, or known_email")
        return f"{self._place} answers the query: purchases of the known customer: {len(purchases)}"

    def _known_record(self, email: str | None) -> KnownRecord | None:
        if email is None:
            return None
        return KnownRecord(
            lambda: self._purchases_of(email),
            f"{self._place} shows no purchase of known_email, so that it is not believed that others bought nothing: "
            "correct the query, what the user of url may read, or known_email",
        )

    def _purchase(self, row: Mapping[str, Any], place: int, wanted: str) -> Purchase:
        try:
            purchase = _Row.model_validate(row).purchase()
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            raise Rejected(
                f"{self._place}: row {place}, column {first['loc'][0]!r} cannot be understood: {first['msg']}"
            ) from error
        if purchase.email.casefold() != wanted:
            raise Rejected(
                f"{self._place}: row {place}, column 'email' is another address than the one asked for: "
                "compare with lower(...) = :email, without LIKE"
            )
        return purchase

    def _ask(self, email: str) -> list[dict[str, Any]]:
        running: list[Connection] = []
        try:
            return within(self._settings.timeout, lambda: self._rows(email, running))
        except sql.SQLAlchemyError as error:
            raise _refusal(error, self._place) from error
        except UnicodeError as error:
            raise Rejected(f"{self._place} cannot be asked for an address with such characters") from error
        except TimeoutError as error:
            for connection in running:
                _interrupt(connection)
            message = f"{self._place} gave no answer within {self._settings.timeout_seconds:g} s"
            raise Unavailable(message, no_effect=True) from error

    def _rows(self, email: str, running: list[Connection]) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            running.append(connection)
            result = connection.execute(self._query, {"email": email})
            if not result.returns_rows:
                raise Rejected(f"{self._place}: the query answers no rows: write a SELECT")
            # Oracle and others write unquoted names in capitals.
            columns = [name.lower() for name in result.keys()]  # noqa: SIM118 - a result is no mapping
            self._see_all(columns)
            return [dict(zip(columns, row, strict=True)) for row in result]

    def _see_all(self, columns: Sequence[str]) -> None:
        if missing := _REQUIRED - set(columns):
            raise Rejected(
                f"{self._place}: the query lacks the columns {', '.join(sorted(missing))}: name each with AS "
                f"(it answers {', '.join(columns)})"
            )
        if double := [name for name, times in Counter(columns).items() if times > 1 and name in _Row.model_fields]:
            raise Rejected(f"{self._place}: the query answers {', '.join(double)} more than once: leave one of each")


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="shop-sql", provides=(OrderRecords,), settings=ShopSqlSettings, build=ShopSqlOrders))


def _interrupt(connection: Connection) -> None:
    """Stop the query in the database too, where the driver can: nobody waits for its answer any more."""
    with suppress(Exception):
        driver = connection.connection.driver_connection
        # sqlite3 calls it interrupt; psycopg2 and oracledb call it cancel. psycopg has that, too, but there it keeps
        # every thread of this program waiting until the server answers.
        stops = (getattr(driver, name, None) for name in ("interrupt", "cancel_safe", "cancel"))
        if stop := next(filter(None, stops), None):
            within(timedelta(0), stop)


_PASSING = (sql.DBAPIError, sql.DisconnectionError, sql.TimeoutError)
_WRONG_QUERY = (sql.DataError, sql.IntegrityError, sql.NotSupportedError, sql.ProgrammingError)
_SQLITE_ERROR = 1
"""SQLite's code for a wrong statement (sqlite.org/rescode.html), which its driver calls operational."""
_SQLITE_CANTOPEN = 14
_NAMED = re.compile(r"""(?:no such \w+: |(?:relation|column|function) "?|for table "|near ")([\w.]{1,60})""")
"""How SQLite and PostgreSQL name what they miss or stumble over in a query; such names are the operator's own."""


class _Cause(NamedTuple):
    """What a database says itself.

    Args:
        states: SQLSTATE (PostgreSQL manual, appendix A).
        words: What drivers say when they cannot connect: then they give no SQLSTATE.
        error: What it is to us.
        remedy: What happened, and what to do.
    """

    states: frozenset[str]
    words: re.Pattern[str]
    error: type[ConnectorError]
    remedy: str


_CAUSES = (
    _Cause(
        frozenset({"53300"}),
        re.compile("too many (clients|connections)|remaining connection slots|max_user_connections", re.IGNORECASE),
        RateLimited,
        "has no free connection: raise its limit, or that of the user in url",
    ),
    _Cause(
        frozenset({"3D000"}),
        re.compile('database "[^"]*" does not exist|unknown database', re.IGNORECASE),
        AccessDenied,
        "has no database of that name: correct the end of url",
    ),
    _Cause(
        frozenset({"28000", "28P01", "42501"}),
        re.compile(
            "authentication failed|access denied|permission denied|login failed|logon denied|no password supplied"
            '|not permitted to log in|role "[^"]*" does not exist|pg_hba.conf',
            re.IGNORECASE,
        ),
        AccessDenied,
        "refuses the credential or a permission: correct user and password in url, or what the user may read",
    ),
    _Cause(
        frozenset(),
        re.compile("does not support SSL|certificate verify failed", re.IGNORECASE),
        AccessDenied,
        "cannot agree on TLS with us: correct sslmode or sslrootcert in url",
    ),
)


def _refusal(error: sql.SQLAlchemyError, place: str) -> ConnectorError:
    """Translate by what happens next; reading changes nothing, so that every failure is one without effect."""
    what, driver_error = type(error).__name__, getattr(error, "orig", None)
    if cause := _cause(driver_error):
        return cause.error(f"{place} {cause.remedy} ({what})")
    sqlite_code = getattr(driver_error, "sqlite_errorcode", None)
    if isinstance(error, _PASSING) and not isinstance(error, _WRONG_QUERY) and sqlite_code != _SQLITE_ERROR:
        remedy = "correct its path in url" if sqlite_code == _SQLITE_CANTOPEN else "see that it runs, or correct url"
        return Unavailable(f"{place} cannot be reached or failed ({what}): {remedy}", no_effect=True)
    named = _NAMED.search(str(driver_error))
    at = f" at {named[1]}" if named else ""
    return Rejected(f"{place} refuses the query{at} ({what}): correct query")


def _cause(driver_error: BaseException | None) -> _Cause | None:
    state = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    said = str(driver_error)
    return next((each for each in _CAUSES if state in each.states or each.words.search(said)), None)
