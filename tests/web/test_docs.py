"""The page that describes the routes, in a real browser."""

import pytest

from segue.service.settings import Settings
from tests.service.in_process import InProcess

from .browser import resize


@pytest.mark.parametrize("width", [360, 1280])
def test_the_docs_do_not_scroll_sideways(driver, tmp_path, width):
    with InProcess(Settings(state=tmp_path / "state")) as running:
        resize(driver, width)
        driver.get(f"http://localhost:{running.port}/docs")
        driver.execute_script(
            "for (const each of document.querySelectorAll('details')) each.open = true"
        )
        shown, there = driver.execute_script(
            "const page = document.documentElement; return [page.clientWidth, page.scrollWidth]"
        )
        assert there <= shown
        driver.get("about:blank")
