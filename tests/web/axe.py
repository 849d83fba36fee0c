"""axe-core, which finds what keeps people with disabilities out of a page."""

from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


def violations(driver):
    """What axe finds wrong with the page as it stands, a line for each."""
    if not SCRIPT.is_file():
        pytest.skip("no axe-core here: npm ci")
    if not driver.execute_script("return 'axe' in window"):
        driver.execute_script(SCRIPT.read_text(encoding="utf-8"))
    return driver.execute_async_script(
        """
        const done = arguments[0];
        axe.run().then(({ violations }) => done(violations.flatMap(({ id, nodes }) =>
          nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`))));
        """
    )
