"""Firefox as Debian has it, driven over Marionette, its own protocol: no driver is needed.

A message is its length in decimal, a colon, and JSON: `[0, id, command, parameters]` one way,
`[1, id, error, result]` the other.
"""

import json
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

from .browser import SECONDS

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

_PREFERENCES = {
    "marionette.port": 0,
    "media.autoplay.default": 0,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "browser.download.folderList": 2,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key by which WebDriver marks an element."""


class Firefox:
    """The part of a WebDriver that the tests use, under Selenium's names."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._file = self._socket.makefile("rb")
        self._id = 0
        self._read()  # it introduces itself
        self.send("WebDriver:NewSession")
        self.send("WebDriver:SetTimeouts", script=1000 * SECONDS)

    def send(self, command, **parameters):
        """Run a command; what it returns."""
        self._id += 1
        text = json.dumps([0, self._id, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self._read()
        assert error is None, f"{error['error']}: {error['message']}"
        return result.get("value", result) if isinstance(result, dict) else result

    def _read(self):
        length = b""
        while not length.endswith(b":"):
            some = self._file.read(1)
            assert some, "Firefox has gone"
            length += some
        return json.loads(self._file.read(int(length[:-1])))

    def get(self, url):
        self.send("WebDriver:Navigate", url=url)

    def execute_script(self, script, *arguments):
        return self.send("WebDriver:ExecuteScript", script=script, args=[*arguments], sandbox=None)

    def execute_async_script(self, script, *arguments):
        return self.send(
            "WebDriver:ExecuteAsyncScript", script=script, args=[*arguments], sandbox=None
        )

    def find_element(self, by, value):
        element = self.send("WebDriver:FindElement", using=by, value=value)
        return _Element(self, element[ELEMENT])

    def press(self, *keys):
        """Press keys, one after the other, wherever the focus is."""
        actions = [
            {"type": kind, "value": key}
            for text in keys
            for key in text
            for kind in ("keyDown", "keyUp")
        ]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self.send("WebDriver:PerformActions", actions=[keyboard])

    def drag(self, selector, start, end):
        """Press on an element and move, both as shares of its width, and release."""
        box = self.execute_script(
            "const b = document.querySelector(arguments[0]); b.scrollIntoView({ block: 'center' });"
            "const { left, top, width, height } = b.getBoundingClientRect();"
            "return { left, top, width, height }",
            selector,
        )
        y = round(box["top"] + box["height"] / 2)
        xs = [round(box["left"] + share * box["width"]) for share in (start, end)]
        actions = [
            {"type": "pointerMove", "x": xs[0], "y": y, "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "x": (xs[0] + xs[1]) // 2, "y": y, "duration": 50},
            {"type": "pointerMove", "x": xs[1], "y": y, "duration": 50},
            {"type": "pointerUp", "button": 0},
        ]
        pointer = {"type": "pointer", "id": "mouse", "actions": actions}
        self.send("WebDriver:PerformActions", actions=[pointer])


class _Element:
    def __init__(self, firefox, id_):
        self._firefox, self._id = firefox, id_

    def send_keys(self, text):
        self._firefox.send("WebDriver:ElementSendKeys", id=self._id, text=text)

    def click(self):
        self._firefox.send("WebDriver:ElementClick", id=self._id)


@contextmanager
def firefox(profile, downloads):
    """A Firefox without a window, with a profile of its own."""
    preferences = {
        **_PREFERENCES,
        "browser.download.dir": str(downloads),
        "browser.download.useDownloadDir": True,
    }
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    with subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield Firefox(_port(profile, process))
        finally:
            process.terminate()


def _port(profile, process):
    """The port that Firefox has chosen, as soon as it says so."""
    end = time.monotonic() + SECONDS
    file = profile / "MarionetteActivePort"
    while not (file.exists() and file.read_text().strip()):
        assert process.poll() is None, "Firefox did not start"
        assert time.monotonic() < end
        time.sleep(0.05)
    return int(file.read_text())
