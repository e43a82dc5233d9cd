"""Answers over several upstreams that fail at every place: nothing is lost or said twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from agent_client import eventually
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams import discovery
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import WORDS, Fault, ScriptedUpstream
from isthmus.core import chat, errors, events
from isthmus.core.money import Usage

REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("tell me"),)),))
WHOLE = "".join(WORDS)
QUICK = {"probe_s": 0.05, "silence_s": 0.2, "first_token_s": 0.2, "slow_start_s": 0}


@contextlib.asynccontextmanager
async def pool_over(*upstreams, **limits):
    config = BackendConfig(
        kind="openai",
        urls=tuple(one.url for one in upstreams),
        model="m",
        upstreams=QUICK | limits,
    )
    pool = UpstreamPool(config, rng=random.Random(1))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def serving(*upstreams):
    async with contextlib.AsyncExitStack() as stack:
        for one in upstreams:
            await stack.enter_async_context(one)
        yield upstreams


async def collected(pool, request=REQUEST):
    return [event async for event in pool.generate(request)]


def text_of(answer):
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


def tokens_of(answer):
    return sum(event.tokens for event in answer if isinstance(event, events.Delta))


def sample(pool, name, **labels):
    return sum(
        one.value
        for collector in pool.collectors()
        for family in collector.collect()
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


FAULTS = [
    *(Fault("status", status=status) for status in (401, 404, 429, 500, 502, 503, 504)),
    Fault("reset"),
    Fault("end"),
    Fault("hang"),
    *(
        Fault(kind, after_tokens=tokens)
        for kind in ("reset", "end", "half", "error", "hang")
        for tokens in (0, 1, 4, 5, len(WORDS))
    ),
]


def named(fault):
    return f"{fault.kind}-{fault.status if fault.kind == 'status' else fault.after_tokens}"


@contextlib.asynccontextmanager
async def faulty_pair(*faults, **limits):
    """A pool over two upstreams, the one that is asked first and has `faults`, the other."""
    async with (
        serving(ScriptedUpstream(), ScriptedUpstream()) as pair,
        pool_over(*pair, **limits) as pool,
    ):
        await collected(pool)
        favourite, other = sorted(pair, key=lambda one: not one.bodies)
        favourite.faults[:] = faults
        favourite.bodies.clear()
        yield pool, favourite, other


@pytest.mark.parametrize("fault", FAULTS, ids=named)
async def test_an_answer_is_whole_whatever_one_upstream_does(fault):
    async with faulty_pair(fault) as (pool, one, _):
        answer = await collected(pool)
    assert len(one.bodies) == 1
    assert text_of(answer) == WHOLE
    assert [type(event) for event in answer].count(events.Started) == 1
    assert answer[-1] == events.Finished(events.FinishReason.STOP, Usage(2, len(WORDS)))
    assert tokens_of(answer) == len(WORDS)


async def test_an_answer_is_whole_when_every_upstream_breaks_off_again_and_again():
    async with faulty_pair(*(Fault("reset", after_tokens=2) for _ in range(3))) as (pool, _, other):
        other.faults[:] = [Fault("end", after_tokens=1)] * 3
        answer = await collected(pool)
    assert text_of(answer) == WHOLE
    assert answer[-1].usage == Usage(2, len(WORDS))


async def test_the_next_upstream_is_asked_for_the_rest_alone():
    sampling = chat.Sampling(temperature=0.5, seed=2**63 - 2, stop=("END",), top_logprobs=None)
    asked = replace(REQUEST, max_tokens=7, sampling=sampling)
    async with faulty_pair(Fault("reset", after_tokens=4)) as (pool, _, other):
        answer = await collected(pool, asked)
    body = other.bodies[-1]
    assert body["messages"][-1] == {"role": "assistant", "content": "The sea is wide"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["max_tokens"] == 3
    assert body["seed"] == 2  # other numbers than those that chose the first four
    assert body["stop"] == ["END"]
    assert text_of(answer) == "".join(WORDS[:7])
    assert answer[-1] == events.Finished(events.FinishReason.LENGTH, Usage(2, 7))


async def test_nothing_more_is_asked_for_when_the_last_token_was_told():
    async with faulty_pair(Fault("reset", after_tokens=5)) as (pool, _, other):
        asked_before = len(other.bodies)
        answer = await collected(pool, replace(REQUEST, max_tokens=5))
    assert len(other.bodies) == asked_before
    assert answer[-1] == events.Finished(events.FinishReason.LENGTH, Usage(2, 5))


SCHEMA = chat.ResponseFormat(chat.ResponseKind.JSON_OBJECT)


@pytest.mark.parametrize(
    "change",
    [
        {"response_format": SCHEMA},
        {"tools": (chat.Tool("f"),), "tool_choice": chat.ToolChoice.REQUIRED},
    ],
    ids=["form", "call"],
)
async def test_half_a_form_is_an_honest_error_that_tells_how_much_was_sent(change):
    async with faulty_pair(Fault("reset", after_tokens=3)) as (pool, one, other):
        asked_before = len(other.bodies)
        told = []
        with pytest.raises(errors.Unavailable, match="after 3 tokens"):
            await _into(told, pool.generate(replace(REQUEST, **change)))
        assert text_of(told) == "The sea is"
        assert len(other.bodies) == asked_before
        # Before the first of it another upstream is as good.
        one.faults[:] = [Fault("reset")]
        assert text_of(await collected(pool, replace(REQUEST, **change))) == WHOLE


async def test_upstreams_that_cannot_continue_break_off_honestly():
    async with faulty_pair(Fault("reset", after_tokens=3), continue_final_message=False) as (
        pool,
        _,
        other,
    ):
        asked_before = len(other.bodies)
        with pytest.raises(errors.Unavailable, match="after 3 tokens"):
            await collected(pool)
        assert len(other.bodies) == asked_before


async def test_only_an_upstream_that_can_continue_is_asked_to():
    plain, vllm = ScriptedUpstream(is_vllm=False), ScriptedUpstream()
    async with serving(plain, vllm), pool_over(plain, vllm, sticky=False) as pool:
        begun = replace(REQUEST, answer_so_far="The sea")
        for _ in range(8):
            assert text_of(await collected(pool, begun)) == WHOLE.removeprefix("The sea")
    assert not plain.bodies


async def test_only_vllm_is_told_whose_prefix_cache_it_is():
    plain, vllm = ScriptedUpstream(is_vllm=False), ScriptedUpstream()
    async with serving(plain, vllm):
        for one in (plain, vllm):
            async with pool_over(one) as pool:
                await collected(pool, replace(REQUEST, cache_salt="tenant"))
    assert "cache_salt" not in plain.bodies[0]
    assert vllm.bodies[0]["cache_salt"] == "tenant"


async def test_what_is_known_to_lead_to_vllm_is_asked_as_vllm():
    routed = ScriptedUpstream(is_vllm=False)
    async with serving(routed), pool_over(routed, vllm=True) as pool:
        info = pool.info()
        await collected(pool, replace(REQUEST, cache_salt="tenant"))
    assert info.continues_answers
    assert info.verifies_drafts
    assert routed.bodies[0]["cache_salt"] == "tenant"
    assert routed.bodies[0]["stream_options"]["continuous_usage_stats"] is True


@pytest.mark.parametrize("said", [True, False])
async def test_an_upstream_that_is_declared_to_salt_is_told_whatever_it_says(said):
    one = ScriptedUpstream(is_vllm=not said)
    async with one, pool_over(one, cache_salt=said) as pool:
        await collected(pool, replace(REQUEST, cache_salt="tenant"))
    assert ("cache_salt" in one.bodies[0]) is said


async def test_an_upstream_that_was_not_there_at_the_start_mixes_no_tenants():
    """It is asked what it is before its first request."""
    late = ScriptedUpstream()
    async with late:
        port = int(late.url.rpartition(":")[2].removesuffix("/v1"))
    async with pool_over(late, probe_s=3600) as pool:
        await late.listen(port)
        await collected(pool, replace(REQUEST, cache_salt="tenant"))
        await late.die()
    assert late.bodies[0]["cache_salt"] == "tenant"


async def test_a_single_upstream_is_asked_again_as_a_router_has_others_behind_it():
    async with serving(ScriptedUpstream()) as (one,), pool_over(one) as pool:
        one.faults[:] = [Fault("reset"), Fault("reset", after_tokens=4)]
        answer = await collected(pool)
    assert text_of(answer) == WHOLE
    assert len(one.bodies) == 3


async def test_a_refused_request_is_not_carried_from_one_upstream_to_the_next():
    async with faulty_pair(Fault("status", status=400)) as (pool, one, other):
        asked_before = len(other.bodies)
        with pytest.raises(errors.InvalidRequest):
            await collected(pool)
        assert (len(one.bodies), len(other.bodies)) == (1, asked_before)


async def test_when_every_upstream_is_full_the_caller_is_told_when_to_come_back():
    async with faulty_pair(*[Fault("status", status=429)] * 3) as (pool, one, other):
        other.faults[:] = [Fault("status", status=429)] * 3
        asked_before = len(other.bodies)
        with pytest.raises(errors.Overloaded) as caught:
            await collected(pool)
    assert caught.value.retry_after_s == 1
    assert (len(one.bodies), len(other.bodies)) == (1, asked_before + 1)


async def test_a_caller_that_leaves_closes_the_upstreams_connection():
    slow = ScriptedUpstream(["word "] * 1000, delay_s=0.01)
    async with serving(slow), pool_over(slow) as pool:
        stream = pool.generate(REQUEST)
        await anext(stream)
        assert pool.load().running_requests == slow.running == 1
        await stream.aclose()
        await _until(lambda: not slow.running, within_s=0.1)
        assert pool.load().running_requests == 0
        assert sample(pool, "isthmus_cloud_upstream_requests_total", result="cancelled") == 1


async def test_a_stream_of_an_upstream_that_dies_silently_moves_before_its_time():
    # A host that is gone sends nothing: only the probes know.
    async with faulty_pair(Fault("hang", after_tokens=4), silence_s=60, first_token_s=60) as (
        pool,
        one,
        _,
    ):
        stream = pool.generate(REQUEST)
        told = [await anext(stream) for _ in range(2)]
        one.healthy = False
        async with asyncio.timeout(2):
            told += [event async for event in stream]
        assert text_of(told) == WHOLE
        assert sample(pool, "isthmus_cloud_upstream_failovers_total", stage="mid_answer") == 1


async def test_a_host_that_takes_no_connection_holds_nobody_up_for_longer_than_two_probes():
    # A listener whose queue is full drops what comes, as a host does that is not there.
    with contextlib.ExitStack() as stack:
        gone = stack.enter_context(socket.socket())
        gone.bind(("127.0.0.1", 0))
        gone.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(gone.getsockname())
        async with serving(ScriptedUpstream()) as (there,):
            config = BackendConfig(
                kind="openai",
                urls=(f"http://127.0.0.1:{gone.getsockname()[1]}/v1", there.url),
                model="m",
                connect_timeout_s=60,
                upstreams=QUICK | {"probe_timeout_s": 0.1},
            )
            pool = UpstreamPool(config)
            async with asyncio.timeout(5):
                await pool.start()
                for i in range(4):
                    asked = chat.Message(chat.Role.USER, (chat.TextPart(f"question {i}"),))
                    answer = await collected(pool, replace(REQUEST, messages=(asked,)))
                    assert text_of(answer) == WHOLE
            await pool.close()


async def test_an_upstream_that_is_down_gets_no_requests_until_it_is_back():
    async with faulty_pair() as (pool, one, other):
        port = one.port
        await one.die()
        assert text_of(await collected(pool)) == WHOLE
        await _until(lambda: sample(pool, STATES, state="down") == 1)
        assert text_of(await collected(pool)) == WHOLE
        await pool.health()
        assert sample(pool, "isthmus_cloud_upstream_failovers_total") <= 1
        await one.listen(port)
        await _until(lambda: sample(pool, STATES, state="available") == 2)
        asked_before = len(other.bodies)
        await collected(pool)
        assert len(one.bodies) == 1
        assert len(other.bodies) == asked_before
        await one.die()
        await other.die()
        await _until(lambda: sample(pool, STATES, state="down") == 2)
        with pytest.raises(errors.Unavailable):
            await pool.health()
        with pytest.raises(errors.Unavailable):
            await collected(pool)


async def test_an_upstream_that_fails_its_requests_is_ejected_though_its_probes_succeed():
    bad = [Fault("status", status=500)] * 50
    async with faulty_pair(*bad, eject_after=2, eject_s=60) as (pool, one, _):
        for _ in range(6):
            assert text_of(await collected(pool)) == WHOLE
        assert len(one.bodies) == 2
        assert sample(pool, STATES, state="ejected") == 1
        assert sample(pool, "isthmus_cloud_upstream_ejections_total") == 1


async def test_the_last_upstream_is_never_ejected():
    async with serving(ScriptedUpstream()) as (one,), pool_over(one, eject_after=1) as pool:
        one.faults[:] = [Fault("status", status=500)] * 6
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await collected(pool)
        assert text_of(await collected(pool)) == WHOLE
        assert sample(pool, STATES, state="ejected") == 0


async def test_an_upstream_with_a_queue_of_its_own_is_left_for_a_freer_one():
    async with faulty_pair() as (pool, one, other):
        one.queued = 40
        asked_before = len(other.bodies)
        await asyncio.sleep(0.15)  # a few probes
        await collected(pool)
        assert not one.bodies
        assert len(other.bodies) == asked_before + 1


async def test_the_pool_tells_of_a_queue_once_every_upstream_has_one():
    async with faulty_pair() as (pool, one, other):
        one.queued = 40
        await asyncio.sleep(0.15)  # a few probes
        assert pool.load().waiting_requests == 0
        other.queued = 20
        assert await eventually(lambda: pool.load().waiting_requests == 20)


async def test_a_host_name_stands_for_all_its_addresses():
    one = ScriptedUpstream()
    async with serving(one):
        url = one.url.replace("127.0.0.1", "localhost")
        config = BackendConfig(
            kind="openai", url=url, model="m", upstreams=QUICK | {"discovery": "dns"}
        )
        pool = UpstreamPool(config)
        await pool.start()
        answer = await collected(pool)
        await pool.close()
    host = url.split("/")[2]
    assert text_of(answer) == WHOLE
    assert f"host: {host}\r\n" in one.heads[0].lower()
    assert sample(pool, "isthmus_cloud_upstream_requests_total", upstream=host, result="ok") == 1


async def test_addresses_that_dns_adds_and_drops_come_and_go_without_breaking_an_answer():
    old, new = ScriptedUpstream(delay_s=0.02), ScriptedUpstream()
    async with serving(old):
        await new.listen(old.port, "127.0.0.2")
        config = BackendConfig(kind="openai", url=old.url, model="m", upstreams=QUICK)
        pool = UpstreamPool(config)
        await pool.start()
        stream = pool.generate(REQUEST)
        told = [await anext(stream)]
        (before,) = discovery.configured([old.url])
        pool.update([replace(before, ip="127.0.0.2")])
        assert text_of(await collected(pool)) == WHOLE
        assert len(new.bodies) == 1
        assert sample(pool, STATES, state="leaving") == 1
        told += [event async for event in stream]
        assert text_of(told) == WHOLE
        assert len(old.bodies) == 1
        await _until(lambda: sample(pool, STATES) == 1)
        pool.update([])  # the resolver failed: what is known stays
        assert text_of(await collected(pool)) == WHOLE
        await pool.close()
        await new.die()


async def test_a_connection_is_used_again_and_one_that_was_left_is_not():
    upstream = ScriptedUpstream(delay_s=0.001)
    async with serving(upstream), pool_over(upstream, probe_s=60) as pool:
        for _ in range(3):
            await collected(pool)
        assert upstream.connected == 1
        stream = pool.generate(REQUEST)
        await anext(stream)
        await stream.aclose()
        assert text_of(await collected(pool)) == WHOLE
        assert upstream.connected == 2


@pytest.mark.parametrize("named", ["127.0.0.1", "elsewhere.example"])
async def test_an_upstream_in_tls_is_who_its_certificate_says(tmp_path, monkeypatch, named):
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(named).configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with serving(ScriptedUpstream(tls=tls)) as (one,), pool_over(one) as pool:
        if named == "127.0.0.1":
            assert text_of(await collected(pool)) == WHOLE
            assert one.url.startswith("https:")
        else:
            with pytest.raises(errors.Unavailable, match="Certificate"):
                await collected(pool)
            assert not one.bodies


def test_what_a_token_costs_can_be_measured():
    script = Path(__file__).parents[2] / "scripts" / "upstream_cost.py"
    asked = ["--streams", "2", "--tokens", "5", "--gap-ms", "0"]
    done = subprocess.run(
        [sys.executable, str(script), *asked],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.match(r"2 streams, 10 tokens in \d+ pieces: \d+ tokens/s", done.stdout)


async def test_a_draft_is_judged_elsewhere_than_where_nobody_can():
    plain = ScriptedUpstream(is_vllm=False)
    async with serving(plain), pool_over(plain) as pool:
        assert not pool.info().verifies_drafts
        with pytest.raises(errors.NotSupported):
            await pool.judge(replace(REQUEST, draft="The"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "url"),
        ({"url": "ftp://x/v1"}, "url"),
        ({"url": "http://a/v1", "urls": ("http://b/v1",)}, "both"),
    ],
)
def test_a_configuration_without_a_clear_address_is_refused(settings, match):
    with pytest.raises(errors.ConfigError, match=match):
        UpstreamPool(BackendConfig(kind="openai", model="m", **settings))


STATES = "isthmus_cloud_upstream_addresses"


async def _into(told, stream):
    async for event in stream:
        told.append(event)


async def _until(true, within_s=3):
    until_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.002)
