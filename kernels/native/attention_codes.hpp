// Attention over the cache in 8 bits, in integers: a tile of codes times the codes of a query, or of
// the positions' weights, both in two planes. Several tokens and heads share what is loaded.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cmath>
#include <cstring>

#include "codes.hpp"
#include "kernels.hpp"
#include "vectors.hpp"

namespace isthmus {
namespace {

constexpr int kMaxTiles = 8;   // heads of up to 256 dimensions
constexpr int kMaxQueries = 24;  // what is at work for them stays in the first-level cache

inline const int8_t* tile_codes(const uint8_t* tile) {
  return reinterpret_cast<const int8_t*>(tile);
}

inline const Half* tile_scales(const uint8_t* tile) {
  return reinterpret_cast<const Half*>(tile + kBlock * kBlock);
}

// One query's running softmax (Milakov and Gimelshein, arXiv 1805.02867).
struct Running {
  Vec score[kParts];
  float largest, total;
  float keep;  // what the sums so far are worth beside the block at hand
  Vec sums[kMaxTiles][kParts];
};

// The query, scaled, in codes. q: [head_dim]
inline void code_query(const float* q, int head_dim, Codes codes[]) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  for (int first = 0; first < head_dim; first += kBlock, ++codes) {
    alignas(64) float part[kBlock] = {};
    const int n = head_dim - first < kBlock ? head_dim - first : kBlock;
    std::memcpy(part, q + first, sizeof(float) * static_cast<size_t>(n));
    Vec values[kParts];
    for (int p = 0; p < kParts; ++p) values[p] = load(part + p * kLanes) * scale;
    IntVec integers[kParts];
    codes->scale = to_codes(values, kTwoPlanes, integers);
    set_codes(integers, *codes);
  }
}

// Scores become weights of the block's positions, of which the first `visible` are seen.
inline void weigh(Running& query, int visible) {
  float best = query.largest;
  for (int p = 0; p < kParts; ++p) {
    const IntVec unseen = lane_numbers() + p * kLanes >= visible;
    query.score[p] = unseen ? splat(-1e30f) : query.score[p];
    const float top = largest(query.score[p]);
    best = top > best ? top : best;
  }
  Vec mass = Vec{};
  for (int p = 0; p < kParts; ++p) {
    const IntVec unseen = lane_numbers() + p * kLanes >= visible;
    query.score[p] = unseen ? Vec{} : exp_nonpositive(query.score[p] - best);
    mass += query.score[p];
  }
  query.keep = exp_nonpositive(query.largest - best);
  query.total = query.total * query.keep + sum(mass);
  query.largest = best;
}

// The weights times a value tile's scales, in codes; what is not seen has no scale either.
inline void code_weights(const Running& query, const Half* scales, int visible, Codes& codes) {
  Vec values[kParts];
  for (int p = 0; p < kParts; ++p) {
    const IntVec unseen = lane_numbers() + p * kLanes >= visible;
    values[p] = unseen ? Vec{} : query.score[p] * load(scales + p * kLanes);
  }
  IntVec integers[kParts];
  codes.scale = to_codes(values, kTwoPlanes, integers);
  set_codes(integers, codes);
}

// Queries [first, last) of `all`, which number tokens * group.
inline void attend_codes(const Queries& all, int first, int last, const KVLayout& layout,
                         const KVBlock* blocks, int count) {
  const int d = layout.head_dim, tiles = layout.tiles(), n = last - first;
  const size_t tile_bytes = layout.tile_bytes();
  const int positions = (count - 1) * kBlock + blocks[count - 1].positions;
  Running running[kMaxQueries];
  Codes codes[kMaxTiles][kMaxQueries];
  alignas(64) int32_t dots[kMaxQueries][kBlock];
  int seen[kMaxQueries];
  for (int i = 0; i < n; ++i) {
    const int t = (first + i) / all.group, g = (first + i) % all.group;
    Codes own[kMaxTiles];
    code_query(all.q + static_cast<size_t>(t) * all.stride + g * d, d, own);
    for (int tile = 0; tile < tiles; ++tile) codes[tile][i] = own[tile];
    seen[i] = positions - (all.tokens - 1 - t);
    running[i].largest = -1e30f;
    running[i].total = 0.0f;
    for (int tile = 0; tile < tiles; ++tile) {
      for (int p = 0; p < kParts; ++p) running[i].sums[tile][p] = Vec{};
    }
  }
  int from = 0;  // queries before it see nothing of the block at hand
  for (int b = 0; b < count; ++b) {
    const uint8_t* tile = blocks[b].data;
    // It may lie anywhere in the pool, where no hardware looks ahead.
    const uint8_t* next = blocks[b + 1 < count ? b + 1 : b].data;
    const auto visible = [&](int i) {
      return seen[i] - b * kBlock < kBlock ? seen[i] - b * kBlock : kBlock;
    };
    while (visible(from) <= 0) ++from;
    for (int k = 0; k < tiles; ++k, tile += tile_bytes, next += tile_bytes) {
      prefetch(next, tile_bytes);
      square_dots(tile_codes(tile), codes[k] + from, n - from, dots + from);
      for (int p = 0; p < kParts; ++p) {
        const Vec scales = load(tile_scales(tile) + p * kLanes);
        for (int i = from; i < n; ++i) {
          const Vec part = to_float(load(dots[i] + p * kLanes)) * (scales * codes[k][i].scale);
          running[i].score[p] = k == 0 ? part : running[i].score[p] + part;
        }
      }
    }
    for (int i = from; i < n; ++i) weigh(running[i], visible(i));
    for (int k = 0; k < tiles; ++k, tile += tile_bytes, next += tile_bytes) {
      prefetch(next, tile_bytes);
      Codes weights[kMaxQueries];
      for (int i = from; i < n; ++i) {
        code_weights(running[i], tile_scales(tile), visible(i), weights[i]);
      }
      square_dots(tile_codes(tile), weights + from, n - from, dots + from);
      for (int i = from; i < n; ++i) {
        for (int p = 0; p < kParts; ++p) {
          Vec& sum = running[i].sums[k][p];
          sum = sum * running[i].keep + to_float(load(dots[i] + p * kLanes)) * weights[i].scale;
        }
      }
    }
  }
  for (int i = 0; i < n; ++i) {
    const int t = (first + i) / all.group, g = (first + i) % all.group;
    float* out = all.out + static_cast<size_t>(t) * all.out_stride + g * d;
    const float inverse = 1.0f / running[i].total;
    for (int tile = 0; tile < tiles; ++tile) {
      alignas(64) float part[kBlock];
      for (int p = 0; p < kParts; ++p) {
        store(running[i].sums[tile][p] * inverse, part + p * kLanes);
      }
      const int left = d - tile * kBlock;
      const int width = left < kBlock ? left : kBlock;
      std::memcpy(out + tile * kBlock, part, sizeof(float) * static_cast<size_t>(width));
    }
  }
}

// One position's key (a column of its tiles) or value (a row).
inline void store_codes(const float* x, const KVLayout& layout, int place, bool is_key,
                        uint8_t* tile) {
  for (int t = 0; t < layout.tiles(); ++t, tile += layout.tile_bytes()) {
    alignas(64) float part[kBlock] = {};
    const int left = layout.head_dim - t * kBlock;
    const int n = left < kBlock ? left : kBlock;
    std::memcpy(part, x + t * kBlock, sizeof(float) * static_cast<size_t>(n));
    Vec values[kParts];
    for (int p = 0; p < kParts; ++p) values[p] = load(part + p * kLanes);
    IntVec integers[kParts];
    const float scale = to_codes(values, 127.0f, integers);
    int8_t codes[kBlock];
    for (int p = 0; p < kParts; ++p) store_bytes(integers[p], codes + p * kLanes);
    const Half half = float_to_half(scale);
    std::memcpy(tile + kBlock * kBlock + sizeof half * static_cast<size_t>(place), &half, sizeof half);
    if (is_key) {
      for (int j = 0; j < kBlock / 4; ++j) std::memcpy(tile + j * 128 + place * 4, codes + 4 * j, 4);
    } else {
      uint8_t* to = tile + place / 4 * 128 + place % 4;
      for (int i = 0; i < kBlock; ++i) to[4 * i] = static_cast<uint8_t>(codes[i]);
    }
  }
}

}  // namespace
}  // namespace isthmus
