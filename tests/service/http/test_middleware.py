"""Who may ask, from where, and how much."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from tests.service.server import Server, encoded, song


def request(server, method, path, headers, body=None):
    """A request whose headers are these and no others."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = (answer.status, answer.read(), answer.headers)
    connection.close()
    return found


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:9", "LOCALHOST.:8000"])
def test_its_own_names_are_answered(server, host):
    assert request(server, "GET", "/health", [("Host", host)])[0] == 200


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["evil.example"],
        ["localhost.evil.example:8000"],
        ["evil.example@localhost"],
        ["localhost", "localhost"],
        ["localhost:port"],
        [""],
        ["[::1"],
        ["192.168.0.7"],
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(server, hosts):
    status = request(server, "GET", "/health", [("Host", host) for host in hosts])[0]
    assert status in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_requests_from_other_web_origins_are_refused(server, headers):
    for method, path in (("GET", "/api/models"), ("POST", "/api/jobs")):
        answer = server.client.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["success"] is False


def test_the_own_page_and_clients_without_an_origin_are_answered(server):
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, {"Sec-Fetch-Site": "none"}, own):
        assert server.get("/api/models", headers=headers).status_code == 200


def test_a_link_from_elsewhere_leads_to_the_page(server):
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert server.get("/", headers=headers).status_code != 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken(server, kind):
    answer = server.client.post("/api/jobs", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_an_announced_body_that_is_too_large_is_refused(server):
    parts = urlsplit(server.url)
    with socket.create_connection(("127.0.0.1", parts.port)) as connection:
        connection.sendall(
            b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_refused_without_a_content_length(server):
    def endless():
        for _ in range(40):
            yield b" " * (1 << 16)

    answer = server.client.post(
        "/api/juce/retry_music", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert "larger than the 1 MB" in answer.json()["error"]


def test_every_answer_forbids_what_it_does_not_need(server):
    for path in ("/health", "/docs", "/nowhere"):
        headers = server.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_with_a_token_nothing_but_the_page_is_answered_without_it(tmp_path, toy_options):
    secret = "a-secret-of-the-owner"
    with Server(
        tmp_path / "state", *toy_options, "--host", "0.0.0.0", environment={"SEGUE_TOKEN": secret}
    ) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        for path in ("/api/models", "/metrics", "/docs", "/openapi.json", "/api/service"):
            answer = server.get(path)
            assert answer.status_code == 401
            assert answer.json()["success"] is False
        for given in ("Bearer wrong", f"Basic {secret}", secret, "Bearer", "Bearer é"):
            headers = {"Authorization": given.encode()}
            assert server.get("/api/models", headers=headers).status_code == 401
        right = {"Authorization": f"Bearer {secret}"}
        assert server.get("/api/models", headers=right).status_code == 200
        answer = server.client.post(
            "/api/jobs", json={"audio_data": encoded(song(1))}, headers=right
        )
        assert answer.status_code == 202
        assert server.get("/health").status_code == 200
        assert server.get("/ready").status_code == 200
        assert server.get("/").status_code != 401
    assert secret not in server.log.read_text()
