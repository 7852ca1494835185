"""A plug-in that somebody else wrote: a package of its own, one file, installed and never mentioned in this project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import TESTS

SOURCE = TESTS / "third_party" / "acme_files"

CONFIGURATION = """
[connections.shelf]
connector = "acme-files"
directory = "shelf"

[connections.web]
connector = "acme-files"
directory = "shelf"
base_url = "https://files.example.com/products/"

[bindings]
file_links = "shelf"
"""

LINK = """
from datetime import timedelta
from pathlib import Path
from orchestrator.bindings import check_connections, connect
from orchestrator.capabilities import Asset
from orchestrator.plugins.host import PluginHost
from orchestrator.settings import load_settings

settings = load_settings(Path("orchestrator.toml"))
host = PluginHost(disabled=settings.plugins.disabled)
connections = connect(settings, host)
print(*[f"{report} {report.state}" for report in host.reports if "acme-files" in report.offers])
print(*sorted(f"{check.name}: {check.ok}" for check in check_connections(connections)))
files = connections.get(connections.connection_for("lost-download", "file_links"))
print(files.link_to(Asset(key="books/the handbook.pdf"), valid_for=timedelta(hours=1)).url)
"""

CONTRACT = """
from pathlib import Path
from urllib.request import urlopen
import pytest
from acme_files import AcmeFiles, AcmeSettings
from orchestrator.capabilities import Asset
from orchestrator.testing.contracts.files import FileLinksContract

class Store:
    present, missing, content = Asset(key="books/the handbook.pdf"), Asset(key="books/none.pdf"), b"pages"

    def download(self, url):
        with urlopen(url) as answer:
            return answer.read()

class TestAcmeFiles(FileLinksContract):
    @pytest.fixture
    def files(self):
        return AcmeFiles(AcmeSettings(directory=Path("shelf")))

    @pytest.fixture
    def store(self):
        return Store()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acme")
    # pip leaves its build beside the source.
    source = shutil.copytree(SOURCE, folder / "source")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(source)]
    subprocess.run(pip, check=True, timeout=120)
    return folder / "site"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory to work in, with a configuration and a file to sell."""
    book = tmp_path / "shelf" / "books" / "the handbook.pdf"
    book.parent.mkdir(parents=True)
    book.write_bytes(b"pages")
    (tmp_path / "orchestrator.toml").write_text(CONFIGURATION)
    return tmp_path


def run(home: Path, installed: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=home, env=environment, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_and_its_connection_checks_and_answers(home: Path, installed: Path) -> None:
    assert run(home, installed, "-c", LINK).splitlines() == [
        'plug-in "acme-files" (acme-files 1.2.0) loaded',
        "shelf: True web: True",
        (home / "shelf" / "books" / "the handbook.pdf").as_uri(),
    ]


def test_a_system_is_swapped_by_one_line(home: Path, installed: Path) -> None:
    (home / "orchestrator.toml").write_text(CONFIGURATION.replace('file_links = "shelf"', 'file_links = "web"'))
    link = run(home, installed, "-c", LINK).splitlines()[-1]
    assert link == "https://files.example.com/products/books/the%20handbook.pdf"


def test_it_can_be_switched_off_by_one_line(home: Path, installed: Path) -> None:
    with (home / "orchestrator.toml").open("a") as configuration:
        configuration.write('[plugins]\ndisabled = ["acme-files"]\n')
    with pytest.raises(AssertionError, match=r'no connector "acme-files" is installed; remove acme-files from \[plug'):
        run(home, installed, "-c", LINK)


def test_it_keeps_the_contract_that_is_shipped_for_every_connector(home: Path, installed: Path) -> None:
    (home / "test_contract.py").write_text(CONTRACT)
    told = run(home, installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contract.py")
    assert "passed" in told


def test_it_is_one_file_under_sixty_lines() -> None:
    [file] = SOURCE.glob("**/*.py")
    assert len(file.read_text().splitlines()) < 60
