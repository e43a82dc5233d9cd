// A graph of fused operators, its activation buffers and its paged KV pool; one call runs a step.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "pool.hpp"

namespace isthmus {

enum class OpKind : int { kEmbed, kNorm, kQKV, kAttention, kOutput, kGatedMLP, kDown, kHead };

struct Op {
  OpKind kind;
  Matrix weight;
  const float* vector = nullptr;  // norm weight, or bias
  float eps = 0.0f;
  int layer = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float rope_base = 0.0f;
  bool rope_halves = false;
  const float* rope_factors = nullptr;  // [head_dim / 2] divide the frequencies, or null
  const float* q_norm = nullptr;        // [head_dim] each, or null
  const float* k_norm = nullptr;
};

struct Batch {
  const int32_t* tokens;
  const int32_t* positions;
  const int32_t* sequence;
  int count;
  const int32_t* block_tables;  // [sequences, table_stride]
  int table_stride;
  const int32_t* rows;
  int wanted;
  bool greedy;    // only the largest logit of each row has to be right
  float* logits;  // [wanted, vocab]
  float* hidden;  // [wanted, hidden] or null
};

class Plan {
 public:
  // The matrices and vectors of `ops` must outlive the plan. `planes` is 1 or 2.
  Plan(std::vector<Op> ops, const Kernels* kernels, int threads, int planes, KVType kv_type,
       int kv_blocks, int max_tokens);

  // Returns the bytes of weights that were read.
  int64_t run(const Batch& batch);

  // Copies the keys and values of a block of the pool, in all layers.
  void copy_block(int source, int target);

  // A block of the pool in all layers, as it lies in memory: [layers, kv_heads, layout bytes].
  size_t block_bytes() const { return static_cast<size_t>(layers_) * kv_heads_ * layout_.bytes(); }
  void read_block(int block, uint8_t* to) const;
  void write_block(int block, const uint8_t* from);

  int max_tokens() const { return max_tokens_; }

 private:
  struct Quantized {
    std::vector<int8_t> high, low;
    std::vector<float> scales, sums;
    Activations view;
    void resize(int tokens, int cols, int planes);
  };

  // Tokens of the batch at consecutive positions of one sequence.
  struct Run {
    int first, count;
  };

  // Work of one thread in one step: where it is in the list of phases, and scratch space.
  struct Worker {
    int phase = 0;
    std::vector<float> scratch;
    Quantized normed;               // this thread's own, for a few tokens
    const Op* to_norm = nullptr;    // what `normed` is to be made with, when it is needed
    bool only_wanted = false;
    std::vector<KVBlock> blocks;
  };

  void walk(Worker& worker);
  template <class Task>
  void phase(Worker& worker, int tasks, Task&& task);
  template <class Part>
  void chunks(Worker& worker, int count, int unit, int tokens, Part&& part);
  template <class Input>
  void product(Worker& worker, const Op& op, Input&& input, int tokens, float* out, int stride,
               bool accumulate);

  void embed(Worker& worker, const Op& op);
  void norm(Worker& worker, const Op& op, bool only_wanted);
  void norm_row(const Op& op, int t, bool only_wanted, float* scratch, const Activations& to);
  const Activations& normed(Worker& worker);
  void attention(Worker& worker, const Op& op);
  void rotate(const Op& op, int t, int first_head, int heads);
  void store(const Op& op, int t, int kv_head);
  void attend(Worker& worker, const Op& op, Run run, int kv_head);
  void gated_mlp(Worker& worker, const Op& op);
  void head(Worker& worker, const Op& op);
  bool in_two_passes(const Op& op) const;
  void greedy_head(Worker& worker, const Op& op);

  void find_runs();
  void fill_rope();
  uint8_t* kv_block(const Op& op, int block, int kv_head) const;

  std::vector<Op> ops_;
  const Kernels* kernels_;
  Pool pool_;
  int kv_blocks_, max_tokens_;
  int hidden_ = 0, head_width_ = 0, qkv_width_ = 0, ffn_ = 0, layers_ = 0;
  int kv_heads_ = 0;
  KVLayout layout_;

  std::vector<float> x_, qkv_, attended_, rope_;  // [tokens, …]
  std::vector<double> frequencies_;               // [head_dim / 2] turns a position
  Quantized normed_, attended_q_, gated_;
  std::unique_ptr<uint8_t[]> pool_bytes_;  // [layers, blocks, kv_heads] of KVLayout

  std::vector<Worker> workers_;
  // What is left of a phase, and what is done. One a phase, so that none is reused in a step.
  struct alignas(64) Progress {
    std::atomic<int> next = 0;
    std::atomic<int> done = 0;
  };
  std::unique_ptr<Progress[]> progress_;
  int max_phases_;
  std::atomic<int> next_worker_ = 0;
  struct Top {
    int row;
    float logit;
  };
  std::vector<Top> tops_;  // [tasks of the head, wanted] the best of each in the first pass
  std::atomic<int> exact_row_blocks_ = 0;
  Batch batch_{};
  std::vector<Run> runs_;   // of the batch, in order
  bool one_each_ = false;   // every sequence has one token in the batch
  bool own_norms_ = false;  // every thread norms for itself
};

}  // namespace isthmus
