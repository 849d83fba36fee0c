"""The pages' own scripts and styles: plain modules and a style sheet, without a build step.

A server hands the files out as they are, `service.html` at its root.  A page that must stand alone
takes `bundle()`.
"""

from __future__ import annotations

import re
from importlib import resources

_IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)


def read(name: str) -> str:
    """A file of this folder."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def bundle(entry: str) -> str:
    """The module `entry` and all it imports, without its `.js`, as one that imports nothing.

    Every module becomes a function that is called once and returns what the module exports.
    """
    found: dict[str, str] = {}
    _collect(entry, found)
    text = "\n".join(found.values())
    # Either would end or confuse the script element that it is put into.
    if re.search(r"</script|<!--", text, re.IGNORECASE):
        raise ValueError("a script must not hold its own end")
    return text


def _collect(name: str, found: dict[str, str]) -> None:
    """Put a module behind those it needs."""
    text = read(f"{name}.js")
    for _, needed in _IMPORT.findall(text):
        if needed not in found:
            _collect(needed, found)
    exported = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub(_taken, text))
    found[name] = f"const ${name} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n"


def _taken(imported: re.Match[str]) -> str:
    names, module = imported.groups()
    return f"const {names} = ${module};\n" if names else ""
