// Threads that stay: they spin briefly between pieces of work, then sleep.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace isthmus {

inline void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spinning only pays for a few microseconds: on a busy machine the thread that is waited for may
// not even have a core.
constexpr int kSpins = 2000;

// Waits until `word` differs from `old`.
inline void wait_change(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != old) return;
    pause_cpu();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

// Waits until `count` has reached `target`; it is notified then, and only then.
inline void wait_for(const std::atomic<int>& count, int target) {
  for (int i = 0; i < kSpins; ++i) {
    if (count.load(std::memory_order_acquire) == target) return;
    pause_cpu();
  }
  for (int now; (now = count.load(std::memory_order_acquire)) != target;) {
    count.wait(now, std::memory_order_acquire);
  }
}

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {
    try {
      for (int id = 1; id < threads; ++id) workers_.emplace_back([this] { work(); });
    } catch (...) {  // the system has no thread left: those that started must end first
      end();
      throw;
    }
  }

  ~Pool() { end(); }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs `job` once on every thread, the caller's included, and returns when all have ended.
  void run(const std::function<void()>& job) {
    job_ = &job;
    started_.fetch_add(1, std::memory_order_release);
    started_.notify_all();
    job();
    barrier();
  }

  // Every thread of the pool waits here for the others.
  void barrier() {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.fetch_add(1, std::memory_order_release);
      phase_.notify_all();
    } else {
      wait_change(phase_, phase);
    }
  }

 private:
  void work() {
    uint32_t seen = 0;
    for (;;) {
      wait_change(started_, seen);
      seen = started_.load(std::memory_order_acquire);
      if (stop_) return;
      (*job_)();
      barrier();
    }
  }

  void end() {
    stop_ = true;
    started_.fetch_add(1, std::memory_order_release);
    started_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  const int threads_;
  std::vector<std::thread> workers_;
  const std::function<void()>* job_ = nullptr;
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<uint32_t> started_ = 0;
  alignas(64) std::atomic<int> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> phase_ = 0;
};

}  // namespace isthmus
