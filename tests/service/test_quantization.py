"""The quantization guard, and the checkpoints that it keeps."""

import json
import sqlite3

import pytest

from segue.checkpoints.recipe import PRESETS, Recipe
from segue.demo.toy import write_checkpoint
from segue.errors import RequestError
from segue.service.quantization import NONE, chosen, from_environment

from .server import Server, encoded, song

FEW = {"audio_data": encoded(song(2.0)), "prompt_seconds": 1, "output_seconds": 2, "seed": 1}


# --- What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [None, "", "0", " off ", "false"])
def test_it_is_off_by_default(switch):
    environment = {"G4L_MLX_Q_BITS": "4"} | ({"G4L_MLX_QUANTIZE": switch} if switch else {})
    assert from_environment(environment) == NONE


def test_the_environment_is_read():
    def mode(**more):
        return from_environment({"G4L_MLX_QUANTIZE": "1"} | more).mode

    assert mode() == "q4_decoder_linears"
    assert mode(G4L_MLX_Q_BITS="8") == "q8_decoder_linears"
    assert mode(G4L_MLX_Q_SCOPE="decoder-linears+emb") == "q4_decoder_linears_emb"
    assert mode(G4L_MLX_Q_SCOPE="decoder_linears") == "q4_decoder_linears"
    assert mode(G4L_MLX_Q_GROUP_SIZE="32", G4L_MLX_Q_METHOD="nearest") == "q4-g32-decoder-linears"
    assert mode(G4L_MLX_Q_GROUP_SIZE="32", G4L_MLX_Q_METHOD=" Search") == (
        "q4-g32-search-decoder-linears"
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"G4L_MLX_QUANTIZE": "maybe"}, "G4L_MLX_QUANTIZE is 0 or 1"),
        ({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_BITS": "four"}, "G4L_MLX_Q_BITS is a whole number"),
        ({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_BITS": "7"}, "affine cannot have 7 bits"),
        ({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_SCOPE": "all"}, "no scope 'all'"),
        ({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_METHOD": "best"}, "no method 'best'"),
        ({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_METHOD": "gptq"}, "gptq takes minutes"),
    ],
)
def test_what_the_environment_cannot_mean_is_refused(environment, said):
    with pytest.raises(RequestError, match=said):
        from_environment(environment)


def test_a_request_wins_over_the_environment():
    q8 = from_environment({"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_BITS": "8"})
    assert chosen(None, q8) == chosen("  ", q8) == q8
    assert chosen("off", q8).recipe is None
    assert chosen("Q4-Decoder-Linears+Emb", q8).mode == "q4_decoder_linears_emb"
    assert chosen("q4", NONE).recipe == PRESETS["q4_decoder_linears"]
    with pytest.raises(RequestError, match="no quantization 'q5'"):
        chosen("q5", NONE)


def test_no_job_waits_for_a_method_that_takes_minutes():
    assert chosen("q4-search", NONE).recipe == Recipe(method="search")
    with pytest.raises(RequestError, match="run segue quantize MODEL FOLDER --method gptq once"):
        chosen("q4_decoder_linears_gptq", NONE)
    with pytest.raises(RequestError, match=r"search\+distill takes minutes"):
        chosen("q4-search+distill", NONE)


# --- What runs ------------------------------------------------------------------------------------


def play(server, **fields):
    """A job's poll when it is over, and the stages that its worker went through."""
    session = server.post("/api/jobs", **(FEW | fields)).json()["session_id"]
    return server.finished(session)


@pytest.fixture(scope="module")
def server(tmp_path_factory, toy_options):
    folder = tmp_path_factory.mktemp("quantized")
    write_checkpoint(folder / "models" / "other", seed=1)
    environment = {"G4L_MLX_QUANTIZE": "1", "G4L_MLX_Q_BITS": "8", "HF_HUB_OFFLINE": "1"}
    options = (*toy_options, "--models", str(folder / "models"))
    with Server(folder / "state", *options, environment=environment) as server:
        yield server


def variants(server):
    return sorted((server.state / "variants").iterdir())


@pytest.mark.slow
def test_a_model_is_quantized_once_kept_and_reported(server):
    service = server.get("/api/service").json()["quantization"]
    assert (service["enabled"], service["default_mode"]) == (True, "q8_decoder_linears")
    default = play(server)
    assert default["quantization_mode"] == "q8_decoder_linears"
    (kept,) = variants(server)
    assert kept.name.endswith(Recipe(bits=8, method="search").name)
    assert (kept / "config.json").exists()
    plain = play(server, quantization_mode="none")
    assert plain["quantization_mode"] == "none"
    assert plain["audio_data"] != default["audio_data"]
    assert len(variants(server)) == 1

    written = (kept / "model.safetensors").stat().st_mtime_ns
    server.stop()
    server.start()
    assert play(server)["audio_data"] == default["audio_data"]
    assert (kept / "model.safetensors").stat().st_mtime_ns == written


def test_switching_back_and_forth_does_not_load_again(server):
    modes = ("q8", "none", "q4")
    for mode in modes:
        play(server, quantization_mode=mode)
    for mode in modes:
        job = server.post("/api/jobs", **FEW, quantization_mode=mode).json()["job_id"]
        server.finished(job)
        assert _load_seconds(server, job) is None
    play(server, model_name="local/other", quantization_mode="none")
    job = server.post("/api/jobs", **FEW, quantization_mode="q4").json()["job_id"]
    server.finished(job)
    assert _load_seconds(server, job) is None


def _load_seconds(server, job):
    """What loading took, None if the model was ready."""
    with sqlite3.connect(f"file:{server.state}/segue.db?mode=ro", uri=True) as db:
        (result,) = db.execute("SELECT result FROM jobs WHERE id = ?", (job,)).fetchone()
    return json.loads(result)["load_s"]
