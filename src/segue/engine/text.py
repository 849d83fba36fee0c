"""Texts to the tokens that a text encoder reads, and no more of them than it was made for."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Encoding, Tokenizer

CHARACTERS_PER_TOKEN = 64
"""More than any token of T5's has.  What lies behind so many for each token is not even tokenized,
which takes a hundred times the memory of the text."""


class TextTokenizer:
    """The tokenizer of a checkpoint.

    Args:
        path: its `tokenizer.json`; its lengths and padding are not used.
        limit: tokens that the encoder reads at most, the one that ends a text included.

    Attributes:
        tokenizer: the library's.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._limit = limit
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.enable_truncation(limit)
        self.tokenizer.no_padding()

    def encode(self, text: str) -> Encoding:
        """The tokens of a text, or of as much of its start as the encoder reads."""
        return self.tokenizer.encode(text[: self._longest()])

    def note(self, text: str) -> str | None:
        """A line on the part of a text that is too long to be read; None if all of it is read."""
        encoded, longest = self.encode(text), self._longest()
        end = longest
        if encoded.overflowing:
            end = max(stop for _, stop in encoded.offsets)
        words = text[end:].split()
        if not words:
            return None
        shown = " ".join(words[:4])
        shown = shown if len(shown) <= 40 else f"{shown[:40]}\N{HORIZONTAL ELLIPSIS}"
        count = f"last {len(words)} words were" if len(words) > 1 else "last word was"
        return (
            f"the text is longer than the {self._limit} tokens that the text encoder reads: its "
            f"{count} left out, from {shown!r} on"
        )

    def _longest(self) -> int:
        return CHARACTERS_PER_TOKEN * self._limit
