"""`isthmus bench gateway --vs litellm`: our gateway and LiteLLM's proxy before the same upstream.

The upstream is the scripted one over HTTP; LiteLLM is asked over HTTP, ours over gRPC, each as its
own clients do, and the upstream itself as the control.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.bench_gateway_rows import UPSTREAM, Sizes
from isthmus.cli.gateway_process import Served, ended, start_gateway, start_module
from isthmus.core.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from isthmus.cloud.load.base import Target
    from isthmus.cloud.load.runner import Report

PEER_PYTHON = Path(".venv-litellm/bin/python")
_PEER = "litellm.proxy.proxy_cli"
_PEER_READY_S = 120.0
_KEY = "sk-bench"
_ANSWERS = 600
_ANSWERS_PER_S = 30
"""Of the run that counts what an answer costs in processor time."""


async def versus(
    folder: Path, sizes: Sizes, python: Path | None
) -> tuple[dict[str, Any], list[Report]]:
    """Added time to the first token, and answers a second that a core is enough for."""
    peer_python = python or PEER_PYTHON
    if not peer_python.exists():
        raise ConfigError(
            f"LiteLLM is not there ({peer_python}): make bench-litellm installs it",
            field="--peer-python",
        )
    reports: list[Report] = []
    arrivals_s = 3 * sizes.rounds * (sizes.ttft_s + 2) + 2 * _ANSWERS / _ANSWERS_PER_S
    _tell(f"about {arrivals_s:.0f} s of requests, and two starts of LiteLLM, up to a minute each")
    with contextlib.ExitStack() as stack:
        paced = _Contenders(stack, folder / "paced", peer_python, {"tokens_per_s": 20.0})
        ttft = await paced.ttft(sizes, reports)
    with contextlib.ExitStack() as stack:
        quick = _Contenders(stack, folder / "quick", peer_python, {})
        cost = await quick.cost(reports)
    return {name: ttft[name] | cost[name] for name in ttft}, reports


class _Contenders:
    """The upstream, ours before it, and LiteLLM before it; each a process."""

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, python: Path, options: dict[str, Any]
    ) -> None:
        folder.mkdir()
        upstream = stack.enter_context(ended(start_module(folder, UPSTREAM, [json.dumps(options)])))
        self.url = upstream.ready()["url"]
        _tell("LiteLLM starts …")
        self.ours = stack.enter_context(
            ended(
                start_gateway(
                    folder,
                    backend={"kind": "openai", "model": "scripted", "url": self.url},
                    max_running_requests=10_000,
                )
            )
        )
        self.peer, self.peer_url = stack.enter_context(_litellm(folder, python, self.url))
        self.address = self.ours.ready()["address"]

    def targets(self) -> dict[str, tuple[Target, Served | None]]:
        """By name; the control has no process that is looked at."""
        from isthmus.cloud.load.grpc_target import GrpcTarget
        from isthmus.cloud.load.http_target import HttpTarget

        return {
            "control": (HttpTarget(self.url), None),
            "isthmus": (GrpcTarget(self.address), self.ours),
            "litellm": (HttpTarget(self.peer_url, token=_KEY), self.peer),
        }

    async def ttft(self, sizes: Sizes, reports: list[Report]) -> dict[str, dict[str, Any]]:
        """Rounds of 5 arrivals a second, about 10 streams: far below what either can carry."""
        from isthmus.cloud.load.base import poisson
        from isthmus.cloud.load.runner import run

        found: dict[str, list[tuple[float, float]]] = {}
        failed: dict[str, int] = {}
        targets = self.targets()
        for target, _ in targets.values():
            await run(target, poisson(10, requests=20, tokens=5, name="w"))
        for number in range(sizes.rounds):
            for name, (target, _) in targets.items():
                _tell(f"first tokens of {name}, round {number + 1} of {sizes.rounds} …")
                arrivals = poisson(5, requests=round(5 * sizes.ttft_s), tokens=40, seed=number)
                report = await run(target, arrivals)
                reports.append(report)
                failed[name] = failed.get(name, 0) + sum(report.failed.values())
                p50, p99 = (1e3 * report.ttft.quantile_s(share) for share in (0.5, 0.99))
                found.setdefault(name, []).append((p50, p99))
        for target, _ in targets.values():
            await target.close()
        return {
            name: {"failed": failed[name]}
            | {
                f"added_ttft_{quantile}_ms": round(
                    statistics.median(
                        told[at] - bare[at]
                        for told, bare in zip(rounds, found["control"], strict=True)
                    ),
                    2,
                )
                for at, quantile in enumerate(("p50", "p99"))
            }
            for name, rounds in found.items()
            if name != "control"
        }

    async def cost(self, reports: list[Report]) -> dict[str, dict[str, Any]]:
        """Short answers as fast as they come: processor time of each, and so how many a core."""
        from isthmus.cloud.load.base import poisson
        from isthmus.cloud.load.runner import run

        found: dict[str, dict[str, Any]] = {}
        for name, (target, served) in self.targets().items():
            if served is None:
                continue
            _tell(f"processor time of {name} …")
            await run(target, poisson(10, requests=20, tokens=8, name="w"))
            before_s = served.cpu_s
            report = await run(target, poisson(_ANSWERS_PER_S, requests=_ANSWERS, tokens=8))
            used_s = served.cpu_s - before_s
            reports.append(report)
            found[name] = {
                "requests_per_s_per_core": round(report.finished / used_s, 1),
                "cpu_ms_per_request": round(1e3 * used_s / max(1, report.finished), 2),
                "rss_mb": round(served.rss_mb, 1),
            }
            await target.close()
        return found


@contextlib.contextmanager
def _litellm(folder: Path, python: Path, upstream: str) -> Iterator[tuple[Served, str]]:
    """LiteLLM's proxy with one worker, and its base address."""
    model = {"model": "openai/scripted", "api_base": upstream, "api_key": "none"}
    config = {
        "model_list": [{"model_name": "scripted", "litellm_params": model}],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    process = Served(
        [*arguments, "--num_workers", "1", "--telemetry", "False"],
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        log_path=folder / "litellm.log",
        module=_PEER,
        python=str(python),
    )
    with ended(process):
        until_s = time.monotonic() + _PEER_READY_S
        while not _listens(port):
            if not process.running or time.monotonic() > until_s:
                raise Unavailable(f"LiteLLM did not start: {process.last_words()}")
            time.sleep(0.2)
        yield process, f"http://127.0.0.1:{port}/v1"


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True
