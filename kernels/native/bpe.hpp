// Byte pair encoding: the bytes of a word become tokens, merged pair by pair in order of rank.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace isthmus {

struct Merge {
  int32_t left, right;
  int32_t rank;  // of two merges that are possible the lower one comes first
  int32_t merged;
};

class Bpe {
 public:
  // `byte_ids` has the token of each of the 256 bytes, -1 for one without a token; `merges` is ordered
  // by (left, right). Both must outlive this.
  Bpe(const int32_t* byte_ids, const Merge* merges, size_t count)
      : byte_ids_(byte_ids), merges_(merges), count_(count) {}

  // Appends the tokens of `word` to `out`, in O(n log n). Bytes without a token are left out.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

  // Appends what becomes of `count` tokens to `out`; of merges of one rank the leftmost comes first.
  void merge(const int32_t* tokens, size_t count, std::vector<int32_t>& out) const;

 private:
  const Merge* find(int32_t left, int32_t right) const;

  const int32_t* byte_ids_;
  const Merge* merges_;
  size_t count_;
};

}  // namespace isthmus
