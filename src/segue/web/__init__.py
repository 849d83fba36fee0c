"""The pages' own scripts and styles: plain modules and a style sheet, without a build step.

`static/shared` is what the report and the service's page share, `static/report` and
`static/service` are theirs.  A server hands the files out as they are, under `/web`; a page that
must stand alone takes `bundle()`.  Their types are in comments, and `types` describes the JSON that
they read: for `make lint` alone, nothing of it runs.
"""

from __future__ import annotations

import posixpath
import re
from importlib import resources
from pathlib import Path

STATIC = Path(str(resources.files(__package__))) / "static"

_IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"(\.{1,2}/[\w/-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)


def read(name: str) -> str:
    """A file of `STATIC`, by its path there, such as `"shared/dom.js"`."""
    return (STATIC / name).read_text(encoding="utf-8")


def bundle(entry: str) -> str:
    """One module that imports nothing, of the module `entry` and all that it imports.

    Every module becomes a function that is called once and returns what the module exports.

    Args:
        entry: path of a module in `STATIC`, without its `.js`.

    Raises:
        ValueError: a module holds what would end the script element that it is put into.
    """
    bundled: dict[str, str] = {}
    _collect(entry, bundled)
    text = "\n".join(bundled.values())
    if re.search(r"</script|<!--", text, re.IGNORECASE):
        raise ValueError("a script must not hold its own end")
    return text


def _collect(name: str, bundled: dict[str, str]) -> None:
    """Put a module behind those it needs."""
    text = read(f"{name}.js")

    def path(relative: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(name), relative))

    def taken(imported: re.Match[str]) -> str:
        names, module = imported.groups()
        return f"const {names} = {_variable(path(module))};\n" if names else ""

    for _, module in _IMPORT.findall(text):
        if path(module) not in bundled:
            _collect(path(module), bundled)
    exported = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub(taken, text))
    bundled[name] = (
        f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"
    )


def _variable(name: str) -> str:
    """What a module is called in a bundle: `$shared_dom`."""
    return "$" + re.sub(r"\W", "_", name)
