"""Plans: exceptions of a recipe, module by module, kept from memory to disk and back."""

import json

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue.checkpoints.config import QuantizationParams
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.plan import Plan, PlanShape
from segue.checkpoints.quantize import quantized, save_quantized
from segue.checkpoints.recipe import Recipe
from segue.errors import RequestError
from segue.lab.modules import modules_of

LAYERS = "decoder.model.decoder.layers."
HEADS = [f"decoder.lm_heads.{k}" for k in range(4)]
QKV = [f"{LAYERS}0.self_attn.{x}_proj" for x in "qkv"]
SHAPE = PlanShape(2, 64, 128, 4, 64)


def plan_of(ways, **options):
    named = {name: QuantizationParams(*way) for name, way in ways.items()}
    return Plan(tuple(named.items()), **options)


MIXED = Recipe(
    plan=plan_of(
        dict.fromkeys(HEADS, (8, 32))
        | dict.fromkeys(QKV, (3, 32))
        | {f"{LAYERS}1.fc1": (2, 64), f"{LAYERS}1.fc2": (5, 128), f"{LAYERS}0.fc1": (6, 32)},
        shape=SHAPE,
        label="mixed",
    )
)


def logits(engine):
    sequence = np.random.default_rng(0).integers(0, 64, (4, 12))
    return np.array(engine.logits(sequence))


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_a_saved_plan_is_what_is_quantized_in_memory(toy, tmp_path, engine):
    pytest.importorskip(engine)
    save_quantized(open_checkpoint(str(toy)), MIXED, tmp_path / "q")
    saved = segue.load(str(tmp_path / "q"), engine=engine).engine
    fresh = segue.load(str(toy), engine=engine, recipe=MIXED).engine
    np.testing.assert_array_equal(logits(saved), logits(fresh))
    assert saved.config == fresh.config


def test_both_engines_compute_the_same_plan(toy):
    pytest.importorskip("openvino")
    mlx, openvino = (
        segue.load(str(toy), engine=name, recipe=MIXED).engine for name in ("mlx", "openvino")
    )
    np.testing.assert_allclose(logits(openvino), logits(mlx), atol=1e-3)


def test_every_module_has_its_own_width(toy):
    view = quantized(open_checkpoint(str(toy)), MIXED)
    for module in (*HEADS, *QKV, f"{LAYERS}1.fc1", f"{LAYERS}0.self_attn.out_proj"):
        params = MIXED.params_of(module)
        rows, columns = view.lm[f"{module}.weight"].shape
        assert columns == 64 * params.bits // 32
        assert view.lm[f"{module}.scales"].shape == (rows, 64 // params.group_size)


def test_the_block_of_the_configuration_is_what_mlx_lm_writes(toy, tmp_path):
    save_quantized(open_checkpoint(str(toy)), MIXED, tmp_path / "q")
    block = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    assert {name: block.pop(name) for name in ("bits", "group_size", "mode")} == {
        "bits": 4,
        "group_size": 64,
        "mode": "affine",
    }
    assert block[HEADS[2]] == {"bits": 8, "group_size": 32, "mode": "affine"}
    assert set(block) == {name for name, _ in MIXED.plan.modules}


def test_what_openvino_does_not_keep_packed_is_said(toy):
    pytest.importorskip("openvino")
    engine = segue.load(str(toy), engine="openvino", recipe=MIXED).engine
    assert "6 of 24 quantized modules have 2, 3, 5, 6 bits" in engine.load_report.notes[-1]
    held = modules_of(open_checkpoint(str(toy)), MIXED, engine).bytes
    assert held[HEADS[0]] == 64 * (64 + 2 * 2 * 4)  # packed, scales and biases in float32
    assert held[QKV[0]] == 64 * 64 * 4


def test_what_the_native_engine_stores_wider_is_said(toy):
    pytest.importorskip("openvino")
    from segue.engine.native import building

    if not building.compilers():
        pytest.skip("needs a C compiler")
    engine = segue.load(str(toy), engine="native", recipe=MIXED).engine
    assert "5 of 24 quantized modules have 3, 5, 6 bits" in engine.load_report.notes[-1]
    held = modules_of(open_checkpoint(str(toy)), MIXED, engine).bytes
    integers, groups = 64 * 64 // 2, 64 * 2  # 3 bits in 4; each group has a scale and a bias
    assert integers + 4 * groups <= held[QKV[0]] <= integers + 8 * groups
    assert held[f"{LAYERS}0.fc1"] > held[f"{LAYERS}1.fc1"]  # 6 bits in 8, 2 in 2
    assert sum(engine.held.values()) < sum(held.values())  # embeddings and norms are not its own


def test_learned_biases_with_fractional_zero_points_are_exact_on_openvino(toy, tmp_path):
    pytest.importorskip("openvino")
    from segue.engine.openvino import runtime
    from segue.engine.openvino.packed import Packed

    rng = np.random.default_rng(0)
    for bits, group in ((4, 32), (4, 128), (8, 64)):
        weight = rng.integers(0, 1 << 32, (6, 256 * bits // 32), np.uint32)
        scales = rng.uniform(0.01, 0.02, (6, 256 // group)).astype(np.float32)
        biases = rng.uniform(-0.2, 0.1, scales.shape).astype(np.float32)
        packed = Packed(QuantizationParams(bits, group), weight, scales, biases)
        arrays = (mx.array(weight), mx.array(scales), mx.array(biases))
        exact = np.array(mx.dequantize(*arrays, group_size=group, bits=bits))
        x = runtime.ops.parameter(runtime.ov.PartialShape([-1, 256]), np.float32)
        product = runtime.ops.matmul(x, packed.constant(), False, True)
        model = runtime.compiled(runtime.ov.Model([product], [x], "m"))
        rows = np.eye(256, dtype=np.float32)
        one_by_one = np.concatenate([model([row[None]])[0].copy() for row in rows[:16]])
        np.testing.assert_allclose(model([rows])[0].T, exact, atol=1e-6)
        np.testing.assert_allclose(one_by_one.T, exact[:, :16], atol=1e-6)


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        ({}, "without modules"),
        ({f"{LAYERS}0.fc3": (4, 64)}, "no module that decoder-linears quantizes"),
        ({f"{LAYERS}0.fc1": (7, 64)}, "fc1: affine cannot have 7 bits"),
        ({f"{LAYERS}0.fc1": (4, 16)}, "fc1: affine cannot have 4 bits in groups of 16"),
        ({QKV[0]: (4, 64), QKV[1]: (3, 64)}, "they run as one and must be alike"),
        ({HEADS[0]: (4, 64), HEADS[3]: (4, 32)}, "they run as one and must be alike"),
        ({"decoder.model.decoder.embed_tokens.0": (4, 64)}, "no module that decoder-linears"),
    ],
)
def test_nonsense_is_refused_in_one_line(ways, words):
    with pytest.raises(RequestError) as caught:
        Recipe(plan=plan_of(ways))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (plan_of({f"{LAYERS}7.fc1": (8, 64)}), "has no module .*7.fc1"),
        (plan_of({f"{LAYERS}0.fc1": (8, 128)}), "no whole groups of 128"),
        (plan_of({QKV[0]: (8, 64)}), "run as one and must be alike"),
        (plan_of({HEADS[0]: (8, 64)}), "run as one and must be alike"),
        (plan_of({f"{LAYERS}0.fc1": (8, 64)}, shape=PlanShape(24, 64, 128, 4, 64)), "24 layers"),
    ],
)
def test_a_plan_for_another_model_is_refused_when_it_is_loaded(toy, tmp_path, plan, words):
    with pytest.raises(RequestError, match=words):
        segue.load(str(toy), recipe=Recipe(plan=plan))
    with pytest.raises(RequestError, match=words):
        save_quantized(open_checkpoint(str(toy)), Recipe(plan=plan), tmp_path / "q")
    assert not list(tmp_path.iterdir())


def test_a_plan_survives_as_json():
    again = Recipe.from_json(json.loads(json.dumps(MIXED.to_json())))
    assert again == MIXED
    assert again.name == MIXED.name
    assert MIXED.name.startswith("mixed-")


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"modules": []},
        {"modules": {f"{LAYERS}0.fc1": 4}},
        {"modules": {f"{LAYERS}0.fc1": {"bits": True, "group_size": 64}}},
        {"modules": {f"{LAYERS}0.fc1": {"bits": 4}}},
        {"modules": {f"{LAYERS}0.fc1": {"bits": 4, "group_size": 64}}, "shape": {"layers": 2}},
        {"modules": {f"{LAYERS}0.fc1": {"bits": 4, "group_size": 64}}, "label": "../up"},
    ],
)
def test_json_that_is_no_plan_is_refused(found):
    with pytest.raises(RequestError):
        Plan.from_json(found)
