"""One trace from the client's request to the upstream's tokens, and not a word of its text."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import WORDS, Fault, ScriptedUpstream
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.core.tracing.base import NO_SPAN, NO_TRACER, Kind
from isthmus.core.tracing.config import TracingConfig, create
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import RunningAgent, ScriptedEngine, running_agent
from otlp_collector import Collector, collecting

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = CLIENT.split("-")[1]
CANARY = "zebra-4711"
ANSWER = "".join(WORDS)


@asynccontextmanager
async def system(
    backend: Any, engine: ScriptedEngine | None = None, *, endpoint: str, **settings: Any
) -> AsyncIterator[RunningAgent]:
    """Agent and gateway, both traced."""
    tracing = TracingConfig(endpoint=endpoint)
    async with (
        running_gateway(backend, tracing=tracing) as address,
        running_agent(
            engine,
            cloud=RemoteTier(RemoteConfig(address)),
            gateway_address=address,
            tracing=tracing,
            **settings,
        ) as agent,
    ):
        yield agent


async def asked(agent: RunningAgent, *, traceparent: str = CLIENT, **more: Any) -> httpx.Response:
    body = {
        "model": "isthmus",
        "messages": [{"role": "user", "content": f"Tell me of the {CANARY}"}],
        "isthmus": {"route": "prefer_in_cloud"},
        "user": CANARY,
    }
    async with httpx.AsyncClient(base_url=agent.url, trust_env=False, timeout=30) as http:
        headers = {"traceparent": traceparent} if traceparent else {}
        return await http.post("/v1/chat/completions", json=body | more, headers=headers)


def pool_over(*upstreams: ScriptedUpstream) -> UpstreamPool:
    limits = {"probe_s": 0.05, "silence_s": 0.2, "first_token_s": 0.2, "slow_start_s": 0}
    urls = tuple(one.url for one in upstreams)
    return UpstreamPool(BackendConfig(kind="openai", urls=urls, model="m", upstreams=limits))


async def test_one_trace_goes_from_the_clients_request_to_the_upstream() -> None:
    with collecting() as collector:
        async with (
            ScriptedUpstream() as upstream,
            system(pool_over(upstream), endpoint=collector.url) as agent,
        ):
            answer = await asked(agent)
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        assert {one.trace for one in collector.spans} == {TRACE}
        root = collector.named("chat isthmus")
        assert root.parent == CLIENT.split("-")[2]
        for name in ("privacy scan", "decide", "answer in the cloud"):
            assert collector.named(name).within(root), name
        (gateway, tried) = (one for one in collector.spans if one.name == "chat m")
        assert gateway.within(collector.named("answer in the cloud"))
        assert collector.named("wait for a turn").within(gateway)
        assert tried.within(gateway)
        assert [gateway.service, root.service] == ["isthmus-gateway", "isthmus-edge"]
        (told,) = re.findall(r"(?im)^traceparent: (.*?)\r?$", upstream.heads[0])
        assert told == f"00-{TRACE}-{tried.id}-01"


async def test_spans_tell_names_counts_and_reasons_in_the_words_of_the_conventions() -> None:
    with collecting() as collector:
        async with system(ScriptedBackend(WORDS), endpoint=collector.url) as agent:
            answer = (await asked(agent, max_tokens=50)).json()
        root = collector.named("chat isthmus")
        assert root.kind == "SPAN_KIND_SERVER"
        assert root.attributes["gen_ai.operation.name"] == "chat"
        assert root.attributes["gen_ai.provider.name"] == "isthmus.cloud"
        assert root.attributes["gen_ai.request.model"] == "isthmus"
        assert root.attributes["gen_ai.response.model"] == "scripted"
        assert root.attributes["gen_ai.request.max_tokens"] == 50
        assert root.attributes["gen_ai.usage.output_tokens"] == len(WORDS)
        assert root.attributes["isthmus.route"] == "cloud"
        assert root.attributes["isthmus.reasons"] == ("preferred_cloud",)
        assert root.attributes["isthmus.privacy_class"] == "public"
        assert root.attributes["isthmus.request_id"] == answer["isthmus"]["request_id"]
        assert root.events == ("first token",)
        assert not root.failed
        leg = collector.named("answer in the cloud")
        assert leg.kind == "SPAN_KIND_CLIENT"
        assert leg.attributes["server.address"] == "127.0.0.1"
        assert leg.attributes["isthmus.end"] == "answered"
        gateway = collector.named("chat scripted")
        assert gateway.attributes["gen_ai.usage.output_tokens"] == len(WORDS)
        assert gateway.attributes["gen_ai.response.finish_reasons"] == ("stop",)
        assert gateway.events == ("first token",)


async def test_a_client_without_a_trace_begins_one_and_nonsense_is_none() -> None:
    with collecting() as collector:
        async with system(ScriptedBackend(), endpoint=collector.url) as agent:
            await asked(agent, traceparent="")
            await asked(agent, traceparent=f"00-{CANARY}-xyz-01")
        roots = [one for one in collector.spans if one.name == "chat isthmus"]
        assert [one.parent for one in roots] == ["", ""]
        assert len({one.trace for one in collector.spans}) == 2


async def test_a_client_that_is_not_sampled_is_not_traced() -> None:
    with collecting() as collector:
        async with system(ScriptedBackend(), endpoint=collector.url) as agent:
            answer = await asked(agent, traceparent=CLIENT.removesuffix("01") + "00")
        assert answer.status_code == 200
        assert collector.spans == []


async def test_legs_of_one_answer_are_siblings_when_the_device_goes_on() -> None:
    backend = ScriptedBackend(WORDS, failure=Unavailable(f"died of {CANARY}"), fail_after=3)
    with collecting() as collector:
        async with system(backend, ScriptedEngine(WORDS), endpoint=collector.url) as agent:
            answer = await asked(agent)
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        root = collector.named("chat isthmus")
        cloud, edge = (
            collector.named("answer in the cloud"),
            collector.named("answer on the device"),
        )
        assert cloud.within(root)
        assert edge.within(root)
        assert (cloud.failed, edge.failed, root.failed) == (True, False, False)
        assert cloud.attributes["error.type"] == "unavailable"
        assert edge.begin_ns >= cloud.end_ns
        assert collector.named("chat scripted").failed
        assert_nothing_said(collector)


async def test_an_upstream_that_dies_in_mid_answer_leaves_a_span_beside_the_next() -> None:
    with collecting() as collector:
        faults = [Fault("reset", after_tokens=3)]
        async with (
            ScriptedUpstream(faults=faults) as first,
            ScriptedUpstream(faults=list(faults)) as second,
            system(pool_over(first, second), endpoint=collector.url) as agent,
        ):
            answer = await asked(agent)
        assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        gateway, *tries = [one for one in collector.spans if one.name == "chat m"]
        assert len(tries) >= 2
        assert all(one.within(gateway) for one in tries)
        assert [one.failed for one in tries] == [True] * (len(tries) - 1) + [False]
        assert tries[-1].attributes["isthmus.continues"]


async def test_a_refused_request_tells_the_kind_of_its_error_alone() -> None:
    with collecting() as collector:
        backend = ScriptedBackend(failure=Unavailable(f"no {CANARY}"))
        async with system(backend, endpoint=collector.url) as agent:
            answer = await asked(agent, isthmus={"route": "only_in_cloud"})
        assert answer.status_code == 503
        root = collector.named("chat isthmus")
        assert root.failed
        assert root.attributes["error.type"] == "unavailable"
        assert_nothing_said(collector)


async def test_nothing_that_was_asked_or_answered_is_in_a_trace() -> None:
    words = ("The ", CANARY, " is", " striped.")
    tools = [{"type": "function", "function": {"name": CANARY, "parameters": {"type": "object"}}}]
    with collecting() as collector:
        async with system(
            ScriptedBackend(words), ScriptedEngine(words), endpoint=collector.url
        ) as agent:
            for more in (
                {},
                {"stream": True, "stop": [CANARY]},
                {"isthmus": {"route": "only_on_device", "conversation": CANARY}},
                {"messages": [{"role": "user", "content": f"mail {CANARY}@example.org now"}]},
                {"tools": tools},
            ):
                await asked(agent, **more)
        assert len([one for one in collector.spans if one.name == "chat isthmus"]) == 5
        assert_nothing_said(collector)


def assert_nothing_said(collector: Collector) -> None:
    assert collector.bodies
    for body in collector.bodies:
        for said in (CANARY, "striped", "Tell me"):
            assert said.encode() not in body


async def test_a_collector_that_says_nothing_holds_up_neither_an_answer_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with system(ScriptedBackend(), endpoint=endpoint) as agent, asyncio.timeout(8):
            for _ in range(5):
                assert (await asked(agent)).status_code == 200


def test_a_collector_that_is_away_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.01")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    tracer = create(TracingConfig(endpoint="http://127.0.0.1:9"), "test")
    for _ in range(20):
        tracer.begin("work", Kind.SERVER).end()
        time.sleep(0.02)
    tracer.close()
    assert [one.getMessage() for one in caplog.records] == [
        "traces are lost: no collector takes them"
    ]


def test_spans_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.01")
    with collecting() as collector:
        tracer = create(TracingConfig(endpoint=collector.url), "test")
        for _ in range(63):
            tracer.begin("work", Kind.SERVER).end()
        tracer.close()
        assert len(collector.spans) == 63
    tracer = create(TracingConfig(endpoint="http://127.0.0.1:9"), "test")
    for _ in range(5_000):
        tracer.begin("work", Kind.SERVER).end()
    (processor,) = tracer._provider._active_span_processor._span_processors
    assert len(processor._batch_processor._queue) <= 64
    tracer.close()


def test_without_settings_nothing_is_traced_and_a_span_is_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    tracer = create(TracingConfig(), "test")
    assert tracer is NO_TRACER
    span = tracer.begin("work", Kind.SERVER, traceparent=CLIENT)
    assert span is NO_SPAN
    assert span.child("part") is NO_SPAN
    assert span.traceparent == ""


def test_the_variables_of_opentelemetry_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
        tracer = create(TracingConfig(), "test")
        tracer.begin("work", Kind.SERVER).end()
        tracer.close()
        assert [(one.service, one.name) for one in collector.spans] == [("kitchen", "work")]
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        assert create(TracingConfig(), "test") is NO_TRACER
        monkeypatch.delenv("OTEL_TRACES_EXPORTER")
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        assert create(TracingConfig(endpoint=collector.url), "test") is NO_TRACER


def test_a_share_of_the_traces_is_kept() -> None:
    with collecting() as collector:
        tracer = create(TracingConfig(endpoint=collector.url, sample_ratio=0.25), "test")
        for _ in range(400):
            tracer.begin("work", Kind.SERVER).end()
        tracer.close()
        assert 40 < len(collector.spans) < 180
        tracer = create(TracingConfig(endpoint=collector.url, sample_ratio=0), "test")
        tracer.begin("of a caller", Kind.SERVER, traceparent=CLIENT).end()
        tracer.close()
        assert collector.named("of a caller").trace == TRACE


def test_the_console_shows_every_span_as_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    tracer = create(TracingConfig(endpoint="console"), "test")
    with tracer.begin("work", Kind.SERVER) as span:
        span.child("part").end("unavailable")
    part, work = capfd.readouterr().err.splitlines()
    assert '"name": "part"' in part
    assert '"error.type": "unavailable"' in part
    assert '"name": "work"' in work


def test_without_opentelemetry_the_setting_is_an_error_and_the_variable_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "isthmus.core.tracing.otel", raising=False)
    monkeypatch.delattr("isthmus.core.tracing.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"isthmus\[otel\]"):
        create(TracingConfig(endpoint="http://127.0.0.1:4318"), "test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert create(TracingConfig(), "test") is NO_TRACER
    assert "isthmus[otel]" in caplog.text


def test_nothing_of_opentelemetry_is_imported_while_it_is_off() -> None:
    code = (
        "import sys, isthmus.edge.traced; "
        "from isthmus.core.tracing.config import TracingConfig, create; "
        "create(TracingConfig(), 'test'); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], env={"HOME": "/nonexistent"}, check=False)
    assert ended.returncode == 0
