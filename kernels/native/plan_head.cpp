// The head of a plan: all logits, or for a greedy step as few exact ones as it takes.
#include <algorithm>
#include <cmath>

#include "plan_phases.hpp"

namespace isthmus {

// How far a logit of the first pass may be from the exact one, in standard deviations. What the
// first pass leaves out of a row (rounding errors, `Matrix::residuals`) knows nothing of the input,
// so their product is the sum of hundreds of independent terms.
constexpr float kSigmas = 7.0f;

bool Plan::in_two_passes(const Op& op) const {
  return batch_.greedy && batch_.wanted <= kGreedyRows && op.weight.halved();
}

void Plan::head(Worker& worker, const Op& op) {
  if (in_two_passes(op)) return greedy_head(worker, op);
  product(worker, op, [&] { return normed(worker); }, batch_.wanted, batch_.logits, op.weight.rows,
          false);
}

static float length(const Activations& x, int cols) {
  float sum = 0.0f;
  for (int block = 0; block * kBlock < cols; ++block) {
    int64_t squares = 0;
    for (int c = block * kBlock; c < (block + 1) * kBlock; ++c) {
      const int64_t code = x.low == nullptr ? x.high[c] : 256 * x.high[c] + x.low[c];
      squares += code * code;
    }
    sum += static_cast<float>(squares) * x.scales[block] * x.scales[block];
  }
  return std::sqrt(sum);
}

// A first pass over the high halves alone, and an exact second one over the row blocks in which the
// best token could be. The others keep their approximate logits, which are below the best one.
void Plan::greedy_head(Worker& worker, const Op& op) {
  const Matrix& w = op.weight;
  const Matrix high = w.high_half();
  const int blocks = w.row_blocks(), wanted = batch_.wanted;
  const int size = round_up((blocks + 8 * pool_.threads() - 1) / (8 * pool_.threads()), kRowBlocks);
  const int tasks = (blocks + size - 1) / size;
  const auto logits = [&](int t) { return batch_.logits + static_cast<size_t>(t) * w.rows; };
  const auto top = [&](int task, int t) -> Top& {
    return tops_[static_cast<size_t>(task) * kGreedyRows + t];
  };
  phase(worker, tasks, [&](int task) {
    const int first = task * size, last = std::min(blocks, first + size), row = first * kRows;
    kernels_->matmul(high, normed(worker), wanted, first, last, logits(0) + row, w.rows, nullptr,
                     false);
    for (int t = 0; t < wanted; ++t) {
      const int best = row + kernels_->best(logits(t) + row, std::min(w.rows, last * kRows) - row);
      top(task, t) = {best, logits(t)[best]};
    }
  });
  // Every task finds the exact logit of the likeliest row for itself: that costs less than to wait.
  phase(worker, tasks, [&](int task) {
    const int first = task * size, last = std::min(blocks, first + size);
    for (int t = 0; t < wanted; ++t) {
      const Activations x = normed(worker).from(t);
      Top first_pass = top(0, t);
      for (int i = 1; i < tasks; ++i) {
        if (top(i, t).logit > first_pass.logit) first_pass = top(i, t);
      }
      const int likely = first_pass.row;
      float exact[kRows];
      kernels_->matmul(w, x, 1, likely / kRows, likely / kRows + 1, exact, kRows, nullptr, false);
      const float floor = exact[likely % kRows];
      const float reach = kSigmas * length(x, w.cols) / std::sqrt(static_cast<float>(w.cols));
      for (int b = first; b < last; ++b) {
        const int row = b * kRows, rows = std::min(kRows, w.rows - row);
        float* to = logits(t) + row;
        if (!kernels_->could_reach(to, w.residuals() + row, rows, reach, floor)) continue;
        kernels_->matmul(w, x, 1, b, b + 1, to, w.rows, nullptr, false);
        exact_row_blocks_.fetch_add(1, std::memory_order_relaxed);
      }
    }
  });
}

}  // namespace isthmus
