// embed: x = table[token], the rows of a quantized table. One work-item has one word of a token.
// Layout of the table: product_n.cl's, or with BLOCK = 1 rows one after the other.
#ifndef IMAGE
#define IMAGE 0           // 1: the table is read as product_k.cl's image
#endif
#if IMAGE
#define TEXEL 2
#endif
#include "product.h"

#ifndef BLOCK
#define BLOCK 16
#endif
#ifndef WIDTH
#define WIDTH 576         // columns of the table, without their padding
#endif

__kernel void embed(CODES, PRODUCT_ARGUMENTS) {
  const int at = (int)get_global_id(0), token = (int)get_global_id(1);
  const int row = step[step[kIds] + token] - row0;
  if (at >= WORDS || row < 0 || row >= rows) return;
  const size_t block = row / BLOCK, lane = row % BLOCK;
#if IMAGE
  uint texel[4];
  vstore4(TEXEL_AT(at, row / 4), 0, texel);
  const uint word = texel[lane];
#else
  const uint word = codes[(block * WORDS + at) * BLOCK + lane];
#endif
  const size_t group = (block * GROUPS + at / WORDS_A_GROUP) * BLOCK + lane;
  const float scale = vload_half(group, scales);
  const float base = BASE(scale, vload_half(group, minimums));
  __global float* to = out + (size_t)token * OUT_STRIDE + at * CODES_A_WORD;
  for (int j = 0; j < CODES_A_WORD; ++j) {
    const float value = as_float(((word >> j * BITS & ((1u << BITS) - 1u)) << MANTISSA) | 0x3f800000u);
    to[j] = at * CODES_A_WORD + j < WIDTH ? MAD(value, STEP(scale), base) : 0.0f;
  }
}
