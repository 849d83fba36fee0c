"""Two variants beside each other: what a piece costs both cancels out."""

import numpy as np
import pytest

from segue.errors import RequestError
from segue.lab.quality.divergence import Bootstrap
from segue.lab.quality.paired import difference

FRAMES = [[450]] * 20


def report(kl, **changes):
    """A quality report with KL `(F, 4)`."""
    return {
        "model": "m",
        "engine": "mlx",
        "baseline": {"name": "baseline"},
        "text": "",
        "prompts": [{"name": str(n)} for n in range(20)],
        "blocks": {
            "frames": FRAMES,
            "tokens_per_frame": 4,
            "kl": Bootstrap(FRAMES).sums(kl).tolist(),
        },
    } | changes


def losses():
    """Of two variants: pieces differ by far more than variants do."""
    random = np.random.default_rng(0)
    of_a_piece = np.repeat(random.gamma(2.0, 0.05, 20), 450)[:, None]
    one, other = (of_a_piece + random.gamma(1.0, 0.01, (9000, 4)) for _ in range(2))
    return one, other + 0.002


def test_the_interval_of_the_difference_is_narrower_than_those_of_both():
    one, other = losses()
    found = difference(report(one), report(other))
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.ci95[0] < found.mean < found.ci95[1] < 0
    assert found.certain
    _, (low, high) = Bootstrap(FRAMES).mean(one)
    assert found.ci95[1] - found.ci95[0] < (high - low) / 10


def test_a_variant_differs_from_itself_by_nothing():
    one, _ = losses()
    found = difference(report(one), report(one))
    assert (found.mean, found.ci95, found.certain) == (0, (0, 0), False)


def test_only_what_was_measured_alike_is_compared():
    one, other = losses()
    for change in ({"model": "n"}, {"engine": "openvino"}, {"prompts": []}, {"text": "drums"}):
        with pytest.raises(RequestError, match="other music"):
            difference(report(one), report(other, **change))
    for broken in ({"blocks": {}}, {"blocks": None}):
        with pytest.raises(RequestError, match="without blocks of kl"):
            difference(report(one), report(other, **broken))
    with pytest.raises(RequestError, match="without blocks of guided"):
        difference(report(one), report(other), "guided")
