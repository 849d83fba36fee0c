"""Decode files to samples: to the end of their content, whatever a header says.

    file ─► tags skipped, header repaired ─► `Sndfile` or `Ffmpeg` ─► blocks
                (`chunks`, `mpeg`, `ogg`)

libsndfile decodes WAV and related formats, Vorbis and Opus; FFmpeg all others, and what libsndfile
refuses.  Where the header and the content disagree, the content counts, and a note says so.
"""

from .source import Source, open_source

__all__ = ["Source", "open_source"]
