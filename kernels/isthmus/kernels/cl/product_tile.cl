// product.tile: a tile of the product in local memory, both axes blocked. A work-group has
// TILE_ROWS rows by TILE_TOKENS tokens; for one group of columns after the other it brings the
// weights, dequantized once, and the inputs into local memory, and every item keeps ROWS by TOKENS
// sums in registers. For many tokens, where dequantizing is what costs. Knows FP16 and TEXEL.
//
// Layout: product_n.cl's; BLOCK 1 reads rows one after the other (k-contiguous), BLOCK 4 texels
// (K8N4, with TEXEL). With STAGED the scales and minimums of all groups are brought in once, before
// the columns.
#include "product.h"

#ifndef BLOCK
#define BLOCK 64
#endif
#ifndef ROWS
#define ROWS 4            // rows of an item: 2 or 4
#endif
#ifndef TOKENS
#define TOKENS 16         // tokens of a work-group
#endif
#ifndef EACH
#define EACH 4            // tokens of an item; divides TOKENS
#endif
#ifndef WGS
#define WGS 16            // items of a group along the rows
#endif
#ifndef STAGED
#define STAGED 0          // 1: scales and minimums of all groups in local memory
#endif

#define TILE_ROWS (ROWS * WGS)
#define ACROSS (TOKENS / EACH)
#define ITEMS (WGS * ACROSS)
#if TEXEL
#define RUN 4             // rows whose words are read at once
#else
#define RUN 1
#endif

__kernel __attribute__((reqd_work_group_size(WGS, ACROSS, 1)))
void product(CODES, PRODUCT_ARGUMENTS) {
  const int item = (int)get_local_id(1) * WGS + (int)get_local_id(0);
  const int row = (int)get_group_id(0) * TILE_ROWS, token = (int)get_group_id(1) * TOKENS;
  const int my_row = (int)get_local_id(0) * ROWS, my_token = (int)get_local_id(1) * EACH;
  const int tokens = step[counter];
  __local real weights[GROUP * TILE_ROWS];  // [columns][rows]
  __local real inputs[GROUP * TOKENS];      // [columns][tokens]
#if STAGED
  __local float widths[GROUPS * TILE_ROWS], bases[GROUPS * TILE_ROWS];
  for (int i = item; i < GROUPS * TILE_ROWS; i += ITEMS) {
    const int r = min(row + i % TILE_ROWS, rows - 1), group = i / TILE_ROWS;
    const size_t at = ((size_t)(r / BLOCK) * GROUPS + group) * BLOCK + r % BLOCK;
    const float scale = vload_half(at, scales);
    widths[i] = STEP(scale);
    bases[i] = BASE(scale, vload_half(at, minimums));
  }
  barrier(CLK_LOCAL_MEM_FENCE);
#endif

  float sum[EACH][ROWS];
  for (int t = 0; t < EACH; ++t) {
    for (int r = 0; r < ROWS; ++r) sum[t][r] = 0.0f;
  }
  for (int group = 0; group < GROUPS; ++group) {
    for (int i = item; i < WORDS_A_GROUP * TILE_ROWS / RUN; i += ITEMS) {
      const int of_tile = i % (TILE_ROWS / RUN) * RUN, word_of = i / (TILE_ROWS / RUN);
      const int r = min(row + of_tile, rows - RUN);  // the last tile may reach beyond the rows
      const int at = group * WORDS_A_GROUP + word_of;
      const size_t block = (size_t)(r / BLOCK);
      uint word[RUN];
#if TEXEL
      vstore4(TEXEL_AT(at, r / 4), 0, word);
#else
      word[0] = codes[(block * WORDS + at) * BLOCK + r % BLOCK];
#endif
#pragma unroll
      for (int q = 0; q < RUN; ++q) {
#if STAGED
        const real width = (real)widths[group * TILE_ROWS + of_tile + q];
        const real base = (real)bases[group * TILE_ROWS + of_tile + q];
#else
        const size_t from = (block * GROUPS + group) * BLOCK + r % BLOCK + q;
        const float scale = vload_half(from, scales);
        const real width = (real)STEP(scale);
        const real base = (real)BASE(scale, vload_half(from, minimums));
#endif
#pragma unroll
        for (int j = 0; j < CODES_A_WORD; ++j) {
          weights[(word_of * CODES_A_WORD + j) * TILE_ROWS + of_tile + q] =
              MAD(REAL_CODE(word[q], j), width, base);
        }
      }
    }
    for (int i = item; i < GROUP * TOKENS; i += ITEMS) {
      const int t = i / GROUP, k = i % GROUP;
      inputs[k * TOKENS + t] = (real)x[(size_t)(token + t) * X_STRIDE + group * GROUP + k];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if FP16
    half of_group[EACH][ROWS];
    for (int t = 0; t < EACH; ++t) {
      for (int r = 0; r < ROWS; ++r) of_group[t][r] = 0;
    }
#else
#define of_group sum
#endif
    for (int k = 0; k < GROUP; ++k) {
      real weight[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) weight[r] = weights[k * TILE_ROWS + my_row + r];
#pragma unroll
      for (int t = 0; t < EACH; ++t) {
        const real value = inputs[k * TOKENS + my_token + t];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) of_group[t][r] = MAD(weight[r], value, of_group[t][r]);
      }
    }
#if FP16
    for (int t = 0; t < EACH; ++t) {
      for (int r = 0; r < ROWS; ++r) sum[t][r] += (float)of_group[t][r];
    }
#endif
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  if (row + my_row >= rows) return;
  for (int t = 0; t < EACH && token + my_token + t < tokens; ++t) {
    __global float* to = out + (size_t)(token + my_token + t) * OUT_STRIDE;
    const int at = row0 + row + my_row;
#if BIAS
    for (int r = 0; r < ROWS; ++r) sum[t][r] += bias[at + r];
#endif
#if EPILOGUE == 2
    for (int r = 0; r < ROWS; r += 2) to[(at + r) / 2] = SILU(sum[t][r]) * sum[t][r + 1];
#elif EPILOGUE == 1
    for (int r = 0; r < ROWS; ++r) to[at + r] += sum[t][r];
#else
    for (int r = 0; r < ROWS; ++r) to[at + r] = sum[t][r];
#endif
  }
}
