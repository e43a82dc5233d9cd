// product.tile: a tile of the product in local memory, both axes blocked. A work-group has
// TILE_ROWS rows by TILE_TOKENS tokens; for one group of columns after the other it brings the
// weights, dequantized once, and the inputs into local memory, and every item keeps ROWS by TOKENS
// sums in registers. For many tokens, where dequantizing is what costs.
//
// Layout: product_n.cl's; BLOCK 1 reads rows one after the other (k-contiguous). With STAGED the
// scales and minimums of all groups are brought in once, before the columns.
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

__kernel __attribute__((reqd_work_group_size(WGS, ACROSS, 1)))
void product(__global const uint* restrict codes, PRODUCT_ARGUMENTS) {
  const int item = (int)get_local_id(1) * WGS + (int)get_local_id(0);
  const int row = (int)get_group_id(0) * TILE_ROWS, token = (int)get_group_id(1) * TOKENS;
  const int my_row = (int)get_local_id(0) * ROWS, my_token = (int)get_local_id(1) * EACH;
  const int tokens = step[counter];
  __local float weights[GROUP * TILE_ROWS];  // [columns][rows]
  __local float inputs[GROUP * TOKENS];      // [columns][tokens]
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
    for (int i = item; i < WORDS_A_GROUP * TILE_ROWS; i += ITEMS) {
      const int of_tile = i % TILE_ROWS, word_of = i / TILE_ROWS;
      const int r = min(row + of_tile, rows - 1);  // the last tile may reach beyond the rows
      const size_t block = (size_t)(r / BLOCK);
      const uint word = codes[(block * WORDS + group * WORDS_A_GROUP + word_of) * BLOCK + r % BLOCK];
#if STAGED
      const float width = widths[group * TILE_ROWS + of_tile];
      const float base = bases[group * TILE_ROWS + of_tile];
#else
      const size_t at = (block * GROUPS + group) * BLOCK + r % BLOCK;
      const float scale = vload_half(at, scales);
      const float width = STEP(scale);
      const float base = BASE(scale, vload_half(at, minimums));
#endif
#pragma unroll
      for (int j = 0; j < CODES_A_WORD; ++j) {
        weights[(word_of * CODES_A_WORD + j) * TILE_ROWS + of_tile] =
            MAD(as_float(CODE_BITS(word, j)), width, base);
      }
    }
    for (int i = item; i < GROUP * TOKENS; i += ITEMS) {
      const int t = i / GROUP, k = i % GROUP;
      inputs[k * TOKENS + t] = x[(size_t)(token + t) * X_STRIDE + group * GROUP + k];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < GROUP; ++k) {
      float weight[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) weight[r] = weights[k * TILE_ROWS + my_row + r];
#pragma unroll
      for (int t = 0; t < EACH; ++t) {
        const float value = inputs[k * TOKENS + my_token + t];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sum[t][r] = MAD(weight[r], value, sum[t][r]);
      }
    }
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
