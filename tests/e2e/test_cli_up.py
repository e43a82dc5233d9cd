"""`isthmus up` as a user runs it: a process, its child, and the signals that end them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from isthmus.cli.main import main
from isthmus.core.paths import cache_dir

PARIS = [{"role": "user", "content": "What is the capital of France?"}]


@dataclass
class Up:
    """A running `isthmus up`."""

    process: subprocess.Popen[str]
    url: str
    output: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    @property
    def said(self) -> str:
        return self.output.read_text()

    def gateway(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def until(self, text: str, within_s: float = 60) -> None:
        end_s = time.monotonic() + within_s
        while text not in self.said:
            assert time.monotonic() < end_s, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def ask(self, **fields: object) -> httpx.Response:
        body = {"model": "isthmus", "messages": PARIS, "temperature": 0, "max_tokens": 12}
        return self.client.post(f"{self.url}/v1/chat/completions", json={**body, **fields})


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@pytest.fixture
def home(model_path: Path, tmp_path: Path) -> Path:
    """An ISTHMUS_HOME of its own with the model and what was prepared from it."""
    folder = tmp_path / "home" / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / model_path.name).symlink_to(model_path)
    cache_dir().mkdir(parents=True, exist_ok=True)
    (tmp_path / "home" / "cache").symlink_to(cache_dir())
    return tmp_path / "home"


@pytest.fixture
def up(home: Path, tmp_path: Path) -> Iterator[Up]:
    agent, gateway, metrics = free_ports(3)
    command = [sys.executable, "-m", "isthmus.cli.main", "up"]
    command += ["--listen", f"127.0.0.1:{agent}", "--gateway", f"127.0.0.1:{gateway}"]
    command += ["--gateway-metrics", f"127.0.0.1:{metrics}"]
    output = tmp_path / "said"
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            text=True,
            env={**os.environ, "ISTHMUS_HOME": str(home)},
        )
    running = Up(process, f"http://127.0.0.1:{agent}", output)
    try:
        running.until("Ctrl-C stops everything.")
        yield running
    finally:
        running.client.close()
        process.kill()
        process.wait()


def stop(up: Up, number: signal.Signals) -> None:
    """Send the signal and see the program end. Raises where something holds it up for ever."""
    up.process.send_signal(number)
    up.process.wait(timeout=30)


def gone(process: psutil.Process, within_s: float = 3) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(timeout=within_s)
    return not process.is_running()


def test_the_printed_line_works_and_ctrl_c_stops_everything(up: Up) -> None:
    gateway = up.gateway()
    line = re.search(r"curl (\S+).*-d '(.*)'", up.said.replace("\\\n", ""))
    assert line is not None
    answer = up.client.post(
        line[1], content=line[2], headers={"content-type": "application/json"}
    ).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    cloud = up.ask(model="isthmus-cloud").json()
    assert cloud["isthmus"]["same_model_demo"] is True
    assert cloud["isthmus"]["target"] == "cloud"
    assert "same-model demo" in up.said
    page = re.search(r"page +(http\S+)", up.said)
    assert page is not None
    assert "text/html" in up.client.get(page[1]).headers["content-type"]
    stop(up, signal.SIGINT)
    assert up.process.returncode == 0
    assert gone(gateway)


def test_the_device_goes_on_and_says_so_when_the_gateway_dies(up: Up) -> None:
    up.gateway().kill()
    up.until("the device goes on alone")
    answer = up.ask(isthmus={"route": "prefer_in_cloud"})
    assert answer.headers["x-isthmus-route"] == "edge"
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    stop(up, signal.SIGTERM)


def test_a_gateway_that_hangs_does_not_hold_up_the_end(up: Up) -> None:
    gateway = up.gateway()
    gateway.suspend()
    stop(up, signal.SIGINT)
    assert gone(gateway)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_the_gateway_does_not_outlive_a_killed_parent(up: Up) -> None:
    gateway = up.gateway()
    stop(up, signal.SIGKILL)
    assert gone(gateway)


@pytest.mark.parametrize("flag", ["--listen", "--gateway", "--gateway-metrics"])
def test_a_taken_port_is_said_with_the_flag_that_changes_it(flag: str, home: Path) -> None:
    ports = dict(zip(("--listen", "--gateway", "--gateway-metrics"), free_ports(3), strict=True))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[flag] = taken.getsockname()[1]
        command = [sys.executable, "-m", "isthmus.cli.main", "up"]
        for name, port in ports.items():
            command += [name, f"127.0.0.1:{port}"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "ISTHMUS_HOME": str(home)},
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{ports[flag]}" in done.stderr
    assert flag in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("names", [("gateway_ca_file",), ("gateway_cert_file", "gateway_key_file")])
def test_tls_files_are_for_a_gateway_elsewhere(
    names: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in names:
        monkeypatch.setenv(f"ISTHMUS_EDGE_{name.upper()}", "file.pem")
    with pytest.raises(SystemExit) as caught:
        main(["up"])
    assert caught.value.code == 2
    assert f"{names[0]} is for a gateway elsewhere" in capsys.readouterr().err
