"""What the owner looks at, and the page."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2

from segue.service.app import make_app
from segue.service.jobs.store import Store
from segue.service.settings import Settings
from tests.service.server import encoded, song


def test_metrics_count(server):
    job = server.post(
        "/api/jobs", audio_data=encoded(song(1.5)), prompt_seconds=1, output_seconds=2
    ).json()["job_id"]
    server.finished(job)
    answer = server.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    metrics = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
    )
    assert float(metrics['segue_jobs_finished_total{state="completed"}']) >= 1
    assert float(metrics["segue_music_seconds_total"]) >= 1
    assert float(metrics["segue_jobs_waiting"]) == 0
    assert float(metrics["segue_kept_bytes"]) > 0
    assert float(metrics["segue_batch_rows_limit"]) >= 1
    assert 'segue_pool_memory_bytes{worker="0"}' in metrics
    route = 'method="GET",route="/api/juce/poll_status/{session_id}",status="200"'
    assert float(metrics[f"segue_http_requests_total{{{route}}}"]) >= 1
    assert job not in answer.text


def test_health_is_unhealthy_when_nothing_can_be_kept(server):
    server.state.rename(server.state.with_name("elsewhere"))
    health, ready = server.get("/health"), server.get("/ready")
    server.state.with_name("elsewhere").rename(server.state)
    assert (health.status_code, ready.status_code) == (200, 503)  # a new start would not help
    assert health.json()["status"] == "unhealthy"
    assert ready.json() == health.json()
    assert server.get("/health").json()["status"] == "live"
    assert (server.get("/ready").status_code, server.get("/ready").json()["status"]) == (
        200,
        "live",
    )


def test_a_service_is_ready_while_its_queue_runs_and_it_does_not_stop(tmp_path):
    settings = replace(Settings(state=tmp_path), default_model="nobody/nothing")

    async def statuses(client):
        return [(await client.get(path)).status_code for path in ("/health", "/ready")]

    async def asked():
        app, service = make_app(settings, Store(settings.state))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield await statuses(client)
            await service.start()
            yield await statuses(client)
            service.stopping.set()
            yield await statuses(client)
            await service.close()

    async def collected():
        return [each async for each in asked()]

    assert asyncio.run(collected()) == [[503, 503], [200, 200], [200, 503]]


def test_the_probe_of_containers_says_whether_it_is_ready(server):
    probe = [sys.executable, str(Path(__file__).parents[3] / "deploy" / "health.py")]

    def asked(url):
        done = subprocess.run([*probe, url], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert asked(f"{server.url}/ready") == (0, "")
    server.state.rename(server.state.with_name("elsewhere"))
    code, said = asked(f"{server.url}/ready")
    server.state.with_name("elsewhere").rename(server.state)
    assert code == 1
    assert "cannot be written to" in said
    assert asked(f"{server.url}/nowhere")[0] == 1
    assert asked("http://127.0.0.1:1/ready")[0] == 1


def test_the_document_describes_every_route_of_the_contract(server):
    document = server.get("/openapi.json").json()
    assert {
        "/health",
        "/ready",
        "/api/models",
        "/api/juce/process_audio",
        "/api/juce/continue_music",
        "/api/juce/retry_music",
        "/api/juce/poll_status/{session_id}",
        "/api/models/download_status",
        "/api/models/predownload",
        "/api/models/predownload_status/{session_id}",
        "/api/inputs/{input_id}/beats",
        "/api/jobs/{job_id}/undelete",
        "/api/jobs/{job_id}/takes/{number}/audio",
        "/api/models/size",
    } <= set(document["paths"])
    assert "$ref" not in json.dumps(document["paths"]["/api/jobs"]["post"]["requestBody"])
    schema = document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]
    fields = schema["schema"]["properties"]
    assert {"input", "file_name", "bpm", "bars", "parts", "snap", "downbeat"} <= set(fields)
    assert {"const": "auto"} in fields["bpm"]["anyOf"]
    body = document["paths"]["/api/juce/process_audio"]["post"]["requestBody"]
    assert "audio_data" in body["content"]["application/json"]["schema"]["required"]


def test_the_docs_load_nothing_from_elsewhere(server):
    docs = server.get("/docs")
    assert docs.status_code == 200
    assert "/api/juce/process_audio" in docs.text
    assert "://" not in docs.text
    assert "<script" not in docs.text


def test_the_page_s_modules_are_served_and_nothing_else(server):
    module = server.get("/web/shared/player.js")
    assert module.status_code == 200
    assert module.headers["content-type"].startswith("text/javascript")
    tag = module.headers["etag"]
    assert server.get("/web/shared/player.js", headers={"If-None-Match": tag}).status_code == 304
    assert server.get("/web/shared/style.css").headers["content-type"].startswith("text/css")
    for path in (
        "/web/__init__.py",
        "/web/..%2fcli.py",
        "/web/%2e%2e/cli.py",
        "/web/nothing.js",
        "/web/",
        "/web//etc/passwd",
    ):
        answer = server.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["success"] is False


def test_an_unknown_address_is_refused_in_the_same_shape(server):
    assert server.get("/nowhere").json()["success"] is False
    answer = server.get("/api/generate")
    assert answer.status_code == 405
    assert answer.json() == {"success": False, "error": "this address does not take GET"}


def test_the_server_process_imports_no_engine():
    code = (
        "import sys, segue.service.app, segue.service.command; "
        "print([m for m in ('mlx', 'mlx.core', 'openvino', 'tokenizers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_command_line_does_not_import_the_server():
    code = "import sys, segue.cli; print([m for m in ('fastapi', 'uvicorn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
