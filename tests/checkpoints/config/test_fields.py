"""Every field of a configuration is read as its type, provably without effect, or refused by name.

The tables of `hugging_face_fields` and `audiocraft_fields` are walked: each field is changed in the
configuration of a published checkpoint, and what then happens is what the table says.
"""

import dataclasses
import json

import pytest

from segue.checkpoints.config import (
    CodecConfig,
    LMConfig,
    MelodyConfig,
    ModelConfig,
    QuantizationConfig,
    QuantizationParams,
    T5Config,
    TrainingConfig,
    to_hf,
)
from segue.checkpoints.config import audiocraft_fields as audiocraft
from segue.checkpoints.config import hugging_face_fields as hugging_face
from segue.checkpoints.config.interpolation import Section, parse
from segue.checkpoints.config.schema import (
    ANYTHING,
    TABLE,
    IncompleteConfigError,
    NoEffect,
    Only,
    Read,
    Same,
)
from segue.errors import CheckpointError
from tests.checkpoints.published_configs import (
    HUGGING_FACE,
    STEREO_DELAYS,
    XP_CODEC,
    XP_LM,
    XP_MELODY,
    changed,
)


def read_hf(config):
    return ModelConfig.from_hf(json.loads(json.dumps(config)))


def read_lm(config):
    return TrainingConfig.from_xp_cfg(Section(config))


def read_codec(config):
    return CodecConfig.from_xp_cfg(Section(config))


LM_TABLES = {
    (): audiocraft.XP_LM,
    ("transformer_lm",): audiocraft.TRANSFORMER_LM,
    ("codebooks_pattern",): audiocraft.CODEBOOKS_PATTERN,
    ("codebooks_pattern", "delay"): audiocraft.DELAY,
    ("interleave_stereo_codebooks",): audiocraft.INTERLEAVE,
    ("fuser",): audiocraft.FUSER,
    ("conditioners", "args"): audiocraft.CONDITIONERS_ARGS,
    ("dataset",): audiocraft.DATASET,
    ("conditioners", "description"): audiocraft.CONDITIONER,
    ("conditioners", "description", "t5"): audiocraft.T5_CONDITIONER,
}
MELODY_TABLES = {
    ("fuser",): audiocraft.FUSER,
    ("conditioners", "self_wav"): audiocraft.MELODY_CONDITIONER,
    ("conditioners", "self_wav", "chroma_stem"): audiocraft.CHROMA_STEM,
}
CODEC_TABLES = {
    (): audiocraft.XP_CODEC,
    ("encodec",): audiocraft.ENCODEC,
    ("seanet",): audiocraft.SEANET,
    ("seanet", "decoder"): audiocraft.SEANET_DECODER,
    ("rvq",): audiocraft.RVQ,
}
HF_TABLES = {
    (): hugging_face.MUSICGEN,
    ("decoder",): hugging_face.DECODER,
    ("audio_encoder",): hugging_face.AUDIO_ENCODER,
    ("text_encoder",): hugging_face.TEXT_ENCODER,
}
SOURCES = {
    "config.json": (read_hf, HUGGING_FACE, HF_TABLES),
    "xp.cfg of the model": (read_lm, XP_LM, LM_TABLES),
    "xp.cfg of a melody model": (read_lm, XP_MELODY, MELODY_TABLES),
    "xp.cfg of the codec": (read_codec, XP_CODEC, CODEC_TABLES),
}


def fields(kind):
    return [
        pytest.param(source, (*path, name), field, id=f"{source}: {'.'.join((*path, name))}")
        for source, (_, _, tables) in SOURCES.items()
        for path, table in tables.items()
        for name, field in table.items()
        if isinstance(field, kind)
    ]


def look_up(config, path):
    for key in path:
        config = config.get(key, {}) if isinstance(config, dict) else {}
    return config


# --- What is published loads --------------------------------------------------------------------


def test_musicgen_small_is_what_it_is_known_to_be_in_both_layouts():
    whole = read_hf(HUGGING_FACE)
    assert whole.lm == LMConfig(1024, 24, 16, 4096, 4, 2048, 1, (0, 1, 2, 3))
    assert whole.codec == CodecConfig()
    assert whole.text == T5Config()
    trained = read_lm(XP_LM)
    assert (trained.lm, trained.text_dim, trained.sample_rate) == (whole.lm, 768, 32_000)
    assert read_codec(XP_CODEC) == dataclasses.replace(CodecConfig(), pad_mode="constant")


def test_musicgen_melody_is_what_it_is_known_to_be():
    """Of 30 s, 235 frames, as `chroma_length` in its `config.json` says."""
    trained = read_lm(XP_MELODY)
    assert trained.lm == LMConfig(
        1536, 48, 24, 6144, delays=(0, 1, 2, 3), melody=MelodyConfig(samples=960_000)
    )
    assert (trained.conditioner, trained.sample_rate) == ("description", 32_000)


@pytest.mark.parametrize(("dim", "layers", "heads"), [(1536, 48, 24), (2048, 48, 32)])
def test_the_larger_ones_and_stereo_load_too(dim, layers, heads):
    sizes = {"dim": dim, "num_layers": layers, "num_heads": heads}
    stereo = XP_LM | {
        "channels": 2,
        "interleave_stereo_codebooks": {"use": True, "per_timestep": False},
        "compression_model_n_q": 4,
        "transformer_lm": XP_LM["transformer_lm"] | sizes | {"n_q": 8},
    }
    stereo = changed(stereo, ("codebooks_pattern", "delay", "delays"), STEREO_DELAYS)
    lm = read_lm(stereo).lm
    assert lm == LMConfig(dim, layers, heads, 4 * dim, 8, 2048, 2, tuple(STEREO_DELAYS))


def test_every_field_of_what_is_published_is_in_a_table():
    """All of a configuration is accounted for, not just what somebody thought of."""
    for source, (_, config, tables) in SOURCES.items():
        for path, table in tables.items():
            if (source, path) in (
                ("xp.cfg of the codec", ()),
                ("xp.cfg of the model", ("dataset",)),
            ):
                continue  # the rest of it is of training
            assert set(look_up(config, path)) <= set(table), (source, path)


PARAMETERS = {
    "LMModel": """n_q card dim num_heads hidden_scale norm norm_first emb_lr bias_proj weight_init
        depthwise_init zero_bias_init two_step_cfg""",
    "StreamingTransformer": """num_heads num_layers dropout bias_ff bias_attn causal past_context
        custom memory_efficient attention_as_float32 cross_attention layer_scale
        positional_embedding max_period positional_scale xpos lr weight_decay checkpointing""",
    "StreamingTransformerLayer": """qk_layer_norm qk_layer_norm_cross attention_dropout kv_repeat
        norm activation layer_norm_eps""",
}
"""Of AudioCraft's classes, less the objects that its builders hand them."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_of_audiocrafts_transformer_is_in_the_table(name):
    assert set(PARAMETERS[name].split()) <= set(audiocraft.TRANSFORMER_LM)


def test_what_transformers_leaves_out_has_the_value_that_transformers_gives_it():
    """Its newer versions write only what differs from the defaults of the class."""
    parts = {"text_encoder": {"model_type": "t5"}, "audio_encoder": {}, "decoder": {}}
    codec = {"codebook_size": 2048}
    found = read_hf(parts | {"model_type": "musicgen", "audio_encoder": codec})
    assert found.lm == LMConfig(1024, 24, 16, 4096)
    assert found.text == T5Config(dim=512, num_heads=8, num_layers=6, ffn_dim=2048)
    assert (found.codec.causal, found.codec.conv_shortcut) == (True, True)
    assert (found.codec.sample_rate, found.codec.num_filters) == (24_000, 32)
    assert found.codec.num_codebooks == 29  # of 24 kbit/s, 75 frames and 11 bits


def test_what_segue_writes_it_reads_again():
    """At every size of a codebook: a bandwidth in kbit/s must not lose one by rounding.

    And a melody's fields, of which transformers has two.
    """
    whole = read_hf(HUGGING_FACE)
    for size in range(2, 2100, 61):
        for count in (1, 3, 4, 8, 32):
            codec = dataclasses.replace(whole.codec, codebook_size=size, num_codebooks=count)
            lm = dataclasses.replace(whole.lm, cardinality=size, num_codebooks=1, delays=(0,))
            config = dataclasses.replace(whole, codec=codec, lm=lm)
            assert ModelConfig.from_hf(to_hf(config, whole.text, None)) == config
    for melody in (
        MelodyConfig(),
        MelodyConfig(24, 400, 4096, 2048, 700, False, 2.0, 88_200),
        MelodyConfig(strongest=False),
    ):
        config = dataclasses.replace(whole, lm=dataclasses.replace(whole.lm, melody=melody))
        written = json.loads(json.dumps(to_hf(config, whole.text, None), allow_nan=False))
        assert ModelConfig.from_hf(written) == config
        assert ("chroma_hop" in written) == (melody.hop != 4096)


# --- The tables, walked -------------------------------------------------------------------------

OTHERS = [None, True, False, 0, 1, -1, 3.5, "other", "false", ["other"], {"other": 1}]


@pytest.mark.parametrize(("source", "path", "field"), fields(Only))
def test_what_changes_the_arithmetic_and_is_not_implemented_is_refused_by_name(source, path, field):
    read, config, _ = SOURCES[source]
    for value in field.values:
        read(changed(config, path, value))
    unset = [None] if field.values[0] in (False, None) else []
    refused = 0
    for value in OTHERS:
        if any(value == v and type(value) is type(v) for v in [*field.values, *unset]):
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and value in field.values:
            continue  # 1 is 1.0
        with pytest.raises(CheckpointError) as caught:
            read(changed(config, path, value))
        assert ".".join(path) in str(caught.value) or path[-1] == "model_type"
        assert "\n" not in str(caught.value)
        refused += 1
    assert refused >= 8


@pytest.mark.parametrize(("source", "path", "field"), fields(NoEffect))
def test_what_is_without_effect_changes_nothing(source, path, field):
    read, config, _ = SOURCES[source]
    if path == ("model_type",):
        return  # of the whole, which tells what it is before any table is read
    if path == ("encodec", "causal"):
        config = changed(config, ("seanet", "causal"), False)  # which refers to it otherwise
    before = read(config)
    assert field.why
    for value in OTHERS:
        assert read(changed(config, path, value)) == before
    # Nobody resolves what nobody reads.
    if source != "config.json":
        assert read(changed(config, path, "${nowhere}")) == before


WELL_TYPED = {
    "hidden_size": 512,
    "dim": 512,
    "d_model": 1024,
    "causal": True,
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": "relu",
    "is_gated_act": False,
    "delays": [0, 2, 3, 4],
    "window_frames": 500,
    "upsampling_ratios": [8, 4, 5, 4],
    "ratios": [8, 4, 5, 4],
    "layer_norm_epsilon": 1e-5,
    "target_bandwidths": [4.4],
    "hidden_scale": 2,
    "num_codebooks": 2,
    "n_q": 8,
    "vocab_size": 1024,
    "card": 1024,
    "codebook_size": 1024,
    "bins": 1024,
    "audio_channels": 2,
    "num_attention_heads": 32,
    "num_heads": 32,
    "pad_token_id": 7,
    "bos_token_id": 0,
    "use": True,
    "name": "t5-large",
    "sample_rate": 16_000,
    "sampling_rate": 16_000,
    "channels": 2,
    "compression_model_n_q": 2,
    "trim_right_ratio": 0.5,
    "codebook_dim": 64,
    "dimension": 64,
    "compression_model_checkpoint": "//pretrained/facebook/encodec_24khz",
    "cross": ["other"],
    "prepend": ["other"],
    "ignore": ["self_wav", "description"],
    "winlen": 8192,
    "nfft": 32_768,
    "winhop": 1000,
    "norm": 2,
}
AGREEING = {
    "dense_act_fn",  # says what feed_forward_proj says, or is refused: below
    "is_gated_act",
    "modeling",  # of which null lets q_modeling count: below
    "q_modeling",
    "norm",  # of no effect beside argmax: `test_melody`
}


@pytest.mark.parametrize(("source", "path", "field"), fields(Read))
def test_what_is_read_counts(source, path, field):
    """A changed value changes the model, or contradicts another field and is refused."""
    read, config, _ = SOURCES[source]
    if field.kind is ANYTHING or "table" in field.kind.words or path[-1] in AGREEING:
        return  # the table within is walked by itself
    old = look_up(config, path)
    value = WELL_TYPED.get(path[-1])
    if path[-1] == "pad_mode":
        value = {"reflect": "constant", "constant": "reflect"}[old]
    if value is None:
        value = (not old) if isinstance(old, bool) else old + 1
    assert value != old
    # What both say is changed in both.
    if path == ("sample_rate",) and source == "xp.cfg of the codec":
        config = changed(config, ("encodec", "sample_rate"), None)
    try:
        after = read(changed(config, path, value))
    except CheckpointError:
        after = None
    assert after != read(config)
    assert (after is not None) or path[-1] in CONTRADICTING


CONTRADICTING = {
    "vocab_size",  # and the codec's
    "codebook_size",
    "hidden_size",
    "codebook_dim",
    "audio_channels",  # of the codec, which is mono
    "channels",
    "pad_token_id",
    "bos_token_id",
    "compression_model_n_q",
    "n_q",  # and the delays
    "use",
    "trim_right_ratio",  # of a codec that is not causal
    "feed_forward_proj",  # and is_gated_act
    "sampling_rate",
    "delays",
    "sample_rate",  # of a melody, and of the codec
    "cross",  # and the conditioner
    "prepend",
    "ignore",
}


@pytest.mark.parametrize(("source", "path", "field"), fields(Read))
def test_a_value_of_another_type_is_refused_by_name(source, path, field):
    read, config, _ = SOURCES[source]
    if field.kind is ANYTHING:
        return
    wrong = ["", "yes", "false", "3 apples", {"a": 1}, [[1]], [True], 2**70, 3.7e300, float("nan")]
    if field.kind is TABLE or "table" in field.kind.words:
        wrong = ["", "yes", 3, True, [1]]
    if field.kind.words.startswith("a text"):
        wrong = [3, True, [1], {"a": 1}]
    for value in wrong:
        with pytest.raises(CheckpointError) as caught:
            read(changed(config, path, value))
        assert path[-1] in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["false", "true", 0, 1, None, "no way", [], 0.0])
def test_a_boolean_is_a_boolean(value):
    """`"false"` is true to Python: the codec ran causal, and nobody was told."""
    for read, config, path in (
        (read_codec, XP_CODEC, ("seanet", "causal")),
        (read_hf, HUGGING_FACE, ("audio_encoder", "use_causal_conv")),
    ):
        with pytest.raises(CheckpointError, match=rf"{path[-1]} is .*, not true or false"):
            read(changed(config, path, value))


@pytest.mark.parametrize("value", [4.0, "4", 4])
def test_a_number_that_can_only_mean_one_thing_is_taken(value):
    assert read_hf(changed(HUGGING_FACE, ("decoder", "num_codebooks"), value)).lm.num_codebooks == 4


@pytest.mark.parametrize("value", [0, -4, 4.5, True, "four", 1 << 40])
def test_a_number_that_is_no_size_is_refused(value):
    for path in (("decoder", "num_attention_heads"), ("text_encoder", "num_layers")):
        with pytest.raises(CheckpointError, match=r"not a whole number from 1 to"):
            read_hf(changed(HUGGING_FACE, path, value))


@pytest.mark.parametrize(("source", "path", "field"), fields(Same))
def test_two_names_of_one_size_must_agree(source, path, field):
    read, config, _ = SOURCES[source]
    same = look_up(config, (*path[:-1], field.field))
    assert read(changed(config, path, same)) == read(config)
    with pytest.raises(CheckpointError, match=path[-1]):
        read(changed(config, path, same + 1))


def test_a_field_that_audiocraft_does_not_know_is_refused():
    """Its constructors refuse it; a fork's may not, and compute something else."""
    closed = {
        read_lm: [p for p in LM_TABLES if p not in ((), ("codebooks_pattern",))],
        read_codec: [p for p in CODEC_TABLES if p],
    }
    closed[read_lm].remove(("conditioners", "description"))  # holds a table for each model
    closed[read_lm].remove(("dataset",))
    for read, paths in closed.items():
        config = XP_LM if read is read_lm else XP_CODEC
        for path in paths:
            with pytest.raises(CheckpointError, match=r"novelty is a field that segue does not"):
                read(changed(config, (*path, "novelty"), 1))


# --- AudioCraft ---------------------------------------------------------------------------------


def test_a_codec_is_causal_if_what_its_export_refers_to_is():
    """`seanet.causal: ${encodec.causal}` is what AudioCraft exports for every codec."""
    assert read_codec(XP_CODEC).causal is False
    assert read_codec(changed(XP_CODEC, ("encodec", "causal"), True)).causal is True


@pytest.mark.parametrize("name", ["chords", "melody", "bpm"])
def test_another_conditioner_is_refused_by_name(name):
    other = changed(XP_LM, ("conditioners", name), {"model": "chroma_stem", "chroma_stem": {}})
    with pytest.raises(CheckpointError, match=rf"conditioners\.{name}"):
        read_lm(other)


@pytest.mark.parametrize("order", [["self_wav", "description"], ["description", "self_wav"]])
def test_a_melody_comes_first_whatever_the_order(order):
    """AudioCraft's provider of conditions collects texts first, and each goes before the rest."""
    found = read_lm(changed(XP_MELODY, ("fuser", "prepend"), order))
    assert found == read_lm(XP_MELODY)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("fuser", "cross"), ["description"], r"fuser\.cross .*\[\] alone where there is self_wav"),
        (("fuser", "prepend"), ["self_wav"], r"fuser\.prepend .*\['self_wav', 'description'\]"),
        (("fuser", "prepend"), [], r"fuser\.prepend is \[\]"),
        (("fuser", "ignore"), ["self_wav"], r"fuser\.ignore has 'self_wav'"),
        (("conditioners", "self_wav", "chroma_stem", "sample_rate"), 16_000, r"rate of the codec"),
        (("conditioners", "self_wav", "chroma_stem", "duration"), 30, r"duration is a field that"),
        (("conditioners", "self_wav", "chroma_stem", "nfft"), 1024, r"window has 16384 samples"),
        (("conditioners", "self_wav", "chroma_stem", "radix2_exp"), 7, r"30001 frames"),
        (("conditioners", "self_wav", "chroma_stem", "norm"), 0, r"chroma_stem\.norm is 0"),
    ],
)
def test_what_a_melody_model_cannot_be_is_refused_by_name(path, value, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        read_lm(changed(XP_MELODY, path, value))
    assert not isinstance(caught.value, IncompleteConfigError)


def test_a_melody_alone_or_by_another_name_is_refused_by_name():
    """AudioCraft's `MusicGen` passes a melody to `self_wav` alone."""
    melody = XP_MELODY["conditioners"]["self_wav"]
    text = XP_MELODY["conditioners"]["description"]
    with pytest.raises(CheckpointError, match="self_wav and no text"):
        read_lm(changed(XP_MELODY, ("conditioners",), {"self_wav": melody}))
    with pytest.raises(CheckpointError, match=r"conditioners\.tune: .*'self_wav' alone"):
        read_lm(changed(XP_MELODY, ("conditioners",), {"tune": melody, "description": text}))


def test_the_spectra_of_a_melody_are_those_that_audiocraft_makes():
    path = ("conditioners", "self_wav", "chroma_stem")
    assert read_lm(XP_MELODY).lm.melody.frames == 235
    fields = {"radix2_exp": 11, "nfft": 4096, "winhop": 1000, "argmax": False, "norm": 2}
    chroma = XP_MELODY["conditioners"]["self_wav"]["chroma_stem"] | fields
    found = read_lm(changed(changed(XP_MELODY, path, chroma), ("dataset", "segment_duration"), 10))
    assert found.lm.melody == MelodyConfig(12, 321, 4096, 2048, 1000, False, 2.0, 320_000)
    del chroma["argmax"], chroma["norm"]  # of which the constructor has its own
    found = read_lm(changed(XP_MELODY, path, chroma)).lm.melody
    assert (found.strongest, found.norm) == (False, float("inf"))
    assert read_lm(changed(XP_MELODY, (*path, "norm"), float("inf"))).lm.melody.norm == float("inf")


def test_the_conditioner_may_have_any_name():
    t5 = XP_LM["conditioners"]["description"]
    named = changed(XP_LM, ("conditioners",), {"words": t5})
    assert read_lm(changed(named, ("fuser", "cross"), ["words"])).conditioner == "words"
    with pytest.raises(CheckpointError, match=r"fuser\.cross is \['description'\]"):
        read_lm(named)


@pytest.mark.parametrize("place", ["sum", "prepend", "input_interpolate", "cross"])
def test_a_second_text_is_refused_wherever_it_goes(place):
    """AudioCraft's own generation has no way to pass it: it fails over the missing entry."""
    t5 = XP_LM["conditioners"]["description"]
    others = {"t5": t5, "lut": {"model": "lut", "lut": {"n_bins": 8, "dim": 4}}}
    for other in others.values():
        config = changed(XP_LM, ("conditioners", "genre"), other)
        there = ["description", "genre"] if place == "cross" else ["genre"]
        with pytest.raises(CheckpointError, match=r"conditioners\.genre"):
            read_lm(changed(config, ("fuser", place), there))


@pytest.mark.parametrize(
    ("conditioners", "words"),
    [
        ({"self_wav": {"model": "style", "style": {}}}, "style.*MERT.*musicgen-melody"),
        ({"self_wav": {"model": "drum_latents", "drum_latents": {}}}, "drums.*JASCO"),
        ({"description": {"model": "clap", "clap": {}}}, "CLAP"),
    ],
)
def test_other_families_are_called_by_their_names(conditioners, words):
    config = changed(XP_LM, ("conditioners",), XP_LM["conditioners"] | conditioners)
    with pytest.raises(CheckpointError, match=words):
        read_lm(changed(config, ("fuser", "prepend"), ["self_wav"]))


def test_magnet_is_refused_with_a_shape_and_without():
    magnet = changed(XP_LM, ("lm_model",), "transformer_lm_magnet")
    for sizes in (XP_LM["transformer_lm"], None):
        with pytest.raises(CheckpointError, match=r"lm_model is 'transformer_lm_magnet'") as caught:
            read_lm(changed(magnet, ("transformer_lm",), sizes))
        assert not isinstance(caught.value, IncompleteConfigError)


def test_q_modeling_counts_where_no_pattern_is_chosen_and_only_there():
    null = changed(XP_LM, ("codebooks_pattern", "modeling"), None)
    delays = ("codebooks_pattern", "delay", "delays")
    named = changed(null, ("transformer_lm", "q_modeling"), "delay")
    assert read_lm(changed(named, delays, [0, 2, 4, 6])).lm.delays == (0, 1, 2, 3)
    for other in (None, "parallel"):
        with pytest.raises(CheckpointError, match=r"transformer_lm\.q_modeling"):
            read_lm(changed(null, ("transformer_lm", "q_modeling"), other))
    assert read_lm(changed(XP_LM, ("transformer_lm", "q_modeling"), "parallel")) == read_lm(XP_LM)


@pytest.mark.parametrize(
    ("name", "width", "gated"),
    [
        ("t5-small", 512, False),
        ("t5-large", 1024, False),
        ("t5-3b", 1024, False),
        ("google/flan-t5-base", 768, True),
    ],
)
def test_every_text_encoder_that_audiocraft_runs_is_taken(name, width, gated):
    trained = read_lm(changed(XP_LM, ("conditioners", "description", "t5", "name"), name))
    assert (trained.t5_name, trained.text_dim, trained.gated) == (name, width, gated)


@pytest.mark.parametrize("name", ["google/flan-t5-xl", "bert-base-uncased", "clap"])
def test_a_text_encoder_that_is_not_taken_is_refused_by_name(name):
    path = ("conditioners", "description", "t5", "name")
    with pytest.raises(CheckpointError, match=name):
        read_lm(changed(XP_LM, path, name))


def test_delays_are_those_that_audiocraft_takes():
    path = ("codebooks_pattern", "delay", "delays")
    assert read_lm(changed(XP_LM, path, [0, 2, 4, 6])).lm.delays == (0, 2, 4, 6)
    assert read_lm(changed(XP_LM, path, None)).lm.delays == (0, 1, 2, 3)


def test_a_half_of_the_codec_may_repeat_what_both_have_but_not_change_it():
    assert read_codec(changed(XP_CODEC, ("seanet", "encoder"), {"n_filters": 64}))
    for half in ("encoder", "decoder"):
        with pytest.raises(CheckpointError, match=rf"seanet\.{half}\.n_filters"):
            read_codec(changed(XP_CODEC, ("seanet", half, "n_filters"), 32))


def test_what_is_refused_is_refused_before_what_is_missing():
    """An xp.cfg without a shape borrows one from the base model, but not its arithmetic."""
    with pytest.raises(CheckpointError, match="rope") as caught:
        TrainingConfig.from_xp_cfg(parse("transformer_lm: {dim: 64, positional_embedding: rope}"))
    assert not isinstance(caught.value, IncompleteConfigError)
    for text in (
        "fuser: {prepend: [self_wav]}",
        "codebooks_pattern: {modeling: parallel}",
        "lm_model: transformer_lm_magnet",
    ):
        with pytest.raises(CheckpointError) as caught:
            TrainingConfig.from_xp_cfg(parse(text))
        assert not isinstance(caught.value, IncompleteConfigError)


# --- transformers -------------------------------------------------------------------------------


def test_the_activation_of_t5_must_be_what_its_feed_forward_says():
    def text(**fields):
        return read_hf(HUGGING_FACE | {"text_encoder": {"model_type": "t5"} | fields}).text

    assert text(feed_forward_proj="gated-gelu", dense_act_fn="gelu_new", is_gated_act=True).gated
    for fields in (
        {"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu"},
        {"feed_forward_proj": "relu", "is_gated_act": True},
        {"dense_act_fn": "gelu_new"},
    ):
        with pytest.raises(CheckpointError, match="feed_forward_proj"):
            text(**fields)


@pytest.mark.parametrize(
    "block", [{"quant_method": "bitsandbytes", "load_in_8bit": True}, {"quant_method": "gptq"}]
)
def test_weights_that_another_library_packed_are_refused(block):
    with pytest.raises(CheckpointError, match=block["quant_method"]):
        read_hf(HUGGING_FACE | {"quantization_config": block})


def test_mlx_lm_writes_its_block_twice():
    block = {"bits": 4, "group_size": 64, "decoder.lm_heads.0": {"bits": 8, "group_size": 32}}
    found = read_hf(HUGGING_FACE | {"quantization": block, "quantization_config": block})
    module = {"decoder.lm_heads.0": QuantizationParams(8, 32)}
    assert found.quantization == QuantizationConfig(QuantizationParams(4, 64), module)
    for changes in ({"bits": "four"}, {"bits": None}, {"group_size": 0}, {"mode": "int4"}):
        with pytest.raises(CheckpointError, match="quantization"):
            read_hf(HUGGING_FACE | {"quantization": block | changes})
    with pytest.raises(CheckpointError, match="group_size"):
        read_hf(HUGGING_FACE | {"quantization": {"bits": 4}})


def test_a_melody_model_is_one_whatever_says_so():
    for config in (
        HUGGING_FACE | {"model_type": "musicgen_melody"},
        changed(HUGGING_FACE, ("decoder", "model_type"), "musicgen_melody_decoder"),
    ):
        assert read_hf(config).lm.melody == MelodyConfig(12, 235)
        assert read_hf(config | {"chroma_length": 24}).lm.melody.frames == 24
    assert read_hf(HUGGING_FACE).lm.melody is None


def test_a_style_model_is_called_by_its_name_in_this_layout_too():
    with pytest.raises(CheckpointError, match=r"musicgen_style.*MERT.*facebook/musicgen-melody"):
        read_hf(HUGGING_FACE | {"model_type": "musicgen_style"})
