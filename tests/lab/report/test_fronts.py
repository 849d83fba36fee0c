"""What nothing beats, what is chance, and a plan as a grid."""

from typing import Any

import numpy as np
import pytest

from segue.lab.quality.divergence import Bootstrap
from segue.lab.report.fronts import front, front_lines, pair_lines
from segue.lab.report.page import page
from segue.lab.report.plans import Cell, grid
from segue.lab.report.write import markdown
from segue.lab.results import Matrix
from tests.lab import matrix_folder

FRAMES = [[450]] * 20
LAYER = "decoder.model.decoder.layers."


def quality(name, extra):
    """A quality report whose KL is higher by `extra` than that of all others, and noise."""
    random = np.random.default_rng(len(name))
    kl = 0.01 + extra + random.gamma(1.0, 0.002, (9000, 4))
    return {
        "model": "m",
        "engine": "mlx",
        "baseline": {"name": "baseline"},
        "text": "",
        "prompts": [],
        "kl": {"overall": {"mean": kl.mean()}},
        "blocks": {
            "frames": FRAMES,
            "tokens_per_frame": 4,
            "kl": Bootstrap(FRAMES).sums(kl).tolist(),
        },
    }


def rows(*changes):
    """Rows of a matrix: name, bits, ms, and what KL is above the rest."""
    found = []
    for name, bits, ms, extra in changes:
        found.append(
            {
                "name": name,
                "status": "ok",
                "variant": {"cast_dtype": None, "recipe": {"bits": 4, "group_size": 64}},
                "bench": {"bits_per_weight": bits, "speed": {"ms_per_step": ms}},
                "quality": quality(name, extra),
            }
        )
    return Matrix.from_json({"rows": found}).rows


def test_a_front_is_what_nothing_beats_in_both():
    found = rows(("a", 8.5, 3, 0), ("b", 4.5, 2, 0.1), ("c", 4.5, 4, 0.2), ("d", 3.5, 2.5, 0.3))
    assert [row.name for row in front(found, lambda row: row.bench.bits_per_weight)] == [
        *("a", "b", "d")
    ]
    assert [row.name for row in front(found, lambda row: row.bench.ms_per_step)] == ["a", "b"]
    bits, ms = front_lines(found)
    assert bits.startswith("Nothing beats in both KL and bits a weight: a (0.01")
    assert "d (" in bits
    assert "d (" not in ms


def test_rows_without_figures_are_on_no_front():
    assert front_lines(Matrix.from_json({"rows": [{"name": "x"}, {}]}).rows) == []
    assert pair_lines(Matrix.from_json({"rows": [{"name": "x"}, {}]}).rows) == []


def test_a_difference_is_said_to_be_chance_where_it_may_be():
    (less, chance) = pair_lines(rows(("a", 8, 3, 0), ("bb", 4, 2, 0.1), ("ccc", 4, 2, 0.1)))
    assert less.startswith(("ccc loses 0.1", "bb loses 0.1"))
    assert "chance" not in less
    assert "which may be chance" in chance


PLAN: dict[str, Any] = {
    "bits": 4,
    "group_size": 64,
    "scope": "decoder-linears",
    "plan": {
        "modules": {
            f"{LAYER}0.self_attn.q_proj": {"bits": 6, "group_size": 32},
            f"{LAYER}2.fc2": {"bits": 2, "group_size": 128},
            "decoder.lm_heads.0": {"bits": 8, "group_size": 64},
        }
    },
}


def test_a_plan_is_a_grid_of_layers_and_modules():
    found = grid(PLAN)
    assert [name for name, _ in found.rows] == ["1", "2", "3", "heads"]
    first, second, third, heads = (cells for _, cells in found.rows)
    assert first[found.units.index("Q, K, V")] == Cell(6, 32)
    assert set(second) == {Cell(4, 64)}
    assert third[found.units.index("fc2")] == Cell(2, 128)
    assert heads[0] == Cell(8, 64)
    shaped = PLAN | {"plan": PLAN["plan"] | {"shape": {"layers": 5}}}
    assert len(grid(shaped).rows) == 6


@pytest.mark.parametrize(
    "recipe",
    [None, {}, {"plan": None}, {"bits": 4, "plan": {"modules": []}}],
)
def test_a_recipe_without_a_plan_has_no_grid(recipe):
    assert grid(recipe) is None


def test_a_plan_that_nobody_wrote_is_drawn_as_far_as_it_goes():
    broken = {"plan": {"modules": {f"{LAYER}1.fc1": "x", "decoder.lm_heads.0": None, "y": {}}}}
    assert grid(broken).rows[-1][0] == "heads"


def test_the_grid_is_in_both_reports(tmp_path):
    found = matrix_folder.matrix()
    found["rows"][3]["variant"]["recipe"] = PLAN
    matrix = Matrix.from_json(found)
    assert "| layer | Q, K, V |" in markdown(matrix)
    assert "| 1 | 6/32 | 4/64 |" in markdown(matrix)
    assert "2 to 8 bits by a plan, decoder-linears" in markdown(matrix)
    html = page(matrix, tmp_path)
    assert '<td class="bits-6">6<small>32</small></td>' in html
    assert "plan" in html
