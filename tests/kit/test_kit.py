"""Packages to begin with: whatever they are to give, they are clean, they install, and they pass their own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.kit.describing import roles
from orchestrator.kit.generating import new_capability, new_connector, new_process
from tests.support.paths import ROOT

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]


def run(place: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place.parent / "site"), "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One connector for each capability, one for all of them, which is installed, a process and a capability.

    ``docs/writing-a-process.md`` and ``docs/writing-a-capability.md`` install and test one; they are executed as well.
    """
    bench = tmp_path_factory.mktemp("bench")
    for role, name in roles().items():
        new_connector(f"only-{name.replace('_', '-')}", [role], bench)
    new_connector("acme", list(roles()), bench)
    new_process("refund-request", bench)
    new_capability("room-booking", bench)
    site = ["--disable-pip-version-check", "--target", str(bench / "site")]
    subprocess.run([*PIP, *site, "./acme"], cwd=bench, check=True, timeout=300)
    return bench


def test_a_connector_of_everything_keeps_its_contracts_at_once_and_is_bronze_until_somebody_touches_it(
    bench: Path,
) -> None:
    told = json.loads(run(bench / "acme", "orchestrator", "connectors", "test", "acme", "--json"))
    assert (told["tier"], told["connector"], told["against"]) == ("bronze", "acme", "stand-in")
    assert [each["rule"] for each in told["rules"] if not each["kept"]] == ["vendors-words"]
    ran = {each.pop("contract"): each for each in told["contracts"]}
    assert set(ran) == {f"{role}Contract" for role in [*roles(), "BlindAccount", "ConnectorHygiene", "Faults"]}
    assert all((each["failed"], each["deviates"], each["skipped"]) == (0, 0, 0) for each in ran.values())


def test_what_is_written_is_as_clean_as_what_we_write(bench: Path, tmp_path: Path) -> None:
    modules = [file for file in bench.glob("*/*.py") if file.parent.name != "site"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    ignored = f"'**/tests/**' = {ours['tests/**']}, '**/*_testing.py' = {ours['orchestrator/testing/**']}"
    rules = [
        f"extend = {json.dumps(str(ROOT / 'pyproject.toml'))}",
        # Each package has one module; ours, seen from there, is somebody else's.
        'lint.extend-ignore = ["INP001"]',
        f"lint.extend-per-file-ignores = {{ {ignored} }}",
        f"lint.isort.known-first-party = {['vendor', *(file.stem for file in modules)]}",
        'lint.isort.known-third-party = ["orchestrator"]',
        'lint.isort.required-imports = ["from __future__ import annotations"]',
    ]
    (tmp_path / "ruff.toml").write_text("\n".join(rules))
    written = [str(folder) for folder in bench.iterdir() if folder.name != "site"]
    options = ["--no-cache", "--config", str(tmp_path / "ruff.toml"), "--exclude", "build"]
    run(bench, "ruff", "check", *options, *written)
    run(bench, "ruff", "format", "--check", *options, *written)
    # With our own cache only what was written needs a look.
    ours_too = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    run(bench, "mypy", *ours_too, *map(str, modules))


@pytest.mark.parametrize(
    ("attempt", "remedy"),
    [
        (lambda into: new_connector("Acme", ["FileLinks"], into), "write lower-case letters"),
        (lambda into: new_connector("http", ["FileLinks"], into), "name it after the vendor"),
        (lambda into: new_connector("../acme", ["FileLinks"], into), "write lower-case letters"),
        (lambda into: new_connector("acme", ["FileLink"], into), 'did you mean "FileLinks"?'),
        (lambda into: new_connector("acme", ["People"], into), "no capability"),
        (lambda into: new_connector("acme", [], into), "write --provides FileLinks"),
        (lambda into: new_capability("Room booking", into), "write lower-case letters"),
        (lambda into: new_capability("file-links", into), "there is a capability file_links already"),
        (lambda into: new_process("refund request", into), "write lower-case letters"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_remedy(
    tmp_path: Path, attempt: Callable[[Path], object], remedy: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        attempt(tmp_path)
    assert remedy in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    new_connector("acme", ["file_links"], tmp_path)
    with pytest.raises(ConfigurationError, match="is there already; remove it"):
        new_connector("acme", ["Mailer"], tmp_path)
