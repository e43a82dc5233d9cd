// ceiling: what a device can do at most, for the tuner to hold a kernel against.
//
//   read      every item adds up its share of `in`, neighbours side by side
//   copy      the same share of `in` to `out`
//   multiply  chains of multiply-adds in registers
#include "common.h"

#ifndef LANES
#define LANES 4           // values of a load: 16 on a CPU
#endif
#ifndef WGS
#define WGS 64            // items of a group: 1 on a CPU
#endif
#ifndef EACH
#define EACH 16           // loads of an item
#endif
#ifndef ROUNDS
#define ROUNDS 4096       // multiply-adds of a chain, of which an item has CHAINS
#endif
#define CHAINS 8

#define VEC JOIN(float, LANES)
// Of a group's loads the items take turns, so that neighbours read neighbours.
#define AT(i) (((size_t)get_group_id(0) * EACH + (i)) * WGS + get_local_id(0))

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void read(__global const float* restrict in, __global float* restrict out) {
  VEC sum = 0.0f;
#pragma unroll
  for (int i = 0; i < EACH; ++i) sum += JOIN(load, LANES)(AT(i), in);
  JOIN(store, LANES)(sum, get_global_id(0), out);
}

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void copy(__global const float* restrict in, __global float* restrict out) {
#pragma unroll
  for (int i = 0; i < EACH; ++i) JOIN(store, LANES)(JOIN(load, LANES)(AT(i), in), AT(i), out);
}

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void multiply(__global const float* restrict in, __global float* restrict out) {
  VEC sum[CHAINS];
  const VEC factor = JOIN(load, LANES)(0, in), term = JOIN(load, LANES)(1, in);
#pragma unroll
  for (int i = 0; i < CHAINS; ++i) sum[i] = (VEC)(i);
  for (int round = 0; round < ROUNDS; ++round) {
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) sum[i] = MAD(sum[i], factor, term);
  }
  VEC total = 0.0f;
  for (int i = 0; i < CHAINS; ++i) total += sum[i];
  JOIN(store, LANES)(total, get_global_id(0), out);
}
