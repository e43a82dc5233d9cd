// Products of a tile in plain C++: for every CPU, and what the others are read against.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cstring>

#include "codes.hpp"
#include "kernels.hpp"
#include "numbers.hpp"

namespace isthmus {
namespace {

struct Acc {
  float v[kRows];
};

template <int Planes>
inline int code_at(const Activations& x, size_t at) {
  return Planes == 2 ? 256 * x.high[at] + x.low[at] : x.high[at];
}

// With minimums of its own, or those of the high half of 8 bits.
template <int T, int Planes, bool Minimums>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const uint8_t* codes = tile + (Minimums ? 32 : 16);
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * kBlock;
    for (int r = 0; r < kRows; ++r) {
      int dot = 0;
      for (int c = 0; c < 16; ++c) {
        const uint8_t packed = codes[c / 4 * 32 + 4 * r + c % 4];
        dot += (packed & 15) * code_at<Planes>(x, at + c) +
               (packed >> 4) * code_at<Planes>(x, at + c + 16);
      }
      const float scale = half_to_float(load_u16(tile + 2 * r));
      const float minimum =
          Minimums ? half_to_float(load_u16(tile + 16 + 2 * r)) : scale * kHighMinimum;
      acc[t].v[r] += scale * (Minimums ? 1 : 16) * x.scales[row * blocks + block] *
                         static_cast<float>(dot) +
                     minimum * x.sums[row * blocks + block];
    }
  }
}

template <int T, int Planes>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  const auto* w = reinterpret_cast<const int8_t*>(tile + 16);
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * 16;
    for (int r = 0; r < kRows; ++r) {
      int dot = 0;
      for (int c = 0; c < 16; ++c) {
        dot += w[c / 4 * 32 + 4 * r + c % 4] * code_at<Planes>(x, at + c);
      }
      acc[t].v[r] += half_to_float(load_u16(tile + 2 * r)) * x.scales[row * blocks + block / 2] *
                     static_cast<float>(dot);
    }
  }
}

template <int T, int Planes>
inline void halved_tile_dots(const uint8_t* tile, const uint8_t* low_tile, const Activations& x,
                             int block, Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * kBlock;
    for (int r = 0; r < kRows; ++r) {
      int dot = 0;
      for (int c = 0; c < 16; ++c) {
        const int place = c / 4 * 32 + 4 * r + c % 4;
        const uint8_t high = tile[16 + place], low = low_tile[place];
        dot += (((high & 15) << 4 | (low & 15)) - 128) * code_at<Planes>(x, at + c) +
               (((high & 240) | low >> 4) - 128) * code_at<Planes>(x, at + c + 16);
      }
      acc[t].v[r] += half_to_float(load_u16(tile + 2 * r)) * x.scales[row * blocks + block] *
                     static_cast<float>(dot);
    }
  }
}

inline Acc zero() { return Acc{}; }
inline void store_rows(const Acc& acc, float out[kRows]) { std::memcpy(out, acc.v, sizeof acc.v); }
constexpr int kTokens = 4;

// 32 coefficients of a square of codes.
struct Codes {
  int32_t code[kBlock];
  float scale;
};

inline void set_codes(const IntVec codes[kParts], Codes& to) {
  std::memcpy(to.code, codes, sizeof to.code);
}

// dots[i][c] = sum_r square[r, c] * x[i].code[r], for 32 rows and columns in fours of rows.
inline void square_dots(const int8_t* square, const Codes* x, int count, int32_t dots[][kBlock]) {
  for (int n = 0; n < count; ++n) {
    for (int c = 0; c < kBlock; ++c) {
      int dot = 0;
      for (int r = 0; r < kBlock; ++r) dot += square[r / 4 * 128 + 4 * c + r % 4] * x[n].code[r];
      dots[n][c] = dot;
    }
  }
}

}  // namespace
}  // namespace isthmus
