"""What goes into a step: nobody is stalled, nobody is starved, nothing is computed twice."""

from __future__ import annotations

from itertools import pairwise

from isthmus.core.events import Finished, Started
from isthmus.engine.pace import MIN_CHUNK, REMEASURE, Pace
from scheduling import BLOCK, Bench


def step_times(bench: Bench, until_computed: int, answer_index: int = 0) -> list[float]:
    """Seconds of each step until the last answer asked has read so much."""
    answer = list(bench.events)[answer_index]
    ends = [bench.plan.now_s]
    while answer.computed < until_computed:
        bench.step()
        ends.append(bench.plan.now_s)
    return [after - before for before, after in pairwise(ends)]


def test_a_long_prompt_at_most_doubles_the_time_of_a_running_answers_tokens() -> None:
    bench = Bench()
    running = bench.ask([1, 2, 3])
    bench.step(20)
    bench.ask([7] * 2000)
    written = running.written
    times = step_times(bench, 2000, answer_index=1)
    assert max(times) <= 2 * 0.011 + 1e-9
    assert running.written == written + len(times)
    assert len(times) < 2000 / 8 * (1 + 1 / REMEASURE) + 20  # it gets on, too


def test_a_prompt_alone_is_read_in_whole_chunks() -> None:
    bench = Bench()
    bench.ask([7] * 300, max_tokens=1)
    bench.finish()
    assert [len(batch.tokens) for batch in bench.plan.batches] == [128, 128, 44]


def test_a_prompt_gets_on_however_slow_its_tokens_are() -> None:
    bench = Bench(cost=lambda tokens: 0.001 if tokens == 1 else 1.0 * tokens)
    bench.ask([1, 2, 3])
    bench.step(20)
    slow = bench.ask([7] * 50)
    bench.step(3 * (REMEASURE + 1))
    assert slow.computed == 3 * MIN_CHUNK


def test_steps_that_took_too_long_are_made_up_for_by_those_that_follow() -> None:
    bench = Bench(cost=lambda tokens: 0.010 + 0.005 * (tokens - 1))
    running = bench.ask([1, 2, 3])
    bench.step(20)
    prompt = bench.ask([7] * 400)
    written, began_s = running.written, bench.plan.now_s
    behind = []
    while prompt.computed < 400:
        bench.step()
        due_s = 2 * 0.010 * (running.written - written)
        behind.append(bench.plan.now_s - began_s - due_s)
    assert max(behind) <= MIN_CHUNK * 0.005 - 0.010 + 1e-9  # one step's excess at a time
    assert running.written - written < 400 / MIN_CHUNK * 6


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    bench = Bench()
    long = bench.ask([7] * 2000)
    bench.step()
    short = bench.ask([9] * 60)
    bench.step(2)
    assert short.written == 2
    assert long.computed < 400


def test_prompts_share_a_step_and_a_short_one_leaves_its_rest() -> None:
    bench = Bench()
    asked = [bench.ask([10 + i] * size) for i, size in enumerate((500, 8, 500))]
    bench.step()
    assert [answer.computed for answer in asked] == [60, 8, 60]


def test_more_prompts_than_room_take_turns() -> None:
    bench = Bench(cost=lambda tokens: 0.001 if tokens == 1 else 1.0 * tokens)
    bench.ask([1, 2, 3])
    bench.step(20)
    prompts = [bench.ask([10 + i] * 400) for i in range(7)]
    bench.step(7 * 2 * (REMEASURE + 1))
    read = [answer.computed for answer in prompts]
    assert sum(read) >= 7 * 2 * MIN_CHUNK - MIN_CHUNK
    assert max(read) - min(read) <= MIN_CHUNK


def test_a_common_start_of_prompts_that_come_together_is_computed_once() -> None:
    bench = Bench()
    system = [5] * (20 * BLOCK)
    asked = [bench.ask([*system, *[50 + i] * 10], max_tokens=1) for i in range(4)]
    bench.finish()
    # The last chunk of the first goes beyond the common start.
    assert bench.tokens_computed == len(system) + 4 * 10
    assert [answer.cached_tokens for answer in asked] == [0, *[len(system)] * 3]
    for answer in asked:
        assert answer.tokens[-1] == answer.tokens[-2] + 1


def test_prompts_of_two_salts_neither_share_their_common_start_nor_wait_for_it() -> None:
    bench = Bench()
    system = [5] * (20 * BLOCK)
    asked = [bench.ask([*system, 50], max_tokens=1, cache_salt=salt) for salt in ("a", "b")]
    bench.step()
    assert all(answer.computed > 0 for answer in asked)
    bench.finish()
    assert bench.tokens_computed == 2 * (len(system) + 1)
    assert [answer.cached_tokens for answer in asked] == [0, 0]


def test_a_system_prompt_is_shared_with_one_that_comes_while_the_first_runs() -> None:
    bench = Bench()
    system = [5] * (3 * BLOCK)
    bench.ask([*system, 1, 2])
    bench.step(2)
    second = bench.ask([*system, 3, 4])
    bench.step()
    started = bench.events[second][0]
    assert isinstance(started, Started)
    assert started.cached_tokens == len(system)


def test_a_cancelled_prompt_stops_at_the_next_step() -> None:
    bench = Bench()
    answer = bench.ask([7] * 2000)
    bench.step()
    answer.cancelled = True
    assert not bench.scheduler.step()
    assert bench.tokens_computed == 128
    assert answer.lease.blocks == []


def test_a_pool_too_small_for_all_puts_the_youngest_off_and_finishes_everybody() -> None:
    bench = Bench(blocks=12)
    asked = [bench.ask([20 * i, 20 * i + 1], max_tokens=60) for i in range(5)]
    bench.finish()
    for i, answer in enumerate(asked):
        assert answer.tokens == [(20 * i + n) % 256 for n in range(62)]
        assert isinstance(bench.events[answer][-1], Finished)


def test_the_decoding_step_is_measured_again_now_and_then() -> None:
    pace = Pace()
    pace.observe(1, 0, 0.01)
    pace.observe(0, 100, 0.06)
    rooms = []
    for _ in range(REMEASURE + 1):
        rooms.append(pace.prompt_room(1, 128))
        pace.observe(1, rooms[-1], 0.01 + 0.0006 * rooms[-1])
    assert rooms == [13] * REMEASURE + [0]
    assert pace.prompt_room(1, 128) == 13


def test_the_pace_follows_a_device_that_slows_down_and_ignores_a_hiccup() -> None:
    pace = Pace()
    for _ in range(9):
        pace.observe(1, 0, 0.01)
        pace.observe(1, 10, 0.01 + 10 * 0.0006)
    assert pace.prompt_room(1, 128) == 13
    pace.observe(1, 0, 5.0)
    assert pace.prompt_room(1, 128) == 13
    for _ in range(20):
        pace.observe(1, 10, 0.01 + 10 * 0.00075)
    assert pace.prompt_room(1, 128) == 10


def test_a_step_never_measured_is_guessed_from_those_around_it() -> None:
    pace = Pace()
    pace.observe(1, 0, 0.010)
    assert [*pace.writing_s(1, 1)] == [0.010, 0.0125]
    pace.observe(5, 0, 0.030)
    assert [round(float(s), 6) for s in pace.writing_s(3, 4)] == [0.02, 0.025, 0.03, 0.035, 0.04]


def test_a_size_measured_at_a_bad_moment_is_forgotten() -> None:
    pace = Pace()
    pace.observe(4, 0, 60.0)
    for _ in range(300):
        pace.observe(1, 0, 0.010)
    assert float(pace.writing_s(4, 0)[0]) < 0.03
