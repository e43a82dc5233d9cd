// How the threads of a plan share its work: in phases, each cut into tasks. For its sources alone.
#pragma once
#include <algorithm>

#include "plan.hpp"

namespace isthmus {

// Up to this many tokens every thread norms and quantizes the input for itself: that costs less
// than waiting for one of them to do it.
constexpr int kFewTokens = 16;

// Rows of a batch whose best tokens are looked for in two passes: with more of them reading the
// weights is no longer most of the work.
constexpr int kGreedyRows = 8;

// Tasks are handed out one by one, and a phase ends with its last task, not when every thread has
// been there: one that lost its core between two tasks holds up nobody, and skips what it missed.
template <class Task>
void Plan::phase(Worker& worker, int tasks, Task&& task) {
  Progress& progress = progress_[worker.phase++];
  for (int i; (i = progress.next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
    task(i);
    if (progress.done.fetch_add(1, std::memory_order_acq_rel) + 1 == tasks) {
      progress.done.notify_all();
    }
  }
  wait_for(progress.done, tasks);
}

// Work of `count` equal parts in runs of several, whole multiples of `unit` but for the last. Few
// tokens make little work, of which asking for the next run would be a large part; much work is
// better shared in small runs.
template <class Part>
void Plan::chunks(Worker& worker, int count, int unit, int tokens, Part&& part) {
  const int runs = (tokens <= kFewTokens ? 2 : 8) * pool_.threads();
  const int size = std::max(unit, round_up((count + runs - 1) / runs, unit));
  phase(worker, (count + size - 1) / size,
        [&](int task) { part(task * size, std::min(count, (task + 1) * size)); });
}

template <class Input>
void Plan::product(Worker& worker, const Op& op, Input&& input, int tokens, float* out, int stride,
                   bool accumulate) {
  const int blocks = op.weight.row_blocks();
  chunks(worker, blocks, kRowBlocks, tokens, [&](int first, int last) {
    kernels_->matmul(op.weight, input(), tokens, first, last, out + first * kRows, stride,
                     op.vector, accumulate);
  });
}

}  // namespace isthmus
