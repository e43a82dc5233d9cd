// Attention over blocks of the cache, and what writes to them.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cmath>
#include <cstring>

#include "kernels.hpp"
#include "vectors.hpp"

namespace isthmus {
namespace {

struct TileF32 {
  using Element = float;
  static constexpr KVType type = KVType::kFloat32;
};
struct TileF16 {
  using Element = uint16_t;
  static constexpr KVType type = KVType::kFloat16;
};
struct TileI8 {
  using Element = int8_t;
  static constexpr KVType type = KVType::kInt8;
};

inline const float* tile_scales(const uint8_t* tile) {
  return reinterpret_cast<const float*>(tile + kBlock * kBlock);
}

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

constexpr int kMaxTiles = 8;  // heads of up to 256 dimensions

// Online softmax (Milakov and Gimelshein, arXiv 1805.02867) over the blocks, for G heads at once.
template <int G, class Tile>
void attend_group(const float* q, const KVLayout& layout, const KVBlock* blocks, int count,
                  float* out) {
  using Element = typename Tile::Element;
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
  for (int b = 0; b < count; ++b) {
    const uint8_t* keys = blocks[b].data;
    const uint8_t* values = keys + tiles * tile_bytes;
    const int positions = blocks[b].positions;
    Vec score[G][kParts];
    for (int g = 0; g < G; ++g) {
      for (int p = 0; p < kParts; ++p) score[g][p] = Vec{};
    }
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* tile = keys + t * tile_bytes;
      const int rows = d - t * kBlock < kBlock ? d - t * kBlock : kBlock;
      const float* query[G];
      for (int g = 0; g < G; ++g) query[g] = q + static_cast<size_t>(g) * d + t * kBlock;
      if (Tile::type == KVType::kInt8) {
        Vec part[G][kParts] = {};
        add_rows<G>(reinterpret_cast<const Element*>(tile), rows, query, part);
        for (int g = 0; g < G; ++g) {
          for (int p = 0; p < kParts; ++p) {
            score[g][p] += part[g][p] * load(tile_scales(tile) + p * kLanes);
          }
        }
      } else {
        add_rows<G>(reinterpret_cast<const Element*>(tile), rows, query, score);
      }
    }
    alignas(64) float weight[G][kBlock];
    float keep[G];
    for (int g = 0; g < G; ++g) {
      std::memcpy(weight[g], score[g], sizeof weight[g]);
      float best = largest[g];
      for (int j = 0; j < positions; ++j) {
        weight[g][j] *= scale;
        best = weight[g][j] > best ? weight[g][j] : best;
      }
      float mass = 0.0f;
      for (int j = 0; j < positions; ++j) {
        weight[g][j] = exp_nonpositive(weight[g][j] - best);
        mass += weight[g][j];
      }
      keep[g] = exp_nonpositive(largest[g] - best);
      total[g] = total[g] * keep[g] + mass;
      largest[g] = best;
    }
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* tile = values + t * tile_bytes;
      alignas(64) float scaled[G][kBlock];
      const float* coefficient[G];
      Vec sum[G][kParts];
      for (int g = 0; g < G; ++g) {
        coefficient[g] = weight[g];
        if (Tile::type == KVType::kInt8) {
          const float* scales = tile_scales(tile);
          for (int j = 0; j < positions; ++j) scaled[g][j] = weight[g][j] * scales[j];
          coefficient[g] = scaled[g];
        }
        for (int p = 0; p < kParts; ++p) {
          sum[g][p] = load(sums[g][t] + p * kLanes) * splat(keep[g]);
        }
      }
      add_rows<G>(reinterpret_cast<const Element*>(tile), positions, coefficient, sum);
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

template <class Tile>
void attend_tiles(const float* q, int group, const KVLayout& layout, const KVBlock* blocks,
                  int count, float* out) {
  const int d = layout.head_dim;
  int g = 0;
  for (; group - g >= 3; g += 3) {
    attend_group<3, Tile>(q + g * d, layout, blocks, count, out + g * d);
  }
  for (; group - g >= 2; g += 2) {
    attend_group<2, Tile>(q + g * d, layout, blocks, count, out + g * d);
  }
  for (; g < group; ++g) attend_group<1, Tile>(q + g * d, layout, blocks, count, out + g * d);
}

void attend(const float* q, int group, const KVLayout& layout, const KVBlock* blocks, int count,
            float* out) {
  switch (layout.type) {
    case KVType::kFloat32: return attend_tiles<TileF32>(q, group, layout, blocks, count, out);
    case KVType::kFloat16: return attend_tiles<TileF16>(q, group, layout, blocks, count, out);
    case KVType::kInt8: return attend_tiles<TileI8>(q, group, layout, blocks, count, out);
  }
}

// The elements of one position: from `first` on, `stride` apart in each tile.
template <class Tile>
void store_vector(const float* x, const KVLayout& layout, int first, int stride, int place,
                  uint8_t* tile) {
  using Element = typename Tile::Element;
  for (int t = 0; t < layout.tiles(); ++t, tile += layout.tile_bytes()) {
    const float* part = x + t * kBlock;
    const int left = layout.head_dim - t * kBlock;
    const int n = left < kBlock ? left : kBlock;
    auto* to = reinterpret_cast<Element*>(tile) + first;
    if constexpr (Tile::type == KVType::kInt8) {
      float largest = 0.0f;
      for (int i = 0; i < n; ++i) {
        const float magnitude = std::fabs(part[i]);
        largest = magnitude > largest ? magnitude : largest;
      }
      const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
      const float scale = largest / 127.0f;
      std::memcpy(tile + kBlock * kBlock + 4 * place, &scale, sizeof scale);
      for (int i = 0; i < n; ++i) {
        to[i * stride] = static_cast<int8_t>(round_to_int(part[i] * inverse));
      }
    } else if constexpr (Tile::type == KVType::kFloat16) {
      for (int i = 0; i < n; ++i) to[i * stride] = float_to_half(part[i]);
    } else {
      for (int i = 0; i < n; ++i) to[i * stride] = part[i];
    }
  }
}

template <class Tile>
void store_tiles(const float* key, const float* value, const KVLayout& layout, int place,
                 uint8_t* block) {
  store_vector<Tile>(key, layout, place, kBlock, place, block);
  store_vector<Tile>(value, layout, place * kBlock, 1, place,
                     block + layout.tiles() * layout.tile_bytes());
}

void store_kv(const float* key, const float* value, const KVLayout& layout, int place,
              uint8_t* block) {
  switch (layout.type) {
    case KVType::kFloat32: return store_tiles<TileF32>(key, value, layout, place, block);
    case KVType::kFloat16: return store_tiles<TileF16>(key, value, layout, place, block);
    case KVType::kInt8: return store_tiles<TileI8>(key, value, layout, place, block);
  }
}

}  // namespace
}  // namespace isthmus
