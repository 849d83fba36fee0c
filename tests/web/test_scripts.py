"""The pages' scripts, as files."""

import pytest

from segue import web

SCRIPTS = sorted(web.STATIC.rglob("*.js"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_types_are_checked_in_every_script(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// @ts-check\n")
    assert not any(way_out in text for way_out in ("@ts-nocheck", "@ts-ignore", "@ts-expect-error"))


def test_a_bundle_imports_and_exports_nothing():
    lines = web.bundle("report/report").splitlines()
    assert not [line for line in lines if line.startswith(("import ", "export "))]
