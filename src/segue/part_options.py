"""`--then`: options that make a chain of parts, each with what is typed behind it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from .errors import RequestError
from .request import Part


class OfPart(argparse.Action):
    """An option of the part whose `--then` was typed last; of the continuation before the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """See `argparse.Action`."""
        parts: list[dict[str, Any]] | None = getattr(namespace, "then", None)
        if parts:
            parts[-1][self.dest] = values
        else:
            setattr(namespace, self.dest, values)


class BeforeParts(argparse.Action):
    """An option that a part has none of, so that it must not seem to be one's.

    With a list as its default it may be repeated, and gathers what is typed.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """See `argparse.Action`."""
        if getattr(namespace, "then", None):
            raise argparse.ArgumentError(
                self, "type it before the first --then, which has the text of its own part"
            )
        if isinstance(self.default, list):
            values = [*getattr(namespace, self.dest), values]
        setattr(namespace, self.dest, values)


class _Then(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        parts = getattr(namespace, "then", None) or []
        namespace.then = [*parts, {"text": values}]


def add_then_option(parser: argparse.ArgumentParser) -> None:
    """Add `--then`; see `parts_of`."""
    parser.add_argument(
        "--then",
        metavar="TEXT",
        action=_Then,
        help='play another part after that, with this text (or ""); --seconds or --bars behind it '
        "is its length, --seed its seed; may be repeated",
    )


def parts_of(options: argparse.Namespace) -> Sequence[Part]:
    """Return the parts of `add_then_option`.

    Raises:
        RequestError: one has no length.
    """
    typed: list[dict[str, Any]] = getattr(options, "then", None) or []
    for part in typed:
        if ("seconds" in part) == ("bars" in part):
            raise RequestError(
                f"--then {part['text']!r} needs one length: --seconds 8 or --bars 4 behind it"
            )
    return tuple(Part(**part) for part in typed)
