"""Two servers of vLLM behind one gateway, killed in the middle of answers: nobody is left without.

Run by `make test-vllm`, as test_vllm.py. The servers are processes, and are killed with no warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from watching.vllm import RECORDED, names

from asked import anew
from isthmus.core import chat, events
from isthmus.edge.remote import RemoteConfig, RemoteTier
from processes import Program

MODEL = os.environ.get("ISTHMUS_TEST_VLLM_MODEL", "")
PYTHON = Path(os.environ.get("ISTHMUS_TEST_VLLM_PYTHON", sys.executable))
"""Of an environment with vLLM, whose servers are other programs than the gateway."""

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not MODEL or (Path(sys.executable) == PYTHON and importlib.util.find_spec("vllm") is None),
        reason="needs vLLM and an exported model: make test-vllm",
    ),
]

NAME = "smollm2"
REQUEST = chat.ChatRequest(
    "r1",
    (chat.Message(chat.Role.USER, (chat.TextPart("Tell me a long story about the sea."),)),),
    sampling=chat.Sampling(temperature=0, ignore_eos=True),
    max_tokens=120,
)


class Server:
    """vLLM's own server, on a port of its own."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.program = Program(
            # Its own program `vllm` does not start in the CPU build, which has another name.
            *("-m", "vllm.entrypoints.openai.api_server", "--model", MODEL),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--served-model-name", NAME, "--dtype", "bfloat16", "--enforce-eager"),
            *("--max-model-len", "1024", "--max-num-seqs", "4"),
            path=PYTHON,
            VLLM_CPU_KVCACHE_SPACE="1",
            VLLM_NO_USAGE_STATS="1",
        )
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def wait(self, within_s=240):
        until_s = time.monotonic() + within_s
        while True:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5),
            ):
                return
            assert self.program.process.poll() is None, "vLLM ended"
            assert time.monotonic() < until_s
            time.sleep(0.5)

    def metrics(self):
        """What it tells Prometheus."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as page:
            return page.read().decode()

    def running(self):
        """Requests that it answers now."""
        lines = self.metrics().splitlines()
        found = [line for line in lines if line.startswith("vllm:num_requests_running")]
        return sum(float(line.rpartition(" ")[2]) for line in found)


class Cluster:
    """The servers, the gateway in front of them, and an agent."""

    def __init__(self, folder):
        self.servers = [Server(), Server()]
        self.gateway = self.agent = None
        try:
            for server in self.servers:
                server.wait()
            config = folder / "cloud.toml"
            config.write_text(
                'listen = "127.0.0.1:0"\nmetrics_listen = "127.0.0.1:0"\n'
                f'[backend]\nkind = "openai"\nmodel = "{NAME}"\n'
                f"urls = {json.dumps([server.url for server in self.servers])}\n"
            )
            self.gateway = Program("cloud", "serve", "--config", str(config), "--json")
            self.address = json.loads(self.gateway.wait_for(r"^\{.*\}$", 60).group())["address"]
            self.agent = Program(
                *("edge", "serve", "--listen", "127.0.0.1:0", "--gateway", self.address),
                ISTHMUS_EDGE_PRIVACY__CONSENT="true",
            )
            self.agent_url = self.agent.wait_for(r"http://\S+?/v1", 60).group()
            self.agent.wait_for(r"^ready: ", 60)
        except BaseException:
            self.close()
            raise

    def close(self):
        for server in self.servers:
            server.program.kill()
        for program in (self.agent, self.gateway):
            if program is not None:
                program.stop()

    def kill_the_busy_one(self):
        """Kill the server that answers now; the ones that are left."""
        (busy,) = [server for server in self.servers if server.running()]
        busy.program.kill()
        self.servers.remove(busy)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("servers"))
    yield running
    running.close()


@contextlib.asynccontextmanager
async def tier_of(cluster):
    tier = RemoteTier(RemoteConfig(cluster.address))
    try:
        yield tier
    finally:
        await tier.close()


def text_of(answer):
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


async def test_servers_of_vllm_say_what_they_can(cluster):
    async with tier_of(cluster) as tier:
        info = await tier.info()
    assert (info.backend, info.context_tokens) == ("openai", 1024)
    assert info.continues_answers
    assert info.verifies_drafts


async def test_a_server_of_vllm_has_the_metrics_that_dashboards_are_tried_with(cluster):
    recorded = {name for name in names(RECORDED.read_text()) if "spec_decode" not in name}
    assert recorded <= names(cluster.servers[0].metrics())


async def test_a_server_of_vllm_tells_the_tokens_of_prompt_and_pieces(cluster):
    async with tier_of(cluster) as tier:
        answer = [event async for event in tier.generate(anew(REQUEST, max_tokens=20))]
    assert answer[0].prompt_tokens == answer[-1].usage.prompt_tokens > 10
    told = sum(event.tokens for event in answer if isinstance(event, events.Delta))
    assert told == answer[-1].usage.completion_tokens == 20


async def test_a_server_of_vllm_judges_a_draft(cluster):
    question = (chat.Message(chat.Role.USER, (chat.TextPart("What is the capital of France?"),)),)
    begun = replace(
        REQUEST, messages=question, answer_so_far="The capital of France", max_tokens=12
    )
    async with tier_of(cluster) as tier:
        plain = [event async for event in tier.generate(anew(begun))]
        right = [event async for event in tier.generate(anew(begun, draft=" is Paris"))]
        wrong = [event async for event in tier.generate(anew(begun, draft=" is banana soup"))]
    assert right[0].draft.accepted_bytes == len(" is Paris")
    assert (" is Paris" + text_of(right)).startswith(text_of(plain))
    assert wrong[0].draft.accepted_bytes == len(" is")
    assert text_of(wrong).startswith(" Paris")


async def test_a_server_killed_in_mid_answer_costs_no_token_and_doubles_none(cluster):
    async with tier_of(cluster) as tier:
        stream = tier.generate(anew(REQUEST))
        told = [await anext(stream) for _ in range(30)]
        await asyncio.to_thread(cluster.kill_the_busy_one)
        # Some pieces were on their way when the server died.
        rest = [event async for event in stream]
        whole = [*told, *rest]
        assert whole[-1].reason is events.FinishReason.LENGTH
        assert whole[-1].usage.completion_tokens == REQUEST.max_tokens
        assert whole[-1].usage.prompt_tokens == whole[0].prompt_tokens
        assert [type(event) for event in whole].count(events.Started) == 1
        # Wherever the seam is, the server that is left writes the same behind it when it is asked.
        assert await _seam(tier, whole) is not None


async def _seam(tier, whole):
    """The first place from 28 events on from where the server that is left writes the rest."""
    text = ""
    for at, event in enumerate(whole[1:-1]):
        text += event.text
        if at < 28:
            continue
        left = sum(one.tokens for one in whole[at + 2 : -1])
        begun = replace(REQUEST, answer_so_far=text, max_tokens=left)
        rest = text_of([one async for one in tier.generate(anew(begun))])
        if text + rest == text_of(whole):
            return at
    return None


async def test_when_the_last_server_is_killed_in_mid_answer_the_device_goes_on(cluster):
    async with openai.AsyncOpenAI(
        base_url=cluster.agent_url, api_key="none", max_retries=0, timeout=60
    ) as client:
        stream = await client.chat.completions.create(
            model="isthmus",
            messages=[{"role": "user", "content": "Tell me a long story about the sea."}],
            temperature=0,
            max_tokens=100,
            stream=True,
            extra_body={"isthmus": {"route": "prefer_in_cloud"}},
        )
        pieces, killed, finish = [], False, None
        async for chunk in stream:
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                finish = choice.finish_reason or finish
            if len(pieces) == 10 and not killed:
                killed = True
                await asyncio.to_thread(cluster.kill_the_busy_one)
    text = "".join(pieces)
    assert killed
    assert finish in {"stop", "length"}
    assert len(text.split()) > 30
    assert not cluster.servers
