"""From losses to plans: budgets are kept, prediction is mended by measurement, nonsense refused."""

import pytest

from segue.checkpoints.config import QuantizationParams
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.plan import PlanShape
from segue.checkpoints.quantize import quantized
from segue.errors import RequestError
from segue.quantization.losses import MEASURED, Options, Problem, factor, way_name
from segue.quantization.planning import Goal, plan, recipe_of
from segue.quantization.units import average_bits, units_of


@pytest.fixture(scope="module")
def units(toy):
    return units_of(open_checkpoint(str(toy)).config.lm)


def problem_of(units, **options):
    losses = {unit.name: 0.01 * (1 + n % 5) * (not unit.reads_text) for n, unit in enumerate(units)}
    return Problem(units, Options(**options), losses)


def bits(problem, ways):
    return average_bits((unit, ways[unit.name]) for unit in problem.units)


def test_units_are_all_linears_once(units, toy):
    modules = [module for unit in units for module in unit.modules]
    checkpoint = open_checkpoint(str(toy))
    linears = [n.removesuffix(".weight") for n in checkpoint.lm if "_proj.w" in n or ".fc" in n]
    linears = [name for name in linears if name != "enc_to_dec_proj"]
    assert sorted(modules) == sorted([*linears, *(f"decoder.lm_heads.{k}" for k in range(4))])
    for unit in units:
        shapes = [checkpoint.lm[f"{module}.weight"].shape for module in unit.modules]
        assert unit.weights == sum(rows * columns for rows, columns in shapes)


def test_bits_are_those_of_what_is_written(units, toy):
    """With scales and biases in float16, which the toy's float32 weights are cast to."""
    problem = problem_of(units)
    ways = problem.fewest_nats(4.6)
    recipe = recipe_of(problem, ways, PlanShape.of(open_checkpoint(str(toy)).config.lm))
    view = quantized(open_checkpoint(str(toy)), recipe, "float16")
    stored = sum(
        tensor.read().nbytes
        for name, tensor in view.lm.items()
        if f"{name.rpartition('.')[0]}.scales" in view.lm
    )
    assert 8 * stored / problem.weights == pytest.approx(bits(problem, ways))


@pytest.mark.parametrize("budget", [3.5, 4.25, 4.5, 5.0, 6.1])
def test_a_budget_of_bits_is_kept_and_used(units, budget):
    problem = problem_of(units, cross_bits=2)
    ways = problem.fewest_nats(budget)
    assert budget - 0.25 < bits(problem, ways) <= budget
    assert set(ways) == {unit.name for unit in units}


def test_cross_attention_is_pinned_unless_it_is_said(units):
    for cross, least in ((4, 4), (2, 2), (8, 8)):
        ways = problem_of(units, cross_bits=cross).fewest_nats(6.0)
        assert min(ways[unit.name].bits for unit in units if unit.reads_text) == least


def test_a_unit_that_loses_more_gets_no_fewer_bits(units):
    same = [unit for unit in units if unit.part == "fc1"]
    losses = {unit.name: 0.01 for unit in units} | {same[0].name: 0.5}
    ways = Problem(units, Options(), losses).fewest_nats(4.5)
    assert ways[same[0].name].bits > ways[same[1].name].bits


def test_a_budget_of_nats_is_kept_with_the_fewest_bits(units):
    problem = problem_of(units)
    loose, tight = problem.fewest_bits(0.2), problem.fewest_bits(0.02)
    assert problem.predicted(loose) <= 0.2
    assert problem.predicted(tight) <= 0.02
    assert bits(problem, loose) < bits(problem, tight)


def test_milliseconds_are_saved_where_they_can_be(units):
    """A machine on which 4 bits are fast, whatever else is saved."""
    problem = problem_of(units)
    step = {
        unit.name: {
            way_name(way): (1.0 if way.bits == 4 else 3.0) * unit.weights
            for way in problem.options.ways(unit)
        }
        for unit in units
    }
    ways = problem.fewest_milliseconds(1.0, step)
    assert {ways[unit.name].bits for unit in units if not unit.reads_text} == {4}


def test_a_prediction_that_was_too_low_is_mended_until_the_budget_is_kept(units):
    problem, seen = problem_of(units), []

    def measure(ways):
        seen.append(ways)
        return 3 * problem.predicted(ways) / problem.together

    found = plan(problem, Goal(nats=0.1), measure)
    assert found.measured <= 0.1
    assert found.predicted == pytest.approx(found.measured, rel=0.01)
    assert len(found.rounds) == len(seen) > 1
    smaller = [ways for ways in seen if bits(problem, ways) < bits(problem, found.ways)]
    assert all(measure(ways) > 0.1 for ways in smaller)


def test_within_a_budget_of_bits_one_measurement_is_enough(units):
    seen = []
    plan(problem_of(units), Goal(bits=4.5), lambda ways: seen.append(ways) or 0.3)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ({}, "name one budget"),
        ({"bits": 4.5, "nats": 0.1}, "name one budget"),
        ({"bits": 1.0}, "between 2 and 9"),
        ({"bits": float("nan")}, "between 2 and 9"),
        ({"nats": -1.0}, "between 0 and 10"),
        ({"bits": 4.5, "objective": "milliseconds"}, "--budget-kl"),
        ({"nats": 0.1, "objective": "nats"}, "--budget-bits"),
        ({"nats": 0.1, "objective": "joy"}, "nats, bits, milliseconds"),
    ],
)
def test_goals_that_mean_nothing_are_refused(goal, words):
    with pytest.raises(RequestError, match=words):
        Goal(**goal)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (7,)}, "widths are some of"),
        ({"groups": ()}, "groups are some of"),
        ({"cross_bits": 9}, "between 2 and 8"),
        ({"widths": (2, 3)}, "lower --cross-bits"),
    ],
)
def test_choices_that_mlx_lacks_are_refused(options, words):
    with pytest.raises(RequestError, match=words):
        Options(**options)


def test_what_no_plan_reaches_is_refused(units):
    with pytest.raises(RequestError, match=r"no plan has 3 bits a weight: the least is"):
        problem_of(units, widths=(4, 8)).fewest_nats(3.0)
    with pytest.raises(RequestError, match="every plan is predicted to lose more"):
        problem_of(units).fewest_bits(1e-9)
    with pytest.raises(RequestError, match="every plan is predicted to lose more"):
        plan(problem_of(units), Goal(nats=0.1), lambda ways: 5.0)


def test_the_facts_that_other_widths_are_predicted_from():
    assert factor(MEASURED) == 1
    assert factor(QuantizationParams(4, 64)) == pytest.approx(1 / 4.1)
    assert factor(QuantizationParams(3, 128)) == pytest.approx(1.28)
