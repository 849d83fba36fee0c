"""Imports point down, and never in a circle: the layout of docs/architecture.md, checked."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import segue

PACKAGE = Path(segue.__file__).parent

LAYERS = (
    ("__main__",),
    ("cli", "demo.__main__"),
    ("doctor",),
    (
        *(
            "continue_command",
            "continue_folder",
            "generate_command",
            "takes",
            "take_report",
            "quantize_command",
            "merge_command",
        ),
        *("recipe_command", "recipe_picture", "again"),
    ),
    ("models_command", "download_command"),
    ("service", "lab"),
    (
        "cluster",
        "options",
        "time_options",
        "part_options",
        "cuts",
        "outputs",
        "uploads",
        "recipe_options",
        "terminal",
    ),
    ("",),  # the library's front door, `import segue`
    ("model", "stream"),
    (
        *("continuation", "layout", "preview", "splice", "request", "admission", "demo", "beats"),
        *("text_groups", "result", "melody"),
    ),
    ("bars",),
    ("quantization",),
    ("engine",),
    (
        *("checkpoints", "quantization.methods"),
        *("quantization.grid_search", "quantization.rounding"),
    ),
    ("audio", "channel", "pattern", "progress", "web"),
    ("atomic", "caching", "standard_streams", "storage"),
    ("errors",),
)
"""From the top.  A module may import from its own layer and from those below."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def layer(module: str) -> int:
    """The number of a module's layer: that of the longest name that it begins with."""
    names = {name: n for n, layer in enumerate(LAYERS) for name in layer}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in names:
            return names[name]
    assert module == "", f"{module} has no layer: give it one, here and in docs/architecture.md"
    return names[""]


def imports(module: str) -> set[str]:
    """The modules of segue that a module imports, wherever in it."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "segue":
            base = node.module.split(".")[1:]
        else:
            continue
        for alias in node.names:
            name = ".".join([*base, alias.name])
            found.add(name if name in MODULES else ".".join(base))
    return found - {module}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_its_layer_and_below(module):
    up = {name for name in imports(module) if layer(name) < layer(module)}
    assert not up, f"{module or 'segue'} imports {', '.join(sorted(up))}, which lies above it"


def test_there_is_no_circle():
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def reachable(module: str) -> set[str]:
    """The modules of segue that importing a module imports, itself included."""
    found: set[str] = set()
    left = {module}
    while left:
        found.add(name := left.pop())
        left |= imports(name) - found
    return found


def test_only_the_app_and_its_middleware_know_the_error_handlers():
    known_to = {module for module in MODULES if "service.http.errors" in imports(module)}
    assert known_to == {"service.app", "service.http.middleware"}


def test_taking_a_request_apart_needs_no_database():
    stores = {module for module in MODULES if "import sqlite3" in MODULES[module].read_text()}
    assert "service.jobs.store" in stores
    assert not stores & reachable("service.http.json_stream")


def test_nothing_imports_a_module_that_runs_as_main():
    """It would exist twice, and so its classes: `except` does not know one for the other."""
    entries = {module for module in MODULES if module.endswith("__main__")}
    imported = {name for module in MODULES for name in imports(module)}
    assert "service.workers.__main__" in entries
    assert not entries & imported
