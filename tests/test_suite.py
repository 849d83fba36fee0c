"""The suite itself: nothing that it leaves out goes unsaid, and no clock decides what passes."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
