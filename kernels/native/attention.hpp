// Attention over blocks of the cache in floats, what writes to them, and the choice by their form.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cmath>
#include <cstring>

#include "attention_codes.hpp"
#include "kernels.hpp"
#include "vectors.hpp"

namespace isthmus {
namespace {

// sum[g] += coefficient[g][n] * row n, for the first `rows` rows of a tile
template <int G, class Element>
inline void add_rows(const Element* tile, int rows, const float* const coefficient[G],
                     Vec sum[G][kParts]) {
  for (int n = 0; n < rows; ++n) {
    Vec row[kParts];
    for (int p = 0; p < kParts; ++p) row[p] = load(tile + n * kBlock + p * kLanes);
    for (int g = 0; g < G; ++g) {
      const Vec c = splat(coefficient[g][n]);
      for (int p = 0; p < kParts; ++p) sum[g][p] += c * row[p];
    }
  }
}

// Online softmax (Milakov and Gimelshein, arXiv 1805.02867) over the blocks, for G heads at once.
// The first `positions` positions are seen.
template <int G, class Element>
void attend_group(const float* q, const KVLayout& layout, const KVBlock* blocks, int positions,
                  float* out) {
  const int d = layout.head_dim;
  const int tiles = layout.tiles();
  const size_t tile_bytes = layout.tile_bytes();
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  float largest[G], total[G];
  alignas(64) float sums[G][kMaxTiles][kBlock];
  for (int g = 0; g < G; ++g) {
    largest[g] = -1e30f;
    total[g] = 0.0f;
    for (int t = 0; t < tiles; ++t) {
      for (int i = 0; i < kBlock; ++i) sums[g][t][i] = 0.0f;
    }
  }
  for (int b = 0; b * kBlock < positions; ++b) {
    const uint8_t* keys = blocks[b].data;
    const uint8_t* values = keys + tiles * tile_bytes;
    // It may lie anywhere in the pool, where no hardware looks ahead.
    const uint8_t* next = (b + 1) * kBlock < positions ? blocks[b + 1].data : keys;
    const int visible = positions - b * kBlock < kBlock ? positions - b * kBlock : kBlock;
    Vec score[G][kParts];
    for (int g = 0; g < G; ++g) {
      for (int p = 0; p < kParts; ++p) score[g][p] = Vec{};
    }
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* tile = keys + t * tile_bytes;
      prefetch(next + t * tile_bytes, tile_bytes);
      const int rows = d - t * kBlock < kBlock ? d - t * kBlock : kBlock;
      const float* query[G];
      for (int g = 0; g < G; ++g) query[g] = q + static_cast<size_t>(g) * d + t * kBlock;
      add_rows<G>(reinterpret_cast<const Element*>(tile), rows, query, score);
    }
    alignas(64) float weight[G][kBlock];
    float keep[G];
    for (int g = 0; g < G; ++g) {
      std::memcpy(weight[g], score[g], sizeof weight[g]);
      float best = largest[g];
      for (int j = 0; j < visible; ++j) {
        weight[g][j] *= scale;
        best = weight[g][j] > best ? weight[g][j] : best;
      }
      float mass = 0.0f;
      for (int j = 0; j < visible; ++j) {
        weight[g][j] = exp_nonpositive(weight[g][j] - best);
        mass += weight[g][j];
      }
      keep[g] = exp_nonpositive(largest[g] - best);
      total[g] = total[g] * keep[g] + mass;
      largest[g] = best;
    }
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* tile = values + t * tile_bytes;
      prefetch(next + (tiles + t) * tile_bytes, tile_bytes);
      const float* coefficient[G];
      Vec sum[G][kParts];
      for (int g = 0; g < G; ++g) {
        coefficient[g] = weight[g];
        for (int p = 0; p < kParts; ++p) {
          sum[g][p] = load(sums[g][t] + p * kLanes) * splat(keep[g]);
        }
      }
      add_rows<G>(reinterpret_cast<const Element*>(tile), visible, coefficient, sum);
      for (int g = 0; g < G; ++g) std::memcpy(sums[g][t], sum[g], sizeof sums[g][t]);
    }
  }
  for (int g = 0; g < G; ++g) {
    const float inverse = 1.0f / total[g];
    for (int i = 0; i < d; ++i) {
      out[static_cast<size_t>(g) * d + i] = sums[g][i / kBlock][i % kBlock] * inverse;
    }
  }
}

template <class Element>
void attend_floats(const Queries& all, const KVLayout& layout, const KVBlock* blocks, int count) {
  const int d = layout.head_dim;
  const int positions = (count - 1) * kBlock + blocks[count - 1].positions;
  for (int t = 0; t < all.tokens; ++t) {
    const float* q = all.q + static_cast<size_t>(t) * all.stride;
    float* out = all.out + static_cast<size_t>(t) * all.out_stride;
    const int seen = positions - (all.tokens - 1 - t);
    int g = 0;
    for (; all.group - g >= 3; g += 3) {
      attend_group<3, Element>(q + g * d, layout, blocks, seen, out + g * d);
    }
    for (; all.group - g >= 2; g += 2) {
      attend_group<2, Element>(q + g * d, layout, blocks, seen, out + g * d);
    }
    for (; g < all.group; ++g) {
      attend_group<1, Element>(q + g * d, layout, blocks, seen, out + g * d);
    }
  }
}

void attend(const Queries& queries, const KVLayout& layout, const KVBlock* blocks, int count) {
  switch (layout.type) {
    case KVType::kFloat32: return attend_floats<float>(queries, layout, blocks, count);
    case KVType::kFloat16: return attend_floats<Half>(queries, layout, blocks, count);
    case KVType::kInt8: {
      const int all = queries.tokens * queries.group;
      for (int i = 0; i < all; i += kMaxQueries) {
        attend_codes(queries, i, all - i < kMaxQueries ? all : i + kMaxQueries, layout, blocks,
                     count);
      }
    }
  }
}

inline void convert(float x, float* to) { *to = x; }
inline void convert(float x, Half* to) { *to = float_to_half(x); }

// One position's key (a column of its tiles) or value (a row).
template <class Element>
void store_floats(const float* x, const KVLayout& layout, int place, bool is_key, uint8_t* tile) {
  const int first = is_key ? place : place * kBlock;
  const int stride = is_key ? kBlock : 1;
  for (int t = 0; t < layout.tiles(); ++t, tile += layout.tile_bytes()) {
    const int left = layout.head_dim - t * kBlock;
    auto* to = reinterpret_cast<Element*>(tile) + first;
    for (int i = 0; i < left && i < kBlock; ++i) convert(x[t * kBlock + i], to + i * stride);
  }
}

void store_kv(const float* key, const float* value, const KVLayout& layout, int place,
              uint8_t* block) {
  const auto store = [&](auto* to_tiles) {
    to_tiles(key, layout, place, true, block);
    to_tiles(value, layout, place, false, block + layout.tiles() * layout.tile_bytes());
  };
  switch (layout.type) {
    case KVType::kFloat32: return store(store_floats<float>);
    case KVType::kFloat16: return store(store_floats<Half>);
    case KVType::kInt8: return store(store_codes);
  }
}

}  // namespace
}  // namespace isthmus
