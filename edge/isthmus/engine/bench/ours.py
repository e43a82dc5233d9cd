"""The engine as a contender: `python -m isthmus.engine.bench.ours serve MODEL BACKEND THREADS`.

Everything goes through `Engine.complete`, as a request does: tokenizing, scheduling, sampling and
events are in the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

from isthmus.core.chat import Sampling
from isthmus.core.events import Delta
from isthmus.engine.bench.base import (
    CONTEXTS,
    DECODED,
    RSS_PREFILL,
    STREAM_DECODED,
    STREAM_PROMPT,
    Hello,
)
from isthmus.engine.engine import Engine, open_model
from isthmus.engine.perplexity import largest_shortfall

_GREEDY = Sampling(temperature=0, ignore_eos=True)
_WORDS = (
    "time year people way day man thing woman life child world school state family student "
    "group country problem hand part place case week company system program question work night "
    "point home water room mother area money story fact month lot right study book eye job word "
    "business issue side kind head house service friend father power hour game line end member "
    "law car city name team minute idea body back parent face level office door health art war"
)
_LETTERS = "abcdfgijklmnopqr"


class Contender:
    """One engine, asked for figures."""

    def __init__(self, model: str, backend: str, threads: int) -> None:
        began = time.perf_counter()
        self._opened = (model, backend, threads)
        self.engine = Engine.open(model, backend=backend, threads=threads, speculation=False)
        self.load_s = time.perf_counter() - began
        encode = self.engine.tokenizer.encode
        words = [
            f" {word}" for word in _WORDS.split() if len(encode(f" {word}", from_start=False)) == 1
        ]
        self._pieces = words or list(_LETTERS)
        self._fresh = itertools.count(1)

    async def hello(self) -> Hello:
        """Who this is. The bytes of a token are counted while some are decoded."""
        await self.arrivals(self.text(STREAM_PROMPT), DECODED)
        return Hello(
            backend=self.engine.backend_name,
            device=self.engine.device,
            threads=self._opened[2],
            load_s=self.load_s,
            bytes_per_token=self.engine.step_bytes,
            context=self.engine.context_tokens,
        )

    def text(self, tokens: int, *, seed: int | None = None) -> str:
        """A text of exactly `tokens` tokens, with no repeats to guess from; new without a seed."""
        draw = random.Random(-seed if seed is not None else next(self._fresh))
        start = len(self.engine.tokenizer.encode(""))  # a beginning-of-text token
        text = "".join(draw.choices(self._pieces, k=tokens - start))
        assert len(self.engine.tokenizer.encode(text)) == tokens
        return text

    async def arrivals(self, prompt: str, count: int) -> tuple[list[float], list[int]]:
        """When each of `count` tokens after `prompt` arrived, and which they were."""
        times: list[float] = []
        ids: list[int] = []
        async for event in self.engine.complete(prompt, _GREEDY, max_tokens=count):
            if isinstance(event, Delta):
                ids += event.token_ids
                times += [time.perf_counter()] * (len(ids) - len(times))
        return times, ids

    async def prefill(self, count: int) -> float:
        """Tokens a second of a prompt that nobody has seen, up to its first token."""
        prompt = self.text(count)
        began = time.perf_counter()
        await self.arrivals(prompt, 1)
        return count / (time.perf_counter() - began)

    async def decode(self, count: int) -> float:
        """Tokens a second of the last ones before position `count`."""
        prompt = self.text(count - DECODED, seed=count)  # in the cache from the second time on
        times, _ = await self.arrivals(prompt, DECODED)
        return _rate([times])

    async def batch(self, count: int) -> float:
        """Tokens a second, all together, of `count` conversations at once."""
        prompts = [self.text(STREAM_PROMPT) for _ in range(count)]
        all_arrivals = await asyncio.gather(*(self.arrivals(p, STREAM_DECODED) for p in prompts))
        return _rate([times for times, _ in all_arrivals])

    async def fill(self) -> None:
        """The work whose memory is measured: a prompt of 512, and a full context."""
        await self.prefill(min(RSS_PREFILL, self.engine.context_tokens - DECODED))
        await self.decode(max(n for n in CONTEXTS if n < self.engine.context_tokens))

    async def shortfall(self) -> float:
        """How far a greedy answer's tokens fall short of the full head's best logits; 0: never."""
        prompt = self.text(STREAM_PROMPT, seed=0)
        _, ids = await self.arrivals(prompt, STREAM_DECODED)
        before = self.engine.tokenizer.encode(prompt)
        name, backend, threads = self._opened
        return largest_shortfall(*open_model(name, backend=backend, threads=threads), before, ids)


def _rate(streams: list[list[float]]) -> float:
    """Tokens a second while all streams were decoding."""
    begin, end = max(times[0] for times in streams), min(times[-1] for times in streams)
    return sum(begin < t <= end for times in streams for t in times) / (end - begin)


def peak_rss_mb() -> float:
    """The most memory that this process has had, in MB."""
    try:
        # Not getrusage: that begins with what the parent had when it started this process.
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def main() -> None:
    """`serve`, `memory` or `check`, then model, backend and threads."""
    what, model, backend, threads = sys.argv[1:]
    contender = Contender(model, backend, int(threads))
    if what == "memory":
        asyncio.run(contender.fill())
        _say({"load_s": contender.load_s, "rss_mb": peak_rss_mb()})
    elif what == "check":
        _say({"shortfall": asyncio.run(contender.shortfall())})
    else:
        _say(asdict(asyncio.run(contender.hello())))
        for line in sys.stdin:
            request = json.loads(line)
            work = getattr(contender, request["do"])
            _say({"tok_s": asyncio.run(work(request["count"]))})
    contender.engine.close()


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
