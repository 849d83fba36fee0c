"""A real browser, driven by Selenium: Debian's Chromium and its driver, nothing downloaded.

`python -m tests.web.browser PAGE FOLDER` takes pictures of a page: wide, narrow, dark.
"""

import base64
import json
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

SECONDS = 60
"""How long anything is waited for; a machine that is busy may need some of it."""

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
    "--window-size=1280,900",
)


@contextmanager
def browser(profile, downloads=None):
    """A browser with a profile of its own, that logs what it says and what it asks for."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if downloads:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options, Service(DRIVER))
    driver.set_script_timeout(SECONDS)
    try:
        # The page that it opens with asks for much.
        driver.get("about:blank")
        requests_of(driver)
        yield driver
    finally:
        driver.quit()


def requests_of(driver):
    """Every address asked for since the last call, but for what lies in the page itself."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    asked = (
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    )
    return [address for address in asked if not address.startswith("data:")]


def complaints_of(driver):
    """What the console has shown since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


def wait_for(driver, script, *arguments):
    """What a script returns, as soon as that is true."""
    end = time.monotonic() + SECONDS
    while not (found := driver.execute_script(script, *arguments)):
        if time.monotonic() > end:
            shown = driver.execute_script("return document.body.innerText")
            raise AssertionError(f"never true: {script}; page: {shown}")
        time.sleep(0.02)
    return found


def wait_until(true):
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def resize(driver, width, height=900, dark=False):
    """Another viewport, also narrower than a window can be."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def picture(driver, path):
    """The whole page as a PNG file."""
    taken = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
    )
    Path(path).write_bytes(base64.b64decode(taken["data"]))


def _main(page, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with browser(folder / "profile") as driver:
        driver.get(page.absolute().as_uri())
        for name, width, dark in (
            ("wide", 1280, False),
            ("narrow", 360, False),
            ("dark", 1280, True),
        ):
            resize(driver, width, dark=dark)
            time.sleep(1)
            picture(driver, folder / f"{name}.png")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
