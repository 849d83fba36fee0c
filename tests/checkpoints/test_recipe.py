"""Recipes: what MLX can do, what a scope covers, and what people type."""

import pytest

from segue.checkpoints.recipe import POSSIBLE, PRESETS, SCOPES, Recipe, preset
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
