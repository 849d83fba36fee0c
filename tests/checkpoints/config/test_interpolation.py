"""References in an `xp.cfg` mean what OmegaConf means by them, and cannot do harm."""

import os

import pytest
import yaml

from segue.checkpoints.config.interpolation import parse
from segue.errors import CheckpointError


def value(text, field="x"):
    return parse(text)[field]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x: ${a}\na: 3", 3),
        ("x: ${a}\na: false", False),
        ("x: ${a.b}\na: {b: 2.5}", 2.5),
        ("x: ${ a.b }\na: {b: 1}", 1),
        ("x: ${a.1}\na: [7, 8]", 8),
        ("x: ${a[1]}\na: [7, 8]", 8),
        ("x: ['${a}', 2]\na: 1", [1, 2]),
        ("x: ${a}\na: ${b}\nb: ${c.d}\nc: {d: 4}", 4),
        ("x: ${a.${b}}\na: {key: 5}\nb: key", 5),
        ("x: ${a.b.c}\na: {b: '${d}'}\nd: {c: 6}", 6),
        ("x: v${a}-${b}\na: 1\nb: true", "v1-True"),
        (r"x: \${a}", "${a}"),
        ("x: ${oc.select:a, 7}", 7),
        ("x: ${oc.select:a,7}\na: 8", 8),
        ("x: ${oc.select:a.b}", None),
        ("x: ${oc.select:a,'${b}'}\nb: false", "'False'"),
        ("x: ${oc.select:a,${b}}\nb: false", False),
        ("x: ${oc.select:a,[1, 2]}", [1, 2]),
        ("x: 1e-4", 1e-4),
        ("x: 2.5", 2.5),
    ],
)
def test_references_are_resolved_with_their_types(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("reference", "expected"), [("${.e}", 3), ("${..f}", 4), ("${...g}", 5), ("${..d.e}", 3)]
)
def test_dots_start_beside_the_field_and_climb(reference, expected):
    text = yaml.safe_dump({"c": {"d": {"e": 3, "x": reference}, "f": 4}, "g": 5})
    assert parse(text)["c"]["d"]["x"] == expected


def test_a_table_that_is_referred_to_keeps_its_own_place():
    assert value("x: ${a.b}\na: {b: {c: '${..d}'}, d: 1}")["c"] == 1


def test_a_list_refers_to_its_own_entries():
    assert value("x: [1, '${.0}']") == [1, 1]


def test_only_what_is_read_is_resolved():
    config = parse("x: 1\ny: ${nowhere}\nz: '???'")
    assert config["x"] == 1
    assert set(config) == {"x", "y", "z"}
    assert "y" in config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x: ${x}", "refers to itself"),
        ("x: ${y}\ny: ${x}", "refers to itself"),
        ("x: a${y}\ny: {z: 1}", "within text"),
        ("x: ${nowhere.at.all}", "'nowhere.at.all', which is not there"),
        ("x: ${a.b}\na: 3", "not there"),
        ("x: ${a.2}\na: [1]", "not there"),
        ("x: ${..a}\na: 1", "not there"),
        ("x: '???'", "never given"),
        ("x: ${y}\ny: '???'", "y is ???"),
        ("x: ${a", "not closed"),
        ("x: ${oc.env:HOME}", "oc.env"),
        ("x: ${oc.create:1}", "oc.create"),
        ("x: ${eval:'1 + 1'}", "eval"),
    ],
)
def test_what_cannot_be_resolved_is_one_line_that_names_the_field(text, words):
    with pytest.raises(CheckpointError) as caught:
        value(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_is_never_read(monkeypatch):
    monkeypatch.setenv("SECRET_WIDTH", "1234")
    assert value("x: ${oc.env:SECRET_WIDTH,8}") == "8"  # text, as a variable is to OmegaConf
    assert value("x: ${oc.env:SECRET_WIDTH,null}") is None
    with pytest.raises(CheckpointError) as caught:
        value("x: ${oc.env:SECRET_WIDTH}")
    assert "1234" not in str(caught.value)
    assert os.environ["SECRET_WIDTH"] == "1234"


def test_references_that_double_at_each_step_are_given_up():
    """Each of 40 fields names the next one twice: 2**40 look-ups, were they made."""
    fields = {f"a{n}": f"${{a{n + 1}}}${{a{n + 1}}}" for n in range(40)} | {"a40": "x"}
    with pytest.raises(CheckpointError, match="too much"):
        parse(yaml.safe_dump(fields))["a0"]
    long = {"x": "${a}" * 100, "a": "y" * 1000}
    with pytest.raises(CheckpointError, match="too much"):
        parse(yaml.safe_dump(long))["x"]


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 3000, "- a list", "3", "", "x: 2020-13-45", "\0", "x: " + "y" * (1 << 20)],
    ids=["bracket", "depth", "list", "number", "empty", "date", "nul", "length"],
)
def test_what_is_no_configuration_is_one_line(text):
    with pytest.raises(CheckpointError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_list_that_holds_itself_is_given_up():
    with pytest.raises(CheckpointError):
        value("x: &x [*x]")
