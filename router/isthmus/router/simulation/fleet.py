"""A fleet on paper: every request of a workload through the policy, the devices and the cloud.

Time goes in slots. At the start of a slot the cloud says how long its queue is, as a gateway's
telemetry would; the slot's requests are decided in columns (`choice`), each with its device's own
queue as it is then; what stays is served in columns, what leaves is queued event by event
(`cloud`). The work grows with the requests; the memory with the devices (some 20 bytes each) and
with what is in flight. The same seed gives the same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from isthmus.router.simulation.block import Block, draw_block
from isthmus.router.simulation.choice import REASONS, CloudTerms, Facts, choose
from isthmus.router.simulation.cloud import Cloud, Job, Lost, Unbounded
from isthmus.router.simulation.devices import Devices, one_by_one
from isthmus.router.simulation.flight import Flight
from isthmus.router.simulation.outages import Outage, Part
from isthmus.router.simulation.prefix import PrefixCache
from isthmus.router.simulation.requests import Flags, Floats, Ints, Requests, Workload
from isthmus.router.simulation.scenario import Scenario
from isthmus.router.simulation.tally import Tally, Tier

BLOCK_S = 600.0
"""Requests are drawn for so long at once."""
SLOT_REQUESTS = 300
"""What makes a slot worth its overhead; it stays between the next two."""
SLOT_S = (10.0, 30.0)
ENDLESS_S = 1e12
_FLIGHT = ("arrival_s", "rtt_ms", "device", "network", "prompt", "answer", "edge_q", "cloud_q")


@dataclass(slots=True)
class Run:
    """What came of a run."""

    scenario: Scenario
    hours: float
    devices: int
    gpus: int
    tally: Tally
    outages: tuple[Outage, ...] = ()
    jobs: list[Floats] = field(default_factory=list)
    """When asked for: arrival, prompt tokens to compute, answer tokens, KV tokens and round trip
    of each request that left; shape [requests of a slot, 5]."""


def simulate(
    scenario: Scenario,
    workload: Workload,
    *,
    devices: int,
    gpus: int | None,
    seed: int = 0,
    outages: tuple[Outage, ...] = (),
    start_s: float = 0.0,
    window: tuple[float, float] | None = None,
    keep_jobs: bool = False,
    step: Callable[[float], None] = lambda hours: None,
) -> Run:
    """Run a fleet. `gpus` None: a cloud in which nobody waits. `start_s` is the time of day of the
    first second; `window` runs whole ten minutes of it alone; `step` is told how many hours have
    passed.
    """
    simulation = _Simulation(scenario, workload, devices, gpus, seed, outages, start_s, keep_jobs)
    simulation.run(window or (0.0, workload.hours * 3600), step)
    return simulation.result


class _Simulation:
    def __init__(
        self,
        scenario: Scenario,
        workload: Workload,
        devices: int,
        gpus: int | None,
        seed: int,
        outages: tuple[Outage, ...],
        start_s: float,
        keep_jobs: bool,
    ) -> None:
        self.scenario, self.workload, self.seed, self.start_s = scenario, workload, seed, start_s
        # A race of both tiers is counted as its target.
        self.config = replace(scenario.router, race=False)
        self.tally = Tally(workload.hours)
        self.result = Run(scenario, workload.hours, devices, gpus or 0, self.tally, outages)
        self.keep_jobs = keep_jobs
        self.devices = Devices(devices, scenario.devices, self.config.budget)
        self.cloud = Cloud(scenario.gpu, gpus) if gpus else Unbounded(scenario.gpu, 1)
        self.flight = Flight(_FLIGHT)
        self.worked = (0.0, 0.0)
        """Busy GPU-seconds and sequence-seconds that have been counted."""
        self.told_s = (0.0, self.cloud.tpot_s())
        """The wait and the time a token that the cloud told last."""
        model = scenario.cloud
        self.terms = CloudTerms.of(
            model.input_usd_per_mtok, model.output_usd_per_mtok, model.context_tokens
        )
        self.prefixes = PrefixCache(model.prefix_cache_tokens * (gpus or 1))
        self.rtt_ms = np.array([network.rtt_ms for network in scenario.networks])
        self.radio_j = np.array([network.radio_j for network in scenario.networks])
        self.outages = outages
        names = [network.name for network in scenario.networks]
        self.hit = [
            np.array([o.network in {None, name} for name in names]) & (o.part is Part.NETWORK)
            for o in outages
        ]
        """For each outage: which networks are gone."""

    def run(self, window: tuple[float, float], step: Callable[[float], None]) -> None:
        begin_s, end_s = window
        moments = sorted({t for o in self.outages for t in (o.start_s, o.end_s) if t < end_s})
        for number in range(int(begin_s // BLOCK_S), math.ceil(end_s / BLOCK_S)):
            block_s = number * BLOCK_S
            until_s = min(end_s, block_s + BLOCK_S)
            rng = np.random.default_rng((self.seed, number))
            requests = self.workload.between(block_s, until_s, rng)
            block = draw_block(requests, self.scenario, self.result.devices, rng)
            rate = max(1e-9, len(requests) / (until_s - block_s))
            length_s = min(max(SLOT_REQUESTS / rate, SLOT_S[0]), SLOT_S[1])
            length_s = 60 / math.ceil(60 / length_s)  # slots end where the tally's rows do
            edges = np.arange(block_s, until_s, length_s)
            inside = [t for t in moments if block_s < t < until_s]
            edges = np.unique(np.concatenate((edges, inside, [until_s])))
            rows = np.searchsorted(requests.arrival_s, edges)
            for slot, slot_s in enumerate(edges[:-1].tolist()):
                if slot_s in moments:
                    self._change(slot_s)
                self._slot(block, np.arange(rows[slot], rows[slot + 1]), slot_s)
                self._settle(float(edges[slot + 1]))
            step(until_s / 3600)
        self._settle(ENDLESS_S)

    def _change(self, now_s: float) -> None:
        """An outage begins or ends."""
        self.cloud.run(now_s)
        clouds = [one for one in self.outages if one.part is Part.CLOUD]
        left = [one.gpus_left for one in clouds if one.start_s <= now_s < one.end_s]
        lost: list[Lost] = self.cloud.resize(int(self.result.gpus * min(left, default=1.0)))
        for outage, hit in zip(self.outages, self.hit, strict=True):
            if outage.part is Part.NETWORK and now_s == outage.start_s:
                keys = np.array(self.cloud.keys(), np.int64)
                gone = hit[self.flight.rows(keys)["network"].astype(np.int64)]
                lost += self.cloud.drop(set(keys[gone].tolist()))
        if lost:
            rows = self.flight.rows(np.array([one.key for one in lost]))
            self._fall_back(
                rows,
                now_s,
                np.array([np.nan if one.first_s is None else one.first_s for one in lost]),
                np.array([one.answered_tokens for one in lost]),
            )

    def _gone(self, time_s: Floats, network: Ints, delay_s: float) -> tuple[Flags, Flags]:
        """Whether the cloud and a request's network are gone, as it is known after `delay_s`."""
        cloud_gone = np.zeros(len(time_s), bool)
        network_gone = np.zeros(len(time_s), bool)
        for outage, hit in zip(self.outages, self.hit, strict=True):
            now = (time_s >= outage.start_s + delay_s) & (time_s < outage.end_s + delay_s)
            if outage.part is Part.NETWORK:
                network_gone |= now & hit[network]
            elif int(self.result.gpus * outage.gpus_left) == 0:
                cloud_gone |= now
        return cloud_gone, network_gone

    def _slot(self, block: Block, rows: Ints, begin_s: float) -> None:
        if not len(rows):
            return
        self.cloud.run(begin_s)
        if self.cloud.gpus:
            self.told_s = (self.cloud.wait_s(), self.cloud.tpot_s())
        wait_ms, tpot_ms = (seconds * 1e3 for seconds in self.told_s)
        leaving = [
            rows[turn][self._decide(block, rows[turn], wait_ms, tpot_ms)]
            for turn in one_by_one(block.device[rows])
        ]
        gone = np.sort(np.concatenate(leaving))
        if len(gone):
            self._escalate(block, gone)

    def _decide(self, block: Block, rows: Ints, wait_ms: float, tpot_ms: float) -> Flags:
        """Decide for rows of different devices and serve what stays. Returns what leaves."""
        requests, devices, tally = block.requests, self.devices, self.tally
        arrival, prompt = requests.arrival_s[rows], requests.prompt_tokens[rows]
        device, network = block.device[rows], block.network[rows]
        kind = devices.kind[device]
        queue_s = np.maximum(0.0, devices.free_s[device] - arrival)
        prefill_ms = prompt / self.scenario.gpu.prefill_tok_s * 1e3 + wait_ms
        breaker_open, offline = self._gone(arrival, network, self.scenario.notice_s)
        left, shadow = devices.budget(device, arrival + self.start_s)
        choice = choose(
            Facts(
                prompt_tokens=prompt,
                edge_quality=block.edge_quality[rows],
                cloud_quality=block.cloud_quality[rows],
                edge_context_tokens=devices.context_tokens[kind],
                edge_ttft_ms=(queue_s + prompt * devices.prefill_s[kind]) * 1e3,
                edge_tpot_ms=devices.decode_s[kind] * 1e3,
                cloud_ttft_p50_ms=self.rtt_ms[network, 0] + prefill_ms,
                # The measured percentile nearest to the 95th, from the safe side.
                cloud_ttft_p95_ms=self.rtt_ms[network, 2] + prefill_ms,
                cloud_tpot_ms=np.full(len(rows), tpot_ms),
                private=block.private[rows],
                offline=offline,
                breaker_open=breaker_open,
                battery=devices.battery(device, arrival + self.start_s),
                battery_wh=np.nan_to_num(devices.battery_wh[kind], nan=1.0),
                budget_left_micro_usd=left,
                shadow_price=shadow,
            ),
            self.terms,
            self.config,
        )
        where = tally.row(arrival)
        tally.reasons += np.bincount(choice.reason, minlength=len(REASONS))
        tally.add(tally.requests, where)
        tally.add(tally.escalated, where, choice.cloud)
        tally.add(tally.unserved, where, ~choice.served)
        tally.add(tally.good_on_edge, where, block.edge_quality[rows])
        tally.add(tally.good_in_cloud, where, block.cloud_quality[rows])
        stays = choice.served & ~choice.cloud
        here = rows[stays]
        first, last, joules = devices.serve(
            device[stays], arrival[stays], prompt[stays], requests.answer_tokens[here]
        )
        tally.add(tally.device_j, where[stays], joules)
        tally.add(tally.good_answers, where[stays], block.edge_quality[here])
        tally.answered(
            Tier.EDGE, where[stays], (first - arrival[stays]) * 1e3, (last - arrival[stays]) * 1e3
        )
        return choice.cloud

    def _escalate(self, block: Block, rows: Ints) -> None:
        """Send rows, in the order of their arrival, to the cloud, or to where it had been."""
        requests, tally = block.requests, self.tally
        columns = {
            "arrival_s": requests.arrival_s[rows],
            "rtt_ms": block.rtt_ms[rows],
            "device": block.device[rows].astype(np.float64),
            "network": block.network[rows].astype(np.float64),
            "prompt": requests.prompt_tokens[rows].astype(np.float64),
            "answer": requests.answer_tokens[rows].astype(np.float64),
            "edge_q": block.edge_quality[rows],
            "cloud_q": block.cloud_quality[rows],
        }
        arrival, network = columns["arrival_s"], block.network[rows]
        where = tally.row(arrival)
        radio_j = self.radio_j[network]
        tally.add(tally.radio_j, where, radio_j)
        self.devices.drain(block.device[rows], radio_j)
        lost = np.logical_or(*self._gone(arrival, network, 0.0))
        if lost.any():
            nothing = np.zeros(int(lost.sum()))
            gone = {name: column[lost] for name, column in columns.items()}
            self._fall_back(gone, arrival[lost], nothing * np.nan, nothing)
            rows, columns = rows[~lost], {n: column[~lost] for n, column in columns.items()}
            if not len(rows):
                return
        keys = self.flight.add(columns, self.cloud.keys())
        prompt, answer = requests.prompt_tokens[rows], requests.answer_tokens[rows]
        compute = np.maximum(1, prompt - self._cached(requests, rows, prompt))
        tally.prompt_tokens += int(prompt.sum())
        tally.cached_tokens += int((prompt - compute).sum())
        jobs = (keys, columns["arrival_s"], compute, answer, prompt + answer)
        self.cloud.offer(map(Job._make, zip(*(column.tolist() for column in jobs), strict=True)))
        if self.keep_jobs:
            self.result.jobs.append(np.stack((*jobs[1:], columns["rtt_ms"]), axis=1))

    def _cached(self, requests: Requests, rows: Ints, prompt: Ints) -> Ints:
        if requests.blocks is None:
            return np.zeros(len(rows), np.int64)
        hits = [self.prefixes.cached_tokens(requests.blocks[row]) for row in rows]
        return np.minimum(np.array(hits, np.int64), prompt - 1)

    def _settle(self, until_s: float) -> None:
        """Let the cloud run, and count what it finished."""
        self.cloud.run(until_s)
        place = min(self.tally.rows - 1, int((until_s - 1e-6) / self.tally.step_s))
        self.tally.busy_gpu_s[place] += self.cloud.busy_gpu_s - self.worked[0]
        self.tally.sequence_s[place] += self.cloud.sequence_s - self.worked[1]
        self.worked = (self.cloud.busy_gpu_s, self.cloud.sequence_s)
        if not self.cloud.done:
            return
        done = np.array(self.cloud.done)
        self.cloud.done.clear()
        rows = self.flight.rows(done[:, 0].astype(np.int64))
        ttft_ms = (done[:, 1] - rows["arrival_s"]) * 1e3 + rows["rtt_ms"]
        total_ms = (done[:, 2] - rows["arrival_s"]) * 1e3 + rows["rtt_ms"]
        where = self.tally.row(rows["arrival_s"])
        self.tally.answered(Tier.CLOUD, where, ttft_ms, total_ms)
        self.tally.add(self.tally.good_answers, where, rows["cloud_q"])
        self._pay(rows, rows["answer"])

    def _pay(self, rows: dict[str, Floats], answered: Floats) -> None:
        cost = self.terms.cost_micro_usd(rows["prompt"].astype(np.int64), answered.astype(np.int64))
        self.tally.add(self.tally.micro_usd, self.tally.row(rows["arrival_s"]), cost)
        self.devices.pay(rows["device"].astype(np.int64), cost)

    def _fall_back(
        self, rows: dict[str, Floats], gone_s: Floats | float, first_s: Floats, answered: Floats
    ) -> None:
        """The devices finish what the cloud lost at `gone_s`, once they have noticed.

        `first_s`: when its first token came, not a number where none had; `answered`: the tokens.
        """
        begun = ~np.isnan(first_s)
        if begun.any():
            self._pay({name: column[begun] for name, column in rows.items()}, answered[begun])
        count, tally = len(first_s), self.tally
        device = rows["device"].astype(np.int64)
        prompt = (rows["prompt"] + answered).astype(np.int64)
        answer = np.maximum(1, rows["answer"] - answered).astype(np.int64)
        ready = np.broadcast_to(np.asarray(gone_s) + self.scenario.notice_s, count)
        where = tally.row(rows["arrival_s"])
        needed = prompt + self.config.answer_reserve_tokens
        fits = needed <= self.devices.context_tokens[self.devices.kind[device]]
        tally.add(tally.unserved, where[~fits])
        fitting = np.flatnonzero(fits)
        for turn in one_by_one(device[fitting]):
            now = fitting[turn]
            first, last, joules = self.devices.serve(
                device[now], ready[now], prompt[now], answer[now]
            )
            shown = np.where(begun[now], first_s[now] + rows["rtt_ms"][now] / 1e3, first)
            arrival = rows["arrival_s"][now]
            tally.add(tally.device_j, where[now], joules)
            tally.add(tally.good_answers, where[now], rows["edge_q"][now])
            tally.answered(
                Tier.FELL_BACK, where[now], (shown - arrival) * 1e3, (last - arrival) * 1e3
            )
