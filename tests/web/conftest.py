"""One browser for all tests of the pages, and a report to open in it."""

import pytest

from segue.lab.report.write import write_report
from tests.lab import matrix_folder

pytest.importorskip("selenium", reason="Selenium is not installed")

from .browser import CHROMIUM, DRIVER, browser, complaints_of, requests_of, resize


@pytest.fixture(scope="session")
def _browser(tmp_path_factory):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    with browser(tmp_path_factory.mktemp("profile"), downloads) as driver:
        driver.downloads = downloads
        yield driver


@pytest.fixture
def driver(_browser):
    """The browser on an empty page, wide and light, with nothing logged."""
    _browser.get("about:blank")
    resize(_browser, 1280)
    requests_of(_browser)
    complaints_of(_browser)
    return _browser


@pytest.fixture(scope="session")
def report_page(tmp_path_factory):
    """The address of a report on five rows and a failed one."""
    rows = [*matrix_folder.matrix()["rows"], matrix_folder.failed()]
    folder = matrix_folder.write(tmp_path_factory.mktemp("matrix"), matrix_folder.matrix(rows=rows))
    return write_report(folder)[1].as_uri()


@pytest.fixture
def page(driver, report_page):
    """The browser on that report, decoded, without votes."""
    driver.get(report_page)
    opened(driver)
    yield driver
    driver.execute_script("localStorage.clear()")


def opened(driver):
    """Wait until the first player is ready."""
    driver.execute_async_script(
        "const done = arguments[0]; document.querySelector('segue-player').ready.then(() => done())"
    )
