// Products of a tile with AVX2, and with AVX-512 VNNI where it is there.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "codes.hpp"
#include "kernels.hpp"

namespace isthmus {
namespace {

using Acc = __m256;

inline __m256i broadcast4(const int8_t* p) {
  int v;
  std::memcpy(&v, p, sizeof v);
  return _mm256_set1_epi32(v);
}

inline __m256i load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// Sum over 4 bytes for each of 8 rows, over 8 steps of 4 columns: unsigned weights, below 16 where
// there is no VNNI.
inline __m256i dot_unsigned(const __m256i w[8], const int8_t* x) {
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
inline void add_unsigned_dots(const __m256i w[8], __m256 scale, __m256 minimum,
                              const Activations& x, int block, Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + block * kBlock;
    __m256i dot = dot_unsigned(w, x.high + at);
    if (Planes == 2) dot = join_planes(dot, dot_unsigned(w, x.low + at));
    const __m256 x_scale = _mm256_broadcast_ss(x.scales + row * blocks + block);
    const __m256 x_sum = _mm256_broadcast_ss(x.sums + row * blocks + block);
    acc[t] = _mm256_fmadd_ps(minimum, x_sum, acc[t]);
    acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(scale, x_scale), _mm256_cvtepi32_ps(dot), acc[t]);
  }
}

// With minimums of its own, or those of the high half of 8 bits.
template <int T, int Planes, bool Minimums>
inline void tile_dots4(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  const __m256i low = _mm256_set1_epi8(15);
  const uint8_t* codes = tile + (Minimums ? 32 : 16);
  __m256 scale = load_halves(tile), minimum;
  if constexpr (Minimums) {
    minimum = load_halves(tile + 16);
  } else {
    minimum = _mm256_mul_ps(scale, _mm256_set1_ps(kHighMinimum));
    scale = _mm256_mul_ps(scale, _mm256_set1_ps(16.0f));
  }
  __m256i w[8];
  for (int j = 0; j < 4; ++j) {
    const __m256i packed = load_bytes(codes + 32 * j);
    w[j] = _mm256_and_si256(packed, low);
    w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
  }
  add_unsigned_dots<T, Planes>(w, scale, minimum, x, block, acc);
}

// The same for signed 8-bit weights, over `Steps` steps of 4 columns.
template <int Steps>
inline __m256i dot_i8(const __m256i w[Steps], const int8_t* x) {
  __m256i dot = _mm256_setzero_si256();
  for (int j = 0; j < Steps; ++j) {
    const __m256i a = broadcast4(x + 4 * j);
    // The unsigned operand is |a|; its sign moves to w. 128 * 127 * 2 fits 16 bits once.
    const __m256i signed_w = _mm256_sign_epi8(w[j], a);
#if defined(__AVX512VNNI__)
    dot = _mm256_dpbusd_epi32(dot, _mm256_abs_epi8(a), signed_w);
#else
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), signed_w);
    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
  return dot;
}

template <int T, int Planes, int Steps>
inline void add_dots8(const __m256i w[Steps], __m256 scale, const Activations& x, int column,
                      Acc acc[T]) {
  const int blocks = x.cols / kBlock;
  for (int t = 0; t < T; ++t) {
    const size_t row = static_cast<size_t>(t);
    const size_t at = row * x.cols + column;
    __m256i dot = dot_i8<Steps>(w, x.high + at);
    if (Planes == 2) dot = join_planes(dot, dot_i8<Steps>(w, x.low + at));
    const __m256 x_scale = _mm256_broadcast_ss(x.scales + row * blocks + column / kBlock);
    acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(scale, x_scale), _mm256_cvtepi32_ps(dot), acc[t]);
  }
}

template <int T, int Planes>
inline void tile_dots8(const uint8_t* tile, const Activations& x, int block, Acc acc[T]) {
  __m256i w[4];
  for (int j = 0; j < 4; ++j) w[j] = load_bytes(tile + 16 + 32 * j);
  add_dots8<T, Planes, 4>(w, load_halves(tile), x, 16 * block, acc);
}

// 8-bit codes of both halves, unsigned.
inline void join_halves(const uint8_t* tile, const uint8_t* low_tile, __m256i w[8]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m256i high = load_bytes(tile + 16 + 32 * j), low = load_bytes(low_tile + 32 * j);
    const __m256i first = _mm256_slli_epi16(_mm256_and_si256(high, nibble), 4);
    const __m256i second = _mm256_andnot_si256(nibble, high);
    w[j] = _mm256_or_si256(first, _mm256_and_si256(low, nibble));
    w[j + 4] =
        _mm256_or_si256(second, _mm256_and_si256(_mm256_srli_epi16(low, 4), nibble));
  }
}

template <int T, int Planes>
inline void halved_tile_dots(const uint8_t* tile, const uint8_t* low_tile, const Activations& x,
                             int block, Acc acc[T]) {
  __m256i w[8];
  join_halves(tile, low_tile, w);
  const __m256 scale = load_halves(tile);
#if defined(__AVX512VNNI__)
  // The codes stay unsigned: 128 more, less 128 scales. As the wide tiles do, to the last bit.
  const __m256 minimum = _mm256_mul_ps(scale, _mm256_set1_ps(-128.0f));
  add_unsigned_dots<T, Planes>(w, scale, minimum, x, block, acc);
#else
  for (int j = 0; j < 8; ++j) w[j] = _mm256_xor_si256(w[j], _mm256_set1_epi8(-128));
  add_dots8<T, Planes, 8>(w, scale, x, kBlock * block, acc);
#endif
}

inline Acc zero() { return _mm256_setzero_ps(); }
inline void store_rows(const Acc& acc, float out[kRows]) { _mm256_storeu_ps(out, acc); }

#if defined(__AVX512VNNI__)

// 32 coefficients of a square of codes.
struct alignas(64) Codes {
  int8_t high[kBlock], low[kBlock];
  int32_t offset;  // what the product has too much
  float scale;
};

inline void set_codes(const IntVec codes[kParts], Codes& to) {
  for (int p = 0; p < kParts; ++p) {
    store_planes(codes[p], to.high + p * kLanes, to.low + p * kLanes);
  }
  to.offset = 128 * sum(codes[0] + codes[1]);
}

// dots[i][c] = sum_r square[r, c] * x[i].code[r], for 32 rows and columns in fours of rows.
inline void square_dots(const int8_t* square, const Codes* x, int count, int32_t dots[][kBlock]) {
  __m512i w[8][2];
  // The product wants unsigned weights: code + 128, less 128 sums of x.
  const __m512i sign = _mm512_set1_epi8(-128);
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 2; ++i) {
      w[j][i] = _mm512_xor_si512(_mm512_loadu_si512(square + 128 * j + 64 * i), sign);
    }
  }
  for (; count > 0; --count, ++x, ++dots) {
    __m512i high[2] = {}, low[2] = {};
    for (int j = 0; j < 8; ++j) {
      int four[2];
      std::memcpy(&four[0], x->high + 4 * j, sizeof four[0]);
      std::memcpy(&four[1], x->low + 4 * j, sizeof four[1]);
      for (int i = 0; i < 2; ++i) {
        high[i] = _mm512_dpbusd_epi32(high[i], w[j][i], _mm512_set1_epi32(four[0]));
        low[i] = _mm512_dpbusd_epi32(low[i], w[j][i], _mm512_set1_epi32(four[1]));
      }
    }
    const __m512i offset = _mm512_set1_epi32(x->offset);
    for (int i = 0; i < 2; ++i) {
      const __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), low[i]);
      _mm512_store_si512(*dots + 16 * i, _mm512_sub_epi32(dot, offset));
    }
  }
}

#else

// 32 coefficients of a square of codes.
struct alignas(32) Codes {
  int16_t code[kBlock];
  float scale;
};

inline void set_codes(const IntVec codes[kParts], Codes& to) {
  for (int p = 0; p < kParts; ++p) {
    const __m256i integers = (__m256i)codes[p];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to.code + p * kLanes),
                     _mm_packs_epi32(_mm256_castsi256_si128(integers),
                                     _mm256_extracti128_si256(integers, 1)));
  }
}

// dots[i][c] = sum_r square[r, c] * x[i].code[r], for 32 rows and columns in fours of rows. With
// 16-bit products both planes are had at once.
inline void square_dots(const int8_t* square, const Codes* x, int count, int32_t dots[][kBlock]) {
  for (int c = 0; c < kBlock; c += 8) {
    __m256i w[8][2];
    for (int j = 0; j < 8; ++j) {
      for (int i = 0; i < 2; ++i) {
        w[j][i] = _mm256_cvtepi8_epi16(_mm_loadu_si128(
            reinterpret_cast<const __m128i*>(square + 128 * j + 4 * c + 16 * i)));
      }
    }
    for (int n = 0; n < count; ++n) {
      __m256i sums[2] = {};
      for (int j = 0; j < 8; ++j) {
        long long four;
        std::memcpy(&four, x[n].code + 4 * j, sizeof four);
        for (int i = 0; i < 2; ++i) {
          sums[i] = _mm256_add_epi32(
              sums[i], _mm256_madd_epi16(w[j][i], _mm256_set1_epi64x(four)));
        }
      }
      // Pairs of a column: 0 1 4 5 | 2 3 6 7 after the sum over neighbours.
      const __m256i pairs = _mm256_hadd_epi32(sums[0], sums[1]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots[n] + c),
                          _mm256_permute4x64_epi64(pairs, 0xd8));
    }
  }
}

#endif

// Tokens that share what it costs to unpack a tile, their sums in registers.
constexpr int kTokens = 4;  // 16 registers: 8 weights, 4 sums, 4 at work

#if defined(__AVX512VNNI__)

// kRowBlocks at once: two registers of 16 rows, so that a broadcast input serves two products
// (there are two products a cycle, and as many loads).
static_assert(kRowBlocks == 4);
constexpr int kWideTokens = 16;  // their sums stay in the first-level cache

// 16 rows of 32 columns: w = scale * code + minimum, codes unsigned.
struct WideTile {
  __m512i w[8];
  __m512 scale, minimum;
};

inline __m512 load_halves(const uint8_t* a, const uint8_t* b) {
  return _mm512_cvtph_ps(_mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)),
                                          _mm_loadu_si128(reinterpret_cast<const __m128i*>(a))));
}

inline __m512i load_codes(const uint8_t* a, const uint8_t* b) {
  return _mm512_inserti64x4(
      _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a))),
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)), 1);
}

template <bool Minimums>
inline WideTile unpack(const uint8_t* a, const uint8_t* b) {
  WideTile tile;
  tile.scale = load_halves(a, b);
  if constexpr (Minimums) {
    tile.minimum = load_halves(a + 16, b + 16);
  } else {
    tile.minimum = _mm512_mul_ps(tile.scale, _mm512_set1_ps(kHighMinimum));
    tile.scale = _mm512_mul_ps(tile.scale, _mm512_set1_ps(16.0f));
  }
  const __m512i low = _mm512_set1_epi8(15);
  const int codes = Minimums ? 32 : 16;
  for (int j = 0; j < 4; ++j) {
    const __m512i packed = load_codes(a + codes + 32 * j, b + codes + 32 * j);
    tile.w[j] = _mm512_and_si512(packed, low);
    tile.w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), low);
  }
  return tile;
}

// With the low halves of a and b. The codes stay unsigned: 128 more, less 128 scales.
inline WideTile unpack_halved(const uint8_t* a, const uint8_t* b, const uint8_t* low_a,
                              const uint8_t* low_b) {
  WideTile tile;
  tile.scale = load_halves(a, b);
  tile.minimum = _mm512_mul_ps(tile.scale, _mm512_set1_ps(-128.0f));
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m512i high = load_codes(a + 16 + 32 * j, b + 16 + 32 * j);
    const __m512i low = load_codes(low_a + 32 * j, low_b + 32 * j);
    const __m512i first = _mm512_slli_epi16(_mm512_and_si512(high, nibble), 4);
    const __m512i second = _mm512_andnot_si512(nibble, high);
    tile.w[j] = _mm512_or_si512(first, _mm512_and_si512(low, nibble));
    tile.w[j + 4] =
        _mm512_or_si512(second, _mm512_and_si512(_mm512_srli_epi16(low, 4), nibble));
  }
  return tile;
}

inline void add_dots(const WideTile tiles[2], const int8_t* x, __m512i dots[2]) {
  dots[0] = dots[1] = _mm512_setzero_si512();
  for (int j = 0; j < 8; ++j) {
    int four;
    std::memcpy(&four, x + 4 * j, sizeof four);
    const __m512i v = _mm512_set1_epi32(four);
    dots[0] = _mm512_dpbusd_epi32(dots[0], tiles[0].w[j], v);
    dots[1] = _mm512_dpbusd_epi32(dots[1], tiles[1].w[j], v);
  }
}

template <int Planes>
inline void add_tiles(const WideTile tiles[2], const Activations& x, int t, int block,
                      __m512 sums[2]) {
  const size_t at = static_cast<size_t>(t) * x.cols + static_cast<size_t>(block) * kBlock;
  __m512i dots[2];
  add_dots(tiles, x.high + at, dots);
  if constexpr (Planes == 2) {
    __m512i low[2];
    add_dots(tiles, x.low + at, low);
    for (int i = 0; i < 2; ++i) {
      dots[i] = _mm512_add_epi32(_mm512_slli_epi32(dots[i], 8), low[i]);
    }
  }
  const __m512 x_scale = _mm512_set1_ps(x.scales[at / kBlock]);
  const __m512 x_sum = _mm512_set1_ps(x.sums[at / kBlock]);
  for (int i = 0; i < 2; ++i) {
    const __m512 scale = _mm512_mul_ps(tiles[i].scale, x_scale);
    sums[i] = _mm512_fmadd_ps(tiles[i].minimum, x_sum, sums[i]);
    sums[i] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[i]), sums[i]);
  }
}

#endif

}  // namespace
}  // namespace isthmus
