"""Recipes: what MLX can do, what a scope covers, and what people type."""

import json
import re

import pytest

from segue.checkpoints.recipe import (
    METHODS,
    POSSIBLE,
    PRESETS,
    SCOPES,
    SELF_TAKES,
    Calibration,
    Recipe,
    preset,
)
from segue.errors import RequestError

LAYER = "decoder.model.decoder.layers.3."


def test_every_possible_combination_is_one_that_mlx_has():
    import mlx.core as mx

    weight = mx.random.normal((8, 128), key=mx.random.key(0))
    for mode, sizes in POSSIBLE.items():
        for bits, groups in sizes.items():
            for group_size in groups:
                Recipe("decoder-linears", bits, group_size, mode)
                mx.eval(mx.quantize(weight, group_size, bits, mode))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 7}, "2 or 3 or 4 or 5 or 6 or 8 bits in groups of 32 or 64 or 128"),
        ({"group_size": 16}, "groups of 32"),
        (
            {"mode": "mxfp4"},
            "mxfp4 cannot have 4 bits in groups of 64; it has 4 bits in groups of 32",
        ),
        ({"mode": "nvfp4", "bits": 8}, "4 bits in groups of 16"),
        ({"mode": "int4"}, "affine, mxfp4, mxfp8, nvfp4"),
        ({"scope": "decoder"}, ", ".join(SCOPES)),
    ],
)
def test_an_impossible_combination_says_what_is_possible(options, words):
    with pytest.raises(RequestError) as caught:
        Recipe(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("module", "scopes"),
    [
        (f"{LAYER}self_attn.q_proj", SCOPES),
        (f"{LAYER}encoder_attn.out_proj", SCOPES),
        (f"{LAYER}fc2", SCOPES),
        ("decoder.lm_heads.0", SCOPES),
        ("decoder.model.decoder.embed_tokens.3", ("decoder-linears+emb", "all-quantizable")),
        ("enc_to_dec_proj", ("all-linears", "all-quantizable")),
        (f"{LAYER}final_layer_norm", ()),
        ("decoder.model.decoder.layer_norm", ()),
    ],
)
def test_scopes_cover_modules(module, scopes):
    assert tuple(scope for scope in SCOPES if Recipe(scope, 8).covers(module)) == tuple(scopes)


def test_rows_must_be_whole_groups():
    assert Recipe(bits=4, group_size=64).fits(1024)
    assert not Recipe(bits=4, group_size=128).fits(64)
    assert not Recipe(bits=4, group_size=64).fits(96)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("none", "none"),
        ("off", "none"),
        ("Baseline", "none"),
        ("", "none"),
        ("q8", "q8_decoder_linears"),
        ("Q4", "q4_decoder_linears"),
        ("q4-emb", "q4_decoder_linears_emb"),
        ("q4_decoder_linears+emb", "q4_decoder_linears_emb"),
        ("Q8-Decoder-Linears", "q8_decoder_linears"),
    ],
)
def test_presets_are_what_people_type(typed, name):
    assert preset(typed) == (name, PRESETS[name])


def test_what_nobody_means_is_refused():
    with pytest.raises(RequestError, match="q8_decoder_linears"):
        preset("q5")


# --- Methods --------------------------------------------------------------------------------------


def test_a_name_has_the_method_where_it_is_not_nearest():
    assert Recipe().name == "q4-g64-decoder-linears"
    assert Recipe(method="search").name == "q4-g64-search-decoder-linears"
    assert Recipe(bits=3, method="gptq").name == "q3-g64-gptq-decoder-linears"
    assert Recipe(method="gptq+distill").name == "q4-g64-gptq+distill-decoder-linears"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "best"}, "no method 'best'; there are nearest, search, gptq"),
        ({"mode": "mxfp4", "group_size": 32, "method": "search"}, "for the affine mode, not mxfp4"),
        ({"method": "search", "calibration": Calibration()}, "search looks at no music"),
        ({"method": "distill"}, "no method 'distill'; there are nearest, search, gptq, nearest+d"),
        ({"method": "gptq", "distill_steps": 9}, "gptq trains nothing; leave out distill-steps"),
        ({"method": "gptq+distill", "distill_steps": 0}, "between 1 and 100000: 0"),
    ],
)
def test_a_method_that_cannot_be_is_one_line(options, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        Recipe(**options)


@pytest.mark.parametrize("options", [{"self_takes": -1}, {"self_takes": 0}, {"seed": 1 << 32}])
def test_music_that_cannot_be_is_one_line(options):
    with pytest.raises(RequestError):
        Calibration(**options)


def test_music_is_takes_of_the_model_unless_some_is_named():
    assert Calibration().takes == SELF_TAKES
    assert Calibration(("a",)).takes == 0
    assert Calibration(("a",), self_takes=4).takes == 4


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe("all-linears", 8, 32, method="search"),
        Recipe(method="gptq", calibration=Calibration(("a", "b"), 3, 9)),
        Recipe(bits=4, group_size=32, mode="mxfp4"),
        Recipe(method="search+distill", calibration=Calibration(seed=1), distill_steps=9),
    ],
)
def test_a_recipe_is_json_and_back(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_recipes_from_before_there_were_methods_are_nearest():
    old = {"scope": "decoder-linears", "bits": 4, "group_size": 64, "mode": "affine"}
    assert Recipe.from_json(old) == Recipe()
    assert Recipe().to_json() == old
    with pytest.raises(RequestError, match="not a recipe that this version knows"):
        Recipe.from_json(old | {"layers": []})


def test_a_preset_by_another_method():
    assert preset("q4-gptq") == ("q4_decoder_linears_gptq", Recipe(method="gptq"))
    name, recipe = preset("Q4_Decoder_Linears_Emb+GPTQ")
    assert name == "q4_decoder_linears_emb_gptq"
    assert recipe == Recipe("decoder-linears+emb", method="gptq")
    assert preset("q4-search+distill")[1] == Recipe(method="search+distill")
    for method in METHODS:
        name, recipe = preset(f"q8-{method}")
        assert recipe.method == method
        assert name.startswith("q8_decoder_linears")
    for typed in ("none-search", "search", "q3-search"):
        with pytest.raises(RequestError, match="no quantization"):
            preset(typed)
