// norm: n = x / rms(x) * weight. A work-group has one token, or with GATHER one wanted row.
#include "common.h"

#ifndef WIDTH
#define WIDTH 576
#endif
#ifndef STRIDE
#define STRIDE 640        // of x and n
#endif
#ifndef GATHER
#define GATHER 0          // 1: the t-th wanted row of x becomes the t-th row of n
#endif
#ifndef WGS
#define WGS 64            // work-items of a group
#endif
#ifndef LANES
#define LANES 4           // values that an item reads at once; divides STRIDE / WGS or leaves a rest
#endif
#define VEC JOIN(float, LANES)

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void norm(__global const float* restrict x, __global const float* restrict weight,
          __global float* restrict n, __global const int* restrict step, const float eps) {
  const int item = (int)get_local_id(0), token = (int)get_group_id(1);
  const int row = GATHER ? step[step[kRows] + token] : token;
  x += (size_t)row * STRIDE;
  n += (size_t)token * STRIDE;
  // Beyond WIDTH there are zeros, in x and in the weight.
  VEC squares = 0.0f;
  for (int i = item; i < STRIDE / LANES; i += WGS) {
    const VEC value = JOIN(load, LANES)(i, x);
    squares = MAD(value, value, squares);
  }
  __local float partial[WGS * LANES];
  JOIN(store, LANES)(squares, item, partial);
  barrier(CLK_LOCAL_MEM_FENCE);
  float sum = 0.0f;
  for (int i = 0; i < WGS * LANES; ++i) sum += partial[i];
  const float factor = 1.0f / sqrt(sum / WIDTH + eps);
  for (int i = item; i < STRIDE / LANES; i += WGS) {
    JOIN(store, LANES)(JOIN(load, LANES)(i, x) * factor * JOIN(load, LANES)(i, weight), i, n);
  }
}
