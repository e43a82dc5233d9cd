#include "bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace isthmus {
namespace {

// A plain sum over several streams of additions: the compiler vectorises it, memory bounds it.
uint64_t sum(const uint64_t* data, size_t count) {
  constexpr size_t kStreams = 16;
  uint64_t sums[kStreams] = {};
  for (size_t i = 0; i + kStreams <= count; i += kStreams) {
    for (size_t j = 0; j < kStreams; ++j) sums[j] += data[i + j];
  }
  uint64_t total = 0;
  for (const uint64_t s : sums) total += s;
  return total;
}

}  // namespace

double read_bandwidth(size_t bytes, int threads, int passes) {
  using Clock = std::chrono::steady_clock;
  const size_t share = bytes / sizeof(uint64_t) / static_cast<size_t>(threads);
  const auto data = std::make_unique_for_overwrite<uint64_t[]>(share * threads);
  std::atomic<uint64_t> total = 0;  // used, so that no sum is optimised away
  double best = 0.0;
  // The first round writes each part from the thread that reads it: pages become real, and near.
  for (int pass = -1; pass < passes; ++pass) {
    std::latch ready(threads);
    std::vector<std::thread> workers;
    std::vector<Clock::time_point> begins(static_cast<size_t>(threads)), ends(begins);
    for (int id = 0; id < threads; ++id) {
      // Each takes its own times: the thread that waits for them may be without a core.
      workers.emplace_back([&, at = static_cast<size_t>(id)] {
        uint64_t* part = data.get() + share * at;
        ready.arrive_and_wait();
        begins[at] = Clock::now();
        if (pass < 0) {
          std::fill(part, part + share, 1);
        } else {
          total.fetch_add(sum(part, share), std::memory_order_relaxed);
        }
        ends[at] = Clock::now();
      });
    }
    for (auto& worker : workers) worker.join();
    const auto begin = *std::min_element(begins.begin(), begins.end());
    const auto end = *std::max_element(ends.begin(), ends.end());
    const double read = static_cast<double>(share * sizeof(uint64_t)) * threads;
    if (pass >= 0) best = std::max(best, read / std::chrono::duration<double>(end - begin).count());
  }
  return total.load() == 0 ? 0.0 : best;
}

}  // namespace isthmus
