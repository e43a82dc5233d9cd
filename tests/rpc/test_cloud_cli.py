"""`isthmus cloud serve` as people run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import trustme

PROGRAM = [sys.executable, "-m", "isthmus.cli.main"]
COMMAND = [*PROGRAM, "cloud", "serve"]
UPSTREAM = ["--backend", "openai", "--url", "http://127.0.0.1:9/v1", "--model", "m"]
PORTS = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_a_signal_ends_it_within_5_seconds(number):
    process = subprocess.Popen(
        [*COMMAND, *UPSTREAM, *PORTS, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        ready = json.loads(process.stdout.readline())
        began_s = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - began_s < 5
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert (ready["backend"], ready["model"]) == ("openai", "m")
    assert ready["address"].startswith("127.0.0.1:")
    assert not ready["metrics"].endswith(":0")


def test_a_caller_that_speaks_no_tls_leaves_no_line_in_the_log(tmp_path):
    issued = trustme.CA().issue_cert("127.0.0.1")
    (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    settings = {
        "ISTHMUS_CLOUD_TLS_CERT_FILE": str(tmp_path / "cert.pem"),
        "ISTHMUS_CLOUD_TLS_KEY_FILE": str(tmp_path / "key.pem"),
    }
    process = subprocess.Popen(
        [*COMMAND, *UPSTREAM, *PORTS, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings,
    )
    try:
        host, port = json.loads(process.stdout.readline())["address"].split(":")
        with socket.create_connection((host, int(port)), timeout=10) as scanner:
            scanner.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert scanner.recv(100) == b""
        process.terminate()
        said = process.communicate(timeout=10)[1]
    finally:
        process.kill()
        process.wait()
    assert "gateway on" in said
    assert "andshake" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "vlm"], "did you mean 'vllm'"),
        (["--listen", "0.0.0.0:1"], "tls_cert_file"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_misuse_ends_with_status_2_and_one_line(arguments, said):
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["cloud", "serve", "--metrics-listen", "", "--listen"],
        ["cloud", "serve", "--listen", "127.0.0.1:0", "--metrics-listen"],
        ["edge", "serve", "--listen"],
        ["up", "--listen"],
    ],
)
def test_a_port_in_use_ends_every_server_with_status_1(command, model_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run(
            [*PROGRAM, *command, taken, "--model", str(model_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"cannot listen on {taken} (Address already in use)" in done.stderr


def test_help_shows_an_example():
    done = subprocess.run(
        [*COMMAND, "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    assert "Example: isthmus cloud serve" in done.stdout
