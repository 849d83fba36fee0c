"""Distributions apart: the maths against what it says, token by token."""

import math

import numpy as np
import pytest

from segue.lab.quality.divergence import (
    BLOCK_FRAMES,
    Bootstrap,
    compare,
    concatenated,
    frames_until_divergence,
    log_softmax,
    summarise,
)


def logits(frames=70, codebooks=2, cardinality=5, seed=0, spread=3.0):
    random = np.random.default_rng(seed)
    return (spread * random.standard_normal((frames, codebooks, cardinality))).astype(np.float32)


def codes(frames=70, codebooks=2, cardinality=5):
    return np.random.default_rng(9).integers(0, cardinality, (frames, codebooks))


def probabilities(row):
    exponents = [math.exp(float(x)) for x in row]
    return [e / math.fsum(exponents) for e in exponents]


def test_tokens_are_what_a_direct_computation_finds():
    baseline, variant, truth = logits(seed=1), logits(seed=2), codes()
    found = compare(baseline, variant, truth)
    assert len(found) == 70  # more than are in float64 at a time
    for f, k in np.ndindex(70, 2):
        p, q = probabilities(baseline[f, k]), probabilities(variant[f, k])
        kl = math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found.kl[f, k] == pytest.approx(kl, rel=1e-12)
        assert found.baseline_nll[f, k] == pytest.approx(-math.log(p[truth[f, k]]), rel=1e-12)
        assert found.variant_nll[f, k] == pytest.approx(-math.log(q[truth[f, k]]), rel=1e-12)
        assert found.agree[f, k] == (p.index(max(p)) == q.index(max(q)))


def test_against_itself_there_is_exactly_nothing():
    one = logits(200)
    tables = summarise(compare(one, one.copy(), codes(200)), Bootstrap([[150], [50]]))
    for name in ("overall", "codebook_0", "codebook_1"):
        kl = tables["kl"][name]
        assert kl == {"mean": 0, "ci95": [0, 0], "median": 0, "p99": 0, "max": 0}
        assert tables["top1_agreement"][name] == {"mean": 1, "ci95": [1, 1]}
        perplexity = tables["perplexity"][name]
        assert perplexity["ratio"] == 1
        assert perplexity["ci95"] == [1, 1]
        assert perplexity["baseline"] == perplexity["variant"]


def test_kl_is_not_symmetric_and_never_negative():
    one, other, truth = logits(seed=1), logits(seed=2), codes()
    forth, back = compare(one, other, truth).kl, compare(other, one, truth).kl
    assert not np.allclose(forth, back)
    assert (forth > 0).all()
    nearly = (one.astype(np.float64) * (1 + 1e-7)).astype(np.float32)
    assert (compare(one, nearly, truth).kl >= 0).all()


def test_what_is_added_to_all_logits_changes_nothing():
    one = logits()
    np.testing.assert_allclose(compare(one, one + 4, codes()).kl, 0, atol=1e-12)


def test_large_logits_do_not_overflow():
    found = log_softmax(np.array([3e38, -3e38, 0], np.float32))
    assert found[0] == 0
    assert np.isfinite(found).all()
    np.testing.assert_allclose(log_softmax(np.zeros(2048, np.float32)), -math.log(2048))


def test_tables_are_means_over_tokens():
    found = compare(logits(300, seed=1), logits(300, seed=2), codes(300))
    tables = summarise(found, Bootstrap([[300]]))
    assert tables["kl"]["overall"]["mean"] == pytest.approx(found.kl.mean())
    assert tables["kl"]["codebook_1"]["mean"] == pytest.approx(found.kl[:, 1].mean())
    assert tables["kl"]["overall"]["p99"] == np.quantile(found.kl, 0.99)
    assert tables["kl"]["codebook_0"]["max"] == found.kl[:, 0].max()
    overall = tables["perplexity"]["overall"]
    assert overall["variant"] == pytest.approx(math.exp(found.variant_nll.mean()))
    assert overall["ratio"] == pytest.approx(overall["variant"] / overall["baseline"])


def test_an_interval_holds_its_mean_and_narrows_with_more_music():
    widths = []
    for frames in (1_000, 16_000):
        found = compare(logits(frames, seed=1), logits(frames, seed=2), codes(frames))
        for table in summarise(found, Bootstrap([[frames // 4] * 4])).values():
            for row in table.values():
                low, high = row["ci95"]
                assert low <= row.get("mean", row.get("ratio")) <= high
        _, (low, high) = Bootstrap([[frames]]).mean(found.kl)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_an_interval_covers_the_truth_as_often_as_it_claims():
    """Blocks that move together, as music does: 95 % would be right, tokens alone find 40 %."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        levels = np.repeat(random.standard_normal(40), BLOCK_FRAMES)
        values = levels + 0.1 * random.standard_normal(len(levels))
        _, (low, high) = Bootstrap([[len(values)]]).mean(values[:, None])
        covered += low <= 0 <= high
    assert covered >= 88


def test_prompts_that_differ_widen_the_interval():
    values = np.repeat([0.0, 0.0, 1.0, 1.0], 1_000)[:, None]
    _, together = Bootstrap([[4_000]]).mean(values)
    _, apart = Bootstrap([[1_000]] * 4).mean(values)
    assert apart[1] - apart[0] > 2 * (together[1] - together[0])


def test_blocks_end_with_their_window_and_short_ones_weigh_less():
    bootstrap = Bootstrap([[BLOCK_FRAMES + 1], [BLOCK_FRAMES - 1]])
    assert bootstrap.blocks_per_prompt == [2, 1]
    values = np.zeros((2 * BLOCK_FRAMES, 1))
    values[BLOCK_FRAMES] = 1
    assert bootstrap.mean(values)[0] == 1 / (2 * BLOCK_FRAMES)


def test_intervals_are_the_same_every_time():
    values = np.random.default_rng(0).standard_normal((900, 4))
    assert Bootstrap([[500], [400]]).mean(values) == Bootstrap([[500], [400]]).mean(values)


def test_windows_are_put_one_after_the_other():
    one, other, truth = logits(60, seed=1), logits(60, seed=2), codes(60)
    whole = compare(one, other, truth)
    halves = [compare(one[s], other[s], truth[s]) for s in (slice(0, 25), slice(25, 60))]
    np.testing.assert_array_equal(concatenated(halves).kl, whole.kl)


def test_divergence_is_the_first_frame_with_any_other_code():
    one = np.arange(20).reshape(2, 10)
    other = one.copy()
    assert frames_until_divergence(one, other) == 10
    other[1, 7] = 0
    assert frames_until_divergence(one, other) == 7
    other[0, 0] = 5
    assert frames_until_divergence(one, other) == 0
