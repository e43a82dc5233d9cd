"""What is counted and stored of each request; never what was said."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from agent_client import HARD_QUESTION, HELLO, openai_client, sample
from isthmus.core.decision import Reason, Status, Target
from isthmus.core.errors import Unavailable
from isthmus.core.money import Usage
from isthmus.edge.config import EdgeConfig
from isthmus.edge.ledger import Ledger, read_outcomes
from isthmus.edge.server import build_agent
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from isthmus.engine.fallback import Fallback
from isthmus.engine.speculation import SpeculationCount
from isthmus.router.config import RouterConfig


async def test_every_request_has_one_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    engine, cloud = ScriptedEngine(), ScriptedTier(pieces=(), error=Unavailable("gone"))
    async with (
        running_agent(engine, cloud=cloud, ledger=Ledger(path)) as agent,
        openai_client(agent) as client,
    ):
        await client.chat.completions.create(model="isthmus", messages=HELLO)
        await client.chat.completions.create(model="isthmus", messages=HARD_QUESTION)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(
                model="isthmus-cloud",
                messages=[{"role": "user", "content": "I am jane, card 4111 1111 1111 1111"}],
            )
    rows = list(reversed(read_outcomes(path)))
    assert [row.status for row in rows] == [
        Status.OK,
        Status.OK,
        Status.FAILED,
        Status.REFUSED,
    ]
    assert [row.route for row in rows[:3]] == [Target.EDGE, Target.EDGE, Target.CLOUD]
    assert rows[0].reasons == (Reason.VALUE_ON_EDGE, Reason.UNCALIBRATED)
    assert rows[0].usage == Usage(10, 3, 0)
    assert rows[1].reasons == (
        Reason.VALUE_IN_CLOUD,
        Reason.UNCALIBRATED,
        Reason.FELL_BACK,
    )
    assert rows[1].error_kind == "unavailable"
    assert rows[3].reasons == (Reason.PRIVACY_LOCAL_ONLY,)
    content = path.read_bytes()
    assert b"jane" not in content
    assert b"Hello" not in content


OF_THE_DEVICE = {
    "route": "edge",
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "isthmus.edge",
    "gen_ai_request_model": "scripted",
}


async def test_later_turns_count_the_tokens_that_were_not_computed_again() -> None:
    engine = ScriptedEngine(prompt_tokens=30, cached_tokens=0)
    async with running_agent(engine) as agent, openai_client(agent) as client:
        await client.chat.completions.create(model="isthmus", messages=HELLO)
        engine.prompt_tokens, engine.cached_tokens = 50, 42
        answer = await client.chat.completions.create(model="isthmus", messages=HELLO)
        tokens = {
            kind: sample(
                agent,
                f"gen_ai_client_inference_usage_{kind}_tokens_total",
                gen_ai_token_modality="text",
                **OF_THE_DEVICE,
            )
            for kind in ("input", "cache_read_input", "output")
        }
    assert tokens == {"input": 80, "cache_read_input": 42, "output": 6}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 42


async def test_guesses_of_the_engine_are_counted_by_what_became_of_them() -> None:
    engine = ScriptedEngine(speculated=SpeculationCount(proposed=10, accepted=7))
    async with running_agent(engine) as agent:
        await agent.agent.device.wait()
        counted = [
            sample(agent, "isthmus_edge_guessed_tokens_total", result=result)
            for result in ("right", "wrong")
        ]
    assert counted == [7, 3]


async def test_a_change_of_the_backend_is_counted_and_told_at_once() -> None:
    engine = ScriptedEngine(prefill_backend="opencl", decode_backend="opencl")
    async with running_agent(engine) as agent:
        await agent.agent.device.wait()
        engine.prefill_backend = engine.decode_backend = "native"
        engine.fallbacks[Fallback("opencl", "native", "device_lost")] = 1
        counted = {"from_backend": "opencl", "to_backend": "native", "reason": "device_lost"}
        assert sample(agent, "isthmus_edge_backend_fallbacks_total", **counted) == 1
        runs = {"model": "scripted", "prefill_backend": "native", "decode_backend": "native"}
        assert sample(agent, "isthmus_edge_info", version=version("isthmus"), **runs) == 1
        async with httpx.AsyncClient() as client:
            told = (await client.get(f"{agent.url}/readyz")).json()
    assert told == {
        "status": "ready",
        "problem": None,
        "model": "scripted",
        "prefill_backend": "native",
        "decode_backend": "native",
    }


async def test_the_metrics_page_has_units_slo_edges_and_no_text() -> None:
    async with (
        running_agent(ttft_slo_ms=(333.0,), tpot_slo_ms=(33.0,)) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as http,
        openai_client(agent) as client,
    ):
        await client.chat.completions.create(model="isthmus", messages=HELLO)
        page = await http.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    text = page.text
    assert (
        'isthmus_edge_requests_total{reason="cloud_offline",route="edge",status="ok"} 1.0' in text
    )
    device = sorted(OF_THE_DEVICE.items())
    for name, more, value in (
        ("time_to_first_chunk_seconds_bucket", ("le", "0.333"), "1.0"),
        ("time_per_output_chunk_seconds_bucket", ("le", "0.033"), "2.0"),
        ("duration_seconds_count", ("error_type", ""), "1.0"),
    ):
        labels = ",".join(f'{key}="{text}"' for key, text in sorted([*device, more]))
        assert f"gen_ai_client_inference_{name}{{{labels}}} {value}" in text
    assert 'isthmus_edge_time_per_output_token_seconds_bucket{le="0.033",route="edge"}' in text
    assert 'isthmus_edge_queue_length{queue="engine"} 0.0' in text
    assert "isthmus_edge_model_ready 1.0" in text
    assert "Hello" not in text


async def test_a_refused_body_is_counted_by_its_status() -> None:
    async with (
        running_agent() as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as http,
    ):
        bad: dict[str, Any] = {"model": "isthmus"}
        await http.post("/v1/chat/completions", json=bad)
        await http.get("/metrics", headers={"host": "evil.example"})
        counted = [
            sample(agent, "isthmus_edge_rejected_requests_total", code=code)
            for code in ("400", "403")
        ]
    assert counted == [1, 1]


async def test_a_target_that_nobody_made_a_threshold_is_told_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    for threshold in (None, 0.2):
        caplog.clear()
        router = RouterConfig(max_cloud_share=0.2, threshold=threshold)
        await build_agent(EdgeConfig(router=router), ScriptedEngine).close()
        assert ("isthmus route calibrate" in caplog.text) is (threshold is None)
