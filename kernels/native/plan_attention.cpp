// The attention of a plan, and its pool of keys and values.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan_phases.hpp"

namespace isthmus {

// Tokens of a sequence that attend together: what is loaded of the cache serves all of them.
constexpr int kRunTokens = 8;

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

}  // namespace isthmus
