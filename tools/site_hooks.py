"""Hooks of MkDocs: build the site from pages in the whole repository, and check the links of the built pages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

logger = logging.getLogger("mkdocs.site_hooks")
_READMES = tuple(f"{folder}/README.md" for folder in ("benchmarks", "examples", "pipeline", "scripts", "tests"))
FILES = ("*.md", "docs/**/*", "config/**/*", "examples/*.ipynb", *_READMES)
_LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}
"""Elements that the browser fetches by itself."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by `FILES`, under their paths in the repository, so that links between them hold."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    root = Path(config.config_file_path).parent
    paths = {path for pattern in FILES for path in root.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        name = path.relative_to(root).as_posix()
        files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    return files


on_files.mkdocs_priority = 100  # type: ignore[attr-defined]  # before the plugin of the notebooks looks for its files


def on_post_build(config: MkDocsConfig) -> None:
    """Warn about each broken link; `mkdocs build --strict` then fails."""
    for problem in broken_links(Path(config.site_dir)):
        logger.warning(problem)


def broken_links(site: Path) -> Iterator[str]:
    """Yield a message for each link to a missing file or anchor, and for each file that a page loads from elsewhere."""
    pages = {path.resolve(): _Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for tag, attribute, link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme or address.startswith("//"):
                if (tag, attribute) in _LOADED and not address.startswith("data:"):
                    yield f"{path.relative_to(site)} loads {link}"
                continue
            folder = site if address.startswith("/") else path.parent
            file = (folder / unquote(address).lstrip("/")).resolve() if address else path
            if file.is_dir():
                file /= "index.html"
            target = pages.get(file)
            if not file.is_file() or anchor and target and unquote(anchor) not in target.anchors:
                yield f"{path.relative_to(site)}: broken link {link}"


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.append((tag, name, value))
