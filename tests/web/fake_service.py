"""A stand-in for the service, whose jobs go where a test sends them.

`python -m tests.web.fake_service PORT` runs one to look at the page: its jobs play by themselves.
"""

import base64
import io
import json
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
    },
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

    def __init__(self, number, asked, audio):
        self.id = f"job-{number}"
        self.asked = asked
        samples, self.rate = np.zeros((0, 2)), 44_100
        if audio:
            samples, self.rate = soundfile.read(io.BytesIO(audio), always_2d=True)
        self.join = float(asked.get("prompt_start", 0)) + float(asked.get("prompt_seconds", 0))
        self.prompt = samples[: round(self.join * self.rate)]
        seed = int(asked.get("seed", -1))
        self.seed = 1000 + number if seed == -1 else seed
        self.count = int(asked.get("variations", 1))
        self.state = {"status": "queued", "progress": 0, "queue_status": {"position": 1}}
        self.events = []
        seconds = float(asked["output_seconds"]) - float(asked.get("prompt_seconds", 0))
        self.new = [self._music(seconds, n) for n in range(self.count)]
        self.sent = 0

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

    def wav(self, take):
        file = io.BytesIO()
        prompt = self.prompt if self.prompt.shape[1] == 2 else np.tile(self.prompt, (1, 2))
        soundfile.write(file, np.concatenate([prompt, self.new[take]]), self.rate, format="WAV")
        return file.getvalue()

    def answer(self):
        takes = [
            {
                "number": n + 1,
                "seed": self.seed + n,
                "seconds": self.join + len(self.new[n]) / self.rate,
                "url": f"/api/jobs/{self.id}/takes/{n + 1}.wav",
            }
            for n in range(self.count)
        ]
        done = self.state["status"] == "completed"
        return {
            "success": self.state["status"] not in ("failed", "cancelled"),
            "job_id": self.id,
            "model_name": self.asked.get("model_name", "built-in"),
            "quantization": self.asked.get("quantization_mode", "none"),
            "engine": "openvino",
            "seed": self.seed,
            "join_seconds": self.join,
            "takes": takes if done else [],
        } | self.state


class FakeService:
    """Runs on loopback from `start` on; `alive` may be taken from it for a while.

    Attributes:
        streams: those that are open now.
        melodies: that were sent.
    """

    def __init__(self, port=0, by_itself=False):
        self.service = dict(SERVICE)
        self.jobs = {}
        self.asked = []
        self.refusal = None
        self.alive = True
        self.streams = set()
        self.token = None
        self.by_itself = by_itself
        self.audio = {}
        self.melodies = []
        self.prompts = {}
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

    def queue(self, asked, audio):
        job = Job(len(self.jobs) + 1, asked, audio)
        self.jobs[job.id] = job
        self.audio[job.id] = audio
        if self.by_itself:
            threading.Thread(target=_by_itself, args=(job,), daemon=True).start()
        return job


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
        elif parts[:2] == ["api", "jobs"] and (job := self.fake.jobs.get(parts[2])):
            if len(parts) == 3:
                self._json(200, job.answer())
            elif parts[3] == "stream":
                self._stream(job)
            else:
                self._send(200, job.wav(int(parts[4].removesuffix(".wav")) - 1), "audio/wav")
        else:
            self._json(404, {"success": False, "error": "there is no such thing here"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/json"
        self.fake.asked.append((self.path, body))
        if self.fake.refusal:
            status, line = self.fake.refusal
            return self._json(status, {"success": False, "error": line}, {"Retry-After": "20"})
        if (melody := body.pop("melody_data", None)) is not None:
            self.fake.melodies.append(base64.b64decode(melody, validate=True))
        if self.path in ("/api/jobs", "/api/generate"):
            audio = base64.b64decode(body.pop("audio_data", ""), validate=True)
            assert bool(audio) == (self.path == "/api/jobs")
        elif (before := self.path.split("/")[3]) in self.fake.jobs:
            audio = self.fake.audio[before]
            body = self.fake.jobs[before].asked | body
        else:
            return self._json(404, {"success": False, "error": "there is no such job"})
        job = self.fake.queue(body, audio)
        self._json(202, {"success": True, "job_id": job.id, "session_id": job.id, "message": ""})
        return None

    def do_DELETE(self):
        job = self.fake.jobs[self.path.split("/")[3]]
        job.finish(status="cancelled")
        self._json(200, {"success": True, "message": "cancelled"})

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
