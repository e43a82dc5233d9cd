"""A gateway on vLLM in its own process, and what its tests need to know of it.

`make test-vllm` exports the model and names its folder in ISTHMUS_TEST_VLLM_MODEL.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import time
import urllib.request

import pytest

from device_tokens import AUDIENCE, ISSUER, Signer, write_jwks
from processes import Program

MODEL = os.environ.get("ISTHMUS_TEST_VLLM_MODEL", "")

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not MODEL or importlib.util.find_spec("vllm") is None,
        reason="needs vLLM and an exported model: make test-vllm",
    ),
]

SIGNER = Signer()

SERVING = """
dtype = "bfloat16"
max_model_len = 1024
engine.enforce_eager = true
[serving.prefill]
chunked = true
step_tokens = 512
[serving.batching]
sequences = 8
[serving.kv_cache]
prefix_caching = true
[serving.parallel]
tensor = 1
[serving.overlap]
async_scheduling = true
[serving.admission]
queued_requests = 64
policy = "priority"
"""
GATEWAY = """
listen = "127.0.0.1:0"
metrics_listen = "127.0.0.1:0"
[auth]
jwks_file = {jwks}
issuer = "{issuer}"
audience = "{audience}"
[backend]
kind = "vllm"
model = {model}
[serving]
{serving}
"""


def settings(folder, serving=SERVING):
    """A gateway's file, whose keys lie in `folder`."""
    return GATEWAY.format(
        model=json.dumps(MODEL),
        serving=serving,
        jwks=json.dumps(str(write_jwks(folder / "jwks.json", SIGNER))),
        issuer=ISSUER,
        audience=AUDIENCE,
    )


class RunningGateway:
    def __init__(self, folder):
        config = folder / "cloud.toml"
        config.write_text(settings(folder))
        # Even an operator who debugs sees no user's words.
        self.program = Program(
            "cloud", "serve", "--config", str(config), "--json", VLLM_LOGGING_LEVEL="DEBUG"
        )
        ready = json.loads(self.program.wait_for(r"^\{.*\}$", 240).group())
        self.address = ready["address"]
        self._metrics = ready["metrics"]

    def sample(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = [line for line in lines if re.match(re.escape(name) + r"[ {]", line)]
        assert found, f"no metric {name}"
        return sum(
            float(line.rpartition(" ")[2]) for line in found if all(w in line for w in wanted)
        )

    async def until_idle(self, within_s):
        """Wait until vLLM itself says that nothing runs any more."""
        began_s = time.monotonic()
        while await asyncio.to_thread(self.sample, "vllm:num_requests_running"):
            assert time.monotonic() - began_s < within_s, "vLLM still runs the request"
            await asyncio.sleep(0.002)
