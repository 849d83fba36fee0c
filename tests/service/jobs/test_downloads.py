"""Downloads: honest progress, resumed, cancelled, shared, and no reason for others to wait."""

import pytest

from segue.service.jobs.missing_files import missing_repositories
from segue.service.jobs.progress import DownloadProgress
from tests.fake_hub import FakeHub
from tests.service.server import Server, encoded, song

SIZES = ("small", "medium", "large")
MODEL, OTHER, THIRD = (f"facebook/musicgen-{size}" for size in SIZES)
PAUSED, UNASKED = "facebook/musicgen-stereo-large", "facebook/musicgen-melody-large"
AUDIO = encoded(song(2.0))
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def hub(toy):
    """With a model for each test."""
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in toy.iterdir()}
        for model in (MODEL, OTHER, THIRD, PAUSED, UNASKED):
            hub.add(model, files)
        yield hub


@pytest.fixture(scope="module")
def server(hub, tmp_path_factory, toy_options):
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    state = tmp_path_factory.mktemp("downloads") / "state"
    with Server(state, *toy_options, environment=environment) as server:
        yield server


def begin(server, model):
    return server.post("/api/models/predownload", model_name=model).json()["session_id"]


def status(server, session):
    return server.get(f"/api/models/predownload_status/{session}").json()


def under_way(server, session, toy):
    """Its state when some of the weights are here; all else is small, and comes first or last."""
    small = sum(path.stat().st_size for path in toy.iterdir() if path.name != WEIGHTS)
    return server.until(
        lambda: (
            (s := status(server, session))["queue_status"].get("downloaded_bytes", 0) > small and s
        ),
        "nothing arrives",
    )


@pytest.mark.slow
def test_a_download_tells_bytes_is_cancelled_and_goes_on_where_it_stopped(server, hub, toy):
    size = (toy / WEIGHTS).stat().st_size
    hub.pace_s = 0.5  # longer than all that happens meanwhile
    first = begin(server, MODEL)
    at = under_way(server, first, toy)
    assert (at["success"], at["status"], at["model_name"]) == (True, "warming", MODEL)
    queue = at["queue_status"]
    assert (queue["status"], queue["phase"], queue["repo_id"]) == ("warming", "download", MODEL)
    assert 0 < queue["downloaded_bytes"] < queue["total_bytes"]
    assert size <= queue["total_bytes"] < size + 10_000
    assert queue["download_percent"] == 100 * queue["downloaded_bytes"] // queue["total_bytes"]
    assert type(queue["download_percent"]) is int
    assert {"speed_bps", "stage_name", "stage_index", "stage_total"} <= set(queue)
    assert server.delete(f"/api/models/predownload/{first}").status_code == 200
    stopped = status(server, first)
    assert (stopped["success"], stopped["status"]) == (True, "failed")
    assert stopped["error"] == "the download was cancelled"
    assert server.delete(f"/api/models/predownload/{first}").status_code == 409

    # Killed in the middle of it, the service goes on by itself.
    server.until(lambda: not server.workers("downloader"), "it goes on")
    second = begin(server, MODEL)
    under_way(server, second, toy)
    server.kill()
    hub.pace_s = 0.0
    server.start()
    server.until(lambda: status(server, second)["status"] == "completed", "it does not end")
    ranges = [r.range for r in hub.requests if r.at_cdn and r.repository == MODEL]
    assert ranges[0] is None
    assert all(range_ is not None for range_ in ranges[1:])
    here = server.get(f"/api/models/download_status?model_name={MODEL}").json()
    assert here["models"][MODEL] == {"downloaded": True, "missing": []}
    again = server.post("/api/models/predownload", model_name=MODEL).json()
    assert status(server, again["session_id"])["progress"] == 100


def test_others_play_while_a_job_waits_for_its_model(server, hub):
    hub.pace_s = 0.5
    few = {"audio_data": AUDIO, "prompt_seconds": 1, "output_seconds": 2}
    waits = server.post("/api/jobs", model_name=OTHER, **few).json()["job_id"]
    ahead = begin(server, OTHER)
    other = server.post("/api/jobs", **few).json()["job_id"]
    poll = server.until(
        lambda: (p := server.poll(waits))["queue_status"].get("downloaded_bytes") and p, "nothing"
    )
    assert (poll["success"], poll["status"]) == (True, "warming")
    assert poll["queue_status"]["status"] == "warming"
    assert poll["queue_status"]["phase"] == "download"
    assert server.finished(other)["status"] == "completed"
    assert server.poll(waits)["status"] == "warming"
    assert len(server.workers("downloader")) == 1  # the two share it
    # Who asked for it ahead of time changes her mind; the job does not.
    server.delete(f"/api/models/predownload/{ahead}")
    hub.pace_s = 0.0
    assert server.finished(waits)["status"] == "completed"


def test_a_download_that_fails_reports_why(server, hub):
    hub.answer(WEIGHTS, 403)
    session = begin(server, THIRD)
    failed = server.until(
        lambda: (s := status(server, session))["status"] == "failed" and s, "it does not fail"
    )
    assert failed["success"] is True
    assert failed["queue_status"]["message"] == failed["error"]
    assert "does not show it (403)" in failed["error"]
    assert server.get("/api/models/predownload_status/none").status_code == 404
    unknown = server.post("/api/models/predownload", model_name="someone/else")
    assert unknown.status_code == 404
    assert not [r for r in hub.requests if r.repository == "someone/else"]


def test_what_a_fine_tune_needs_shows_when_it_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    tune, base = "thepatch/bleeps-medium", "facebook/musicgen-medium"
    assert missing_repositories(tune, base) == [tune]
    folder = _cached(tmp_path, tune, "state_dict.bin")
    assert missing_repositories(tune, base) == ["mlx-community/encodec-32khz-float32", "t5-base"]
    assert missing_repositories(tune, base, text=False) == ["mlx-community/encodec-32khz-float32"]
    _cached(tmp_path, "facebook/encodec_32khz", "config.json", "model.safetensors")
    assert missing_repositories(tune, base) == ["t5-base"]
    (folder / "compression_state_dict.bin").write_bytes(bytes(2 << 20))
    assert missing_repositories(tune, base, text=False) == []
    _cached(tmp_path, base, "config.json", "model.safetensors")
    assert missing_repositories(tune, base) == []


def _cached(home, repository, *files):
    name = f"models--{repository.replace('/', '--')}"
    folder = home / "hub" / name / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text("{}")
    return folder


def test_percent_counts_every_repository_and_never_goes_back():
    progress = DownloadProgress("a")
    seen = []
    for message in (
        {"repository": "a", "index": 1, "of": 1},
        {"stage": "download a", "done": 50, "total": 100, "unit": "B"},
        {"repository": "b", "index": 2, "of": 3},
        {"stage": "download b", "done": 100, "total": 100, "unit": "B"},
        {"repository": "c", "index": 3, "of": 3},
    ):
        progress.update(message)
        seen.append(progress.percent)
    assert seen == sorted(seen) == [0, 50, 50, 66.7, 66.7]


def test_the_percent_of_a_stage_is_a_whole_number_and_of_that_stage_alone():
    progress = DownloadProgress("a")
    for index, done, percent in ((1, 0, 0), (1, 999, 99), (1, 1000, 100), (2, 0, 0), (3, 126, 12)):
        progress.update({"repository": "r", "index": index, "of": 3})
        progress.update({"stage": "download r", "done": done, "total": 1000, "unit": "B"})
        fields = progress.fields()
        assert (fields["stage_index"], fields["download_percent"]) == (index, percent)
        assert type(fields["download_percent"]) is int


# --- Sizes, pausing, the list ---------------------------------------------------------------------


def post(server, path):
    return server.client.post(f"/api/models/{path}")


def test_the_size_is_known_before_anything_is_downloaded(server, hub, toy):
    size = sum(path.stat().st_size for path in toy.iterdir())
    found = server.get("/api/models/size", params={"model_name": UNASKED}).json()
    assert found["repositories"] == [
        {"name": UNASKED, "bytes": found["bytes"], "missing_bytes": found["missing_bytes"]}
    ]
    weights = (toy / WEIGHTS).stat().st_size
    assert weights <= found["missing_bytes"] <= found["bytes"] <= size
    assert found["free_bytes"] > 0
    assert not [r for r in hub.requests if r.repository == UNASKED and r.at_cdn]
    here = server.get("/api/models/size", params={"model_name": server.options[3]}).json()
    assert (here["bytes"], here["missing_bytes"], here["repositories"]) == (0, 0, [])
    assert server.get("/api/models/size", params={"model_name": "no/such"}).status_code == 404
    assert server.get("/api/models/size").status_code == 422


@pytest.mark.slow
def test_a_download_is_paused_over_a_restart_and_goes_on_where_it_stopped(server, hub, toy):
    hub.pace_s = 0.5
    session = begin(server, PAUSED)
    under_way(server, session, toy)
    paused = post(server, f"predownload/{session}/pause").json()
    assert (paused["status"], paused["queue_status"]["message"]) == ("paused", "paused")
    assert post(server, f"predownload/{session}/pause").status_code == 409
    server.until(lambda: not server.workers("downloader"), "it goes on")
    server.stop()
    server.start()
    assert not server.workers("downloader")
    first = server.get("/api/models/downloads").json()["downloads"][0]
    assert (first["session_id"], first["status"]) == (session, "paused")
    left = server.get("/api/models/size", params={"model_name": PAUSED}).json()
    assert 0 < left["missing_bytes"] < left["bytes"]
    hub.pace_s = 0.0
    assert post(server, f"predownload/{session}/resume").json()["status"] == "warming"
    server.until(lambda: status(server, session)["status"] == "completed", "it does not end")
    ranges = [r.range for r in hub.requests if r.at_cdn and r.repository == PAUSED]
    assert ranges[0] is None
    assert all(range_ is not None for range_ in ranges[1:])
    assert post(server, f"predownload/{session}/resume").status_code == 409
    assert server.get("/api/models/downloads").json()["downloads"][0]["status"] == "completed"


def test_a_paused_download_can_be_cancelled(server, hub, toy):
    hub.pace_s = 0.5
    session = begin(server, UNASKED)
    under_way(server, session, toy)
    assert post(server, f"predownload/{session}/pause").status_code == 200
    assert server.delete(f"/api/models/predownload/{session}").status_code == 200
    assert status(server, session)["status"] == "failed"
    assert server.delete(f"/api/models/predownload/{session}").status_code == 409
    assert post(server, f"predownload/{session}/resume").status_code == 409
    assert post(server, "predownload/no/resume").status_code == 404
    hub.pace_s = 0.0


def test_a_hub_that_does_not_say_how_large_a_model_is_is_a_refusal(toy_options, tmp_path):
    environment = {"HF_HUB_OFFLINE": "1"}
    with Server(tmp_path / "state", *toy_options, environment=environment) as offline:
        answer = offline.get("/api/models/size", params={"model_name": MODEL})
    assert answer.status_code == 422
    assert "HF_HUB_OFFLINE is set" in answer.json()["error"]
