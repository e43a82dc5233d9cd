// The kernels, compiled once for each instruction set (ISTHMUS_ISA names it). Everything here is
// local to the file: an inline function shared with another object could be the copy that was
// compiled for a newer CPU than the one at hand.
#include "kernels.hpp"

#include <cmath>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#define ISTHMUS_JOIN_(a, b) a##b
#define ISTHMUS_JOIN(a, b) ISTHMUS_JOIN_(a, b)
#define ISTHMUS_TEXT_(a) #a
#define ISTHMUS_TEXT(a) ISTHMUS_TEXT_(a)

namespace isthmus {
namespace {

inline float half_to_float(uint16_t h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#else
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t bits = h & 0x7fff;
  if (bits < 0x0400) {  // zero and subnormals: bits * 2^-24
    const float magnitude = static_cast<float>(bits) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t out = sign | (bits >= 0x7c00 ? 0x7f800000u | (bits << 13)
                                              : (bits << 13) + 0x38000000u);
  float f;
  std::memcpy(&f, &out, sizeof f);
  return f;
#endif
}

// Round to nearest even without a library call, so that loops over it vectorise. |x| < 2^22.
inline int round_to_int(float x) {
  const float shifted = x + 12582912.0f;  // 1.5 * 2^23: the integer stands in the low mantissa
  int bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

// Rounds to nearest, ties to even; beyond half precision it becomes infinity.
inline uint16_t float_to_half(float x) {
#if defined(__F16C__)
  return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  bits &= 0x7fffffff;
  if (bits >= 0x47800000) return sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (bits < 0x38800000) {  // subnormal: count in steps of 2^-24
    const float steps = std::fabs(x) * 16777216.0f;
    return sign | static_cast<uint16_t>(round_to_int(steps));
  }
  const uint32_t rounded = bits + 0x0fff + ((bits >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
#endif
}

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// e^x for x <= 0: 2^n times a polynomial on [-0.5, 0.5] (Cephes expf). The compiler may reassociate
// it, which costs the last bits: the relative error stays below 1e-5, that of an 8-bit key is 4e-3.
inline float exp_nonpositive(float x) {
  x = x < -87.0f ? -87.0f : x;
  const int power = round_to_int(x * 1.44269504f);
  const float n = static_cast<float>(power);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t bits = (static_cast<uint32_t>(power) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

// ---- products -------------------------------------------------------------------------------
//
// `tile_dots` computes for one tile of weights and T tokens the float products
// acc[t][r] += scale[r] * x_scale[t] * dot + minimum[r] * x_sum[t].

#if defined(__AVX2__)

using Acc = __m256;

inline __m256i broadcast4(const int8_t* p) {
  int v;
  std::memcpy(&v, p, sizeof v);
  return _mm256_set1_epi32(v);
}

inline __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// Sum over 4 bytes for each of 8 rows, over 8 steps of 4 columns: unsigned weights below 16.
inline __m256i dot_u4(const __m256i w[8], const int8_t* x) {
#if defined(__AVX512VNNI__)
  __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
  for (int j = 0; j < 8; j += 2) {
    even = _mm256_dpbusd_epi32(even, w[j], broadcast4(x + 4 * j));
    odd = _mm256_dpbusd_epi32(odd, w[j + 1], broadcast4(x + 4 * j + 4));
  }
  return _mm256_add_epi32(even, odd);
#else
  // 15 * 127 * 2 is 3,810: eight of them stay below 2^15, so one widening at the end is enough.
  __m256i even = _mm256_maddubs_epi16(w[0], broadcast4(x));
  __m256i odd = _mm256_maddubs_epi16(w[1], broadcast4(x + 4));
  for (int j = 2; j < 8; j += 2) {
    even = _mm256_add_epi16(even, _mm256_maddubs_epi16(w[j], broadcast4(x + 4 * j)));
    odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(w[j + 1], broadcast4(x + 4 * j + 4)));
  }
  return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
#endif
}

inline __m256i join_planes(__m256i high, __m256i low) {
  return _mm256_add_epi32(_mm256_slli_epi32(high, 8), low);
}

template <int T, int Planes>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const __m256 scale = load_halves(tile);
  const __m256 minimum = load_halves(tile + 16);
  const __m256i low = _mm256_set1_epi8(15);
  __m256i w[8];
  for (int j = 0; j < 4; ++j) {
    const __m256i packed =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + 32 + 32 * j));
    w[j] = _mm256_and_si256(packed, low);
    w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * kBlock;
    __m256i dot = dot_u4(w, x.high + at);
    if (Planes == 2) dot = join_planes(dot, dot_u4(w, x.low + at));
    const __m256 x_scale = _mm256_broadcast_ss(x.scales + row * blocks + block);
    const __m256 x_sum = _mm256_broadcast_ss(x.sums + row * blocks + block);
    acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(scale, x_scale), _mm256_cvtepi32_ps(dot), acc[t]);
    acc[t] = _mm256_fmadd_ps(minimum, x_sum, acc[t]);
  }
}

// The same for signed 8-bit weights, over `Block` columns.
template <int Block>
inline __m256i dot_i8(const uint8_t* codes, const int8_t* x) {
  __m256i dot = _mm256_setzero_si256();
  for (int j = 0; j < Block / 4; ++j) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * j));
    const __m256i a = broadcast4(x + 4 * j);
    // The unsigned operand is |a|; its sign moves to w. 128 * 127 * 2 fits 16 bits once.
    const __m256i signed_w = _mm256_sign_epi8(w, a);
#if defined(__AVX512VNNI__)
    dot = _mm256_dpbusd_epi32(dot, _mm256_abs_epi8(a), signed_w);
#else
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), signed_w);
    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
  return dot;
}

template <int T, int Planes, int Block>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const __m256 scale = load_halves(tile);
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * Block;
    __m256i dot = dot_i8<Block>(tile + 16, x.high + at);
    if (Planes == 2) dot = join_planes(dot, dot_i8<Block>(tile + 16, x.low + at));
    const __m256 x_scale = _mm256_broadcast_ss(x.scales + row * blocks + block * Block / kBlock);
    acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(scale, x_scale), _mm256_cvtepi32_ps(dot), acc[t]);
  }
}

inline Acc zero() { return _mm256_setzero_ps(); }
inline void store_rows(const Acc& acc, float out[kRows]) { _mm256_storeu_ps(out, acc); }

#if defined(__AVX512VNNI__)
constexpr int kTokens = 8;  // 32 registers
#else
constexpr int kTokens = 4;  // 16 registers: 8 weights, 4 sums, 4 at work
#endif

#elif defined(__ARM_FEATURE_DOTPROD)

// NEON with dot products: four rows by four columns in a register, so a tile's 32-byte step is two.
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

template <int T, int Planes>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  int8x16_t w[8][2];
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      const uint8x16_t packed = vld1q_u8(tile + 32 + 32 * j + 16 * half);
      w[j][half] = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15)));
      w[j + 4][half] = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
    }
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const Dot dot = dot_planes<8, Planes>(w, x, row * x.cols + block * kBlock);
    add_dot(acc[t], dot, tile, x.scales[row * blocks + block]);
    const float x_sum = x.sums[row * blocks + block];
    acc[t].low = vfmaq_n_f32(acc[t].low, load_halves4(tile + 16), x_sum);
    acc[t].high = vfmaq_n_f32(acc[t].high, load_halves4(tile + 24), x_sum);
  }
}

template <int T, int Planes, int Block>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  constexpr int kSteps = Block / 4;
  int8x16_t w[kSteps][2];
  for (int j = 0; j < kSteps; ++j) {
    for (int half = 0; half < 2; ++half) {
      w[j][half] = vreinterpretq_s8_u8(vld1q_u8(tile + 16 + 32 * j + 16 * half));
    }
  }
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const Dot dot = dot_planes<kSteps, Planes>(w, x, row * x.cols + block * Block);
    add_dot(acc[t], dot, tile, x.scales[row * blocks + block * Block / kBlock]);
  }
}

inline Acc zero() { return {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
inline void store_rows(const Acc& acc, float out[kRows]) {
  vst1q_f32(out, acc.low);
  vst1q_f32(out + 4, acc.high);
}
constexpr int kTokens = 4;

#else  // scalar

struct Acc {
  float v[kRows];
};

template <int Planes>
inline int code_at(const Activations& x, size_t at) {
  return Planes == 2 ? 256 * x.high[at] + x.low[at] : x.high[at];
}

template <int T, int Planes>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * kBlock;
    for (int r = 0; r < kRows; ++r) {
      int dot = 0;
      for (int c = 0; c < 16; ++c) {
        const uint8_t packed = tile[32 + c / 4 * 32 + 4 * r + c % 4];
        dot += (packed & 15) * code_at<Planes>(x, at + c) +
               (packed >> 4) * code_at<Planes>(x, at + c + 16);
      }
      acc[t].v[r] += half_to_float(load_u16(tile + 2 * r)) * x.scales[row * blocks + block] *
                         static_cast<float>(dot) +
                     half_to_float(load_u16(tile + 16 + 2 * r)) * x.sums[row * blocks + block];
    }
  }
}

template <int T, int Planes, int Block>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  const auto* w = reinterpret_cast<const int8_t*>(tile + 16);
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * Block;
    for (int r = 0; r < kRows; ++r) {
      int dot = 0;
      for (int c = 0; c < Block; ++c) {
        dot += w[c / 4 * 32 + 4 * r + c % 4] * code_at<Planes>(x, at + c);
      }
      acc[t].v[r] += half_to_float(load_u16(tile + 2 * r)) *
                     x.scales[row * blocks + block * Block / kBlock] * static_cast<float>(dot);
    }
  }
}

inline Acc zero() { return Acc{}; }
inline void store_rows(const Acc& acc, float out[kRows]) { std::memcpy(out, acc.v, sizeof acc.v); }
constexpr int kTokens = 4;

#endif

// How far ahead of a single token's product the weights are asked for, in bytes. The hardware
// stops at every page and the next row block is not a stride away. Past the end it costs nothing.
constexpr int kAhead = 2048;

template <int Bytes>
inline void prefetch(const uint8_t* p) {
  for (int i = 0; i < Bytes; i += 64) __builtin_prefetch(p + i);
}

template <int T, int Planes>
void row_block(const Matrix& w, const Activations& x, int index, float* out, int stride,
               const float* bias, bool accumulate) {
  const uint8_t* tile = w.data + static_cast<size_t>(index) * w.row_block_bytes();
  const int blocks = w.padded_cols() / w.block;
  Acc acc[T];
  for (int t = 0; t < T; ++t) acc[t] = zero();
  if (w.bits == 4) {
    for (int b = 0; b < blocks; ++b, tile += 160) {
      if (T == 1) prefetch<160>(tile + kAhead);
      tile_dots4<T, Planes>(tile, x, b, acc);
    }
  } else if (w.block == 32) {
    for (int b = 0; b < blocks; ++b, tile += 272) {
      if (T == 1) prefetch<272>(tile + kAhead);
      tile_dots8<T, Planes, 32>(tile, x, b, acc);
    }
  } else {
    for (int b = 0; b < blocks; ++b, tile += 144) tile_dots8<T, Planes, 16>(tile, x, b, acc);
  }
  const int row = index * kRows;
  const int rows = w.rows - row < kRows ? w.rows - row : kRows;
  for (int t = 0; t < T; ++t) {
    float y[kRows];
    store_rows(acc[t], y);
    float* to = out + static_cast<size_t>(t) * stride;
    if (bias != nullptr) {
      for (int r = 0; r < rows; ++r) y[r] += bias[row + r];
    }
    if (accumulate) {
      for (int r = 0; r < rows; ++r) to[r] += y[r];
    } else {
      for (int r = 0; r < rows; ++r) to[r] = y[r];
    }
  }
}

#if defined(__AVX512VNNI__)

// Two row blocks at once, for many tokens: 16 rows fill a 512-bit register, and what it costs to
// unpack them is spread over the tokens.
struct TilePair {
  __m512i w[8];
  __m512 scale, minimum;
};

inline __m512 load_halves(const uint8_t* a, const uint8_t* b) {
  return _mm512_cvtph_ps(_mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)),
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(a))));
}

inline TilePair unpack_pair(const uint8_t* a, const uint8_t* b) {
  TilePair pair;
  pair.scale = load_halves(a, b);
  pair.minimum = load_halves(a + 16, b + 16);
  const __m512i low = _mm512_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m512i packed = _mm512_inserti64x4(
        _mm512_castsi256_si512(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + 32 + 32 * j))),
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32 + 32 * j)), 1);
    pair.w[j] = _mm512_and_si512(packed, low);
    pair.w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low);
  }
  return pair;
}

inline __m512i dot_u4(const __m512i w[8], const int8_t* x) {
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < 8; ++j) {
    int four;
    std::memcpy(&four, x + 4 * j, sizeof four);
    sum = _mm512_dpbusd_epi32(sum, w[j], _mm512_set1_epi32(four));
  }
  return sum;
}

template <int T, int Planes>
void row_block_pair(const Matrix& w, const Activations& x, int index, float* out, int stride,
                    const float* bias, bool accumulate) {
  const uint8_t* a = w.data + static_cast<size_t>(index) * w.row_block_bytes();
  const uint8_t* b = a + w.row_block_bytes();
  const int blocks = w.padded_cols() / kBlock;
  __m512 acc[T];
  for (int t = 0; t < T; ++t) acc[t] = _mm512_setzero_ps();
  for (int k = 0; k < blocks; ++k, a += 160, b += 160) {
    const TilePair pair = unpack_pair(a, b);
    for (int t = 0; t < T; ++t) {
      const size_t row = static_cast<size_t>(t);
      const size_t at = row * x.cols + k * kBlock;
      __m512i dot = dot_u4(pair.w, x.high + at);
      if (Planes == 2) {
        dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), dot_u4(pair.w, x.low + at));
      }
      const __m512 x_scale = _mm512_set1_ps(x.scales[row * blocks + k]);
      const __m512 x_sum = _mm512_set1_ps(x.sums[row * blocks + k]);
      acc[t] = _mm512_fmadd_ps(_mm512_mul_ps(pair.scale, x_scale), _mm512_cvtepi32_ps(dot), acc[t]);
      acc[t] = _mm512_fmadd_ps(pair.minimum, x_sum, acc[t]);
    }
  }
  const int row = index * kRows;
  const __mmask16 rows = static_cast<__mmask16>((1u << (w.rows - row < 16 ? w.rows - row : 16)) - 1);
  for (int t = 0; t < T; ++t) {
    float* to = out + static_cast<size_t>(t) * stride;
    if (bias != nullptr) acc[t] = _mm512_add_ps(acc[t], _mm512_maskz_loadu_ps(rows, bias + row));
    if (accumulate) acc[t] = _mm512_add_ps(acc[t], _mm512_maskz_loadu_ps(rows, to));
    _mm512_mask_storeu_ps(to, rows, acc[t]);
  }
}

#endif

template <int Planes>
void row_blocks(const Matrix& w, const Activations& x, int tokens, int first, int last, float* out,
                int stride, const float* bias, bool accumulate) {
  int b = first;
  const auto place = [&](int t) {
    return out + static_cast<size_t>(t) * stride + (b - first) * kRows;
  };
#if defined(__AVX512VNNI__)
  if (w.bits == 4) {
    const int paired = tokens / kTokens * kTokens;
    for (; paired > 0 && b + 2 <= last; b += 2) {
      for (int t = 0; t < paired; t += kTokens) {
        row_block_pair<kTokens, Planes>(w, x.from(t), b, place(t), stride, bias, accumulate);
      }
      for (int t = paired; t < tokens; ++t) {
        for (int i = 0; i < 2; ++i) {
          row_block<1, Planes>(w, x.from(t), b + i, place(t) + i * kRows, stride, bias, accumulate);
        }
      }
    }
  }
#endif
  for (; b < last; ++b) {
    int t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      row_block<kTokens, Planes>(w, x.from(t), b, place(t), stride, bias, accumulate);
    }
    for (; t < tokens; ++t) {
      row_block<1, Planes>(w, x.from(t), b, place(t), stride, bias, accumulate);
    }
  }
}

void matmul(const Matrix& w, const Activations& x, int tokens, int first, int last, float* out,
            int stride, const float* bias, bool accumulate) {
  const auto run = x.low == nullptr ? row_blocks<1> : row_blocks<2>;
  run(w, x, tokens, first, last, out, stride, bias, accumulate);
}

// ---- vectors --------------------------------------------------------------------------------
//
// GCC's vector types: one source for every width. 32 values are kParts vectors.

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kParts = kBlock / kLanes;
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int IntVec __attribute__((vector_size(4 * kLanes)));

inline Vec splat(float x) { return Vec{} + x; }

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline IntVec round_to_int(const Vec& x) {
  const Vec shifted = x + 12582912.0f;
  IntVec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

inline void store(const Vec& v, float* p) { std::memcpy(p, &v, sizeof v); }

// The low byte of each lane.
inline void store_bytes(const IntVec& v, int8_t* p) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8((__m512i)v));
#elif defined(__AVX2__)
  const __m256i order = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                         0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i bytes = _mm256_shuffle_epi8((__m256i)v, order);
  const int halves[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
  std::memcpy(p, halves, sizeof halves);
#else
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(v[i]);
#endif
}

// ---- the rest: plain loops that the compiler vectorises ---------------------------------------

void quantize(const float* x, int n, const Activations& out) {
  for (int b = 0; b * kBlock < n; ++b) {
    const float* block = x + b * kBlock;
    const int count = n - b * kBlock < kBlock ? n - b * kBlock : kBlock;
    float padded[kBlock];
    if (count < kBlock) {
      std::memset(padded, 0, sizeof padded);
      std::memcpy(padded, block, sizeof(float) * static_cast<size_t>(count));
      block = padded;
    }
    // Magnitudes are compared as integers, which order as the floats do, and NaN above all: what is
    // no number then shows in the scale.
    Vec x_parts[kParts];
    IntVec magnitude = IntVec{};
    for (int p = 0; p < kParts; ++p) {
      x_parts[p] = load(block + p * kLanes);
      IntVec bits;
      std::memcpy(&bits, &x_parts[p], sizeof bits);
      bits &= 0x7fffffff;
      magnitude = bits > magnitude ? bits : magnitude;
    }
    int top = 0;
    for (int i = 0; i < kLanes; ++i) top = magnitude[i] > top ? magnitude[i] : top;
    float largest;
    std::memcpy(&largest, &top, sizeof largest);
    const float limit = out.low == nullptr ? 127.0f : 127.0f * 256.0f;
    const float scale = largest / limit;
    const Vec inverse = splat(largest > 0.0f ? limit / largest : 0.0f);
    IntVec total = IntVec{};
    for (int p = 0; p < kParts; ++p) {
      int8_t* high = out.high + b * kBlock + p * kLanes;
      const IntVec codes = round_to_int(x_parts[p] * inverse);
      total += codes;
      if (out.low == nullptr) {
        store_bytes(codes, high);
      } else {
        store_bytes((codes + 128) >> 8, high);
        // Codes are 256 * high + low with low in -128..127: its byte is the code's own low byte.
        store_bytes(codes, out.low + b * kBlock + p * kLanes);
      }
    }
    int sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += total[i];
    out.scales[b] = scale;
    out.sums[b] = scale * static_cast<float>(sum);
  }
}

void rms_norm(const float* x, const float* weight, float eps, int n, float* y) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (int i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void swiglu(const float* gu, int n, float* h) {
  for (int i = 0; i < n; ++i) {
    const float g = gu[2 * i];
    // One exponential of a value that is never positive serves both signs of g.
    const float e = exp_nonpositive(-std::fabs(g));
    const float sigmoid = (g >= 0.0f ? 1.0f : e) / (1.0f + e);
    h[i] = g * sigmoid * gu[2 * i + 1];
  }
}

// ---- attention --------------------------------------------------------------------------------

inline Vec load(const uint16_t* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return (Vec)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = half_to_float(p[i]);
  return v;
#endif
}

inline Vec load(const int8_t* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return (Vec)_mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(p[i]);
  return v;
#endif
}

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

void dequantize_row(const Matrix& w, int r, float* out) {
  const uint8_t* tile = w.data + static_cast<size_t>(r / kRows) * w.row_block_bytes();
  const int lane = r % kRows;
  for (int c0 = 0; c0 < w.cols; c0 += w.block, tile += w.tile_bytes()) {
    const int count = w.cols - c0 < w.block ? w.cols - c0 : w.block;
    const float scale = half_to_float(load_u16(tile + 2 * lane));
    const float minimum = w.bits == 4 ? half_to_float(load_u16(tile + 16 + 2 * lane)) : 0.0f;
    for (int c = 0; c < count; ++c) {
      const int in_half = c % 16;
      const int at = in_half / 4 * 32 + lane * 4 + in_half % 4;
      int code;
      if (w.bits == 4) {
        const uint8_t packed = tile[32 + at];
        code = c < 16 ? packed & 15 : packed >> 4;
      } else {
        code = reinterpret_cast<const int8_t*>(tile + 16)[c / 16 * 128 + at];
      }
      out[c0 + c] = scale * static_cast<float>(code) + minimum;
    }
  }
}

}  // namespace

extern const Kernels ISTHMUS_JOIN(kernels_, ISTHMUS_ISA);
const Kernels ISTHMUS_JOIN(kernels_, ISTHMUS_ISA) = {
    ISTHMUS_TEXT(ISTHMUS_ISA), matmul,
    quantize, rms_norm, swiglu, store_kv, attend, dequantize_row,
};

}  // namespace isthmus
