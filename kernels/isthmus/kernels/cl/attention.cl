// attention: the launches of attention for one or several tokens; attention.h says what lies where.
#include "attention.h"

#ifndef FUSED
#define FUSED 0           // 1: `attend` keeps k and v too; only where no token of a step sees another
#endif

// Keep the keys and values of all tokens, before `attend` looks at them.
// Work-groups: POOL_HEADS by tokens.
__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void store(__global const float* restrict qkv, __global uchar* keys, __global uchar* values,
           __global const int* restrict step, __global const float* restrict norms,
           const float eps) {
  const int item = (int)get_local_id(0), kept = (int)get_group_id(0), token = (int)get_group_id(1);
  __local float key[HEAD_DIM];
  WHERE(token)
  store_head(qkv + (size_t)token * QKV_STRIDE, keys, values, table, turns, position, kept, norms, eps,
             key, item);
}

// Work-groups: POOL_HEADS by tokens by parts of the context.
__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void attend(__global const float* restrict qkv, __global uchar* keys, __global uchar* values,
            __global float* restrict a, __global float* restrict partial,
            __global const int* restrict step, __global const float* restrict norms,
            const float eps) {
  __local float q[SHARED * HEAD_DIM], key[HEAD_DIM], weights[SHARED * BLOCK_TOKENS];
  __local float widths[WIDTHS];
  const int part = (int)get_group_id(2), parts = (int)get_num_groups(2);
  attend_part(qkv, keys, values, parts > 1 ? 0 : a, partial, step, norms, eps, q, key, weights,
              widths, (int)get_group_id(1), (int)get_group_id(0), part, parts, FUSED,
              (int)get_local_id(0));
}

// Join the parts of a long context. Work-groups: HEADS by tokens.
__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void combine(__global const float* restrict partial, __global float* restrict a,
             __global const int* restrict step) {
  const int parts = step[kParts];
  const int item = (int)get_local_id(0), head = (int)get_group_id(0), token = (int)get_group_id(1);
  partial += ((size_t)token * HEADS + head) * parts * (HEAD_DIM + 2);
  float weights[MOST_PARTS];
  weigh_parts(partial, parts, weights);
  for (int d = item; d < HEAD_DIM; d += WGS) {
    float sum = 0.0f;
    for (int p = 0; p < parts; ++p) sum += partial[p * (HEAD_DIM + 2) + d] * weights[p];
    a[(size_t)token * A_STRIDE + head * HEAD_DIM + d] = sum;
  }
}
