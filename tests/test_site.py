"""The site of `make docs` is complete, and its link checker finds broken links."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from support import ROOT

import pipeline
from tools.site_hooks import broken_links


def test_broken_links_are_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1><a href="docs/b.html#here">1</a><a href="docs/b.html#there">2</a><a href="#top">3</a>'
        '<a href="#bottom">4</a><a href="https://example.org/x#y">5</a><img src="a.png"><img src="b.png">'
        '<script src="https://example.org/x.js"></script><a href="docs">6</a><a href=".">7</a>'
    )
    (tmp_path / "docs/b.html").write_text('<p id="here"><a href="../index.html">1</a><a href="/a.png">2</a></p>')
    assert list(broken_links(tmp_path)) == [
        "index.html: broken link docs/b.html#there",
        "index.html: broken link #bottom",
        "index.html: broken link b.png",
        "index.html loads https://example.org/x.js",
        "index.html: broken link docs",
    ]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="make docs installs mkdocs")
def test_the_site_has_the_guides_the_notebooks_and_the_public_names(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    sources = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.ipynb"), ROOT / "CONTRIBUTING.md"]
    pages = {path.relative_to(ROOT).with_suffix(".html").as_posix().replace("README", "index") for path in sources}
    assert pages | {"index.html", "pipeline/index.html"} <= {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")
    }
    api = "".join(path.read_text() for path in tmp_path.glob("docs/api/*.html"))
    for name in pipeline.__all__:
        value = getattr(pipeline, name)
        assert f'id="{value.__module__}.{name}"' in api
    notebook = (tmp_path / "examples/fine_tune.html").read_text()
    assert "data:image/png;base64," in notebook and "seasonal naive" in notebook
