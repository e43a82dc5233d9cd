"""The engine as a contender: `python -m isthmus.engine.bench.ours serve MODEL BACKEND THREADS`.

Everything goes through `Engine.complete`, as a request does: tokenizing, scheduling, sampling and
events are in the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart
from isthmus.core.errors import InternalError
from isthmus.core.events import Delta
from isthmus.engine.bench.base import (
    ANSWER,
    CONTEXTS,
    DECODED,
    ROOM,
    RSS_PREFILL,
    STREAM_DECODED,
    STREAM_PROMPT,
    Hello,
)
from isthmus.engine.bench.prompts import EDITING, OTHER
from isthmus.engine.engine import Engine
from isthmus.engine.opening import open_model
from isthmus.engine.perplexity import largest_shortfall
from isthmus.engine.speculation import MAX_DRAFT
from isthmus.engine.template import Prompt

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
            prefill_backend=self.engine.prefill_backend,
            decode_backend=self.engine.decode_backend,
            device=self.engine.device,
            threads=self._opened[2],
            load_s=self.load_s,
            bytes_per_token=self.engine.step_bytes,
            context=self.engine.context_tokens,
        )

    def text(self, tokens: int, *, seed: int | None = None) -> str:
        """A text of exactly `tokens` tokens, with no repeats to guess from; new without a seed."""
        draw = random.Random(-seed if seed is not None else next(self._fresh))
        # A beginning-of-text token, and SentencePiece's space in front.
        start = len(self.engine.tokenizer.encode(self._pieces[0])) - 1
        text = "".join(draw.choices(self._pieces, k=tokens - start))
        assert len(self.engine.tokenizer.encode(text)) == tokens
        return text

    @cached_property
    def guessing(self) -> Engine:
        """The same engine with speculation."""
        model, backend, threads = self._opened
        return Engine.open(model, backend=backend, threads=threads)

    async def arrivals(self, prompt: str, count: int) -> tuple[list[float], list[int]]:
        """When each of `count` tokens after `prompt` arrived, and which they were."""
        return await _arrivals(self.engine, prompt, _GREEDY, count)

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

    async def speedup(self, name: str) -> float:
        """How many times as fast the answer to one of `prompts` is written with speculation.

        Raises `InternalError` when native kernels give another answer: theirs are the same to the
        last bit however many tokens a step has. Others round otherwise, and an answer may turn
        where two tokens are as likely.
        """
        message = Message(Role.USER, (TextPart((EDITING | OTHER)[name]),))
        prompt = self.engine.prompt(ChatRequest("bench", (message,)))
        engines = [self.engine, self.guessing]
        order = engines if next(self._fresh) % 2 else engines[::-1]
        # To its own end: what a model writes beyond that repeats itself.
        greedy = Sampling(temperature=0)
        done = {engine: await _arrivals(engine, prompt, greedy, ANSWER) for engine in order}
        (plain, ids), (guessed, other_ids) = (done[engine] for engine in engines)
        if ids != other_ids and self.engine.decode_backend == "native":
            raise InternalError("speculation changed an answer: the figures are void")
        if min(len(ids), len(other_ids)) <= MAX_DRAFT + 1:
            return 1.0  # it may take one step: no time to speak of
        return _seconds_a_token(plain) / _seconds_a_token(guessed)

    async def slowdown(self, count: int) -> float:
        """How many times as long a conversation's tokens take while a prompt of `count` arrives.

        They are compared with the same tokens, at the same context, when nothing arrives.
        """
        prompt, arriving = self.text(STREAM_PROMPT), self.text(count)
        times: list[float] = []
        arrival: asyncio.Task[tuple[list[float], list[int]]] | None = None
        events = self.engine.complete(prompt, _GREEDY, max_tokens=ROOM - STREAM_PROMPT)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Delta):
                    times += [time.perf_counter()] * event.tokens
                if arrival is None and len(times) >= STREAM_DECODED:
                    begin = len(times)
                    arrival = asyncio.create_task(self.arrivals(arriving, 1))
                elif arrival is not None and arrival.done():
                    break
        if arrival is not None:
            await arrival
        end = len(times)
        alone, _ = await self.arrivals(prompt, end)
        return (times[-1] - times[begin]) / (alone[-1] - alone[begin])

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


async def _arrivals(
    engine: Engine, prompt: str | Prompt, sampling: Sampling, count: int
) -> tuple[list[float], list[int]]:
    times: list[float] = []
    ids: list[int] = []
    async for event in engine.complete(prompt, sampling, max_tokens=count):
        if isinstance(event, Delta):
            ids += event.token_ids
            times += [time.perf_counter()] * (len(ids) - len(times))
    return times, ids


def _seconds_a_token(times: list[float]) -> float:
    return (times[-1] - times[0]) / (len(times) - 1)


def _rate(streams: list[list[float]]) -> float:
    """Tokens a second while all streams were decoding."""
    begin, end = max(times[0] for times in streams), min(times[-1] for times in streams)
    if end <= begin:  # a tiny model's answers may be too short to meet
        begin, end = min(times[0] for times in streams), max(times[-1] for times in streams)
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
            _say({"value": asyncio.run(work(request["of"]))})
    contender.engine.close()


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
