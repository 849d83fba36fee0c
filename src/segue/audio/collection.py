"""The files of a collection of music: which are audio, and the words beside them."""

from __future__ import annotations

from pathlib import Path

from ..errors import AudioError

ENDINGS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
    *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".w64", ".rf64", ".bw64", ".wv"),
)


def files_in(path: Path) -> list[Path]:
    """Find the audio in a folder, to its bottom; a file is itself, whatever its name.

    Raises:
        AudioError: a folder without audio.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in ENDINGS
        and file.is_file()
        and not file.name.startswith(".")  # macOS leaves `._name.wav` on other disks
    )
    if not found:
        raise AudioError(f"{path}: no audio in this folder ({', '.join(ENDINGS)})")
    return found


def words_beside(path: Path) -> str:
    """Return the words in `NAME.txt` beside `NAME.wav`, on one line; empty without that file.

    Raises:
        AudioError: it is no text.
    """
    file = path.with_suffix(".txt")
    try:
        return " ".join(file.read_text(encoding="utf-8").split()) if file.is_file() else ""
    except (OSError, ValueError) as error:
        raise AudioError(f"{file}: cannot be read as text ({error})") from None
