"""Exceptions whose message is one line for the user."""

from __future__ import annotations


class SegueError(Exception):
    """Bad input: a file, an option or a checkpoint that cannot be used.

    The message is one line that names the file or the option and says what to do.  The command
    line prints it and exits with 2; the service answers with a 4xx.
    """


class AudioError(SegueError):
    """A prompt that cannot be read or used, or an output that cannot be written."""


class CheckpointError(SegueError):
    """A checkpoint that is missing, damaged, unsafe or of an unknown layout."""


class BaseModelRequiredError(CheckpointError):
    """A fine-tune does not say how large it is; the model it was trained from does."""


class RequestError(SegueError):
    """Options out of range, or that contradict each other."""


class OutputError(AudioError):
    """A file or a folder that cannot be written.

    It is an `AudioError`, since most of what segue writes is audio, and most callers handle both
    alike.

    Attributes:
        reason: the system's message.
    """

    def __init__(self, line: str, reason: str = "") -> None:
        super().__init__(line)
        self.reason = reason


class ModelOverflowError(RequestError):
    """A model computed NaN or infinity: a narrow type overflowed, or a weight is NaN.

    Args:
        what: the values that are not finite, in the plural, such as `"logits"`.
        fixed: whether they belong to a part of the model that is always float32.
        name: of the variant, for the start of the message; empty for none.
    """

    def __init__(self, what: str, fixed: bool = False, name: str = "") -> None:
        advice = "another type or quantization"
        if fixed:
            advice = "another checkpoint, or download this one again"
        start = f"{name}: " if name else ""
        super().__init__(f"{start}the model overflows, its {what} are no numbers; choose {advice}")
        self._what, self._fixed = what, fixed

    def of(self, name: str) -> ModelOverflowError:
        """Return the same error with the name of the variant at the start of its message."""
        return ModelOverflowError(self._what, self._fixed, name)
