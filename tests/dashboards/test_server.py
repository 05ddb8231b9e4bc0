"""The server as shipped: for this machine alone, whatever a user's own configuration says, and it ends when told to."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from dashboards import server as served_here
from dashboards.index_page import PATHS
from dashboards.link import MAX_LINK
from dashboards.settings import HOSTS, LOOPBACK, options
from simulator.cli import dashboard as command
from simulator.cli.app import main
from simulator.errors import InputError
from tests.dashboards.served import SAID, get, server

HOSTILE = """
[server]
address = "0.0.0.0"
enableCORS = false
enableXsrfProtection = false
enableAgentApi = true
allowedHosts = ["*"]
corsAllowedOrigins = ["http://evil.example"]
maxUploadSize = 9999
enableStaticServing = true
[client]
showErrorDetails = "full"
allowedOrigins = ["https://evil.example"]
[browser]
gatherUsageStats = true
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server started where every configuration file says the opposite of ours."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(HOSTILE)
    other = {"HOME": str(folder), "STREAMLIT_SERVER_ADDRESS": "0.0.0.0", "STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "full"}
    with server(folder, **other) as (_, number):
        yield number


@pytest.mark.slow
def test_only_this_machine_reaches_it(port: int) -> None:
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("no table of sockets here")
    listening = [line.split()[1] for line in table.read_text().splitlines()[1:] if line.split()[3] == "0A"]
    address = socket.inet_aton(LOOPBACK)[::-1].hex().upper()
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"{address}:{port:04X}"]


@pytest.mark.slow
def test_pages_are_served_with_a_policy_that_names_no_other_host(port: int) -> None:
    for path in ("/", "/memory", "/_stcore/health"):
        status, headers, _ = get(port, path)
        assert status == 200
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.slow
def test_the_first_page_is_ours_and_knows_its_server(port: int) -> None:
    for path in PATHS:
        status, _, body = get(port, path)
        assert status == 200
        assert "<title>moesim</title>" in body and "BACKEND_BASE_URL" in body
        assert "http://" not in body and "https://" not in body
        for script in re.findall(r'(?:src|href)="(\./static/[^"]*)"', body):
            assert get(port, script[1:])[0] == 200
    assert get(port, "/nothing/here")[0] in (200, 404)


@pytest.mark.slow
def test_another_host_is_refused(port: int) -> None:
    for host in ("evil.example", f"evil.example:{port}", "", f"{LOOPBACK}.evil.example"):
        status, _, _ = get(port, "/", host=host or "x")
        assert status == 400
    for host in HOSTS:
        assert get(port, "/", host=f"{host}:{port}")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "http://evil.example", "Host": "x"}],
)
def test_a_foreign_page_cannot_open_the_stream(port: int, headers: dict[str, str]) -> None:
    own = {"Origin": f"http://{LOOPBACK}:{port}"}
    with connect(f"ws://{LOOPBACK}:{port}/_stcore/stream", additional_headers=own, subprotocols=["streamlit"]):  # type: ignore[list-item]
        pass
    with socket.create_connection((LOOPBACK, port), timeout=30) as plain:
        lines = {
            "Host": f"{LOOPBACK}:{port}", **own, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "streamlit", **headers,
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        plain.sendall(f"GET /_stcore/stream HTTP/1.1\r\n{head}\r\n".encode())
        assert plain.recv(100).split()[1] in (b"400", b"403")


@pytest.mark.slow
def test_uploads_need_the_page_that_asked_for_them(port: int) -> None:
    assert get(port, "/_stcore/upload_file/session/file", method="PUT", body=b"x" * 1000)[0] == 403


@pytest.mark.slow
def test_no_interface_for_other_programs_is_open(port: int) -> None:
    for path in ("/_stcore/agent/interact", "/_stcore/agent/mcp"):
        assert get(port, path, method="POST", body=b"{}")[0] in (400, 403, 404)
    assert "not_available" in get(port, "/_stcore/agent/interact", method="POST", body=b"{}")[2]
    status, _, body = get(port, "/_stcore/host-config")
    assert status == 200 and json.loads(body)["allowedOrigins"] == []


@pytest.mark.slow
def test_a_link_of_any_length_is_answered(port: int) -> None:
    status, headers, _ = get(port, "/memory?pp=8&x=" + "x" * 600_000)
    assert (status, headers["location"]) == (303, "?overlong=1")
    assert get(port, "/memory?overlong=1")[0] == 200
    assert get(port, "/memory?x=" + "x" * (MAX_LINK - 2))[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_ends_when_told_to(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with server(tmp_path) as (process, _):
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        assert time.monotonic() - start < 5
        assert "Traceback" not in (tmp_path / SAID).read_text()


def test_every_option_of_streamlit_is_given() -> None:
    from streamlit import config

    given = options(8501)
    plain = {name for name, option in config._config_options_template.items() if not option.sensitive}
    assert plain <= set(given)
    expected = {
        "server.address": LOOPBACK, "browser.gatherUsageStats": False, "client.showErrorDetails": "none",
        "server.enableXsrfProtection": True, "server.enableCORS": True, "server.corsAllowedOrigins": [],
        "server.fileWatcherType": "none", "server.enableAgentApi": False, "client.toolbarMode": "minimal",
        "server.enableStaticServing": False, "server.trustedUserHeaders": {}, "server.maxUploadSize": 10,
    }  # fmt: skip
    assert {name: given[name] for name in expected} == expected
    assert all("http" not in str(value) for value in given.values())


# The command's own errors


def test_a_port_in_use_is_one_error_that_names_a_free_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        assert main(["dashboard", "--port", str(taken), "--no-browser"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1
        assert err.startswith(f"--port: {taken} is in use; use --port ")
        free = int(err.rsplit(" ", 1)[1])
        assert free != taken
        served_here.bind(free).close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-1", "allowed 1 to 65535"),
        ("65536", "allowed 1 to 65535"),
        ("9" * 400, "allowed"),
        ("1.5", "--port"),
        ("x", "--port"),
        ("", "--port"),
    ],
)
def test_a_bad_port_is_one_error(text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--no-browser", "--port", text]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and says in err and len(err) < 400


def test_without_streamlit_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["dashboard"]) == 2
    assert "Streamlit is not installed; install" in capsys.readouterr().err


def test_a_port_that_needs_rights_is_refused_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[1] == 80:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(served_here.socket.socket, "bind", refuse)
    with pytest.raises(InputError, match="80 needs rights that you do not have; use --port "):
        served_here.bind(80)
