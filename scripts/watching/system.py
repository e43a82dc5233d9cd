"""The real program under Prometheus: `isthmus up`, a second gateway before it, and vLLM's metrics.

All of it on loopback, on ports of its own, in a folder that is removed in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import trustme
import yaml

from isthmus.core.paths import models_dir
from watching.vllm import replayed

TOKEN: Final = "token-of-this-check"
MODEL: Final = "smollm2-135m"
_ISTHMUS: Final = str(Path(sys.executable).with_name("isthmus"))
_READY_S: Final = 90.0
_DEVICE: Final = """\
model = "{model}"
threads = 1
gateway_token = "{token}"
cloud_silence_s = 1.0
cloud_resume_s = 0.5
sensors = ["file"]
sensors_file = "{folder}/sensors.json"
sensors_interval_s = 1.0

[privacy]
consent = true
labels = {{IP = "allow"}}

[fleet]
key_file = "{folder}/operator.pem.pub"
share = true
sync_interval_s = 1.0
report_interval_s = 1.0

[router]
shadow_share = 0.3

[router.budget]
day_usd = 5
month_usd = 50

[router.cascade.watch]
unsure_sampled_logprob = -1.0
"""
_UP: Final = {
    "ISTHMUS_CLOUD_PRICES": '[{"input_usd_per_mtok": "15", "output_usd_per_mtok": "60"}]',
    "ISTHMUS_CLOUD_QUOTAS": (
        '{"tenant": {"usd_per_day": "10", "usd_per_month": "100"}, "device": {"streams": 3}}'
    ),
    "ISTHMUS_CLOUD_MAX_RUNNING_REQUESTS": "2",
    "ISTHMUS_CLOUD_MAX_WAITING_REQUESTS": "2",
    "ISTHMUS_CLOUD_FLEET__SNAPSHOT_S": "0.5",
    "ISTHMUS_CLOUD_FLEET__SYNC_INTERVAL_S": "1.0",
    # Alerts come from Prometheus, and telemetry of dependencies is nobody's.
    "HF_HUB_OFFLINE": "1",
}
_FRONT: Final = """\
listen = "127.0.0.1:{front}"
metrics_listen = "127.0.0.1:{front_metrics}"
tls_cert_file = "{folder}/cert.pem"
tls_key_file = "{folder}/key.pem"
token_file = "{folder}/token"
ledger = {{kind = "off"}}

[backend]
kind = "openai"
# The second one answers probes and nothing else: requests move to the first.
urls = ["http://127.0.0.1:{agent}/v1", "http://127.0.0.1:{vllm}/v1"]
model = "isthmus"
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each part listens."""

    agent: int
    gateway: int
    gateway_metrics: int
    front: int
    front_metrics: int
    vllm: int
    prometheus: int

    @classmethod
    def free(cls) -> Ports:
        """Any that nobody uses."""
        with contextlib.ExitStack() as stack:
            found = []
            for _ in cls.__slots__:
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                found.append(probe.getsockname()[1])
        return cls(*found)


@dataclass(slots=True)
class System:
    """What runs, and where."""

    folder: Path
    ports: Ports

    @property
    def agent_url(self) -> str:
        """The agent's."""
        return f"http://127.0.0.1:{self.ports.agent}"

    @property
    def prometheus_url(self) -> str:
        """Prometheus' API."""
        return f"http://127.0.0.1:{self.ports.prometheus}"

    @contextlib.contextmanager
    def gateway_stands_still(self) -> Iterator[None]:
        """For as long the gateway of `isthmus up` says nothing, and keeps its connections."""
        pid = int((self.folder / "gateway.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def device_is(self, *, hot: bool) -> None:
        """Let the device's sensors tell that it is charged and held back, or neither."""
        _tell_sensors(self.folder, charging=hot, throttled=hot)

    def read_the_token_again(self) -> None:
        """Change the file that the second gateway's token is in."""
        (self.folder / "token").write_text(f"{TOKEN}-and-more\n", encoding="utf-8")


@contextlib.contextmanager
def running(folder: Path, deploy: Path) -> Iterator[System]:
    """Everything, once it is ready. `deploy`: where rules and consoles lie."""
    system = System(folder, Ports.free())
    _prepare(system)
    with contextlib.ExitStack() as stack:
        start = partial(_program, stack, folder)
        home = {"ISTHMUS_HOME": str(folder / "home")}
        at = {name: f"127.0.0.1:{getattr(system.ports, name)}" for name in Ports.__slots__}
        up = ["up", "--config", f"{folder}/edge.toml", "--cloud-model", f"{folder}/cloud.gguf"]
        addresses = ["--listen", at["agent"], "--gateway", at["gateway"]]
        command = [_ISTHMUS, *up, *addresses, "--gateway-metrics", at["gateway_metrics"]]
        program = start("up", command, home | _UP)
        stack.enter_context(replayed(system.ports.vllm))
        _until(program, f"{system.agent_url}/readyz")
        _until(program, f"http://{at['gateway_metrics']}/metrics")
        _note_gateway(system)
        _publish(system)
        command = [_ISTHMUS, "cloud", "serve", "--config", f"{folder}/front.toml"]
        _until(start("front", command, home), f"http://{at['front_metrics']}/metrics")
        _until(
            start("prometheus", _prometheus(system, deploy), {}), f"{system.prometheus_url}/-/ready"
        )
        yield system


def _prepare(system: System) -> None:
    folder, ports = system.folder, system.ports
    home = folder / "home"
    home.mkdir()
    (home / "models").symlink_to(models_dir().resolve())
    model = next((models_dir() / MODEL).glob("*.gguf"))
    # By another name, so that the cloud passes for another model: of its own the device would not
    # doubt anything that it could hand over.
    (folder / "cloud.gguf").symlink_to(model.resolve())
    places = {name: getattr(ports, name) for name in Ports.__slots__}
    told = {"folder": folder, "token": TOKEN, "model": MODEL, **places}
    (folder / "edge.toml").write_text(_DEVICE.format(**told), encoding="utf-8")
    (folder / "front.toml").write_text(_FRONT.format(**told), encoding="utf-8")
    (folder / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    system.device_is(hot=False)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    (folder / "policy.toml").write_text("[router]\nanswer_tokens = 64\n", encoding="utf-8")
    _isthmus(system, "cloud", "fleet", "key", f"{folder}/operator.pem")


def _tell_sensors(folder: Path, **state: bool) -> None:
    known = {"battery": 0.7, "temperature_c": 51, "battery_temperature_c": 30}
    path = folder / "sensors.json"
    path.write_text(json.dumps(known | state), encoding="utf-8")
    # The agent takes no reading of two minutes ago, and on a busy machine this lasts longer.
    later_s = time.time() + 3600
    os.utime(path, (later_s, later_s))


def _publish(system: System) -> None:
    """A bundle for the device, in the ledger of the gateway that `isthmus up` has made."""
    sign = ("--key", f"{system.folder}/operator.pem", "--version", "of this check")
    policy = ("--policy", f"{system.folder}/policy.toml")
    _isthmus(system, "cloud", "fleet", "publish", *sign, *policy)


def _isthmus(system: System, *arguments: str) -> None:
    environment = os.environ | {"ISTHMUS_HOME": f"{system.folder}/home"}
    subprocess.run([_ISTHMUS, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


def _prometheus(system: System, deploy: Path) -> list[str]:
    folder, ports = system.folder, system.ports
    targets = {
        "isthmus-agent": [ports.agent],
        "isthmus-gateway": [ports.gateway_metrics, ports.front_metrics],
        "vllm": [ports.vllm],
    }
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in _hurried(folder, rule_files(deploy))],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in places]}],
            }
            for job, places in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    consoles = deploy / "prometheus" / "consoles"
    return [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{ports.prometheus}",
        f"--web.console.templates={consoles}",
        f"--web.console.libraries={consoles}",
        "--log.level=warn",
    ]


def _hurried(folder: Path, paths: Iterable[Path]) -> Iterator[Path]:
    """Copies of files of rules that are evaluated each second, however seldom they are meant to."""
    for number, path in enumerate(paths):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group.pop("interval", None)
        copy = folder / f"rules-{number}.yml"
        copy.write_text(yaml.safe_dump(rules), encoding="utf-8")
        yield copy


def rule_files(deploy: Path) -> list[Path]:
    """Files of rules, of those that are for Prometheus."""
    found = sorted((deploy / "prometheus").glob("**/*.y*ml"))
    return [path for path in found if "groups" in (yaml.safe_load(path.read_text()) or {})]


def _program(
    stack: contextlib.ExitStack, folder: Path, name: str, command: list[str], more: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start it; in the end it is asked to stop, and killed if it does not."""
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | more)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)
    (folder / f"{name}.pid").write_text(str(process.pid))
    return process


def _note_gateway(system: System) -> None:
    """Find the process of the gateway that `isthmus up` has started."""
    import psutil

    up = psutil.Process(int((system.folder / "up.pid").read_text()))
    [gateway] = [one for one in up.children() if "serve" in one.cmdline()]
    (system.folder / "gateway.pid").write_text(str(gateway.pid))


def _serves(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    return False


def _until(program: subprocess.Popen[bytes], url: str) -> None:
    """Wait until `program` answers at `url`."""
    until_s = time.monotonic() + _READY_S
    while not _serves(url):
        if program.poll() is not None or time.monotonic() > until_s:
            name = " ".join(map(str, program.args[:3] if isinstance(program.args, list) else ()))
            raise TimeoutError(f"{name}: no answer at {url}; its log is beside (--keep FOLDER)")
        time.sleep(0.2)
