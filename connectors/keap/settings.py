"""What the configuration says about one Keap account."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from orchestrator.capabilities import EmailAddress
from orchestrator.capabilities.files import AssetKey
from orchestrator.toolkit.http import HttpSettings
from orchestrator.toolkit.settings import BaseUrl, Seconds


def _fits_a_header(secret: SecretStr) -> SecretStr:
    if not re.fullmatch("[!-~]+", secret.get_secret_value()):
        raise ValueError("is no key of Keap's: copy it again, without spaces")
    return secret


class KeapSettings(HttpSettings, frozen=True):
    """Which account, as whom, and which files belong to its products.

    The credential is either a key (``api_key``), or an app of Keap's developer portal that somebody with a login
    authorises once (``client_id``, ``client_secret``, ``token_file``).
    """

    api_key: Annotated[SecretStr, AfterValidator(_fits_a_header)] | None = None
    """A personal access token or a service account key."""
    client_id: str | None = None
    client_secret: SecretStr | None = None
    token_file: Path | None = None
    """Where the app's tokens are kept (mode 0600); all processes of the orchestrator share the file."""
    known_email: Annotated[EmailAddress, Field(repr=False)]
    """A customer who is always there, with an order if ``assets`` are given: "no orders" is believed only of an
    account that shows theirs."""
    assets: dict[str, AssetKey] = Field(default_factory=dict)
    """The file of each product that is a download, by the product's SKU; a key of digits alone is a product's id."""
    note_user: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,19}$")] | None = None
    """The id of the Keap user in whose name notes are written."""
    note_title: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "Support"
    base_url: BaseUrl = "https://api.keap.com/crm"
    token_url: BaseUrl = "https://api.infusionsoft.com/token"  # noqa: S105 - an address
    authorize_url: BaseUrl = "https://accounts.infusionsoft.com/app/oauth/authorize"
    redirect_uri: BaseUrl | None = None
    """The app's own HTTPS address in Keap's developer portal, if Keap does not send a browser back to this machine."""
    timeout_seconds: Seconds = 20
    """Total time for one operation, which may take several calls."""
    visibility_delay_seconds: Annotated[float, Field(ge=0, le=3600)] = 30
    """So long after a time-out a note that is not there is believed not to come any more."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        app = (self.client_id, self.client_secret, self.token_file)
        if (self.api_key is None) == (app == (None, None, None)):
            raise ValueError("needs one credential: either api_key, or client_id, client_secret and token_file")
        if self.api_key is None and None in app:
            raise ValueError("client_id, client_secret and token_file belong together: give all three")
        return self
