"""A connector that was released for API 1.0 is told what to do; it is frozen in ``third_party/released``."""

from __future__ import annotations

import runpy
from hashlib import sha256

import pytest

from orchestrator.errors import PluginError
from orchestrator.plugins.discovery import Candidate
from tests.support.paths import TESTS

RELEASED = TESTS / "third_party" / "released" / "released_connector.py"
DIGEST = "2ebf07eb338765236f9a7887bcf170144a5ee8aac2b2333fc117145e3b9a3a83"


def load() -> object:
    return runpy.run_path(str(RELEASED))


def test_what_was_released_is_not_edited() -> None:
    assert sha256(RELEASED.read_bytes()).hexdigest() == DIGEST


def test_who_installed_it_is_told_to_install_a_newer_version() -> None:
    message = (
        "cannot be imported: there is no module orchestrator.plugins.documents; API 2.0 is here, and the "
        "plug-in was written for another; install a newer version of it"
    )
    with pytest.raises(PluginError, match=message):
        Candidate(name="released", load=load).plugin()
