"""Where the configuration is looked for."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.errors import ConfigurationError

CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"
CONFIG_PLACES = (Path("orchestrator.toml"), Path("config/orchestrator.toml"))


def find_config() -> Path:
    """Return the configuration file.

    Raises:
        ConfigurationError: There is none.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    places = (Path(named),) if named else CONFIG_PLACES
    for place in places:
        if place.is_file():
            return place
    raise ConfigurationError(
        f"no configuration: looked for {', '.join(str(place) for place in places)}; copy "
        f"config/production.example.toml to orchestrator.toml, or name a file with --config or ${CONFIG_VARIABLE}"
    )
