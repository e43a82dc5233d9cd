// How fast this machine reads memory: what decoding is measured against.
#pragma once
#include <cstddef>

namespace isthmus {

// The best of `passes` over `bytes` of memory that `threads` threads read side by side, each its
// own part, in bytes a second. `bytes` has to be far above the caches.
double read_bandwidth(size_t bytes, int threads, int passes);

}  // namespace isthmus
