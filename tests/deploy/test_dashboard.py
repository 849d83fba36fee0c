"""The dashboard asks for nothing that the service does not measure."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from segue.service.metrics import Metrics

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = re.compile(r"by \(([^)]*)\)|\{\{(\w+)\}\}")


def queries() -> list[dict[str, str]]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target for panel in panels for target in panel["targets"]]


def measured() -> dict[str, set[str]]:
    """The series that a service has, and the labels of each."""
    metrics = Metrics()
    metrics.submitted("native", "anna")
    metrics.ended("completed", 1.0, 0, "anna")
    metrics.crashed(0, True)
    metrics.generated(1.0, 1.0, 1.0, 0, "anna")
    metrics.refused("anna", "jobs_at_once")
    metrics.waits({"anna": 1})
    metrics.answered("GET", "/", 200, 0.1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for suffix in SUFFIXES[family.type]:
            found[family.name + suffix] = {
                label for sample in family.samples for label in sample.labels
            }
    for name in [name for name in found if name.startswith("segue_pool_")]:
        found[name] |= {"worker"}  # gauges have no sample before there is a worker
    return found


def names(query: str) -> set[str]:
    return set(re.findall(r"\bsegue_\w+", query))


@pytest.mark.parametrize("target", queries(), ids=lambda target: target["expr"])
def test_what_a_query_asks_for_is_measured(target):
    series = measured()
    asked = names(target["expr"])
    assert asked
    assert asked <= set(series)
    labels = set().union(*(series[name] for name in asked))
    named = LABELS.findall(target["expr"] + target["legendFormat"])
    wanted = {each.strip() for by, legend in named for each in (by or legend).split(",")}
    assert wanted <= labels


def test_what_an_operator_looks_for_is_shown():
    shown = set().union(*(names(target["expr"]) for target in queries()))
    assert {
        "segue_jobs_waiting",
        "segue_batch_rows_limit",
        "segue_pool_rows_used",
        "segue_music_seconds_total",
        "segue_pool_memory_bytes",
    } <= shown
