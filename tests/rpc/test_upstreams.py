"""What is asked of an upstream: as what it is, over which connections, as who."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import ScriptedUpstream
from isthmus.core import errors
from upstream_pools import (
    REQUEST,
    WHOLE,
    collected,
    pool_over,
    sample,
    serving,
    text_of,
)
from waiting import eventually


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


async def test_a_caller_that_leaves_closes_the_upstreams_connection():
    slow = ScriptedUpstream(["word "] * 1000, delay_s=0.01)
    async with serving(slow), pool_over(slow) as pool:
        stream = pool.generate(REQUEST)
        await anext(stream)
        assert pool.load().running_requests == slow.running == 1
        await stream.aclose()
        assert await eventually(lambda: not slow.running, within_s=0.1)
        assert pool.load().running_requests == 0
        assert sample(pool, "isthmus_cloud_upstream_requests_total", result="cancelled") == 1


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
        ({"url": "http://a..b/v1"}, "url"),
        ({"url": "http://a/v1", "urls": ("http://b/v1",)}, "both"),
    ],
)
def test_a_configuration_without_a_clear_address_is_refused(settings, match):
    with pytest.raises(errors.ConfigError, match=match):
        UpstreamPool(BackendConfig(kind="openai", model="m", **settings))
