"""Sphinx: the documentation site, from these Markdown files and the docstrings (`make docs`)."""

from importlib import metadata

from sphinx.application import Sphinx

project = "segue"
author = "The segue authors"
copyright = author  # noqa: A001 - Sphinx's name
release = version = metadata.version("segue")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
# Raw output of the benchmarks, which performance.md links to as files.
exclude_patterns = ["performance/**", "units/**"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"segue {release}"

# Files of the repository that are pages here, by the name that the README links to.
_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "training/README.md": "training.md",
    "examples/README.md": "examples.md",
    "src/segue/demo/checkpoint/README.md": "checkpoint.md",
}


def _link_to_pages(
    app: Sphinx,
    path: object,
    parent: str,
    content: list[str],
) -> None:
    """Let links of an included file lead to pages of the site."""
    for file, page in _PAGES.items():
        content[0] = content[0].replace(f"]({file}", f"]({page}")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("include-read", _link_to_pages)
