"""Files in one bucket of Amazon S3, or of a store that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.capabilities import Asset, FileLinks, Link
from orchestrator.errors import AccessDenied, ConfigurationError, ConnectorError, NotFound, Rejected, Unavailable
from orchestrator.plugins import Connector, DoubtClass, RegisterConnector, Settlement, hookimpl
from orchestrator.toolkit import within
from orchestrator_connectors.s3.settings import S3Object, S3Role, S3Settings

if TYPE_CHECKING:
    from orchestrator_connectors.s3.bucket import Bucket

__all__ = ["S3Files", "S3Object", "S3Role", "S3Settings", "register_connectors"]

T = TypeVar("T")


@dataclass
class _Made:
    """What is made at the first call, once."""

    once: Lock = field(default_factory=Lock)
    bucket: Bucket | None = None


class S3Files:
    """One bucket of product files.

    Nothing here changes anything at S3. Only a role that is taken on leaves a session behind, which ends by itself.

    Args:
        settings: Which bucket, where, as whom, and which of its objects.
    """

    def __init__(self, settings: S3Settings) -> None:
        if find_spec("botocore") is None:
            raise ConfigurationError("the s3 connector needs boto3: pip install 'process-orchestrator[s3]'")
        self._settings = settings
        self.settlements = {"link_to": Settlement(doubt=DoubtClass.PURE, timeout=settings.timeout)}
        self._made = _Made()
        self._place = f"bucket {settings.bucket!r} at {settings.endpoint_url or f'S3 in {settings.region}'}"

    def exists(self, asset: Asset) -> bool:
        """See whether the file is there; of an asset that is not listed, nobody is asked."""
        found = self._object(asset.key)
        return found is not None and self._ask(lambda: self._bucket().holds(found))

    def link_to(self, asset: Asset, *, valid_for: timedelta) -> Link:
        """Sign a download link; S3 is not asked, so that the file may be missing.

        Raises:
            NotFound: The asset is not listed.
            Unavailable: The session that would sign it ends too soon, and no new one is there yet.
            AccessDenied: So it does, and no new one will come.
        """
        if valid_for < timedelta(seconds=1):
            raise Rejected("a link must be valid for at least one second")
        found = self._object(asset.key)
        if found is None:
            raise NotFound(
                f"{self._place}: asset {asset.key!r} is not listed: add it to objects, with its object's key"
            )
        # With a key of its own nothing is asked of anybody, and no deadline needs to be watched.
        asks_nobody = self._settings.access_key_id is not None and self._settings.role is None
        ask = self._say if asks_nobody else self._ask
        return ask(lambda: self._signed(asset, found, valid_for), effect=self._settings.role is not None)

    def check(self) -> str:
        """Open a link as a customer does: only that proves region, addressing, clock and key at once."""
        return self._ask(self._checked)

    def _object(self, key: str) -> Mapping[str, Any] | None:
        """Return which object an asset is, as parameters of a request; None if it is not listed."""
        listed = self._settings.objects
        found = S3Object(key=key) if listed is None else listed.get(key)
        if found is None:
            return None
        version = {} if found.version is None else {"VersionId": found.version}
        return {"Key": f"{self._settings.prefix}{found.key}", **version}

    def _signed(self, asset: Asset, found: Mapping[str, Any], valid_for: timedelta) -> Link:
        url, ends = self._bucket().signed(found, valid_for)
        return Link(asset=asset, url=url, expires_at=ends)

    def _checked(self) -> str:
        bucket, known = self._bucket(), self._settings.known_asset
        lives = bucket.life_of_links()
        if known is None:
            bucket.list_opens()
            return f"{self._place} answers to this credential; {lives}; with known_asset, a download is tried as well"
        bucket.known_opens(self._object(known) or {})
        return f"{self._place}: a link to the known asset opens; {lives}"

    def _ask(self, question: Callable[[], T], *, effect: bool = False) -> T:
        """Ask within the time that one call may take."""
        return self._say(lambda: within(self._settings.timeout, question), effect=effect)

    def _say(self, question: Callable[[], T], *, effect: bool = False) -> T:
        """Say in the orchestrator's words what goes wrong."""
        from botocore.exceptions import ClientError

        from orchestrator_connectors.s3.failures import LIBRARY, failure, refusal

        try:
            return question()
        except ConnectorError as error:
            self._forget(error)
            raise
        except ClientError as error:
            raise self._forget(refusal(error, self._place)) from error
        except TimeoutError as error:
            self._made = _Made()  # what hangs may hold its locks for long
            message = f"{self._place} gave no answer within {self._settings.timeout_seconds:g} s"
            raise Unavailable(message, no_effect=not effect) from error
        except LIBRARY as error:
            raise self._forget(failure(error, self._place, effect=effect)) from error

    def _forget(self, error: ConnectorError) -> ConnectorError:
        """Forget a credential that is refused: the next call looks for it again, or takes on the role again."""
        if isinstance(error, AccessDenied):
            self._made = _Made()
        return error

    def _bucket(self) -> Bucket:
        """Return the bucket, made at the first call: making it may ask the machine's role over the network."""
        from orchestrator_connectors.s3.bucket import Bucket

        made = self._made
        with made.once:
            if made.bucket is None:
                made.bucket = Bucket(self._settings, self._place)
            return made.bucket


@hookimpl
def register_connectors(register: RegisterConnector) -> None:
    """Offer the connector."""
    register(Connector(name="s3", provides=(FileLinks,), settings=S3Settings, build=S3Files))
