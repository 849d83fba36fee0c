"""The pick: the fastest within the budget, why, and how to use it."""

import math

import pytest

from segue.cli import main
from segue.lab.pick import MAX_KL, TIE, pick
from segue.lab.variant import Variant
from segue.recipe import Recipe

Q8, Q4 = Recipe(bits=8), Recipe(bits=4)


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


BASELINE, Q8_ROW, Q4_ROW = row("baseline", 10, 0.0), row("q8", 6, 1e-4, Q8), row("q4", 4, 0.05, Q4)


def picked(*rows, max_kl=MAX_KL):
    return pick(rows, max_kl, "some/model", "some/base")


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


def test_a_cast_that_changes_nothing_is_never_the_pick():
    idle = row("float16", 5.0, 0.0, cast_dtype="float16")
    assert picked(BASELINE, idle)["name"] == "baseline"
    assert picked(BASELINE, idle, Q8_ROW)["name"] == "q8"
    felt = row("float16", 5.0, 1e-9, cast_dtype="float16")
    assert picked(BASELINE, felt)["name"] == "float16"


def test_it_says_why():
    why = picked(BASELINE, Q8_ROW, Q4_ROW)["why"]
    assert "q8 generates in 6.00 s, 1.67 × as fast as baseline" in why
    assert "0.0001 nats a token of the 0.02 allowed" in why
    assert "Faster, but beyond the budget: q4 (4.00 s, 0.05 nats)." in why


def test_a_cpu_says_nothing_about_a_gpu():
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
    assert picked(emb)["environment"] == [
        "G4L_MLX_QUANTIZE=1",
        "G4L_MLX_Q_BITS=4",
        "G4L_MLX_Q_GROUP_SIZE=32",
        "G4L_MLX_Q_SCOPE=decoder-linears+emb",
    ]
    assert picked(BASELINE)["environment"] == ["G4L_MLX_QUANTIZE=0"]


@pytest.mark.parametrize("recipe", [Recipe(bits=3), Recipe(group_size=32, mode="mxfp4")])
def test_what_the_environment_cannot_say_is_not_said(recipe):
    found = picked(row("other", 1, 0.0, recipe))
    assert found["environment"] == []
    assert f"no words for {recipe.name}: run segue quantize" in found["why"]


def test_a_cast_is_named_where_the_environment_cannot():
    found = picked(row("q8-f16", 1, 0.0, Q8, "float16"))
    assert found["environment"][0] == "G4L_MLX_QUANTIZE=1"
    assert "no words for the cast to float16" in found["why"]


def test_the_command_plays_the_variant(toy, tmp_path, monkeypatch, song):
    monkeypatch.chdir(tmp_path)
    found = pick([row("q4", 1, 0.0, Q4, "float16")], 0.1, str(toy), None)
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
    found = pick([BASELINE], 0.1, "my model", "it's")
    assert found["command"] == "segue continue PROMPT --model 'my model' --base-model 'it'\"'\"'s'"
