"""Channels: speaker layouts, the channel orders of formats, up and down mixing.

Samples are always in the order of WAV's channel mask: front left, front right, front centre, low
frequency effects (LFE), back left, back right, and so on.  A *layout* is that mask, an integer
whose bits are the present speakers (Microsoft's `dwChannelMask`); 0 means that the channels are for
no speakers, None that the layout is not known, which is taken for the usual one of their number.
"""

from __future__ import annotations

import numpy as np

SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC",
    "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip
"""In the order of the mask's bits, by FFmpeg's names."""

_USUAL = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
"""FLAC's own (RFC 9639), which for 1, 2, 4, 6 and 8 channels are Windows' defaults, too."""

_MINUS_3_DB = float(np.sqrt(0.5))

_TO_STEREO = {
    "FL": (1, 0),
    "FR": (0, 1),
    "FC": (_MINUS_3_DB, _MINUS_3_DB),
    "LFE": (0, 0),
    "BL": (_MINUS_3_DB, 0),
    "BR": (0, _MINUS_3_DB),
    "SL": (_MINUS_3_DB, 0),
    "SR": (0, _MINUS_3_DB),
    "BC": (0.5, 0.5),
    # Not in the recommendation: front speakers are mixed like the front, upper ones like the
    # surrounds.
    "FLC": (1, 0),
    "FRC": (0, 1),
    "TC": (0.5, 0.5),
    "TFL": (_MINUS_3_DB, 0),
    "TFC": (0.5, 0.5),
    "TFR": (0, _MINUS_3_DB),
    "TBL": (_MINUS_3_DB, 0),
    "TBC": (0.5, 0.5),
    "TBR": (0, _MINUS_3_DB),
}
"""ITU-R BS.775, table 2: centre and surrounds at -3 dB, one surround for both sides at -6 dB."""

# Vorbis I, section 4.3.9; Opus has the same (RFC 7845, section 5.1.1.2).
_VORBIS = {
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}


def usual_layout(channels: int) -> int:
    """Return the default layout of a number of channels; 0 if there is none."""
    return _USUAL.get(channels, 0)


def speakers(layout: int) -> list[str]:
    """List the speakers of a layout, in the order of the channels."""
    return [name for bit, name in enumerate(SPEAKERS) if layout >> bit & 1]


def layout_of(names: list[str]) -> int | None:
    """Return the layout of some speakers; None if one is not among WAV's, or comes twice."""
    if not set(names) <= set(SPEAKERS) or len(set(names)) < len(names):
        return None
    return sum(1 << SPEAKERS.index(name) for name in names)


def fitting(layout: int | None, channels: int) -> int:
    """Return `layout` if it has so many channels, the usual one if it is None, otherwise 0."""
    if layout is None:
        return usual_layout(channels)
    return layout if len(speakers(layout)) == channels else 0


def vorbis_order(channels: int) -> list[int]:
    """Return the position of each channel in the order of Vorbis and Opus.

    `ours = theirs[:, vorbis_order(C)]`.
    """
    if channels not in _VORBIS:
        return list(range(channels))
    theirs = _VORBIS[channels]
    return [theirs.index(name) for name in sorted(theirs, key=SPEAKERS.index)]


def held_by(format_: str, layout: int, channels: int) -> bool:
    """Tell whether a file of a format can store that its channels have `layout`.

    Args:
        format_: libsndfile's name of the format.
        layout: not 0.
        channels: the number of channels of the layout.
    """
    if format_ in ("WAV", "RF64") or (channels <= 2 and layout == usual_layout(channels)):
        return True
    # To FLAC and Ogg, back and side speakers are the same.
    plain = layout if layout & 0x30 and layout & 0x600 else layout & ~0x600 | (layout & 0x600) >> 5
    return format_ in ("FLAC", "OGG") and usual_layout(channels) in (layout, plain)


def to_channels(samples: np.ndarray, channels: int, layout: int | None = None) -> np.ndarray:
    """Mix samples up or down to another number of channels.

    Down to two channels by ITU-R BS.775: the centre at -3 dB on both sides, surrounds at -3 dB on
    theirs, LFE left out.  Down to one: the mean of these two, as it is of a stereo file.  Up from
    one or two: they become the left and right front, and the other speakers are silent, so that
    mixing down again gives them back.  Channels without speakers are taken as left and right in
    turn.

    Args:
        samples: `(T, C)`, in WAV's order.
        channels: the number of channels of the result.
        layout: of the larger number of channels: of `samples`, or of the result.

    Returns:
        `(T, channels)`.
    """
    have = samples.shape[1]
    if have == channels:
        return samples
    if have <= 2 and channels <= 2:
        if channels == 2:
            return np.repeat(samples, 2, axis=1)
        return _mean(samples)
    if channels <= 2:
        mixed = _down(samples, fitting(layout, have))
        return mixed if channels == 2 else _mean(mixed)
    if have <= 2:
        return _up(samples, channels, fitting(layout, channels))
    return samples[:, np.arange(channels) % have]


def _mean(samples: np.ndarray) -> np.ndarray:
    mean: np.ndarray = samples.mean(axis=1, keepdims=True, dtype=samples.dtype)
    return mean


def _down(samples: np.ndarray, layout: int) -> np.ndarray:
    """To stereo."""
    if not layout:
        sides = [samples[:, side::2].mean(axis=1, dtype=samples.dtype) for side in (0, 1)]
        return np.stack(sides, axis=1)
    matrix = np.array([_TO_STEREO[name] for name in speakers(layout)], samples.dtype)
    # Not by a matrix product: silence times a channel's infinity would be NaN in both.
    mixed = np.zeros((len(samples), 2), samples.dtype)
    for channel, gains in enumerate(matrix):
        for side in (0, 1):
            if gains[side]:
                mixed[:, side] += gains[side] * samples[:, channel]
    return mixed


def _up(samples: np.ndarray, channels: int, layout: int) -> np.ndarray:
    """From mono or stereo."""
    names = speakers(layout)
    if "FL" not in names or "FR" not in names:
        return samples[:, np.arange(channels) % samples.shape[1]]
    spread = np.zeros((len(samples), channels), samples.dtype)
    spread[:, names.index("FL")], spread[:, names.index("FR")] = samples[:, 0], samples[:, -1]
    return spread
