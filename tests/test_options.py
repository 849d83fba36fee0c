"""The options that commands share: one name means one thing, and contradictions are one line."""

import json
import shlex
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from segue.checkpoints.recipe import PRESETS, Calibration, Recipe
from segue.cli import COMMANDS, main, make_parser
from segue.errors import RequestError
from segue.lab.quality.command import request_of
from segue.lab.variant import Variant
from segue.options import prompt_of
from segue.recipe_options import recipe_of

Q4, Q8 = (Recipe(bits=bits, method="search") for bits in (4, 8))
WITH_RECIPE = ("continue song.wav", "bench song.wav", "quality built-in", "quantize built-in out")


def parsed(line):
    return make_parser().parse_args(shlex.split(line))


@pytest.mark.parametrize("command", WITH_RECIPE)
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("none", None),
        ("q8", Q8),
        ("Q4", Q4),
        ("q4-emb", Recipe("decoder-linears+emb", 4, method="search")),
        ("q4-nearest", Recipe(bits=4)),
        *PRESETS.items(),
    ],
)
def test_a_recipe_has_one_name_in_every_command(command, name, recipe):
    assert recipe_of(parsed(f"{command} --recipe {name}")) == recipe


@pytest.mark.parametrize("command", WITH_RECIPE)
@pytest.mark.parametrize(
    "detail", ["--q-bits 4", "--quant-scope all-linears", "--q-group-size 64", "--q-mode affine"]
)
def test_a_recipe_by_name_and_in_detail_is_a_contradiction(command, detail):
    with pytest.raises(RequestError) as caught:
        recipe_of(parsed(f"{command} --recipe q4 {detail}"))
    option = detail.split()[0]
    assert str(caught.value) == f"--recipe and {option} both say what is quantized; drop one"


@pytest.mark.parametrize("command", WITH_RECIPE[:3])
def test_the_switch_and_its_details_mean_what_they_did(command):
    details = "--quant-scope all-linears --q-bits 3 --q-group-size 32"
    assert recipe_of(parsed(command)) is None
    assert recipe_of(parsed(f"{command} --quantize")) == Q4
    assert recipe_of(parsed(f"{command} --quantize {details}")) == Recipe(
        "all-linears", 3, 32, method="search"
    )
    assert recipe_of(parsed(f"{command} --quantize --method nearest")) == Recipe()
    assert recipe_of(parsed(f"{command} --quantize --q-mode nvfp4")).method == "nearest"
    with pytest.raises(RequestError, match="--quant-scope without --quantize quantizes nothing"):
        recipe_of(parsed(f"{command} {details}"))
    with pytest.raises(RequestError, match="--recipe and --quantize both say"):
        recipe_of(parsed(f"{command} --quantize --recipe q8"))
    with pytest.raises(RequestError, match="no quantization 'q9'"):
        recipe_of(parsed(f"{command} --recipe q9"))


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_a_method_and_its_music_mean_the_same_in_every_command(command, tmp_path):
    assert recipe_of(parsed(f"{command} --recipe q8 --method nearest")) == replace(
        Q8, method="nearest"
    )
    line = f"{command} --recipe q4 --method gptq --self-takes 3 --calibration-seed 7"
    line += f" --calibrate {tmp_path}"
    music = Calibration((str(tmp_path),), 3, 7)
    assert recipe_of(parsed(line)) == Recipe(method="gptq", calibration=music)
    line = f"{command} --recipe q4 --method gptq+distill --distill-steps 9"
    assert recipe_of(parsed(line)) == Recipe(method="gptq+distill", distill_steps=9)
    with pytest.raises(RequestError, match="search trains nothing"):
        recipe_of(parsed(f"{command} --recipe q4-search --distill-steps 9"))
    with pytest.raises(RequestError, match="none quantizes nothing; drop --distill-steps"):
        recipe_of(parsed(f"{command} --recipe none --distill-steps 9"))
    for words in (f"{command} --recipe q4 --calibrate {tmp_path / 'x'}",):
        with pytest.raises(RequestError, match="no such file or folder"):
            recipe_of(parsed(words))
    with pytest.raises(RequestError, match="looks at no music"):
        recipe_of(parsed(f"{command} --recipe q4 --method nearest --self-takes 3"))
    with pytest.raises(RequestError, match="--recipe none quantizes nothing; drop --method"):
        recipe_of(parsed(f"{command} --recipe none --method search"))


@pytest.mark.parametrize("command", WITH_RECIPE[:3])
def test_the_options_of_a_recipe_mean_it(command):
    for recipe in (
        Recipe("all-linears", 3, 32, method="search"),
        Recipe("all-linears", 3, 32),
        Recipe("decoder-linears", 4, 16, "nvfp4"),
        Recipe(method="gptq", calibration=Calibration((str(Path.cwd()),), 3, 7)),
        Recipe(method="nearest+distill", calibration=Calibration(seed=7), distill_steps=9),
    ):
        words = shlex.join(Variant("x", None, recipe).options())
        assert recipe_of(parsed(f"{command} {words}")) == recipe


@pytest.mark.parametrize("command", WITH_RECIPE[:3])
def test_a_method_alone_quantizes_nothing(command):
    with pytest.raises(RequestError, match="--method without --quantize quantizes nothing"):
        recipe_of(parsed(f"{command} --method search"))


@pytest.mark.parametrize("command", ["bench", "matrix"])
def test_the_prompt_is_positional_or_named(command):
    assert prompt_of(parsed(f"{command} song.wav")) == Path("song.wav")
    assert prompt_of(parsed(f"{command} --runs 1 --prompt song.wav")) == Path("song.wav")
    with pytest.raises(RequestError, match=r"a\.wav and --prompt b\.wav are two prompts; drop one"):
        prompt_of(parsed(f"{command} a.wav --prompt b.wav"))


@pytest.mark.parametrize("command", ["bench", "matrix"])
def test_no_prompt_is_one_line(command, capsys):
    assert main([command]) == 2
    assert capsys.readouterr().err.startswith("segue: name a prompt, an audio file")


# --- segue quality --------------------------------------------------------------------------------


def test_quality_takes_the_names_of_the_other_commands():
    line = "--variations 3 --prompt-seconds 2 --output-seconds 5.5 --quality-prompt a b --recipe q8"
    request = request_of(parsed(f"quality toy {line}"))
    assert (request.model, request.takes, request.variant.recipe) == ("toy", 3, Q8)
    assert (request.prompt_seconds, request.continuation_seconds) == (2, 3.5)
    assert request.prompts == [Path("a"), Path("b")]


def test_quality_takes_its_former_names():
    line = "--takes 3 --continuation-seconds 3.5 --audio a b --variant q8"
    request = request_of(parsed(f"quality toy --prompt-seconds 2 {line}"))
    named = "--variations 3 --output-seconds 5.5 --quality-prompt a --quality-prompt b --recipe q8"
    assert request == request_of(parsed(f"quality --model toy --prompt-seconds 2 {named}"))


def test_quality_measures_the_defaults_it_always_did():
    request = request_of(parsed("quality"))
    assert (request.model, request.engine, request.prompts) == ("built-in", "auto", [])
    assert (request.prompt_seconds, request.continuation_seconds) == (6, 6)
    assert (request.takes, request.seed, request.variant.name) == (2, 12345, "baseline")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--variant q4 --recipe q4", "--variant and --recipe both say what is quantized"),
        ("--variant q4 --q-bits 8", "--variant and --q-bits both say what is quantized"),
        ("--model a", "b and --model a: drop one"),
        ("--output-seconds 9 --continuation-seconds 3", "drop one"),
        ("--output-seconds 6", "output-seconds of 6 leave less than 0.1 s after a prompt of 6"),
        ("--output-seconds nan", "output-seconds of nan leave less than"),
        ("--prompt-seconds 0", "prompt-seconds must be more than 0"),
        ("--variations 0", "takes must lie between 1 and 64"),
    ],
)
def test_contradictions_of_quality_are_one_line(line, words, capsys):
    assert main(["quality", "b", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


# --- Reports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_every_report_is_printed_or_written(command):
    options = parsed(f"{command} --json --report-json r.json --no-progress")
    assert (options.json, options.report_json) == (True, Path("r.json"))


@pytest.mark.parametrize("command", WITH_RECIPE)
def test_a_report_that_cannot_be_written_is_refused_before_the_work(command, capsys, monkeypatch):
    monkeypatch.setattr("segue.audio.read", None)  # not come to
    assert main([*command.split(), "--report-json", "nowhere/r.json"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-o", "--output", "--out"])
def test_the_output_of_a_matrix_has_the_names_of_other_outputs(option):
    assert parsed(f"matrix song.wav {option} m").output == Path("m")


def test_what_was_written_is_what_is_printed(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(toy), "q", "--recipe", "q8", "--report-json", "r.json"]) == 0
    capsys.readouterr()
    written = json.loads(Path("r.json").read_text())
    assert written["recipe"]["bits"] == 8
    assert main(["quantize", str(toy), "f", "--recipe", "none", "--cast-dtype", "float16"]) == 0
    assert "f: 1 MB, 0 modules quantized" in capsys.readouterr().out
    assert main(["quantize", str(toy), "n", "--recipe", "none"]) == 2
    assert "--recipe none quantizes nothing" in capsys.readouterr().err
    assert not Path("n").exists()


def test_every_command_is_a_module_with_a_run_of_its_own():
    modules = {f"segue.{command.module}": name for name, command in COMMANDS.items()}
    for module, name in modules.items():
        assert f"`segue {name}" in (import_module(module).__doc__ or "")
    runs = {parsed(line).run.__module__ for line in (*WITH_RECIPE, "matrix", "models", "serve")}
    assert runs <= set(modules)
    assert len(runs) == 7
