"""The benchmarks of the codec and of many takes, at toy size; torch need not be there."""

import sys

from benchmarks.gpu import codec, throughput


def printed(module, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--shape", "toy", *arguments])
    module.main()
    return capsys.readouterr().out


def test_the_codec_is_timed_for_each_number_of_takes(monkeypatch, capsys):
    arguments = ["--takes", "1", "2", "--seconds", "0.4", "--prompt", "0.2", "--rounds", "1"]
    out = printed(codec, monkeypatch, capsys, *arguments, "--portable")
    for name in ("segue", "segue without kernels"):
        for row in ("decode 1 × 0.4 s", "decode 2 × 0.4 s", "decode 158 frames", "encode 0.2 s"):
            assert f"| {name}, {row} | " in out
    assert "100.00 % of codes are equal; a take alone and in a batch is equal" in out


def test_many_takes_are_timed_from_samples_to_samples(monkeypatch, capsys):
    arguments = ["--takes", "3", "--prompt", "0.2", "--seconds", "0.6", "--rounds", "1"]
    out = printed(throughput, monkeypatch, capsys, *arguments, "--rows", "segue")
    *_, row = out.splitlines()
    name, *figures = row.strip("| ").split(" | ")
    assert name == "segue, 3 takes"
    steps, decode, whole, rate, _ = map(float, figures)
    assert steps + decode <= whole + 0.02
    assert rate > 0
