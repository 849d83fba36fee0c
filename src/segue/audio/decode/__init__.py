"""Files to samples: to the end of what is there, whatever a header says.

    file ─► tags skipped, header put right ─► `Sndfile` or `Ffmpeg` ─► blocks
                (`chunks`, `mpeg`, `ogg`)

libsndfile decodes WAV and its kin, Vorbis and Opus; FFmpeg all else, and what libsndfile refuses.
Where the header and the content disagree, the content counts, and a note says so.
"""

from .source import Source, open_source

__all__ = ["Source", "open_source"]
