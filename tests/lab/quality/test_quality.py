"""Quality: nothing between a model and itself, more the fewer the bits, the same every time."""

import json
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from segue import audio, cli
from segue.checkpoints import hub
from segue.checkpoints.recipe import Recipe
from segue.demo.prompt import band
from segue.engine.base import check_finite
from segue.errors import RequestError, SegueError
from segue.lab.quality import request
from segue.lab.quality.free_running import MEASURES
from segue.lab.quality.measure import measure
from segue.lab.quality.request import QualityRequest
from segue.lab.quality.teacher_forced import context_of, counted_logits
from segue.lab.variant import BASELINE, Variant
from segue.pattern import delay
from tests.broken import broken

ENGINES = ["mlx"] + ["openvino"] * (find_spec("openvino") is not None)
SHORT = {"takes": 2, "continuation_seconds": 0.5}


def bits(count):
    return Variant(f"q{count}", None, Recipe("decoder-linears", count, 32))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache that the tests of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(shared, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared))


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    path = tmp_path_factory.mktemp("music") / "band.wav"
    audio.write(path, band(5.0))
    return path


@pytest.fixture
def measured(toy, music):
    def run(variant, folder=None, model=toy, prompts=(music,), **options):
        options = {"seed": 7} | SHORT | options
        wanted = QualityRequest(
            variant=variant, folder=folder, model=str(model), prompts=prompts, **options
        )
        return measure(wanted).to_json()

    return run


@pytest.fixture
def loads(monkeypatch):
    """The names of the variants that were loaded."""
    names = []
    original = Variant.load
    monkeypatch.setattr(
        Variant, "load", lambda self, *a, **k: (names.append(self.name), original(self, *a, **k))[1]
    )
    return names


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_against_itself_is_exactly_alike(measured, engine):
    found = measured(BASELINE, engine=engine)
    assert found["engine"] == engine
    for name in ("overall", "codebook_0", "codebook_3"):
        assert found["kl"][name] == {"mean": 0, "ci95": [0, 0], "median": 0, "p99": 0, "max": 0}
        assert found["top1_agreement"][name] == {"mean": 1, "ci95": [1, 1]}
        assert found["perplexity"][name]["ratio"] == 1
    free = found["free_running"]
    assert free["mean_frames"] == free["median_frames"] == free["limit_frames"] == 25
    assert free["censored"] == 2
    sound = {measure: found["audio"][measure] for measure in MEASURES}
    assert sound == dict(zip(MEASURES, (0, 0, pytest.approx(1), 1, 0), strict=True))
    assert found["audio"]["between_seeds"]["spectral_distance_db"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_bits_are_farther_away(measured, engine):
    found = [measured(bits(count), engine=engine) for count in (8, 4, 2)]
    for name in ("overall", "codebook_0", "codebook_3"):
        kl = [quality["kl"][name]["mean"] for quality in found]
        assert 0 < 10 * kl[0] < 100 * kl[1] < 1000 * kl[2]
        agreement = [quality["top1_agreement"][name]["mean"] for quality in found]
        assert 1 >= agreement[0] > agreement[1] > agreement[2]
    frames = [quality["free_running"]["mean_frames"] for quality in found]
    assert frames[0] >= frames[1] >= frames[2]
    low, high = found[1]["kl"]["overall"]["ci95"]
    assert low <= found[1]["kl"]["overall"]["mean"] <= high


@pytest.mark.slow
@pytest.mark.skipif(hub.built_in_folder() is None, reason="no checkpoint is built in")
def test_fewer_bits_cost_the_built_in_checkpoint_more(measured, tmp_path):
    audio.write(tmp_path / "short.wav", band(1.0))
    short = {"prompts": (tmp_path,), "takes": 1, "continuation_seconds": 0.1}
    found = [measured(bits(count), model=hub.BUILT_IN, **short) for count in (8, 4)]
    kl = [quality["kl"]["overall"]["mean"] for quality in found]
    assert 0 < kl[0] < kl[1]
    agreement = [quality["top1_agreement"]["overall"]["mean"] for quality in found]
    assert agreement[0] >= agreement[1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_cached_baseline_changes_not_a_digit_and_is_not_loaded(
    measured, loads, tmp_path, monkeypatch, engine
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def again():
        return json.dumps(measured(bits(4), engine=engine))

    cold = again()
    assert loads == ["baseline", "q4"]
    assert again() == cold
    assert loads == ["baseline", "q4", "q4"]
    for path in (tmp_path / "segue" / "quality").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert again() == cold
    assert loads[3:] == ["baseline", "q4"]


def test_each_engine_has_a_baseline_of_its_own_and_they_nearly_agree(measured, loads):
    one, two = (measured(bits(4), engine=engine, takes=1) for engine in ENGINES)
    assert loads.count("q4") == 2
    for table, column in (("kl", "mean"), ("top1_agreement", "mean"), ("perplexity", "ratio")):
        ours, theirs = (found[table]["overall"][column] for found in (one, two))
        assert ours == pytest.approx(theirs, rel=0.05)


def test_one_model_is_in_memory_at_a_time(measured, monkeypatch, tmp_path):
    import gc

    from segue.engine.mlx import MLXEngine

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gc.collect()
    before = sum(isinstance(each, MLXEngine) for each in gc.get_objects())
    there, original = [], Variant.load

    def counting(self, *arguments, **options):
        there.append(sum(isinstance(each, MLXEngine) for each in gc.get_objects()) - before)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Variant, "load", counting)
    measured(bits(8), takes=1, engine="mlx")
    assert there == [0, 0]


def test_only_codes_with_context_are_counted(measured, toy_stereo):
    tokens = measured(bits(8))["tokens"]
    assert (tokens["counted"], tokens["frames"], tokens["codebooks"]) == (800, 200, 4)
    stereo = measured(bits(8), model=toy_stereo, takes=1)
    assert stereo["tokens"]["counted"] == 1600
    assert "codebook_7" in stereo["kl"]
    assert context_of(1500) == 50
    assert context_of(60) == 30


class Oracle:
    """Knows what comes next: its logits are one-hot at the token of the next column."""

    def __init__(self, config):
        self.config = config

    def logits(self, sequence, conditioning=None):
        following = np.roll(sequence, -1, axis=1).T  # (S, K)
        return np.eye(self.config.lm.cardinality + 1, dtype=np.float32)[following]


@pytest.mark.parametrize("stereo", [False, True])
def test_the_delay_is_undone(model, stereo_model, stereo):
    config = (stereo_model if stereo else model).config
    codes = np.random.default_rng(0).integers(
        0, config.lm.cardinality, (config.lm.num_codebooks, 300)
    )
    oracle: Any = Oracle(config)
    found = counted_logits(oracle, codes)
    np.testing.assert_array_equal(found.argmax(axis=-1), codes.T[context_of(300) :])


def test_logits_do_not_depend_on_later_codes(model):
    lm = model.config.lm
    codes = np.random.default_rng(0).integers(0, lm.cardinality, (4, 120)).astype(np.int32)
    other = codes.copy()
    other[:, 100:] = (other[:, 100:] + 1) % lm.cardinality
    one, two = counted_logits(model.engine, codes), counted_logits(model.engine, other)
    np.testing.assert_allclose(one[:51, 0], two[:51, 0], atol=1e-5)
    assert np.abs(one[51:, 0] - two[51:, 0]).max() > 0.01
    whole = model.engine.logits(delay(codes, lm.delays, lm.special_token))
    np.testing.assert_array_equal(one[7, 2], whole[50 + 7 + lm.delays[2], 2])


def test_text_conditions_both(measured):
    without, drums = measured(bits(4)), measured(bits(4), text="drums")
    assert measured(BASELINE, text="drums")["kl"]["overall"]["max"] == 0
    assert drums["text"] == "drums"
    assert (
        drums["perplexity"]["overall"]["baseline"] != without["perplexity"]["overall"]["baseline"]
    )


def test_long_music_is_measured_in_windows(measured, tmp_path):
    audio.write(tmp_path / "long.wav", band(32.0))
    found = measured(bits(8), prompts=(tmp_path,), takes=1)
    assert found["tokens"]["windows"] == 2
    assert found["tokens"]["frames"] == 1600 - 2 * 50
    assert found["prompts"] == [
        {"name": str(tmp_path / "long.wav"), "seconds": 32.0, "built_in": False}
    ]
    assert found["audio"]["between_seeds"] == {}


def test_of_many_prompts_some_are_continued(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(request, "MAX_FREE_PROMPTS", 2)
    for n in range(4):
        audio.write(tmp_path / f"{n}.wav", band(1.5 + n / 4))
    found = measured(bits(8), prompts=(tmp_path,), takes=1)
    assert len(found["prompts"]) == 4
    continued = [take["prompt"] for take in found["free_running"]["takes"]]
    assert continued == [str(tmp_path / "0.wav"), str(tmp_path / "2.wav")]


def test_takes_are_written(measured, tmp_path):
    found = measured(bits(4), tmp_path / "new" / "folder")
    for take in found["audio"]["takes"]:
        assert set(take["files"]) == {"baseline", "variant"}
        for name in take["files"].values():
            assert audio.read(tmp_path / "new" / "folder" / name).seconds == pytest.approx(5.5)


def test_the_result_is_json_with_all_that_was_promised(measured):
    found = measured(bits(4))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["schema"] == 1
    assert set(found) == {
        *("schema", "model", "engine", "baseline", "variant", "seed", "text", "prompts"),
        *("judge", "tokens", "kl", "top1_agreement", "perplexity", "conditions", "blocks"),
        *("free_running", "audio"),
    }
    assert (found["judge"], found["conditions"]) == ("prompts", {})
    rows = {"overall", "codebook_0", "codebook_1", "codebook_2", "codebook_3"}
    for table, columns in {
        "kl": {"mean", "ci95", "median", "p99", "max"},
        "top1_agreement": {"mean", "ci95"},
        "perplexity": {"baseline", "variant", "ratio", "ci95"},
    }.items():
        assert set(found[table]) == rows
        assert all(set(row) == columns for row in found[table].values())
    assert [take["seed"] for take in found["free_running"]["takes"]] == [7, 8]
    assert set(found["audio"]) == {*MEASURES, "between_seeds", "takes"}
    assert found["variant"]["recipe"]["bits"] == 4


def test_numbers_are_checked_when_a_request_is_made():
    for options, words in (
        ({"takes": 65}, "takes must lie between 1 and 64, not 65"),
        ({"continuation_seconds": 0.09}, "continuation-seconds must be 0.1 or more"),
        ({"prompt_seconds": 0}, "prompt-seconds must be more than 0"),
        ({"continuation_seconds": 3600}, "output-seconds must be more than 0 and at most 3600"),
        ({"seed": 2**32 - 1}, "seeds lie between 0 and 4294967295"),
        ({"engine": "piano"}, "no engine 'piano'"),
        ({"text": "\0"}, "zero byte"),
    ):
        with pytest.raises(RequestError, match=words):
            QualityRequest(bits(4), "no/such/model", **options)


def test_options_are_checked_before_anything_is_loaded(measured, loads, tmp_path):
    (tmp_path / "file").write_text("")
    for options, words in (
        ({"takes": 0}, "takes must lie between"),
        ({"continuation_seconds": 0}, "continuation-seconds"),
        ({"continuation_seconds": float("nan")}, "continuation-seconds"),
        ({"folder": tmp_path / "file" / "x"}, "cannot be made"),
        ({"prompts": [tmp_path / "file"]}, "cannot be read as audio"),
        ({"model": tmp_path / "none"}, "no folder"),
        ({"engine": "piano"}, "no engine 'piano'"),
        ({"text": "\0"}, "zero byte"),
    ):
        with pytest.raises(SegueError, match=words):
            measured(bits(4), **options)
    assert loads == []


def test_a_variant_that_overflows_is_named(measured, monkeypatch):
    original = Variant.load

    def broken(self, *arguments, **options):
        loaded = original(self, *arguments, **options)
        if self.name == "q4":
            logits = loaded.engine.logits
            monkeypatch.setattr(loaded.engine, "logits", lambda *a: logits(*a) * np.nan)
        return loaded

    monkeypatch.setattr(Variant, "load", broken)
    with pytest.raises(RequestError, match="q4: the model overflows"):
        measured(bits(4))


def test_the_baseline_that_overflows_is_named_and_not_cached(measured, toy, tmp_path):
    model = broken(toy, tmp_path / "broken", "decoder.lm_heads.0.weight")
    for _ in range(2):
        with pytest.raises(RequestError, match="baseline: the model overflows, its logits"):
            measured(bits(4), model=model)


def test_a_variant_whose_samples_overflow_is_named(measured, monkeypatch):
    original = Variant.load

    def broken_decoder(self, *arguments, **options):
        loaded = original(self, *arguments, **options)
        if self.name == "q4":
            nothing = np.full((9, 1), np.nan)
            monkeypatch.setattr(
                loaded.engine, "decode", lambda *_: check_finite(nothing, "samples")
            )
        return loaded

    monkeypatch.setattr(Variant, "load", broken_decoder)
    with pytest.raises(RequestError, match="q4: the model overflows, its samples"):
        measured(bits(4))


def test_a_text_that_is_too_long_is_cut_with_a_note(measured):
    found = measured(bits(4), text="drums piano " * 400)
    (note,) = found["notes"]
    assert "its last 289 words were left out, from 'piano drums piano drums' on" in note


# --- The command --------------------------------------------------------------------------------


def command(toy, music, *options):
    short = ("--engine", "mlx", "--takes", "2", "--continuation-seconds", "0.5", "--seed", "7")
    return cli.main(["quality", str(toy), "--audio", str(music), *short, *map(str, options)])


@pytest.mark.slow
def test_the_command_prints_a_table_or_json(toy, music, measured, capsys, tmp_path):
    assert command(toy, music, "--variant", "q4", "--report-json", tmp_path / "r.json") == 0
    printed = capsys.readouterr().out
    assert "codebook 3" in printed
    assert "of 25 frames" in printed
    recipe = ("--quantize", "--q-bits", "4", "--q-group-size", "32", "--method", "nearest")
    assert command(toy, music, *recipe, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variant"].pop("name") == "q4-g32-decoder-linears"
    expected = measured(bits(4), engine="mlx")
    del expected["variant"]["name"]
    assert found == expected
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == 1


def test_the_command_names_what_it_measures(toy, music, capsys):
    assert command(toy, music, "--variant", "q8", "--cast-dtype", "float16", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variant"]["name"] == "float16-q8-g64-search-decoder-linears"
    assert found["variant"]["cast_dtype"] == "float16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--variant", "q9"), "no quantization 'q9'"),
        (("--variant", "q4", "--quantize"), "drop one"),
        (("--q-bits", "4"), "add --quantize"),
        (("--seed", "-1"), "seeds lie between"),
        (("--audio", "nowhere.wav"), "nowhere.wav: no such file"),
        (("--report-json", "nowhere/report.json"), "no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(toy, music, capsys, options, words):
    assert command(toy, music, *options) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
