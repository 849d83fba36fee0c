"""The table of what is asked, at toy size."""

import json
import sys

import pytest

from benchmarks.gpu import asked


def test_the_table_says_what_is_reached_what_is_missed_and_what_is_missing(
    monkeypatch, capsys, tmp_path
):
    out = tmp_path / "asked.json"
    line = ["asked", "--toy", "--parts", "large", "mixed", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", line)
    asked.main()
    printed = capsys.readouterr().out
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    assert len(rows) == len(asked.ROWS)
    measured = {what for what, row in rows.items() if row.get("measured", 0) > 0}
    assert measured == {row.what for row in asked.ROWS if row.part in ("large", "mixed")}
    assert rows["decode one take of 30 s"]["missing"] == "not run"
    assert "| decode one take of 30 s | ≤ 0.05 s | – | not run |" in printed
    assert out.with_suffix(".md").read_text() in printed


def test_what_does_not_end_in_its_time_is_missing(capsys, tmp_path):
    line = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert asked.measured("codec", line, 0.5, tmp_path / "none") == (None, "not done in 0.5 s")
    line = [sys.executable, "-c", "raise SystemExit(3)"]
    why = (None, "the process ended with 3")
    assert asked.measured("codec", line, 60, tmp_path / "none") == why


@pytest.mark.parametrize(("value", "verdict"), [(5, ""), (5.1, "missed"), (4.9, "")])
def test_a_bound_may_be_met(value, verdict):
    found, _ = asked.table({"throughput": {"segue": {"all s": value}}}, {})
    assert f"| ≤ 5 s | {value:.2f} s | {verdict} |" in found
