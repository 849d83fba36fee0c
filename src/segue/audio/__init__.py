"""Audio: read, write, resample, change channels.

Samples are an array `(T, C)` of floats in -1 to 1 beside their sample rate, as soundfile has them;
`Audio` holds both.
"""

from .channels import to_channels
from .files import check_output, read, write
from .samples import LOUDEST, Audio, fit, from_array, resample
from .tags import Tags

__all__ = [
    "LOUDEST",
    "Audio",
    "Tags",
    "check_output",
    "fit",
    "from_array",
    "read",
    "resample",
    "to_channels",
    "write",
]
