"""A connector that was released for API 1.0 still loads; its contracts run in ``third_party/released``.

That directory is frozen: what was released is not edited, however this project changes. If it no longer works, then
``orchestrator.plugins.API`` has a new major version, and a frozen copy of its own.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from orchestrator.kit.describing import roles
from orchestrator.plugins.host import PluginHost
from tests.support.paths import TESTS

RELEASED = TESTS / "third_party" / "released"


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("released_connector.py", "2ebf07eb338765236f9a7887bcf170144a5ee8aac2b2333fc117145e3b9a3a83"),
        ("test_released_connector.py", "06b1d4ff7ea7de017286d366404b1d6c00dd9871c33c581bd777d74ad0447bf4"),
        ("vendor.py", "19f673e639887b61578dcaa40a413a8705d9c53aaa794a421f1e0cb459b72b06"),
    ],
)
def test_what_was_released_is_not_edited(name: str, digest: str) -> None:
    assert sha256((RELEASED / name).read_bytes()).hexdigest() == digest


def test_it_loads_and_gives_every_capability() -> None:
    spec = spec_from_file_location("released_plug_in", RELEASED / "released_connector.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    host = PluginHost(extra={"released": module})
    assert {each.__name__ for each in host.connectors()["released"].provides} == set(roles())
