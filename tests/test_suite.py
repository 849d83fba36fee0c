"""The suite itself: nothing that it leaves out goes unsaid, and no clock decides what passes."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOK = re.compile(r"\bassert\b.*\b(time|monotonic|perf_counter|process_time)(_ns)?\(\) *-")


def test_no_test_asserts_on_how_long_something_took():
    """A limit on a wait is `assert time.monotonic() < end`; what is to be fast is benchmarked."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if TOOK.search(line)
    ]
    assert found == []
    assert TOOK.search("assert time.monotonic()" + " - before < 2")


# --- Private names --------------------------------------------------------------------------------

PUBLIC = {"_asdict", "_fields", "_make", "_replace"}
"""What named tuples and ctypes offer: their underscore only keeps them apart from fields."""

BY_NAME = {"setattr", "getattr", "delattr", "hasattr", "object"}
"""Calls that take a name as text; `object` is `mock.patch.object`."""


def is_private(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__") and last not in {"_", *PUBLIC}


def private_names(source: str) -> Iterator[str]:
    """The private names of other modules that a module uses, each with its line."""
    tree = ast.parse(source)
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    } | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"self", "cls"}
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names] + (node.module or "").split(".")
        elif isinstance(node, ast.Attribute) and node.attr not in own:
            names = [node.attr]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            words = [a.value for a in node.args if isinstance(a, ast.Constant)]
            names = [w for w in words if isinstance(w, str)] if called in BY_NAME else []
        yield from (f"{getattr(node, 'lineno', 0)}: {name}" for name in names if is_private(name))


@pytest.mark.parametrize(
    "source",
    [
        "from segue.atomic import _placed",
        "from segue import _private",
        "from segue._private import public",
        "from segue import atomic\natomic._placed()",
        "monkeypatch.setattr(atomic, '_placed', None)",
        "monkeypatch.setattr('segue.atomic._placed', None)",
        "patch.object(atomic, '_placed')",
        "getattr(engine, '_lm')",
    ],
)
def test_a_private_name_is_found(source):
    assert len(list(private_names(source))) == 1


def test_a_module_s_own_private_names_are_its_own():
    source = (
        "class A:\n  def _b(self): self._c = 1\n\ndef _d(a): return a._b(), a._c, (1)._replace()"
    )
    assert not list(private_names(source))
    assert not list(private_names("from importlib import metadata as _, __version__"))


def test_no_test_reaches_into_private_names_of_another_module():
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{use}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for use in private_names(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_what_is_not_run_is_said_in_the_last_lines():
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment["PATH"] = str(ROOT / "docs")  # where there is no Chromium
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/web/test_page.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, heading, line, closing = done.stdout.splitlines()
    assert "not run here" in heading
    assert line == "9 tests skipped: no Chromium here: apt-get install chromium chromium-driver"
    assert closing.startswith("9 skipped in ")
