"""Requests that share steps have the columns that they have alone, whoever their neighbours are."""

import shutil
from collections import deque

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.engine.base import Sampling, rows_of
from segue.engine.mlx import MLXEngine, kernels
from segue.engine.mlx.batch import SIZES
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.rows import PER_ROW, RowSampler, RowStep, row_controls
from segue.engine.mlx.sampling import Sampler, controls
from segue.engine.mlx.turns import synchronize
from segue.errors import ModelOverflowError
from segue.pattern import UNKNOWN

from ..broken import broken
from .batches import MIXED, Asked, run
from .engines import ENGINES, require


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, toy):
    require(request.param)
    return segue.load(str(toy), engine=request.param).engine


@pytest.fixture(scope="module")
def alone(engine):
    return {asked: asked.alone(engine) for asked in MIXED}


def assert_equal(found, expected):
    assert len(found) > 0
    for asked, columns in found.items():
        np.testing.assert_array_equal(columns, expected[asked], err_msg=str(asked))


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [[0] * 8, [0, 3, 10, 12, 13, 40, 200, 201], [260, 0, 9, 8, 7, 300, 1, 5]],
    ids=["at once", "in their order", "in another order"],
)
def test_whenever_requests_join_they_have_what_they_have_alone(engine, alone, steps):
    batch = engine.batch(64)
    assert_equal(run(engine, batch, zip(steps, MIXED, strict=True)), alone)
    assert batch.rows == 0


def test_a_batch_does_the_same_again(engine):
    schedule = list(zip((0, 5, 6, 20), MIXED, strict=False))
    batch = engine.batch(8)
    first = run(engine, batch, schedule)
    assert_equal(run(engine, batch, schedule), first)


class Watched(deque):
    """Columns that note how many their member says are left when some come."""

    def __init__(self, member, noted):
        super().__init__(member.columns)
        self.member, self.noted = member, noted

    def append(self, column):
        self.extend([column])

    def extend(self, columns):
        columns = list(columns)
        self.noted.append((len(columns), self.member.left))
        super().extend(columns)


def test_columns_are_there_before_fewer_are_left(engine):
    """Other threads look without a lock: none left and no columns would be the end."""
    asked, noted = Asked(10, 30, (3,), Sampling(20)), []
    batch = engine.batch(4)
    member = batch.join(*asked.arguments(engine))
    member.columns = Watched(member, noted)
    left = member.left
    assert left > 1
    while member.left:
        batch.step()
    assert sum(count for count, _ in noted) == left
    for count, before in noted:
        assert before == left
        left -= count


@pytest.mark.parametrize("total", [10, 11])
def test_a_request_of_one_column_or_none_has_it(engine, total):
    asked = Asked(10, total, (3,), Sampling(20))
    lone = asked.alone(engine) if total > 10 else []
    batch = engine.batch(4)
    other = MIXED[0]
    found = run(engine, batch, [(0, other), (4, asked)])
    np.testing.assert_array_equal(found[asked], lone)
    assert_equal({other: found[other]}, {other: other.alone(engine)})


def test_who_leaves_early_frees_its_rows_and_disturbs_nobody(engine, alone):
    batch = engine.batch(64)
    members = {asked: batch.join(*asked.arguments(engine)) for asked in MIXED[:5]}
    assert batch.rows == sum(rows_of(a.seeds, a.sampling) for a in MIXED[:5])
    for step in range(400):
        if step in (0, 7):
            batch.leave(members[MIXED[1 if step else 3]])
            batch.leave(members[MIXED[1 if step else 3]])  # it has left already
        batch.step()
    for n in (0, 2, 4):
        np.testing.assert_array_equal(members[MIXED[n]].columns, alone[MIXED[n]])
    gone = members[MIXED[1]]
    assert 0 < len(gone.columns) < 20
    np.testing.assert_array_equal(gone.columns, alone[MIXED[1]][: len(gone.columns)])
    assert batch.rows == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_an_overflow_ends_its_own_request_alone(toy, tmp_path, name):
    """A token that overflows as an input: one of the two requests samples it."""
    require(name)
    healthy = segue.load(str(toy), engine=name).engine
    fine, spoiled = Asked(6, 60, (1,), Sampling(3)), Asked(5, 60, (2, 3), Sampling(20, 1.0, 2.0))
    expected = {asked: asked.alone(healthy) for asked in (fine, spoiled)}
    start = {token for asked in expected for token in np.unique(asked.arguments(healthy)[0][0, 0])}
    sampled = {token for column in expected[fine] for token in column[:, 0]}
    drawn = [token for column in expected[spoiled] for token in column[:, 0]]
    token = max(set(drawn) - sampled - start, key=drawn.index)
    embedding = "decoder.model.decoder.embed_tokens.0.weight"
    folder = broken(toy, tmp_path / "broken", embedding, at=token)
    engine = segue.load(folder, engine=name).engine
    batch = engine.batch(8)
    members = {asked: batch.join(*asked.arguments(engine)) for asked in (fine, spoiled)}
    while any(member.left and member.error is None for member in members.values()):
        batch.step()
    np.testing.assert_array_equal(members[fine].columns, expected[fine])
    assert isinstance(members[spoiled].error, ModelOverflowError)
    before = drawn.index(token) // 2 + 1
    np.testing.assert_array_equal(members[spoiled].columns, expected[spoiled][:before])
    # What it left behind in the cache spoils nobody who takes its rows.
    again = run(engine, batch, [(0, fine), (0, Asked(6, 60, (1, 1), Sampling(3)))])
    np.testing.assert_array_equal(again[fine], expected[fine])


@pytest.mark.parametrize("name", ENGINES)
def test_what_comes_before_a_sequence_may_differ(tmp_path, name):
    """Melody models have text and melody in the cache, before the first column."""
    require(name)
    folder = write_checkpoint(tmp_path / "melody", config=MELODY_CONFIG)
    engine = segue.load(str(folder), engine=name).engine
    melody = np.random.default_rng(0).normal(0, 0.1, (40_000, 1)).astype(np.float32)
    conditionings = [None, engine.condition("drums piano", melody), engine.condition("", melody)]
    samplings = [Sampling(20), Sampling(20, 1.0, 3.0), Sampling(5)]
    asked = [Asked(6 + 5 * n, 40 + n, (n,), sampling) for n, sampling in enumerate(samplings)]
    batch, members, alone = engine.batch(8), [], []
    for request, conditioning in zip(asked, conditionings, strict=True):
        arguments = (*request.arguments(engine)[:3], conditioning)
        alone.append(list(engine.prefill(*arguments)))
        members.append(batch.join(*arguments))
        batch.step()
    while any(member.left for member in members):
        batch.step()
    for member, columns in zip(members, alone, strict=True):
        np.testing.assert_array_equal(member.columns, columns)


@pytest.mark.parametrize("name", ENGINES)
def test_a_step_that_fails_ends_all_and_the_batch_goes_on_empty(toy, name, monkeypatch):
    require(name)
    engine = segue.load(str(toy), engine=name).engine
    batch = engine.batch(8)
    members = [batch.join(*asked.arguments(engine)) for asked in MIXED[:2]]
    part = "mlx.batch.Inputs" if name == "mlx" else "cpu.batch.next_tokens"

    def failing(*arguments, **options):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(f"segue.engine.{part}", failing)
        error = None
        for _ in range(40):  # inputs are made for several steps
            try:
                batch.step()
            except MemoryError as raised:
                error = raised
        assert error is not None
    assert [type(member.error) for member in members] == [MemoryError] * 2
    assert batch.rows == 0
    asked = MIXED[3]
    assert_equal(run(engine, batch, [(0, asked)]), {asked: asked.alone(engine)})


# --- MLX ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_steps_have_few_numbers_of_rows(toy):
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution(compiled=True))
    batch, sizes = engine.batch(64), set()
    for asked in MIXED[:5]:
        batch.join(*asked.arguments(engine))
        sizes.add(batch.slots)
    assert sizes == {1, 8, 16}  # 1 alone, then 5, 6, 7 and 9 rows
    assert sizes <= {1, *SIZES}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_steps_compute_what_requests_have_alone(toy):
    """Of 1 and of 8 rows: each number is compiled, which on CUDA takes most of a minute."""
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution(compiled=True))
    plain = {asked: asked.alone(engine) for asked in MIXED[:4]}
    found = run(engine, engine.batch(64), [(3 * n, asked) for n, asked in enumerate(plain)])
    assert_equal(found, plain)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_who_joins_a_free_slot_moves_nobody(toy):
    """The others' keys and values stay in their memory: at full size that is gigabytes."""
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution(compiled=True))
    asked = [Asked(10 + n, 100 - n, (n,), Sampling(20)) for n in range(7)]

    def places():
        synchronize()
        return [np.array(kv, copy=False).ctypes.data for kv in batch.cache]

    batch = engine.batch(64)
    members = {each: batch.join(*each.arguments(engine)) for each in asked[:5]}
    batch.step()
    for each in asked[5:]:
        before = places()
        members[each] = batch.join(*each.arguments(engine))
        assert (batch.slots, places()) == (8, before)
    while any(member.left for member in members.values()):
        batch.step()
    found = {each: list(member.columns) for each, member in members.items()}
    assert_equal(found, {each: each.alone(engine) for each in asked})


def test_a_request_alone_runs_the_steps_that_it_runs_without_a_batch(toy, monkeypatch):
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution())  # a call for each step
    shared = []
    original = RowStep.__call__

    def counted(self, *arguments):
        shared.append(len(arguments[0]))
        return original(self, *arguments)

    monkeypatch.setattr(RowStep, "__call__", counted)
    batch = engine.batch(8)
    long, short = MIXED[1], MIXED[2]
    found = run(engine, batch, [(0, long), (50, short)])
    assert shared == [5] * (len(found[short]) - 1)


def test_kernels_that_take_one_position_are_left_out_where_rows_have_their_own(toy):
    all_of_them = Execution(kernels=frozenset(kernels.NAMES))
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution())
    batch = engine.batch(4)
    assert batch.kernels == frozenset()
    step = RowStep(engine.lm, RowSampler(20, False, True), all_of_them.kernels)
    assert step.kernels_on == PER_ROW


SAMPLINGS = [
    Sampling(20),
    Sampling(20, 0.7),
    Sampling(3, 2.0, 3.0),
    Sampling(1, 1.0, 3.0),
    Sampling(0, 0.5),
    Sampling(1000, 1.0, -1.0),
    Sampling(5, 0.0),
    Sampling(250, 1.5, None, 0.6),
    Sampling(250, 1.5, 2.0, 0.6),
]


@pytest.mark.parametrize(
    "samplings", [SAMPLINGS, SAMPLINGS[:2], [SAMPLINGS[3], SAMPLINGS[6]], SAMPLINGS[7:]]
)
def test_rows_are_sampled_as_requests_are(toy, samplings):
    """Every row by its own top-k, temperature and guidance; an overflow in one stays there."""
    engine = MLXEngine(open_checkpoint(str(toy)))
    random, K, V = np.random.default_rng(1), 4, 64
    logits, noise, numbers, partners, expected = [], [], [], [[], []], []
    for sampling in samplings:
        streams = 2 if sampling.guidance_coef is not None else 1
        own = random.normal(size=(streams, K, V)).astype(np.float32)
        own[-1, 2, 5] = np.nan if sampling.temperature == 0.7 else own[-1, 2, 5]
        gumbel = random.gumbel(size=(1, K, V)).astype(np.float32)
        sampler = Sampler.of(sampling)
        tokens = sampler(mx.array(own), mx.array(gumbel), controls(sampling))
        first = len(logits)
        for _ in range(streams):
            partners[0].append(first)
            partners[1].append(first + streams - 1)
            top_k = sampler.top_k if 0 < sampler.top_k < V else V
            coef = sampling.guidance_coef or 0.0
            temperature = sampling.temperature if sampler.noisy else 1.0
            numbers.append((temperature, coef, top_k, sampler.top_p))
            noise.append(gumbel[0])
            expected.append(np.array(tokens[0]))
        logits += list(own)
    step = RowStep(engine.lm, RowSampler.of(Sampler.of(s) for s in samplings))
    known = np.full((len(logits), K), UNKNOWN, np.int32)
    known[0, 1] = expected[0][1] = 7
    found = step.sample_rows(
        mx.array(np.stack(logits)),
        mx.array(known),
        mx.array(np.stack(noise)),
        row_controls(np.array(numbers, np.float32).T, np.array(partners)),
    )
    np.testing.assert_array_equal(found, expected)
