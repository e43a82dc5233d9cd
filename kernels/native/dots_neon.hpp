// Products of a tile with NEON dot products: four rows by four columns in a register.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <arm_neon.h>

#include "codes.hpp"
#include "kernels.hpp"

namespace isthmus {
namespace {

struct Acc {
  float32x4_t low, high;  // rows 0 to 3, rows 4 to 7
};

struct Dot {
  int32x4_t low, high;
};

inline float32x4_t load_halves4(const uint8_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}

// The lane of a dot product is part of the instruction.
inline int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t x, int lane) {
  switch (lane) {
    case 0: return vdotq_laneq_s32(sum, w, x, 0);
    case 1: return vdotq_laneq_s32(sum, w, x, 1);
    case 2: return vdotq_laneq_s32(sum, w, x, 2);
    default: return vdotq_laneq_s32(sum, w, x, 3);
  }
}

// Sums over steps of 4 columns; w[j] are the weights of step j, rows 0 to 3 and then 4 to 7.
template <int Steps>
inline Dot dot_steps(const int8x16_t w[Steps][2], const int8_t* x) {
  Dot dot{vdupq_n_s32(0), vdupq_n_s32(0)};
#pragma GCC unroll 8
  for (int j = 0; j < Steps; ++j) {
    const int8x16_t codes = vld1q_s8(x + j / 4 * 16);
    dot.low = dot_lane(dot.low, w[j][0], codes, j % 4);
    dot.high = dot_lane(dot.high, w[j][1], codes, j % 4);
  }
  return dot;
}

template <int Steps, int Planes>
inline Dot dot_planes(const int8x16_t w[Steps][2], const Activations& x, size_t at) {
  Dot dot = dot_steps<Steps>(w, x.high + at);
  if (Planes == 2) {
    const Dot low = dot_steps<Steps>(w, x.low + at);
    dot.low = vaddq_s32(vshlq_n_s32(dot.low, 8), low.low);
    dot.high = vaddq_s32(vshlq_n_s32(dot.high, 8), low.high);
  }
  return dot;
}

inline void add_dot(Acc& acc, const Dot& dot, const uint8_t* scales, float x_scale) {
  acc.low = vfmaq_f32(acc.low, vmulq_n_f32(load_halves4(scales), x_scale), vcvtq_f32_s32(dot.low));
  acc.high =
      vfmaq_f32(acc.high, vmulq_n_f32(load_halves4(scales + 8), x_scale), vcvtq_f32_s32(dot.high));
}

// With minimums of its own, or those of the high half of 8 bits.
template <int T, int Planes, bool Minimums>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const uint8_t* codes = tile + (Minimums ? 32 : 16);
  int8x16_t w[8][2];
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      const uint8x16_t packed = vld1q_u8(codes + 32 * j + 16 * half);
      w[j][half] = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15)));
      w[j + 4][half] = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
    }
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const Dot dot = dot_planes<8, Planes>(w, x, row * x.cols + block * kBlock);
    add_dot(acc[t], dot, tile, x.scales[row * blocks + block] * (Minimums ? 1 : 16));
    const float x_sum = x.sums[row * blocks + block] * (Minimums ? 1 : kHighMinimum);
    const uint8_t* minimums = tile + (Minimums ? 16 : 0);
    acc[t].low = vfmaq_n_f32(acc[t].low, load_halves4(minimums), x_sum);
    acc[t].high = vfmaq_n_f32(acc[t].high, load_halves4(minimums + 8), x_sum);
  }
}

template <int T, int Planes>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  int8x16_t w[4][2];
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      w[j][half] = vreinterpretq_s8_u8(vld1q_u8(tile + 16 + 32 * j + 16 * half));
    }
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const Dot dot = dot_planes<4, Planes>(w, x, row * x.cols + block * 16);
    add_dot(acc[t], dot, tile, x.scales[row * blocks + block / 2]);
  }
}

template <int T, int Planes>
inline void halved_tile_dots(const uint8_t* tile, const uint8_t* low_tile, const Activations& x,
                             int block, Acc acc[T]) {
  const uint8x16_t nibble = vdupq_n_u8(15), sign = vdupq_n_u8(128);
  int8x16_t w[8][2];
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      const uint8x16_t high = vld1q_u8(tile + 16 + 32 * j + 16 * half);
      const uint8x16_t low = vld1q_u8(low_tile + 32 * j + 16 * half);
      const uint8x16_t first = vorrq_u8(vshlq_n_u8(high, 4), vandq_u8(low, nibble));
      const uint8x16_t second = vorrq_u8(vbicq_u8(high, nibble), vshrq_n_u8(low, 4));
      w[j][half] = vreinterpretq_s8_u8(veorq_u8(first, sign));
      w[j + 4][half] = vreinterpretq_s8_u8(veorq_u8(second, sign));
    }
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const Dot dot = dot_planes<8, Planes>(w, x, row * x.cols + block * kBlock);
    add_dot(acc[t], dot, tile, x.scales[row * blocks + block]);
  }
}

inline Acc zero() { return {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
inline void store_rows(const Acc& acc, float out[kRows]) {
  vst1q_f32(out, acc.low);
  vst1q_f32(out + 4, acc.high);
}
constexpr int kTokens = 4;

// 32 coefficients of a square of codes.
struct Codes {
  int8_t high[kBlock], low[kBlock];
  float scale;
};

inline void set_codes(const IntVec codes[kParts], Codes& to) {
  for (int p = 0; p < kParts; ++p) {
    store_planes(codes[p], to.high + p * kLanes, to.low + p * kLanes);
  }
}

// dots[i][c] = sum_r square[r, c] * x[i].code[r], for 32 rows and columns in fours of rows.
inline void square_dots(const int8_t* square, const Codes* x, int count, int32_t dots[][kBlock]) {
  for (int c = 0; c < kBlock; c += 4) {
    int8x16_t w[8];
    for (int j = 0; j < 8; ++j) w[j] = vld1q_s8(square + 128 * j + 4 * c);
    for (int n = 0; n < count; ++n) {
      int32x4_t high = vdupq_n_s32(0), low = vdupq_n_s32(0);
      for (int half = 0; half < 2; ++half) {
        const int8x16_t codes[2] = {vld1q_s8(x[n].high + 16 * half), vld1q_s8(x[n].low + 16 * half)};
        for (int j = 0; j < 4; ++j) {
          high = dot_lane(high, w[4 * half + j], codes[0], j);
          low = dot_lane(low, w[4 * half + j], codes[1], j);
        }
      }
      vst1q_s32(dots[n] + c, vaddq_s32(vshlq_n_s32(high, 8), low));
    }
  }
}

}  // namespace
}  // namespace isthmus
