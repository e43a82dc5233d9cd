#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace isthmus {

// Up to this many tokens every thread norms and quantizes the input for itself: that costs less
// than waiting for one of them to do it.
constexpr int kFewTokens = 16;

// Rows of a batch whose best tokens are looked for in two passes: with more of them reading the
// weights is no longer most of the work.
constexpr int kGreedyRows = 8;

// How far a logit of the first pass may be from the exact one, in standard deviations. What the
// first pass leaves out of a row (rounding errors, `Matrix::residuals`) knows nothing of the input,
// so their product is the sum of hundreds of independent terms.
constexpr float kSigmas = 7.0f;

// Tokens of a sequence that attend together: what is loaded of the cache serves all of them.
constexpr int kRunTokens = 8;

void Plan::Quantized::resize(int tokens, int cols, int planes) {
  const int padded = round_up(cols, kBlock);
  const size_t blocks = static_cast<size_t>(tokens) * (padded / kBlock);
  high.assign(static_cast<size_t>(tokens) * padded, 0);
  if (planes == 2) low.assign(high.size(), 0);
  scales.assign(blocks, 0.0f);
  sums.assign(blocks, 0.0f);
  view = {high.data(), planes == 2 ? low.data() : nullptr, scales.data(), sums.data(), padded};
}

Plan::Plan(std::vector<Op> ops, const Kernels* kernels, int threads, int planes, KVType kv_type,
           int kv_blocks, int max_tokens)
    : ops_(std::move(ops)),
      kernels_(kernels),
      pool_(threads),
      kv_blocks_(kv_blocks),
      max_tokens_(max_tokens),
      layout_{kv_type, 0},
      workers_(static_cast<size_t>(threads)) {
  double rope_base = 1.0;
  const float* rope_factors = nullptr;
  for (const Op& op : ops_) {
    switch (op.kind) {
      case OpKind::kEmbed: hidden_ = op.weight.cols; break;
      case OpKind::kQKV: qkv_width_ = op.weight.rows; break;
      case OpKind::kOutput: head_width_ = op.weight.cols; break;
      case OpKind::kGatedMLP: ffn_ = op.weight.rows / 2; break;
      case OpKind::kAttention:
        layers_ = std::max(layers_, op.layer + 1);
        layout_.head_dim = op.head_dim;
        kv_heads_ = op.kv_heads;
        rope_base = op.rope_base;  // all layers turn alike
        rope_factors = op.rope_factors;
        break;
      default: break;
    }
  }
  const auto tokens = static_cast<size_t>(max_tokens);
  x_.resize(tokens * hidden_);
  qkv_.resize(tokens * qkv_width_);
  attended_.resize(tokens * head_width_);
  rope_.resize(tokens * layout_.head_dim);
  normed_.resize(max_tokens, hidden_, planes);
  attended_q_.resize(max_tokens, head_width_, planes);
  gated_.resize(max_tokens, ffn_, planes);
  const size_t heads = static_cast<size_t>(layers_) * kv_blocks * kv_heads_;
  // Left uninitialised: a position is written before it is read, and untouched pages cost nothing.
  pool_bytes_ = std::make_unique_for_overwrite<uint8_t[]>(heads * layout_.bytes());

  for (int i = 0; i < layout_.head_dim / 2; ++i) {
    const double factor = rope_factors == nullptr ? 1.0 : rope_factors[i];
    frequencies_.push_back(std::pow(rope_base, -2.0 * i / layout_.head_dim) / factor);
  }

  tops_.resize(static_cast<size_t>(8 * threads) * kGreedyRows);
  max_phases_ = 3 * static_cast<int>(ops_.size());
  progress_ = std::make_unique<Progress[]>(static_cast<size_t>(max_phases_));
  for (Worker& worker : workers_) {
    worker.scratch.resize(
        std::max(static_cast<size_t>(hidden_), tokens * 2 * kBlock + 2 * kBlock));
    worker.normed.resize(kFewTokens, hidden_, planes);
  }
}

int64_t Plan::run(const Batch& batch) {
  batch_ = batch;
  exact_row_blocks_.store(0, std::memory_order_relaxed);
  for (int i = 0; i < max_phases_; ++i) {
    progress_[i].next.store(0, std::memory_order_relaxed);
    progress_[i].done.store(0, std::memory_order_relaxed);
  }
  next_worker_.store(0, std::memory_order_relaxed);
  own_norms_ = batch.count <= kFewTokens && batch.wanted <= kFewTokens && batch.hidden == nullptr;
  find_runs();
  fill_rope();
  pool_.run([this] {
    Worker& worker = workers_[static_cast<size_t>(next_worker_.fetch_add(1))];
    worker.phase = 0;
    worker.to_norm = nullptr;
    walk(worker);
  });
  int64_t bytes = 0;
  for (const Op& op : ops_) {
    const Matrix& w = op.weight;
    if (op.kind == OpKind::kEmbed || w.data == nullptr) continue;  // of the table a row a token
    if (op.kind == OpKind::kHead && batch.wanted == 0) continue;
    if (op.kind == OpKind::kHead && in_two_passes(op)) {
      bytes += w.row_blocks() * w.row_block_bytes() +
               exact_row_blocks_ * (w.row_block_bytes() + w.low_row_block_bytes());
    } else {
      bytes += w.bytes();
    }
  }
  return bytes;
}

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

void Plan::walk(Worker& worker) {
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Op& op = ops_[i];
    switch (op.kind) {
      case OpKind::kEmbed: embed(worker, op); break;
      case OpKind::kNorm: {
        const bool only_wanted = i + 1 < ops_.size() && ops_[i + 1].kind == OpKind::kHead;
        norm(worker, op, only_wanted);
        break;
      }
      case OpKind::kQKV:
        product(worker, op, [&] { return normed(worker); }, batch_.count, qkv_.data(), qkv_width_,
                false);
        break;
      case OpKind::kAttention: attention(worker, op); break;
      case OpKind::kOutput:
        product(worker, op, [&] { return attended_q_.view; }, batch_.count, x_.data(), hidden_,
                true);
        break;
      case OpKind::kGatedMLP: gated_mlp(worker, op); break;
      case OpKind::kDown:
        product(worker, op, [&] { return gated_.view; }, batch_.count, x_.data(), hidden_, true);
        break;
      case OpKind::kHead: head(worker, op); break;
    }
  }
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

void Plan::embed(Worker& worker, const Op& op) {
  phase(worker, batch_.count, [&](int t) {
    kernels_->dequantize_row(op.weight, batch_.tokens[t],
                             x_.data() + static_cast<size_t>(t) * hidden_);
  });
}

void Plan::norm(Worker& worker, const Op& op, bool only_wanted) {
  if (own_norms_) {
    worker.to_norm = &op;
    worker.only_wanted = only_wanted;
    return;
  }
  phase(worker, only_wanted ? batch_.wanted : batch_.count, [&](int t) {
    norm_row(op, t, only_wanted, worker.scratch.data(), normed_.view);
  });
}

void Plan::norm_row(const Op& op, int t, bool only_wanted, float* scratch, const Activations& to) {
  const auto row = static_cast<size_t>(only_wanted ? batch_.rows[t] : t);
  float* out = only_wanted && batch_.hidden != nullptr
                   ? batch_.hidden + static_cast<size_t>(t) * hidden_
                   : scratch;
  kernels_->rms_norm(x_.data() + row * hidden_, op.vector, op.eps, hidden_, out);
  kernels_->quantize(out, hidden_, to.from(t));
}

// The normed input of the product at hand. Only to be asked for inside a task of that product:
// until the task is done the residual stream stays as it is.
const Activations& Plan::normed(Worker& worker) {
  if (!own_norms_) return normed_.view;
  if (worker.to_norm != nullptr) {
    const int count = worker.only_wanted ? batch_.wanted : batch_.count;
    for (int t = 0; t < count; ++t) {
      norm_row(*worker.to_norm, t, worker.only_wanted, worker.scratch.data(), worker.normed.view);
    }
    worker.to_norm = nullptr;
  }
  return worker.normed.view;
}

void Plan::find_runs() {
  runs_.clear();
  one_each_ = true;
  for (int t = 0; t < batch_.count; ++t) {
    const bool same = t > 0 && batch_.sequence[t] == batch_.sequence[t - 1];
    one_each_ = one_each_ && (t == 0 || batch_.sequence[t] > batch_.sequence[t - 1]);
    const bool goes_on = same && batch_.positions[t] == batch_.positions[t - 1] + 1 &&
                         runs_.back().count < kRunTokens;
    if (goes_on) {
      ++runs_.back().count;
    } else {
      runs_.push_back({t, 1});
    }
  }
}

void Plan::fill_rope() {
  const int half = layout_.head_dim / 2;
  for (int t = 0; t < batch_.count; ++t) {
    float* turn = rope_.data() + static_cast<size_t>(t) * layout_.head_dim;
    for (int i = 0; i < half; ++i) {
      const double angle = batch_.positions[t] * frequencies_[static_cast<size_t>(i)];
      turn[2 * i] = static_cast<float>(std::cos(angle));
      turn[2 * i + 1] = static_cast<float>(std::sin(angle));
    }
  }
}

uint8_t* Plan::kv_block(const Op& op, int block, int kv_head) const {
  const size_t at = (static_cast<size_t>(op.layer) * kv_blocks_ + block) * kv_heads_ + kv_head;
  return pool_bytes_.get() + at * layout_.bytes();
}

void Plan::attention(Worker& worker, const Op& op) {
  const int group = op.heads / op.kv_heads;
  const bool aligned = group * op.head_dim % kBlock == 0;  // see attend()
  if (one_each_) {
    // Nobody else's key is looked at: a head can be turned, stored and attended to in one go.
    phase(worker, batch_.count * op.kv_heads, [&](int task) {
      const int t = task / op.kv_heads, h = task % op.kv_heads;
      rotate(op, t, h * group, group);
      rotate(op, t, op.heads + h, 1);
      store(op, t, h);
      attend(worker, op, {t, 1}, h);
    });
  } else {
    phase(worker, batch_.count, [&](int t) {
      rotate(op, t, 0, op.heads + op.kv_heads);
      for (int h = 0; h < op.kv_heads; ++h) store(op, t, h);
    });
    const int runs = static_cast<int>(runs_.size());
    phase(worker, runs * op.kv_heads, [&](int task) {
      // The last tokens of a prefill see the most positions: hand those out first.
      attend(worker, op, runs_[static_cast<size_t>(runs - 1 - task / op.kv_heads)],
             task % op.kv_heads);
    });
  }
  if (!aligned) {
    phase(worker, batch_.count, [&](int t) {
      kernels_->quantize(attended_.data() + static_cast<size_t>(t) * head_width_, head_width_,
                         attended_q_.view.from(t));
    });
  }
}

void Plan::copy_block(int source, int target) {
  const size_t bytes = static_cast<size_t>(kv_heads_) * layout_.bytes();
  for (const Op& op : ops_) {
    if (op.kind != OpKind::kAttention) continue;
    std::memcpy(kv_block(op, target, 0), kv_block(op, source, 0), bytes);
  }
}

void Plan::read_block(int block, uint8_t* to) const {
  const size_t bytes = static_cast<size_t>(kv_heads_) * layout_.bytes();
  for (const Op& op : ops_) {
    if (op.kind != OpKind::kAttention) continue;
    std::memcpy(to + op.layer * bytes, kv_block(op, block, 0), bytes);
  }
}

void Plan::write_block(int block, const uint8_t* from) {
  const size_t bytes = static_cast<size_t>(kv_heads_) * layout_.bytes();
  for (const Op& op : ops_) {
    if (op.kind != OpKind::kAttention) continue;
    std::memcpy(kv_block(op, block, 0), from + op.layer * bytes, bytes);
  }
}

void Plan::rotate(const Op& op, int t, int first_head, int heads) {
  const int d = op.head_dim;
  const float* turn = rope_.data() + static_cast<size_t>(t) * d;
  float* head = qkv_.data() + static_cast<size_t>(t) * qkv_width_ + first_head * d;
  for (int h = 0; h < heads; ++h, head += d) {
    const float* norm = first_head + h < op.heads ? op.q_norm : op.k_norm;
    if (norm != nullptr) kernels_->rms_norm(head, norm, op.eps, d, head);
    for (int i = 0; i < d / 2; ++i) {
      float& a = op.rope_halves ? head[i] : head[2 * i];
      float& b = op.rope_halves ? head[i + d / 2] : head[2 * i + 1];
      const float c = turn[2 * i], s = turn[2 * i + 1];
      const float turned = a * c - b * s;
      b = a * s + b * c;
      a = turned;
    }
  }
}

void Plan::store(const Op& op, int t, int kv_head) {
  const int position = batch_.positions[t];
  const int32_t* table = batch_.block_tables + batch_.sequence[t] * batch_.table_stride;
  const float* key = qkv_.data() + static_cast<size_t>(t) * qkv_width_ +
                     (op.heads + kv_head) * op.head_dim;
  kernels_->store_kv(key, key + op.kv_heads * op.head_dim, layout_, position % kBlock,
                     kv_block(op, table[position / kBlock], kv_head));
}

void Plan::attend(Worker& worker, const Op& op, Run run, int kv_head) {
  const int d = op.head_dim;
  const int group = op.heads / op.kv_heads;
  const int positions = batch_.positions[run.first + run.count - 1] + 1;
  const int32_t* table = batch_.block_tables + batch_.sequence[run.first] * batch_.table_stride;
  worker.blocks.clear();
  for (int first = 0; first < positions; first += kBlock) {
    worker.blocks.push_back(
        {kv_block(op, table[first / kBlock], kv_head), std::min(kBlock, positions - first)});
  }
  const int at = kv_head * group * d;
  float* out = attended_.data() + static_cast<size_t>(run.first) * head_width_ + at;
  const float* q = qkv_.data() + static_cast<size_t>(run.first) * qkv_width_ + at;
  kernels_->attend({q, qkv_width_, run.count, group, out, head_width_}, layout_,
                   worker.blocks.data(), static_cast<int>(worker.blocks.size()));
  // Where the output is whole blocks it is quantized here, else when all of the row is there.
  if (group * d % kBlock != 0) return;
  for (int t = run.first; t < run.first + run.count; ++t, out += head_width_) {
    kernels_->quantize(out, group * d, attended_q_.view.from(t, at));
  }
}

void Plan::gated_mlp(Worker& worker, const Op& op) {
  // A block of the hidden layer is 32 values from 64 rows, quantized at once.
  constexpr int kBlockRows = 2 * kBlock;
  const int blocks = (2 * ffn_ + kBlockRows - 1) / kBlockRows;
  const int tokens = batch_.count;
  float* gate_up = worker.scratch.data();
  float* h = gate_up + static_cast<size_t>(tokens) * kBlockRows;
  chunks(worker, blocks, 1, tokens, [&](int first, int last) {
    for (int block = first; block < last; ++block) {
      const int rows = std::min(kBlockRows, 2 * ffn_ - block * kBlockRows);
      const int row_block = block * kBlockRows / kRows;
      kernels_->matmul(op.weight, normed(worker), tokens, row_block,
                       row_block + (rows + kRows - 1) / kRows, gate_up, kBlockRows, nullptr, false);
      for (int t = 0; t < tokens; ++t) {
        kernels_->swiglu(gate_up + static_cast<size_t>(t) * kBlockRows, rows / 2, h);
        kernels_->quantize(h, rows / 2, gated_.view.from(t, block * kBlock));
      }
    }
  });
}

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
