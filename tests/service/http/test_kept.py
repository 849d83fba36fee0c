"""Jobs that are kept: pages, names, notes, stars, and removing with undo."""

import pytest

from tests.service.http.test_native import done
from tests.service.server import Server, encoded, song

FEW = {"audio_data": encoded(song(1.0, 8_000, 1), 8_000), "prompt_seconds": 0.5}


def begun(server, **fields):
    answer = server.post("/api/jobs", **(FEW | {"output_seconds": 1, "seed": 1} | fields))
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def made(server, **fields):
    return done(server, begun(server, **fields))


def patch(server, path, **fields):
    return server.client.patch(f"/api/jobs/{path}", json=fields)


def ids(server, **query):
    answer = server.get("/api/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["job_id"] for job in answer.json()["jobs"]]


def test_jobs_are_listed_newest_first_page_by_page(fresh):
    jobs = [made(fresh)["job_id"] for _ in range(3)][::-1]
    assert ids(fresh) == jobs
    first = fresh.get("/api/jobs", params={"limit": 2}).json()
    assert [job["job_id"] for job in first["jobs"]] == jobs[:2]
    assert first["total"] == 3
    rest = fresh.get("/api/jobs", params={"limit": 2, "before": first["next"]}).json()
    assert [job["job_id"] for job in rest["jobs"]] == jobs[2:]
    assert (rest["next"], rest["total"]) == (None, 3)
    assert first["jobs"][0] == fresh.get(f"/api/jobs/{jobs[0]}").json()
    child = made(fresh, audio_data=None, input={"job": jobs[1]})["job_id"]
    assert ids(fresh, root=jobs[1]) == [child, jobs[1]]


def test_what_waits_and_the_plugin_s_are_in_the_list(server):
    session = server.post("/api/juce/process_audio", **FEW).json()["session_id"]
    listed = {job["job_id"]: job for job in server.get("/api/jobs").json()["jobs"]}
    assert listed[session]["kind"] == "plugin"
    assert listed[session]["status"] in ("queued", "warming", "processing", "completed")
    assert listed[session]["expires"] is None or listed[session]["finished"]
    server.delete(f"/api/jobs/{session}")


def test_marks_are_kept_over_a_restart_and_name_the_files(fresh):
    job = made(fresh, variations=2)["job_id"]
    state = patch(fresh, job, name="Verse", note="too loud").json()
    assert (state["name"], state["note"], state["starred"]) == ("Verse", "too loud", False)
    assert state["expires"] == pytest.approx(state["finished"] + 7 * 86_400)
    state = patch(fresh, f"{job}/takes/2", starred=True, name="a/b").json()
    fresh.stop()
    fresh.start()
    assert fresh.get(f"/api/jobs/{job}").json() == state
    assert state["expires"] is None
    names = [(t["name"], t["starred"], t["file_names"]["whole"]) for t in state["takes"]]
    assert names == [("", False, "Verse-seed1"), ("a/b", True, "a-b-seed2")]
    assert ids(fresh, starred=True) == [job]
    state = patch(fresh, job, name="", note=None).json()
    assert (state["name"], state["note"]) == ("", "too loud")
    assert patch(fresh, f"{job}/takes/2", starred=False).json()["expires"]
    assert ids(fresh, starred=True) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "x" * 201}, "name must not be longer than 200 characters"),
        ({"starred": "perhaps"}, "starred must be true or false"),
        ({"note": 5}, "note must be text"),
    ],
)
def test_marks_that_cannot_be_are_refused(server, fields, said):
    job = begun(server)
    answer = patch(server, job, **fields)
    server.delete(f"/api/jobs/{job}")
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert patch(server, "no", name="x").status_code == 404
    assert patch(server, f"{job}/takes/1", name="x").status_code == 409


def test_a_job_is_removed_and_restored(server):
    state = made(server)
    job, url = state["job_id"], state["takes"][0]["url"]
    sound = server.get(url).content
    assert server.delete(f"/api/jobs/{job}").status_code == 409  # it is no cancelling any more
    removed = server.delete(f"/api/jobs/{job}?remove=true").json()
    for answer in (
        server.get(f"/api/jobs/{job}"),
        server.get(url),
        server.get(f"/api/jobs/{job}/takes/1/audio"),
        server.get(f"/api/jobs/{job}/stream"),
        server.post(f"/api/jobs/{job}/retry"),
        server.post("/api/jobs", input={"job": job}),
        patch(server, job, name="x"),
        server.delete(f"/api/jobs/{job}?remove=true"),
    ):
        assert answer.status_code == 404
    assert job not in ids(server)
    listed = server.get("/api/jobs?deleted=true").json()["jobs"]
    (gone,) = (each for each in listed if each["job_id"] == job)
    assert gone["undo_until"] == removed["undo_until"] == gone["deleted"] + 600
    assert server.client.post(f"/api/jobs/{job}/undelete").json() == state
    assert server.client.post(f"/api/jobs/{job}/undelete").status_code == 409
    assert server.get(url).content == sound


def test_a_take_is_removed_and_with_the_last_one_the_job(server):
    state = made(server, variations=2)
    job = state["job_id"]
    base = f"/api/jobs/{job}/takes"
    assert server.delete(f"{base}/1").status_code == 200
    assert [take["number"] for take in server.get(f"/api/jobs/{job}").json()["takes"]] == [2]
    assert server.get(f"{base}/1.wav").status_code == 404
    assert server.post("/api/jobs", input={"job": job, "take": 1}).status_code == 404
    assert server.get(f"{base}/2.wav").status_code == 200
    assert server.delete(f"{base}/1").status_code == 404
    assert server.delete(f"{base}/2").status_code == 200
    assert server.get(f"/api/jobs/{job}").status_code == 404
    restored = server.client.post(f"{base}/2/undelete").json()
    assert [take["number"] for take in restored["takes"]] == [2]
    assert server.client.post(f"{base}/1/undelete").json() == state
    server.delete(f"{base}/1")
    server.delete(f"{base}/2")
    assert server.client.post(f"/api/jobs/{job}/undelete").json() == state


def test_a_job_that_runs_is_cancelled_and_removed(server):
    job = begun(server, output_seconds=200)
    assert server.delete(f"/api/jobs/{job}?remove=true").status_code == 200
    assert job in ids(server, deleted=True)
    assert job not in ids(server)
    assert server.client.post(f"/api/jobs/{job}/undelete").json()["status"] == "cancelled"


def test_an_unknown_job_or_take_is_404(server):
    for path in ("no", "no/takes/1"):
        assert server.client.post(f"/api/jobs/{path}/undelete").status_code == 404
        assert server.delete(f"/api/jobs/{path}?remove=true").status_code == 404
    for query in ({"limit": 0}, {"limit": 101}, {"before": 0}, {"starred": "perhaps"}):
        assert server.get("/api/jobs", params=query).status_code == 422


def test_stars_that_fill_the_disk_are_not_removed_and_a_line_says_what_to_do(tmp_path, toy_options):
    room = ("--max-disk", str(200_000 / 2**30), "--batch-rows", "1")
    with Server(tmp_path / "state", *toy_options, *room) as small:
        long = {"audio_data": encoded(song(3.0, 8_000, 1), 8_000), "output_seconds": 4}
        jobs = []
        while True:
            answer = small.post("/api/jobs", **(FEW | long | {"seed": 1}))
            if answer.status_code == 507:
                break
            assert answer.status_code == 202, answer.text
            jobs.append(done(small, answer.json()["job_id"])["job_id"])
            assert patch(small, jobs[-1], starred=True).status_code == 200
        assert "music with a star fills" in answer.json()["error"]
        assert ids(small) == jobs[::-1]
        kept = small.get("/api/service").json()["kept"]
        assert kept["bytes"] == kept["starred_bytes"] > 200_000
        assert small.delete(f"/api/jobs/{jobs[0]}?remove=true").status_code == 200
        assert small.post("/api/jobs", **(FEW | long)).status_code == 202


# --- Beats ----------------------------------------------------------------------------------------


def test_beats_are_measured_only_where_there_is_a_grid(server):
    job = made(server)["job_id"]
    answer = server.get(f"/api/jobs/{job}/takes/1/beats")
    assert answer.status_code == 422
    assert "no tempo" in answer.json()["error"]
    assert server.get(f"/api/jobs/{job}/takes/2/beats").status_code == 404
