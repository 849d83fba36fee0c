"""A stand-in for the service, whose jobs go where a test sends them.

`python -m tests.web.fake_service PORT` runs one to look at the page: its jobs play by themselves.
"""

import base64
import copy
import io
import json
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import numpy as np
import soundfile

from segue import web
from segue.demo.prompt import band
from segue.service.http.middleware import HEADERS

SERVICE = {
    "success": True,
    "version": "0.1.0",
    "engine": "openvino",
    "device": "cpu",
    "default_model": "built-in",
    "quantization": {
        "enabled": True,
        "default_mode": "none",
        "modes": ["none", "q8_decoder_linears", "q4_decoder_linears", "q4_decoder_linears_emb"],
    },
    "limits": {
        "body_bytes": 16 << 20,
        "audio_seconds": 60.0,
        "output_seconds": 120.0,
        "variations": 4,
        "description": 200,
        "parts": 8,
    },
    "beats": True,
    "models": [
        {"name": "built-in", "path": "built-in", "downloaded": True, "size_class": "small"},
        {
            "name": "musicgen-small",
            "path": "facebook/musicgen-small",
            "downloaded": True,
            "size_class": "small",
        },
        {
            "name": "bleeps-medium",
            "path": "thepatch/bleeps-medium",
            "downloaded": False,
            "size_class": "medium",
        },
        {
            "name": "hoenn_lofi",
            "path": "thepatch/hoenn_lofi",
            "downloaded": False,
            "size_class": "large",
        },
        {
            "name": "musicgen-melody",
            "path": "facebook/musicgen-melody",
            "downloaded": True,
            "size_class": "medium",
            "takes": ["prompt", "text", "melody"],
        },
    ],
}


@cache
def _eight_seconds():
    return band(8.0).samples


class Job:
    """What a job was asked, and where it stands; `events` are what its stream has sent so far."""

    def __init__(self, number, asked, samples, rate, input_, parent, on=None):
        self.id = f"job-{number}"
        self.number = number
        self.asked = asked
        self.rate = rate
        self.input, self.parent, self.on = input_, parent, on
        self.bar = 60 * float(asked.get("beats_per_bar", 4)) / float(asked.get("bpm") or 120)
        self.prompt_seconds = float(asked.get("prompt_seconds", 6)) if len(samples) else 0.0
        start = asked.get("prompt_start")
        if start is None:
            start = len(samples) / rate - self.prompt_seconds if parent else 0
        self.start = float(start) if len(samples) else 0.0
        self.join = self.start + self.prompt_seconds
        self.prompt = samples[: round(self.join * rate)]
        seed = int(asked.get("seed", -1))
        self.seed = 1000 + number if seed == -1 else seed
        self.count = len(asked.get("descriptions") or ()) or int(asked.get("variations", 1))
        self.state = {"status": "queued", "progress": 0, "queue_status": {"position": 1}}
        self.events = []
        seconds = sum(self._seconds(part) for part in (asked, *asked.get("parts", ())))
        self.new = [self._music(seconds, n) for n in range(self.count)]
        self.remarks = [{"name": "", "note": "", "starred": False} for _ in range(self.count)]
        self.removed = set()
        self.sent = 0

    def _seconds(self, part):
        bars = part.get("bars")
        return float(bars) * self.bar if bars else float(part["seconds"])

    def _music(self, seconds, take):
        played = np.tile(_eight_seconds(), (int(seconds // 8) + 1, 1))
        rolled = np.roll(played, -round((self.seed + take) % 7 * 44_100), axis=0)
        return (0.5 + 0.15 * take) * rolled[: round(seconds * self.rate)]

    def begin(self):
        self.state = {"status": "processing", "progress": 0}
        takes = {"takes": self.count, "join_seconds": self.join}
        self.events.append(("format", {"sample_rate": self.rate, "channels": 2} | takes))

    def play(self, seconds):
        """Make so many more seconds heard."""
        end = min(self.sent + round(seconds * self.rate), len(self.new[0]))
        for n, new in enumerate(self.new):
            pcm = base64.b64encode((new[self.sent : end] * 32767).astype("<i2").tobytes()).decode()
            self.events.append(("audio", {"take": n + 1, "start": self.sent, "pcm": pcm}))
        self.sent = end
        self.state["progress"] = 100 * end / len(self.new[0])
        self.events.append(("progress", self.state))

    def finish(self, **state):
        self.state = {"status": "completed", "progress": 100} | state
        self.events.append(("done", {"status": self.state["status"]}))

    def samples(self, take, part="whole"):
        prompt = self.prompt if self.prompt.shape[1] == 2 else np.tile(self.prompt, (1, 2))
        first = {"whole": 0, "loop": round(self.start * self.rate), "new": len(prompt)}[part]
        return np.concatenate([prompt, self.new[take]])[first:]

    def file(self, take, part="whole", kind="wav16"):
        file = io.BytesIO()
        subtype = {"wav16": "PCM_16", "wav24": "PCM_24", "wav32f": "FLOAT", "flac": "PCM_24"}
        form = {"flac": "FLAC", "mp3": "MP3"}.get(kind, "WAV")
        samples = self.samples(take, part)
        soundfile.write(file, samples, self.rate, format=form, subtype=subtype.get(kind))
        return file.getvalue()

    def file_names(self, take):
        stem = (self.input or {"name": ""})["name"].rpartition(".")[0] or "music"
        whole = f"{stem}-seed{self.seed + take}"
        return {"whole": whole, "new": f"{whole}-new", "loop": f"{whole}-loop"}

    def answer(self, jobs):
        takes = [
            {
                "number": n + 1,
                "seed": self.seed + n,
                "seconds": self.join + len(self.new[n]) / self.rate,
                "url": f"/api/jobs/{self.id}/takes/{n + 1}.wav",
                "description": (self.asked.get("descriptions") or [self.asked["description"]] * 4)[
                    n
                ],
                "file_names": self.file_names(n),
                **self.remarks[n],
            }
            for n in range(self.count)
            if n not in self.removed
        ]
        done = self.state["status"] == "completed"
        parent = self.parent and {**self.parent, "known": self.parent["job"] in jobs}
        bars = {"bpm": self.asked.get("bpm"), "downbeat_seconds": self.asked.get("downbeat", 0)}
        return {
            "success": self.state["status"] not in ("failed", "cancelled"),
            "job_id": self.id,
            "kind": "native",
            "model_name": self.asked.get("model_name", "built-in"),
            "quantization": self.asked.get("quantization_mode", "none"),
            "engine": "openvino",
            "seed": self.seed,
            "melody": bool(self.asked.get("melody")),
            "join_seconds": self.join,
            "loop_seconds": self.start if done else None,
            "input": self.input,
            "parent": parent,
            "bars": bars if done and self.asked.get("bpm") else None,
            "parameters": self.asked | {"prompt_seconds": self.prompt_seconds, "seed": self.seed},
            "takes": takes if done else [],
        } | self.state


class FakeService:
    """Runs on loopback from `start` on; `alive` may be taken from it for a while.

    Attributes:
        streams: those that are open now.
        melodies: that were sent.
        inputs: that were sent, by their ids.
        gone: jobs that were removed.
    """

    def __init__(self, port=0, by_itself=False):
        self.service = copy.deepcopy(SERVICE)
        self.jobs = {}
        self.asked = []
        self.refusal = None
        self.alive = True
        self.streams = set()
        self.token = None
        self.by_itself = by_itself
        self.inputs = {}
        self.melodies = []
        self.prompts = {}
        self.gone = {}
        self.downloads = {}
        handler = type("Handler", (_Handler,), {"fake": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def start(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def last(self):
        """The job that was asked for last."""
        return next(reversed(self.jobs.values()))

    def keep(self, audio, name):
        """Keep some audio as an input."""
        samples, rate = soundfile.read(io.BytesIO(audio), always_2d=True)
        number = f"input-{len(self.inputs) + 1}"
        facts = {"input_id": number, "seconds": len(samples) / rate, "name": name}
        facts["url"] = f"/api/inputs/{number}/audio"
        self.inputs[number] = {"audio": audio, "samples": samples, "rate": rate, "facts": facts}
        return facts

    def queue(self, asked, input_=None):
        """Make a job on an input, on a take, or on nothing."""
        samples, rate, facts, parent = np.zeros((0, 2)), 44_100, None, None
        if input_ and "job" in input_:
            parent = dict(input_)
            before = self.jobs[parent["job"]]
            rate = before.rate
            samples = before.samples(parent["take"] - 1)[: round(parent["until_seconds"] * rate)]
        elif input_:
            kept = self.inputs[input_["input_id"]]
            samples, rate, facts = kept["samples"], kept["rate"], kept["facts"]
        number = len(self.jobs) + len(self.gone) + 1
        job = Job(number, asked, samples, rate, facts, parent, input_)
        self.jobs[job.id] = job
        if self.by_itself:
            threading.Thread(target=_by_itself, args=(job,), daemon=True).start()
        return job

    def download(self, model):
        """A download of a model, which goes where a test sends it."""
        number = f"download-{len(self.downloads) + 1}"
        state = {"success": True, "session_id": number, "model_name": model, "status": "warming"}
        fetched = {"phase": "download", "repo_id": model, "downloaded_bytes": 0}
        state |= {"progress": 0, "error": None, "queue_status": fetched | {"total_bytes": 33e8}}
        self.downloads[number] = state
        return state


def _by_itself(job):
    job.state["queue_status"] = {"position": 1, "estimated_seconds": 4}
    time.sleep(1.5)
    if "bleeps" in job.asked.get("model_name", ""):
        for done in range(0, 101, 5):
            time.sleep(0.3)
            fetched = {"downloaded_bytes": done * 37e6, "total_bytes": 37e8, "speed_bps": 123e6}
            download = {"phase": "download", "repo_id": job.asked["model_name"]} | fetched
            job.state = {"status": "warming", "progress": 0, "queue_status": download}
    job.begin()
    while job.sent < len(job.new[0]):
        time.sleep(0.4)
        job.play(1.0)
    job.finish()


class _Handler(BaseHTTPRequestHandler):
    fake: "FakeService"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        parts = path.strip("/").split("/")
        if path == "/":
            self._send(200, web.read("service/index.html").encode(), "text/html; charset=utf-8")
        elif parts[0] == "web":
            kind = {"js": "text/javascript", "css": "text/css"}[path.rpartition(".")[2]]
            self._send(200, web.read("/".join(parts[1:])).encode(), f"{kind}; charset=utf-8")
        elif not self.fake.alive:
            self.close_connection = True
        elif self.fake.token and self.headers["Authorization"] != f"Bearer {self.fake.token}":
            self._json(401, {"success": False, "error": "This service asks for its token."})
        elif path == "/api/service":
            self._json(200, self.fake.service)
        elif path in self.fake.prompts:
            self._send(200, self.fake.prompts[path], "audio/wav")
        elif path == "/api/jobs":
            removed = "deleted=true" in self.path
            kept = self.fake.gone if removed else self.fake.jobs
            until = {"undo_until": time.time() + 600} if removed else {}
            jobs = [job.answer(self.fake.jobs) | until for job in reversed(kept.values())]
            self._json(200, {"success": True, "jobs": jobs, "next": None, "total": len(jobs)})
        elif parts[:2] == ["api", "inputs"] and (kept := self.fake.inputs.get(parts[2])):
            if parts[3] == "beats":
                found = {"bpm": 93.0, "beats_per_bar": 4.0, "downbeat_seconds": 0.25}
                self._json(200, {"success": True} | found)
            else:
                self._send(200, kept["audio"], "audio/wav")
        elif path == "/api/models/size":
            sizes = {"bytes": 33e8, "missing_bytes": 33e8, "free_bytes": 120e9}
            self._json(200, {"success": True} | sizes)
        elif path == "/api/models/downloads":
            self._json(200, {"success": True, "downloads": [*self.fake.downloads.values()]})
        elif path.startswith("/api/models/predownload_status/"):
            self._json(200, self.fake.downloads[parts[3]])
        elif parts[:2] == ["api", "jobs"] and (job := self.fake.jobs.get(parts[2])):
            self._job(job, parts)
        else:
            self._json(404, {"success": False, "error": "there is no such thing here"})

    def _job(self, job, parts):
        if len(parts) == 3:
            self._json(200, job.answer(self.fake.jobs))
        elif parts[3] == "stream":
            self._stream(job)
        elif parts[-1] == "beats":
            offsets = {"beats": 16, "median_ms": 11.6, "worst_ms": 40.2, "bpm": 93.04}
            self._json(200, {"success": True, "beat_offsets": offsets})
        elif parts[-1] == "audio":
            query = dict(parse_qsl(self.path.partition("?")[2]))
            part, kind = query["part"], query["format"]
            take = int(parts[4]) - 1
            types = {"flac": "audio/flac", "mp3": "audio/mpeg"}
            ending = kind if kind in types else "wav"
            name = f'attachment; filename="{job.file_names(take)[part]}.{ending}"'
            headers = {"Content-Disposition": name}
            content = job.file(take, part, kind)
            self._send(200, content, types.get(kind, "audio/wav"), headers)
        else:
            self._send(200, job.file(int(parts[4].removesuffix(".wav")) - 1), "audio/wav")

    def do_POST(self):
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        assert not length or self.headers["Content-Type"] == "application/json"
        self.fake.asked.append((self.path, body))
        parts = self.path.strip("/").split("/")
        if parts[1] == "models":
            return self._download(parts, body)
        if self.path == "/api/inputs":
            audio = base64.b64decode(body.pop("audio_data"), validate=True)
            return self._json(201, {"success": True} | self.fake.keep(audio, body["file_name"]))
        if parts[-1] == "undelete":
            job = self.fake.jobs.get(parts[2]) or self.fake.gone.pop(parts[2])
            self.fake.jobs[job.id] = job
            job.removed -= {int(parts[4]) - 1} if len(parts) > 4 else {*range(job.count)}
            return self._json(200, job.answer(self.fake.jobs))
        if self.fake.refusal:
            status, line = self.fake.refusal
            return self._json(status, {"success": False, "error": line}, {"Retry-After": "20"})
        if (melody := body.pop("melody_data", None)) is not None:
            self.fake.melodies.append(base64.b64decode(melody, validate=True))
            body["melody"] = True
        input_ = body.pop("input", None)
        if self.path in ("/api/jobs", "/api/generate"):
            assert bool(input_) == (self.path == "/api/jobs")
            if input_ and input_.get("input_id", "") not in (*self.fake.inputs, ""):
                return self._json(404, {"success": False, "error": "there is no such input"})
        elif (before := parts[2]) in self.fake.jobs:
            earlier = self.fake.jobs[before]
            input_ = earlier.on
            body = earlier.asked | {"seed": -1} | body
        else:
            return self._json(404, {"success": False, "error": "there is no such job"})
        job = self.fake.queue(body, input_)
        self._json(202, {"success": True, "job_id": job.id, "session_id": job.id, "message": ""})
        return None

    def _download(self, parts, body):
        if parts[-1] == "predownload":
            return self._json(202, self.fake.download(body["model_name"]) | {"message": ""})
        state = self.fake.downloads[parts[3]]
        state["status"] = "paused" if parts[-1] == "pause" else "warming"
        return self._json(200, state)

    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = self.path.strip("/").split("/")
        job = self.fake.jobs[parts[2]]
        job.remarks[int(parts[4]) - 1] |= body
        self._json(200, job.answer(self.fake.jobs))

    def do_DELETE(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[1] == "models":
            self.fake.downloads[parts[3]]["status"] = "failed"
            return self._json(200, {"success": True, "message": "cancelled"})
        job = self.fake.jobs[parts[2]]
        if len(parts) > 3:
            job.removed.add(int(parts[4]) - 1)
            if len(job.removed) == job.count:
                self.fake.gone[job.id] = self.fake.jobs.pop(job.id)
            undo = {"message": "removed", "undo_until": time.time() + 600}
            return self._json(200, {"success": True} | undo)
        job.finish(status="cancelled")
        return self._json(200, {"success": True, "message": "cancelled"})

    def _stream(self, job):
        self.fake.streams.add(self)
        try:
            self._send_events(job)
        finally:
            self.fake.streams.discard(self)

    def _send_events(self, job):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        sent = 0
        while self.fake.alive:
            while sent < len(job.events):
                event, data = job.events[sent]
                self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
                sent += 1
                if event == "done":
                    return
            self.wfile.flush()
            time.sleep(0.02)

    def _json(self, status, answer, headers=None):
        self._send(status, json.dumps(answer).encode(), "application/json", headers)

    def _send(self, status, body, kind, headers=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (HEADERS | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    fake = FakeService(int(sys.argv[1]), by_itself=True)
    sys.stdout.write(f"{fake.url}\n")
    sys.stdout.flush()
    fake.server.serve_forever()
