"""Hooks of MkDocs: the pages beside this folder belong to the site, and links into the repository stay readable.

Each page is a file that reads well in the repository, too, so its links are written for the repository. There is no
public address of it, so what is no page of the site is named and not linked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\[((?:[^\]\[]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside this folder."""
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to pages of the site, and name the files that are none."""
    here = Path(page.file.abs_src_path or "").resolve().parent

    def led(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        file = (here / target).resolve()
        place = os.path.relpath(file, ROOT)
        if place in BESIDE or (place.startswith("docs/") and place.endswith(".md")):
            inside = BESIDE.get(place, place.removeprefix("docs/"))
            return f"[{text}]({os.path.relpath(inside, Path(page.file.src_uri).parent)}{anchor})"
        return text if file.exists() else link.group()  # what is nowhere is left for MkDocs to complain about

    return _LINK.sub(led, markdown)
