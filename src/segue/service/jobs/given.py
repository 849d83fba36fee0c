"""Parameters that exclude or change others: what a client's mean for those that it leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...admission import variations_for
from ...errors import RequestError


def lengths_cleared(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a client's lengths put an end to, of a job before: one length takes another's place.

    Raises:
        RequestError: there are two lengths for one thing.
    """
    cleared: dict[str, Any] = {}
    for names in (("output_seconds", "seconds", "bars"), ("prompt_seconds", "prompt_bars")):
        sent = [name for name in names if given.get(name) is not None]
        if len(sent) > 1:
            raise RequestError(f"{' and '.join(sent)} are two lengths of one thing; drop one")
        if sent:
            cleared |= dict.fromkeys(set(names) - {*sent, "output_seconds", "prompt_seconds"})
    if "bpm" in given and given["bpm"] is None:
        cleared |= {"bars": None, "prompt_bars": None}
    return cleared


def texts_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a client's texts change, besides itself: one is that of all, several are as many takes.

    Raises:
        RequestError: there are neither one text nor as many as takes.
    """
    texts: Sequence[str] = tuple(given.get("texts", ()))
    if "texts" not in given:
        return {"texts": ()} if "text" in given else {}
    if given.get("text", "").strip() and texts:
        raise RequestError("description is the text of all takes, descriptions are those of each")
    if len(texts) <= 1:
        return {"texts": (), "text": next(iter(texts), given.get("text", ""))}
    variations = variations_for(texts, given.get("variations"))
    return {"texts": texts, "text": "", "variations": variations}
