// product.n: n-contiguous. A work-item has LANES neighbouring rows and TOKENS tokens, all in
// registers; a work-group has WGS such items along the rows, and SPLIT times as many along the
// columns, whose sums meet in local memory. Knows FP16 and NORM.
//
//   codes     [rows / BLOCK][WORDS][BLOCK] uint, the first column in the lowest bits
//   scales    [rows / BLOCK][GROUPS][BLOCK] half; minimums alike
//
// With LANES = 16 and WGS = 1 a CPU streams one block; with LANES 1 or 2 and WGS * LANES = BLOCK a
// GPU's neighbours read neighbouring words.
#include "product.h"

#ifndef BLOCK
#define BLOCK 16          // rows that lie together: 16, 32, 64 or 128, a multiple of LANES
#endif
#ifndef LANES
#define LANES 16          // 1, 2, 4, 8 or 16; at least 2 with EPILOGUE 2
#endif
#ifndef TOKENS
#define TOKENS 1          // 1 is a GEMV, 2 to 8 a thin tile, 16 a large one
#endif
#ifndef WGS
#define WGS 1
#endif
#ifndef SPLIT
#define SPLIT 1           // more than 1 only with BLOCKS 1
#endif
#ifndef BLOCKS
#define BLOCKS 1          // runs of LANES rows that an item has one after the other: for a CPU,
#endif                    // where a norm on the way in is then done less often

#if LANES == 16
#define HALF_LANES 8
#elif LANES == 8
#define HALF_LANES 4
#else
#define HALF_LANES 2
#endif
#if FP16
#define HVEC JOIN(half, LANES)
// As CODE, at the top of a half's mantissa.
#define HALF_CODE(word, j)                                                                  \
  JOIN(half_bits, LANES)(JOIN(to_ushort, LANES)((word) >> ((j) * BITS) & ((1u << BITS) - 1u))  \
                             << (ushort)(10 - BITS) | (ushort)0x3c00)
#endif
#define ITEMS (WGS * SPLIT)
#define VEC JOIN(float, LANES)
#define UVEC JOIN(uint, LANES)
#define CODE(word, j) JOIN(bits, LANES)(CODE_BITS(word, j))

// Several sums a token hide the latency of an addition where there are few tokens.
#if TOKENS >= 4
#define SUMS 1
#else
#define SUMS (4 / TOKENS)
#endif

__kernel __attribute__((reqd_work_group_size(WGS, 1, SPLIT)))
void product(__global const uint* restrict codes, PRODUCT_ARGUMENTS) {
  const int token = (int)get_global_id(1) * TOKENS;
  const int part = (int)get_local_id(2);
#if SPLIT > 1
  __local float partial[SPLIT * WGS * TOKENS * LANES];
#endif

#if NORM
  __local float staged[X_STRIDE], sums[GROUPS], squares[ITEMS * LANES];
  const int item = part * WGS + (int)get_local_id(0);
  x += counter == kWanted ? (size_t)step[step[kRows]] * X_STRIDE : 0;
  VEC square = 0.0f;
  for (int i = item; i < X_STRIDE / LANES; i += ITEMS) {
    const VEC value = JOIN(load, LANES)(i, x);
    square = MAD(value, value, square);
  }
  JOIN(store, LANES)(square, item, squares);
  barrier(CLK_LOCAL_MEM_FENCE);
  square = JOIN(load, LANES)(0, squares);
  for (int i = 1; i < ITEMS; ++i) square += JOIN(load, LANES)(i, squares);
  const float factor = 1.0f / sqrt(JOIN(total, LANES)(square) / NORM_WIDTH + eps);
  for (int i = item; i < X_STRIDE / LANES; i += ITEMS) {
    JOIN(store, LANES)(JOIN(load, LANES)(i, x) * factor * JOIN(load, LANES)(i, norm), i, staged);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int group = item; group < GROUPS; group += ITEMS) {
    float4 four = 0.0f;
    for (int i = 0; i < GROUP / 4; ++i) four += vload4(group * GROUP / 4 + i, staged);
    sums[group] = (four.x + four.y) + (four.z + four.w);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
#else
  x += (size_t)token * X_STRIDE;
#endif

  for (int turn = 0; turn < BLOCKS; ++turn) {
    const int row = (((int)get_group_id(0) * BLOCKS + turn) * WGS + (int)get_local_id(0)) * LANES;
    const int at = min(row, rows - LANES);  // the last group may reach beyond the rows
    const size_t block = (size_t)(at / BLOCK), lane = (size_t)(at % BLOCK);
    __global const uint* codes_at = codes + block * WORDS * BLOCK + lane;
    __global const half* scales_at = scales + block * GROUPS * BLOCK + lane;
    __global const half* minimums_at = minimums + block * GROUPS * BLOCK + lane;

    VEC sum[TOKENS * SUMS];
    for (int i = 0; i < TOKENS * SUMS; ++i) sum[i] = 0.0f;
    for (int group = part; group < GROUPS; group += SPLIT) {
      const VEC scale = JOIN(load_half, LANES)(0, scales_at + group * BLOCK);
#if SYMMETRIC
      const VEC base = BASE(scale, 0);
#else
      const VEC base = BASE(scale, (JOIN(load_half, LANES)(0, minimums_at + group * BLOCK)));
#endif
      const VEC width = STEP(scale);
      __global const uint* word_at = codes_at + group * WORDS_A_GROUP * BLOCK;
#if NORM
      __local const float* xs = staged + group * GROUP;
#else
      __global const float* xs = x + group * GROUP;
#endif
#if FP16
      const HVEC half_width = JOIN(to_half, LANES)(width), half_base = JOIN(to_half, LANES)(base);
      HVEC of_tokens[TOKENS];
      for (int t = 0; t < TOKENS; ++t) of_tokens[t] = 0;
#elif NORM
      // The sum of a group's inputs is known: what all codes have in common is added at its end.
      VEC of_group[SUMS];
      for (int i = 0; i < SUMS; ++i) of_group[i] = 0.0f;
#endif
#if TOKENS < 4
#pragma unroll
#endif
      for (int i = 0; i < WORDS_A_GROUP; ++i) {
#if LANES == 16 && TOKENS == 1
        FETCH(word_at + i * BLOCK + AHEAD);
#endif
        const UVEC word = JOIN(load, LANES)(0, word_at + i * BLOCK);
#pragma unroll
        for (int j = 0; j < CODES_A_WORD; ++j) {
#if FP16
          const HVEC weight = MAD(HALF_CODE(word, j), half_width, half_base);
#pragma unroll
          for (int t = 0; t < TOKENS; ++t) {
            const half value = (half)xs[t * X_STRIDE + i * CODES_A_WORD + j];
            of_tokens[t] = MAD(weight, (HVEC)(value), of_tokens[t]);
          }
#elif NORM
          of_group[j % SUMS] =
              MAD(CODE(word, j), (VEC)(xs[i * CODES_A_WORD + j]), of_group[j % SUMS]);
#else
          const VEC weight = MAD(CODE(word, j), width, base);
#pragma unroll
          for (int t = 0; t < TOKENS; ++t) {
            VEC* to = &sum[t * SUMS + j % SUMS];
            *to = MAD(weight, (VEC)(xs[t * X_STRIDE + i * CODES_A_WORD + j]), *to);
          }
#endif
        }
      }
#if FP16
      for (int t = 0; t < TOKENS; ++t) sum[t * SUMS] += JOIN(to_float, LANES)(of_tokens[t]);
#elif NORM
      for (int i = 1; i < SUMS; ++i) of_group[0] += of_group[i];
      sum[0] = MAD(of_group[0], width, MAD((VEC)(sums[group]), base, sum[0]));
#endif
    }
    for (int t = 0; t < TOKENS; ++t) {
      for (int i = 1; i < SUMS; ++i) sum[t * SUMS] += sum[t * SUMS + i];
    }

#if SPLIT > 1
    const int slot = (int)get_local_id(0) * TOKENS;
    for (int t = 0; t < TOKENS; ++t) {
      JOIN(store, LANES)(sum[t * SUMS], part * WGS * TOKENS + slot + t, partial);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (part != 0) return;
    for (int t = 0; t < TOKENS; ++t) {
      for (int p = 1; p < SPLIT; ++p) {
        sum[t * SUMS] += JOIN(load, LANES)(p * WGS * TOKENS + slot + t, partial);
      }
    }
#endif

    if (row >= rows) return;
    const int tokens = step[counter];
    for (int t = 0; t < TOKENS && token + t < tokens; ++t) {
      VEC value = sum[t * SUMS];
      __global float* to = out + (size_t)(token + t) * OUT_STRIDE;
#if BIAS
      value += JOIN(load, LANES)(0, bias + row0 + row);
#endif
#if EPILOGUE == 0
      JOIN(store, LANES)(value, 0, to + row0 + row);
#elif EPILOGUE == 1
      JOIN(store, LANES)(value + JOIN(load, LANES)(0, to + row0 + row), 0, to + row0 + row);
#elif LANES == 2
      to[(row0 + row) / 2] = SILU(value.s0) * value.s1;
#else
      const JOIN(float, HALF_LANES) gate = value.even, up = value.odd;
      JOIN(store, HALF_LANES)(SILU(gate) * up, 0, to + (row0 + row) / 2);
#endif
    }
  }
}
