"""The agent's client, where the gateway is missing, dead, slow or back again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest
import trustme

from asked import REQUEST, anew
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core import errors, events, wire
from isthmus.edge.breaker import BreakerState, CircuitBreaker
from isthmus.edge.config import EdgeConfig
from isthmus.edge.remote import RemoteConfig, RemoteTier, Tls
from isthmus.edge.server import build_agent
from isthmus.edge.testing import ScriptedEngine
from waiting import eventually


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def collected(tier, request=REQUEST):
    return [event async for event in tier.generate(anew(request))]


async def test_nothing_is_opened_before_the_first_call():
    connections = 0

    def accepted(reader, writer):
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tier = RemoteTier(RemoteConfig(f"127.0.0.1:{port}"))
    assert tier.available
    assert tier.last_info is None
    assert tier.breaker.state is BreakerState.CLOSED
    await asyncio.sleep(0.05)
    assert connections == 0
    assert not tier.connected
    await tier.close()
    server.close()


async def test_a_gateway_that_is_not_there_is_noticed_without_waiting_for_it():
    tier = RemoteTier(RemoteConfig(f"127.0.0.1:{free_port()}", connect_timeout_s=3600))
    with pytest.raises(errors.Unavailable):
        await collected(tier)
    await tier.close()


async def test_a_gateway_that_never_answers_is_given_up_when_the_time_to_connect_is_over():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        tier = RemoteTier(RemoteConfig(address, connect_timeout_s=0.1))
        with pytest.raises(errors.Unavailable):
            await collected(tier)
        await tier.close()


async def test_repeated_failures_open_the_breaker_and_further_calls_fail_without_trying():
    breaker = CircuitBreaker(failures=2, open_s=60)
    tier = RemoteTier(RemoteConfig(f"127.0.0.1:{free_port()}"), breaker=breaker)
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            await collected(tier)
    assert breaker.state is BreakerState.OPEN
    assert not tier.available
    with pytest.raises(errors.Unavailable, match="too often"):
        await collected(tier)
    await tier.close()


async def test_bytes_are_told_of_only_once_there_is_a_connection_for_them():
    told = []
    tier = RemoteTier(RemoteConfig(f"127.0.0.1:{free_port()}"))
    with pytest.raises(errors.Unavailable):
        await anext(tier.generate(REQUEST, told.append))
    assert told == []
    await tier.close()
    async with running_gateway() as address:
        tier = RemoteTier(RemoteConfig(address))
        _ = [event async for event in tier.generate(REQUEST, told.append)]
        await tier.close()
    assert told == [wire.request_as_bytes(REQUEST)]


async def test_a_request_that_is_held_back_reaches_no_gateway_and_tells_nothing_of_it():
    def refuse(data):
        raise errors.PolicyRefused("no", reason="privacy_no_consent")

    now_s = 0.0
    breaker = CircuitBreaker(failures=1, clock=lambda: now_s)
    breaker.fail()
    now_s += 60
    backend = ScriptedBackend()
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address), breaker=breaker)
        with pytest.raises(errors.PolicyRefused):
            await anext(tier.generate(REQUEST, refuse))
        assert breaker.state is BreakerState.HALF_OPEN
        assert tier.available
        await tier.close()
    assert backend.requests == []


async def test_a_gateway_that_comes_back_is_found_by_the_trial():
    port = free_port()
    now_s = 0.0
    breaker = CircuitBreaker(failures=1, open_s=60, clock=lambda: now_s)
    tier = RemoteTier(RemoteConfig(f"127.0.0.1:{port}"), breaker=breaker)
    with pytest.raises(errors.Unavailable):
        await collected(tier)
    assert breaker.state is BreakerState.OPEN
    async with running_gateway(listen=f"127.0.0.1:{port}"):
        while breaker.state is not BreakerState.CLOSED:  # gRPC itself waits before it tries again
            now_s += 61
            await asyncio.sleep(0.01)
            with contextlib.suppress(errors.Unavailable):
                await collected(tier)
        assert tier.available
    await tier.close()


async def test_a_gateway_that_dies_in_mid_answer_is_unavailable_and_counted():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    gateway = Gateway(gateway_config(drain_s=0), backend)
    await gateway.start()
    breaker = CircuitBreaker(failures=1, open_s=60)
    tier = RemoteTier(RemoteConfig(gateway.address, silent_s=0.1, broken_s=0.1), breaker=breaker)
    answer = tier.generate(anew())
    await anext(answer)
    stopping = asyncio.create_task(gateway.stop())
    with pytest.raises(errors.Unavailable):
        async for _ in answer:
            pass
    await stopping
    assert breaker.state is BreakerState.OPEN
    await tier.close()


async def test_a_refusal_is_the_gateways_answer_and_no_failure_of_it():
    breaker = CircuitBreaker(failures=1)
    backend = ScriptedBackend(failure=errors.Overloaded("full"))
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address), breaker=breaker)
        with pytest.raises(errors.Overloaded):
            await collected(tier)
        with pytest.raises(errors.InvalidRequest):
            await collected(tier, replace(REQUEST, max_tokens=0))
        await tier.close()
    assert breaker.state is BreakerState.CLOSED


async def test_a_caller_that_leaves_a_trial_does_not_block_the_next_one():
    breaker = CircuitBreaker(failures=1, open_s=0)
    backend = ScriptedBackend(first_delay_s=60)
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address), breaker=breaker)
        breaker.fail()
        task = asyncio.create_task(collected(tier))
        assert await eventually(lambda: bool(backend.requests))
        assert not tier.available
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tier.available
        await tier.close()


async def test_info_is_asked_once_and_kept():
    async with running_gateway() as address:
        tier = RemoteTier(RemoteConfig(address))
        first = await tier.info()
    assert await tier.info() is first
    assert tier.last_info is first
    assert tier.rtt_ms is not None
    with pytest.raises(errors.Unavailable):
        await tier.info(max_age_s=0)
    await tier.close()


async def test_what_it_observes_can_be_read():
    async with running_gateway(ScriptedBackend(first_delay_s=0.05)) as address:
        tier = RemoteTier(RemoteConfig(address))
        answer = await collected(tier)
        await tier.close()
    assert isinstance(answer[-1], events.Finished)
    assert tier.ttft_ms is not None
    assert tier.ttft_ms >= 50


async def test_a_tier_that_was_closed_says_so_and_connects_no_more():
    async with running_gateway() as address:
        tier = RemoteTier(RemoteConfig(address))
        await collected(tier)
        await tier.close()
        await tier.close()
        assert not tier.available
        with pytest.raises(errors.Unavailable, match="closed"):
            await collected(tier)


async def test_closing_it_ends_a_running_answer_as_unavailable_and_not_as_left():
    async with running_gateway(ScriptedBackend(["x"] * 1000, delay_s=0.02)) as address:
        tier = RemoteTier(RemoteConfig(address))
        answer = tier.generate(anew())
        await anext(answer)
        await tier.close()
        with pytest.raises(errors.Unavailable, match="closed"):
            async for _ in answer:
                pass


async def test_many_answers_share_one_channel():
    backend = ScriptedBackend(delay_s=0.01)
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address))
        answers = await asyncio.gather(*(collected(tier) for _ in range(20)))
        await tier.close()
    assert len(answers) == 20
    assert backend.most_running > 1


async def test_a_gateway_with_a_certificate_is_trusted_by_its_root_alone(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    files = {"tls_cert_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "key.pem"}
    async with running_gateway(**files) as address:
        knowing = RemoteTier(RemoteConfig(address, tls=Tls(ca=authority.cert_pem.bytes())))
        assert isinstance((await collected(knowing))[-1], events.Finished)
        plain = RemoteTier(RemoteConfig(address))
        with pytest.raises(errors.Unavailable):
            await collected(plain)
        await knowing.close()
        await plain.close()


@pytest.mark.parametrize(
    ("settings", "tls"),
    [
        ({"address": "127.0.0.1:1"}, False),
        ({"address": "unix:/run/x"}, False),
        ({"address": "127.0.0.1:1", "tls": Tls(ca=b"roots")}, True),
        ({"address": "gateway.example:443"}, True),
        ({"address": "127.0.0.1:1, gateway.example:443"}, True),
        ({"address": "gateway.example:443", "plaintext": True}, False),
    ],
)
def test_what_leaves_this_machine_is_encrypted_unless_told_otherwise(settings, tls):
    assert RemoteConfig(**settings).encrypted is tls


async def test_the_agents_settings_reach_its_client(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    settings = {"gateway_address": "gateway.example:443", "gateway_token": "hush"}
    for more, tls in (({}, True), ({"gateway_plaintext": True}, False)):
        agent = build_agent(EdgeConfig(**settings, **more), ScriptedEngine)
        assert (agent.cloud.config.encrypted, agent.cloud.config.token) == (tls, "hush")
        await agent.close()
    with pytest.raises(errors.ConfigError, match="gateway_ca_file"):
        build_agent(EdgeConfig(**settings, gateway_ca_file=tmp_path / "none"), ScriptedEngine)


def test_a_token_never_shows():
    assert "hush" not in repr(RemoteConfig("127.0.0.1:1", token="hush"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"address": ""}, "address"),
        ({"address": "nowhere"}, "address"),
        ({"address": "127.0.0.1:1,nowhere"}, "address"),
        ({"address": "h:1", "token": "two words"}, "token"),
    ],
)
def test_a_wrong_setting_is_named(settings, field):
    with pytest.raises(errors.ConfigError) as caught:
        RemoteConfig(**settings)
    assert caught.value.field == field
