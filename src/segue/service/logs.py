"""The log: lines of text or of JSON, on the error stream.

Never audio, never a description, never a token.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

FORMATS = ("text", "json")

_USUAL = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class _Lines(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in it."""
        # What begins with an underscore is a library's: Ray adds its own to every record.
        facts = {k: v for k, v in vars(record).items() if k not in _USUAL and k[0] != "_"}
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._as_json:
            line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
            if trace:
                line["trace"] = trace
            return json.dumps(line | facts, default=str)
        details = " ".join(f"{key}={value!s}" for key, value in facts.items())
        text = f"{when} {record.levelname.lower()}: {record.getMessage()} {details}".rstrip()
        text = "".join(c if c.isprintable() else "�" for c in text)
        return f"{text}\n{trace}" if trace else text


def set_up(format_: str, verbose: bool = False) -> None:
    """Let `segue.service` and uvicorn log in one way.

    Args:
        format_: one of `FORMATS`.
        verbose: every request, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(format_ == "json"))
    for name, level in (
        ("segue.service", logging.DEBUG if verbose else logging.INFO),
        ("uvicorn.error", logging.WARNING),
        ("asyncio", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
