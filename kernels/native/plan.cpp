// A plan: its buffers, the walk over its operators, and all of them but attention and the head.
#include <algorithm>
#include <cmath>

#include "plan_phases.hpp"

namespace isthmus {

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

}  // namespace isthmus
