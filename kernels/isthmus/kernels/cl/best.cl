// best: the largest logit of each part of a row, for steps that want the best token alone.
//
//   logits    [wanted, STRIDE] float
//   found     [wanted, parts, 2] float: the logit, and its place as int. The logit is no number
//             where any of its part is none.
// Work-groups: parts by wanted rows.
#include "common.h"

#ifndef VOCAB
#define VOCAB 288
#endif
#ifndef STRIDE
#define STRIDE 384
#endif
#ifndef SHARE
#define SHARE 128         // logits of a part: a multiple of WGS * LANES
#endif
#ifndef WGS
#define WGS 64            // work-items of a group: 1 on a CPU
#endif
#ifndef LANES
#define LANES 2           // logits that an item looks at at once: 2, 4, 8 or 16
#endif
#define VEC JOIN(float, LANES)
#define IVEC JOIN(int, LANES)

__constant int kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1)))
void best(__global const float* restrict logits, __global float* restrict found) {
  const int item = (int)get_local_id(0), part = (int)get_group_id(0), row = (int)get_group_id(1);
  const int first = part * SHARE, last = min(first + SHARE, VOCAB);
  logits += (size_t)row * STRIDE;
  VEC top = -INFINITY, wrong = 0.0f;
  IVEC at = VOCAB;
  for (int i = first + item * LANES; i < last; i += WGS * LANES) {
    VEC value = JOIN(load, LANES)(0, logits + i);
    const IVEC place = JOIN(load, LANES)(0, kLanes) + i;
    value = select(value, (VEC)(-FLT_MAX), place >= VOCAB);
    wrong += value - value;  // zero, or no number
    at = select(at, place, value > top);
    top = max(top, value);
  }
  __local float tops[WGS * LANES], wrongs[WGS * LANES];
  __local int places[WGS * LANES];
  JOIN(store, LANES)(top, item, tops);
  JOIN(store, LANES)(wrong, item, wrongs);
  JOIN(store, LANES)(at, item, places);
  barrier(CLK_LOCAL_MEM_FENCE);
  if (item != 0) return;
  float most = tops[0], sum = wrongs[0];
  int place = places[0];
  for (int i = 1; i < WGS * LANES; ++i) {
    sum += wrongs[i];
    if (tops[i] > most || (tops[i] == most && places[i] < place)) {
      most = tops[i];
      place = places[i];
    }
  }
  found += ((size_t)row * get_num_groups(0) + part) * 2;
  found[0] = most + sum;
  found[1] = as_float(place);
}
