// product.i: one token, in integers, for CPUs. The input is brought to 16 bits, with a scale for
// every group of columns. A word gives pairs of codes that are 16 bits apart; the products of 16
// pairs and their sums are one instruction of a CPU. A work-item has BLOCKS times 16 rows.
//
// Layout: product_n.cl's, with BLOCK 16 or more. The largest sum of a group, 128 codes of 8 bits
// by 32,767, fits 32 bits.
#include "product.h"

#ifndef BLOCK
#define BLOCK 16
#endif
#ifndef BLOCKS
#define BLOCKS 4          // runs of 16 rows of an item: the input is brought to 16 bits once for all
#endif
#define LANES 16
#define PAIRS (CODES_A_WORD / 2)
#if BITS == 4
#define PAIR_MASK 0x000f000fu
#else
#define PAIR_MASK 0x00ff00ffu
#endif

#ifndef PORTABLE
#define PORTABLE 0        // 1: in plain C even where a CPU's own instruction is known
#endif

// sum + a * b over both halves of every lane, each of 16 bits with a sign.
#if defined(__AVX512BW__) && !PORTABLE
typedef short short32 __attribute__((ext_vector_type(32)));
inline int16 dot2(uint16 a, int b, int16 sum) {
  return sum + __builtin_astype(__builtin_ia32_pmaddwd512(__builtin_astype(a, short32),
                                                          __builtin_astype((int16)(b), short32)),
                                int16);
}
#elif defined(__AVX2__) && !PORTABLE
inline int16 dot2(uint16 a, int b, int16 sum) {
  const short16 both = as_short16((int8)(b));
  return sum + (int16)(as_int8(__builtin_ia32_pmaddwd256(as_short16(a.lo), both)),
                       as_int8(__builtin_ia32_pmaddwd256(as_short16(a.hi), both)));
}
#else
inline int16 dot2(uint16 a, int b, int16 sum) {
  const int low = (short)(b & 0xffff), high = b >> 16;
  return sum + as_int16(a & 0xffffu) * low + as_int16(a >> 16) * high;
}
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void product(__global const uint* restrict codes, PRODUCT_ARGUMENTS) {
  __local int pairs[COLS / 2];
  __local float widths[GROUPS], sums[GROUPS];
#if NORM
  x += counter == kWanted ? (size_t)step[step[kRows]] * X_STRIDE : 0;
  float16 square = 0.0f;
  for (int i = 0; i < X_STRIDE / 16; ++i) {
    const float16 value = vload16(i, x);
    square = MAD(value, value, square);
  }
  const float factor = 1.0f / sqrt(total16(square) / NORM_WIDTH + eps);
#endif
  for (int group = 0; group < GROUPS; ++group) {
    float16 value[GROUP / 16], top = 0.0f;
    for (int i = 0; i < GROUP / 16; ++i) {
      const int at = group * GROUP / 16 + i;
#if NORM
      value[i] = vload16(at, x) * factor * vload16(at, norm);
#else
      value[i] = vload16(at, x);
#endif
      top = max(top, fabs(value[i]));
    }
    const float8 top8 = max(top.lo, top.hi);
    const float4 top4 = max(top8.lo, top8.hi);
    const float2 top2 = max(top4.lo, top4.hi);
    const float most = max(top2.x, top2.y);
    const float back = most > 0.0f ? 32767.0f / most : 0.0f;
    int16 sum = 0;
    for (int i = 0; i < GROUP / 16; ++i) {
      const int16 code = convert_int16_rte(value[i] * back);
      sum += code;
      const int at = (group * GROUP / 16 + i) * 8;
#if BITS == 4
      const int8 both = (code.s012389ab & 0xffff) | code.s4567cdef << 16;
#else
      const int8 both = (code.s014589cd & 0xffff) | code.s2367abef << 16;
#endif
      vstore8(both, 0, pairs + at);
    }
    const int8 sum8 = sum.lo + sum.hi;
    const int4 sum4 = sum8.lo + sum8.hi;
    widths[group] = most / 32767.0f;
    sums[group] = (float)(sum4.x + sum4.y + sum4.z + sum4.w) * widths[group];
  }

  for (int turn = 0; turn < BLOCKS; ++turn) {
    const int row = ((int)get_group_id(0) * BLOCKS + turn) * LANES;
    if (row >= rows) return;
    const size_t block = (size_t)(row / BLOCK), lane = (size_t)(row % BLOCK);
    __global const uint* word_at = codes + block * WORDS * BLOCK + lane;
    __global const half* scales_at = scales + block * GROUPS * BLOCK + lane;
    __global const half* minimums_at = minimums + block * GROUPS * BLOCK + lane;
    float16 sum = 0.0f;
    for (int group = 0; group < GROUPS; ++group) {
      int16 of_group[2] = {0, 0};
#pragma unroll
      for (int i = 0; i < WORDS_A_GROUP; ++i) {
        const uint16 word = vload16(0, word_at);
        word_at += BLOCK;
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) {
          const uint16 two = word >> (uint)(j * BITS) & PAIR_MASK;
          const int value = pairs[(group * WORDS_A_GROUP + i) * PAIRS + j];
          of_group[j % 2] = dot2(two, value, of_group[j % 2]);
        }
      }
      const float16 scale = vload_half16(0, scales_at + group * BLOCK);
#if SYMMETRIC
      const float16 minimum = scale * (float)-(1 << (BITS - 1));
#else
      const float16 minimum = vload_half16(0, minimums_at + group * BLOCK);
#endif
      const float16 whole = convert_float16(of_group[0] + of_group[1]);
      sum = MAD(whole, scale * widths[group], MAD(minimum, (float16)(sums[group]), sum));
    }

    __global float* to = out + row0 + row;
#if BIAS
    sum += vload16(0, bias + row0 + row);
#endif
#if EPILOGUE == 0
    vstore16(sum, 0, to);
#elif EPILOGUE == 1
    vstore16(sum + vload16(0, to), 0, to);
#else
    const float8 gate = sum.even, up = sum.odd;
    vstore8(SILU(gate) * up, 0, out + (row0 + row) / 2);
#endif
  }
}
