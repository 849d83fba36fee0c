"""The pick: the fastest within the budget, why, and how to use it."""

import math
import statistics
from typing import Any

import pytest

from segue.checkpoints.recipe import Recipe
from segue.cli import main
from segue.lab.noise import TIE
from segue.lab.pick import MAX_KL, pick, smaller
from segue.lab.results import Matrix
from segue.lab.variant import Variant

Q8, Q4 = (Recipe(bits=bits, method="search") for bits in (8, 4))


def row(name, seconds, kl, recipe=None, cast_dtype=None, **change):
    return {
        "name": name,
        "variant": Variant(name, cast_dtype, recipe).to_json(),
        "status": "ok",
        "error": None,
        "bench": {
            "timings_s": {"token_generate_s": seconds},
            "engine": "mlx",
            "device": "Apple M4",
        },
        "quality": None if kl is None else {"kl": {"overall": {"mean": kl}}},
        "audio": None,
    } | change


def runs(*seconds, name="baseline", kl=0.0, recipe=None, cast_dtype=None, **bench):
    """A row that ran several times."""
    found = row(name, statistics.median(seconds), kl, recipe, cast_dtype)
    ends = {"min": min(seconds), "median": found["bench"]["timings_s"]["token_generate_s"]}
    steady: dict[str, Any] = {
        end: {"timings_s": {"token_generate_s": s}} for end, s in ends.items()
    }
    steady["max"] = {"timings_s": {"token_generate_s": max(seconds)}}
    steady |= {"runs": len(seconds), "each": {"token_generate_s": list(seconds)}}
    found["bench"] |= {"steady": steady} | bench
    return found


def weighing(count, row):
    """The row with weights of so many bytes."""
    row["bench"]["memory"] = {"weights_bytes": count}
    return row


BASELINE, Q8_ROW, Q4_ROW = row("baseline", 10, 0.0), row("q8", 6, 1e-4, Q8), row("q4", 4, 0.05, Q4)


def picked(*rows, max_kl=MAX_KL, model="some/model", base_model="some/base"):
    found = {"rows": rows, "max_kl": max_kl, "model": model, "base_model": base_model}
    best = pick(Matrix.from_json(found))
    return None if best is None else best.to_json()


def test_the_fastest_within_the_budget_is_picked():
    assert picked(BASELINE, Q8_ROW, Q4_ROW)["name"] == "q8"
    assert picked(BASELINE, Q8_ROW, Q4_ROW, max_kl=0.05)["name"] == "q4"
    assert picked(BASELINE, Q8_ROW, Q4_ROW, max_kl=0)["name"] == "baseline"


def test_the_order_of_the_rows_does_not_count():
    assert picked(Q4_ROW, Q8_ROW, BASELINE) == picked(BASELINE, Q8_ROW, Q4_ROW)


def test_the_budget_is_a_token_in_ten():
    assert math.sqrt(MAX_KL / 2) == pytest.approx(0.1)


def test_of_rows_that_are_as_fast_the_better_one_is_picked():
    tied = row("q4", 6 * (1 - 0.9 * TIE), 0.01, Q4)
    found = picked(BASELINE, Q8_ROW, tied)
    assert found["name"] == "q8"
    assert "As fast, as far as the runs tell, but not as good: q4" in found["why"]
    assert picked(BASELINE, Q8_ROW, row("q4", 5.8, 0.01, Q4))["name"] == "q4"


def test_a_checkpoint_as_it_is_may_be_the_fastest():
    slower = row("slower", 12.0, 0.0001, Recipe(bits=8))
    why = picked(BASELINE, slower, Q4_ROW)["why"]
    assert why.startswith("Nothing that stays within 0.02 nats a token is faster than the check")
    assert "it is, which generates in 10.00 s. Faster, but beyond the budget: q4" in why


def test_rows_whose_runs_overlap_are_as_fast():
    def steady(low, high):
        ends = {"min": low, "max": high}
        return {end: {"timings_s": {"token_generate_s": s}} for end, s in ends.items()}

    rows = [row("baseline", 6.5, 0.0), row("q8", 6, 1e-4, Q8), row("q4", 5, 0.01, Q4)]
    for found, ends in zip(rows, [(6.4, 7.0), (5.3, 7.5), (4.5, 5.4)], strict=True):
        found["bench"]["steady"] = steady(*ends)
    assert picked(*rows)["name"] == "q8"
    rows[2]["bench"]["steady"] = steady(4.9, 5.05)
    assert picked(*rows)["name"] == "q4"


@pytest.mark.parametrize("baseline", [(4.0, 4.0, 4.0), (3.8, 4.0, 4.2), (4.0,)])
@pytest.mark.parametrize("q4", [(1.9, 2.0, 4.0), (2.0, 2.0, 4.0), (2.0, 2.1, 1.9, 2.0, 4.0, 4.0)])
def test_one_slow_run_of_the_fastest_row_does_not_widen_the_tie(q4, baseline):
    rows = [runs(*baseline), runs(*q4, name="q4", kl=0.01, recipe=Q4)]
    found = picked(*rows)
    assert found["name"] == "q4"
    assert "As fast" not in found["why"]
    for found in rows:  # an older report, which knows the least, the median and the most
        del found["bench"]["steady"]["each"]
    assert picked(*rows)["name"] == "q4"


def test_a_row_that_does_what_the_baseline_does_measures_the_noise_of_rows():
    def rows(twin, codes="a"):
        return [
            runs(10.0, 10.01, 10.02, codes_sha256="a"),
            runs(
                twin, twin + 0.01, twin + 0.02, name="f16", cast_dtype="float16", codes_sha256=codes
            ),
            runs(9.3, 9.31, 9.32, name="q8", kl=1e-4, recipe=Q8, codes_sha256="b"),
        ]

    assert picked(*rows(10.0))["name"] == "q8"
    noisy = picked(*rows(11.0))
    assert noisy["name"] == "baseline"
    assert "As fast, as far as the runs tell, but not as good: q8." in noisy["why"]
    assert "baseline and f16 do the same, and took times apart by 10%" in noisy["why"]
    # What plays other codes is no such row.
    assert picked(*rows(11.0, "c"))["name"] == "q8"


def test_a_recipe_that_quantizes_nothing_is_the_baseline_by_another_name():
    idle = runs(5.0, 5.1, name="idle", recipe=Q8, modules={"quantized": [], "left": ["x"]})
    assert picked(runs(10.0, 10.1), idle)["name"] == "baseline"


def test_with_one_run_of_each_row_the_pick_states_its_doubt():
    unsure = "With one run of each row it cannot be told what is speed and what is noise"
    assert unsure in picked(BASELINE, Q8_ROW)["why"]
    assert unsure in picked(runs(10.0), runs(6.0, name="q8", kl=1e-4, recipe=Q8))["why"]
    assert unsure not in picked(runs(10.0, 10.1), runs(6.0, 6.1, name="q8", kl=1e-4))["why"]


def test_a_row_that_takes_much_less_memory_is_named():
    rows = [
        weighing(50_500_000, row("baseline", 5.0, 0.0)),
        weighing(50_500_000, row("float16", 5.0, 1e-9, cast_dtype="float16")),
        weighing(20_400_000, row("q8", 5.2, 4e-4, Q8)),
        weighing(19_000_000, row("q8-emb", 5.2, 5e-4, Recipe("decoder-linears+emb", 8))),
        weighing(15_100_000, row("q4", 5.5, 0.015, Q4)),
        weighing(9_000_000, row("q2", 5.5, 0.3, Recipe(bits=2))),
    ]
    found = picked(*rows)
    assert found["name"] == "baseline"
    named = "With less memory: q8 (40% of the weights, 0.0004 nats, 1.04 × the time), q4 (30% of"
    assert named in found["why"]
    assert "q8-emb (" not in found["why"]
    read = Matrix.from_json({"rows": rows}).rows
    assert [each.name for each in smaller(read[0], read, MAX_KL)] == ["q8", "q4"]
    assert "With less memory: q4 (74% of the weights" in picked(*rows[2:5])["why"]
    assert "memory" not in picked(*rows, max_kl=1e-5)["why"]


def test_the_reason_names_the_length_of_the_music():
    shapes = {"samples": [30 * 44_100, 2], "join_sample": 6 * 44_100, "sample_rate": 44_100}
    rows = runs(3.0, 3.0, shapes=shapes), runs(1.29, 1.29, name="q8", kl=1e-4, shapes=shapes)
    rows[1]["variant"] = Q8_ROW["variant"]
    assert "q8 generates 24 s of music in 1.29 s, 2.33 ×" in picked(*rows)["why"]
    assert "which generates 24 s of music in 3.00 s." in picked(rows[0])["why"]


def test_a_cast_that_changes_nothing_is_never_the_pick():
    idle = row("float16", 5.0, 0.0, cast_dtype="float16")
    assert picked(BASELINE, idle)["name"] == "baseline"
    assert picked(BASELINE, idle, Q8_ROW)["name"] == "q8"
    felt = row("float16", 5.0, 1e-9, cast_dtype="float16")
    assert picked(BASELINE, felt)["name"] == "float16"


def test_the_pick_has_its_reason():
    why = picked(BASELINE, Q8_ROW, Q4_ROW)["why"]
    assert "q8 generates in 6.00 s, 1.67 × as fast as baseline" in why
    assert "0.0001 nats a token of the 0.02 allowed" in why
    assert "Faster, but beyond the budget: q4 (4.00 s, 0.05 nats)." in why


def test_a_pick_on_a_cpu_has_a_caveat():
    slow = row("q8", 6, 1e-4, Q8)
    slow["bench"]["device"] = "CPU"
    assert "on a GPU measure again" in picked(slow)["why"]
    assert "GPU" not in picked(Q8_ROW)["why"]


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (row("baseline", 10, None),),
        (row("q4", 4, 0.05, Q4),),
        (row("q4", 4, math.nan, Q4),),
        (row("q8", 6, 0.0, Q8, status="failed", bench=None),),
        (row("q8", 6, 0.0, Q8, status="missing", bench=None),),
    ],
)
def test_without_a_row_that_is_good_enough_there_is_none(rows):
    assert picked(*rows) is None


def test_rows_that_failed_stand_in_nobody_s_way():
    broken = row("q4", 1, 0.0, Q4, status="failed", bench=None, quality=None)
    assert picked(BASELINE, broken)["name"] == "baseline"


def test_the_environment_is_the_service_s():
    emb = row("q4-emb", 1, 0.0, Recipe("decoder-linears+emb", 4, 32))
    assert picked(emb)["environment"][-1] == "G4L_MLX_Q_METHOD=nearest"
    emb = row("q4-emb", 1, 0.0, Recipe("decoder-linears+emb", 4, 32, method="search"))
    assert picked(emb)["environment"] == [
        "G4L_MLX_QUANTIZE=1",
        "G4L_MLX_Q_BITS=4",
        "G4L_MLX_Q_GROUP_SIZE=32",
        "G4L_MLX_Q_SCOPE=decoder-linears+emb",
    ]
    assert picked(BASELINE)["environment"] == ["G4L_MLX_QUANTIZE=0"]


@pytest.mark.parametrize("recipe", [Recipe(bits=3), Recipe(group_size=32, mode="mxfp4")])
def test_what_the_environment_cannot_name_has_no_lines(recipe):
    found = picked(row("other", 1, 0.0, recipe))
    assert found["environment"] == []
    assert f"no words for {recipe.name}: run segue quantize" in found["why"]


def test_a_cast_is_named_where_the_environment_cannot():
    found = picked(row("q8-f16", 1, 0.0, Q8, "float16"))
    assert found["environment"][0] == "G4L_MLX_QUANTIZE=1"
    assert "no words for the cast to float16" in found["why"]


def test_the_command_runs_the_variant(toy, tmp_path, monkeypatch, song):
    monkeypatch.chdir(tmp_path)
    found = picked(row("q4", 1, 0.0, Q4, "float16"), model=str(toy), base_model=None)
    words = found["command"].split()
    assert words[:2] == ["segue", "continue"]
    assert found["command"].endswith(
        "--cast-dtype float16 --quantize --quant-scope decoder-linears --q-bits 4 "
        "--q-group-size 64 --q-mode affine"
    )
    words[words.index("PROMPT")] = str(song)
    few = ["--prompt-seconds", "0.2", "--output-seconds", "0.4", "--engine", "mlx"]
    assert main([*words[1:], *few]) == 0


def test_names_in_the_command_are_quoted():
    found = picked(BASELINE, model="my model", base_model="it's")
    assert found["command"] == "segue continue PROMPT --model 'my model' --base-model 'it'\"'\"'s'"
