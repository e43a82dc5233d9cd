// What attention.cl and layers.cl share: norm the heads of q and k where a model has that, turn q and
// k by their positions (RoPE), keep k and v in the paged pool, and a = softmax(q k / sqrt(d)) v with
// an online softmax over the blocks of the pool.
//
// The pool of a layer is two buffers, each [blocks][POOL_HEADS] of
//   keys      [HEAD_DIM][BLOCK_TOKENS] values, then [KV_GROUPS][BLOCK_TOKENS] scales
//   values    [BLOCK_TOKENS][HEAD_DIM] values, then [BLOCK_TOKENS][KV_GROUPS] scales
// so that neighbouring work-items (or lanes of a vector) have neighbouring positions of the keys
// and neighbouring dimensions of the values. There are scales only where KV is 2. Where a pool is
// more than an allocation, there are several such pairs, each with some of the heads of k and v.
//
//   qkv       [tokens, QKV_STRIDE] float: the heads of q, of k, of v
//   a         [tokens, A_STRIDE] float
//   norms     [2][HEAD_DIM] float, read when QK_NORM: what q's and k's heads are normed by, with `eps`
//   partial   [tokens, HEADS, parts, HEAD_DIM + 2] float: what `combine` joins
#ifndef ISTHMUS_ATTENTION
#define ISTHMUS_ATTENTION
#include "common.h"

#ifndef HEADS
#define HEADS 9
#endif
#ifndef KV_HEADS
#define KV_HEADS 3
#endif
#ifndef POOL_HEADS
#define POOL_HEADS KV_HEADS  // heads of k and v that are kept in this pair of buffers
#endif
#ifndef FIRST_HEAD
#define FIRST_HEAD 0         // the first of them
#endif
#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef BLOCK_TOKENS
#define BLOCK_TOKENS 32   // a multiple of 16
#endif
#ifndef QKV_STRIDE
#define QKV_STRIDE 1024
#endif
#ifndef A_STRIDE
#define A_STRIDE 640
#endif
#ifndef ROPE_HALVES
#define ROPE_HALVES 0     // 1: values d/2 apart turn together, 0: neighbours
#endif
#ifndef QK_NORM
#define QK_NORM 0         // 1: every head of q and k is normed before it is turned
#endif
#ifndef KV
#define KV 0              // 0: float, 1: half, 2: char with a scale for every KV_GROUP dimensions
#endif
#ifndef KV_GROUP
#define KV_GROUP 8
#endif
#ifndef WGS
#define WGS 32            // work-items of a group: 1 on a CPU
#endif
#ifndef POSITION_LANES
#define POSITION_LANES 1  // positions that an item has at once: 16 on a CPU
#endif
#ifndef DIM_LANES
#define DIM_LANES 2       // dimensions that an item has at once; divides HEAD_DIM, and KV_GROUP where KV is 2
#endif

#ifndef MOST_PARTS
#define MOST_PARTS 16     // parts that a context is split into at most
#endif

#define SHARED (HEADS / KV_HEADS)  // heads of q that share one of k and v
#define KV_GROUPS ((HEAD_DIM + KV_GROUP - 1) / KV_GROUP)
#define DIM_STEPS ((HEAD_DIM + WGS * DIM_LANES - 1) / (WGS * DIM_LANES))
#define CODES (BLOCK_TOKENS * HEAD_DIM)
#define WIDTHS (KV == 2 ? BLOCK_TOKENS * KV_GROUPS : 1)  // scales of a block, as floats
#if KV == 0
#define KV_BYTES (4 * CODES)
typedef float kv_t;
#elif KV == 1
#define KV_BYTES (2 * CODES)
typedef half kv_t;
#else
#define KV_BYTES (CODES + 2 * BLOCK_TOKENS * KV_GROUPS)
typedef char kv_t;
#endif
#if KV == 0
#define LOAD_KV(lanes, p) JOIN(load, lanes)(0, p)
#elif KV == 1
#define LOAD_KV(lanes, p) JOIN(load_half, lanes)(0, p)
#else
#define LOAD_KV(lanes, p) JOIN(to_float, lanes)(JOIN(load, lanes)(0, p))
#endif

// What a group of one item says is in order: a barrier would only cost registers.
#if WGS == 1
#define SYNC(fences)
#else
#define SYNC(fences) barrier(fences)
#endif

#define PVEC JOIN(float, POSITION_LANES)
#define DVEC JOIN(float, DIM_LANES)

// What a head is multiplied by to have a mean square of 1.
inline float unit(__global const float* restrict head, const float eps) {
  float sum = 0.0f;
  for (int d = 0; d < HEAD_DIM; ++d) sum = MAD(head[d], head[d], sum);
  return 1.0f / sqrt(sum / HEAD_DIM + eps);
}

// One of the two values that turn together. turns: cos and sin of each pair
inline float turned(__global const float* restrict head, __global const float* restrict turns, int d,
                    __global const float* restrict norm, const float factor) {
#if ROPE_HALVES
  const int pair = d % (HEAD_DIM / 2), first = pair, second = pair + HEAD_DIM / 2;
#else
  const int pair = d / 2, first = d - d % 2, second = first + 1;
#endif
  float a = head[first], b = head[second];
#if QK_NORM
  a *= norm[first] * factor;
  b *= norm[second] * factor;
#endif
  const float c = turns[2 * pair], s = turns[2 * pair + 1];
  return d == first ? a * c - b * s : a * s + b * c;
}

// Bring one head of one token into the pool.
inline void keep(__global uchar* keys, __global uchar* values, __local const float* k,
                 __global const float* v, int slot, int item) {
  __global kv_t* key = (__global kv_t*)keys;
  __global kv_t* value = (__global kv_t*)values;
#if KV == 2
  __global half* key_scales = (__global half*)(keys + CODES);
  __global half* value_scales = (__global half*)(values + CODES);
  for (int group = item; group < KV_GROUPS; group += WGS) {
    const int first = group * KV_GROUP, last = min(first + KV_GROUP, HEAD_DIM);
    float key_top = 0.0f, value_top = 0.0f;
    for (int d = first; d < last; ++d) {
      key_top = fmax(key_top, fabs(k[d]));
      value_top = fmax(value_top, fabs(v[d]));
    }
    const float key_scale = key_top / 127.0f, value_scale = value_top / 127.0f;
    vstore_half(key_scale, group * BLOCK_TOKENS + slot, key_scales);
    vstore_half(value_scale, slot * KV_GROUPS + group, value_scales);
    for (int d = first; d < last; ++d) {
      key[d * BLOCK_TOKENS + slot] = convert_char_sat_rte(key_scale == 0.0f ? 0.0f : k[d] / key_scale);
      value[slot * HEAD_DIM + d] =
          convert_char_sat_rte(value_scale == 0.0f ? 0.0f : v[d] / value_scale);
    }
  }
#else
  for (int d = item; d < HEAD_DIM; d += WGS) {
#if KV == 1
    vstore_half(k[d], d * BLOCK_TOKENS + slot, key);
    vstore_half(v[d], slot * HEAD_DIM + d, value);
#else
    key[d * BLOCK_TOKENS + slot] = k[d];
    value[slot * HEAD_DIM + d] = v[d];
#endif
  }
#endif
}

// Where a token stands: its position, its block table, its turns.
#define WHERE(token)                                                                    \
  const int position = step[step[kPositions] + (token)];                                \
  __global const int* table = step + step[step[kTables] + (token)];                     \
  __global const float* turns =                                                         \
      (__global const float*)(step + step[kTurns]) + (size_t)(token)*HEAD_DIM;

// Keep what one token has for a head of k and v. key: room for a head
inline void store_head(__global const float* from, __global uchar* keys, __global uchar* values,
                       __global const int* table, __global const float* turns, int position,
                       int kept, __global const float* norms, const float eps, __local float* key,
                       int item) {
  const size_t at = ((size_t)table[position / BLOCK_TOKENS] * POOL_HEADS + kept) * KV_BYTES;
  __global const float* k = from + (HEADS + FIRST_HEAD + kept) * HEAD_DIM;
  const float factor = QK_NORM ? unit(k, eps) : 1.0f;
  for (int d = item; d < HEAD_DIM; d += WGS) {
    key[d] = turned(k, turns, d, norms + HEAD_DIM, factor);
  }
  SYNC(CLK_LOCAL_MEM_FENCE);
  keep(keys + at, values + at, key, k + KV_HEADS * HEAD_DIM, position % BLOCK_TOKENS, item);
}

// What the positions of a part of the context, up to the token's own, give to the heads of q that
// share a head of k and v: into `a`, or where that is 0 into `partial`. With `keeps`
// the token's own keys and values are kept first. A group's room: q [SHARED][HEAD_DIM], key
// [HEAD_DIM], weights [SHARED][BLOCK_TOKENS], widths [WIDTHS].
inline void attend_part(__global const float* qkv, __global uchar* keys, __global uchar* values,
                        __global float* a, __global float* partial, __global const int* step,
                        __global const float* norms, const float eps, __local float* q,
                        __local float* key, __local float* weights, __local float* widths, int token,
                        int kept, int part, int parts, int keeps, int item) {
  const int head = FIRST_HEAD + kept;
  WHERE(token)
  const int seen = position + 1;
  const int blocks = (seen + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
  const int share = (blocks + parts - 1) / parts;
  const int first = part * share, last = min(first + share, blocks);
  __global const float* from = qkv + (size_t)token * QKV_STRIDE;

  for (int g = 0; g < SHARED; ++g) {
    __global const float* of_head = from + (head * SHARED + g) * HEAD_DIM;
    const float factor = QK_NORM ? unit(of_head, eps) : 1.0f;
    for (int d = item; d < HEAD_DIM; d += WGS) {
      q[g * HEAD_DIM + d] = turned(of_head, turns, d, norms, factor) * rsqrt((float)HEAD_DIM);
    }
  }
  if (keeps && last == blocks && first < last) {
    store_head(from, keys, values, table, turns, position, kept, norms, eps, key, item);
  }
  SYNC(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);

  float top[SHARED], total[SHARED];
  DVEC sum[SHARED * DIM_STEPS];
#pragma unroll
  for (int g = 0; g < SHARED; ++g) {
    top[g] = -INFINITY;
    total[g] = 0.0f;
  }
#pragma unroll
  for (int i = 0; i < SHARED * DIM_STEPS; ++i) sum[i] = 0.0f;

  for (int block = first; block < last; ++block) {
    const size_t at = ((size_t)table[block] * POOL_HEADS + kept) * KV_BYTES;
    __global const kv_t* key_at = (__global const kv_t*)(keys + at);
    __global const kv_t* value_at = (__global const kv_t*)(values + at);
#if KV == 2
    __global const half* key_scales = (__global const half*)(keys + at + CODES);
    __global const half* value_scales = (__global const half*)(values + at + CODES);
#endif
#if WGS == 1
    if (block + 1 < last) {
      const size_t next = ((size_t)table[block + 1] * POOL_HEADS + kept) * KV_BYTES;
      for (int i = 0; i < KV_BYTES; i += 64) {
        FETCH(keys + next + i);
        FETCH(values + next + i);
      }
    }
#endif
    const int count = min(BLOCK_TOKENS, seen - block * BLOCK_TOKENS);

    for (int i = item * POSITION_LANES; i < BLOCK_TOKENS; i += WGS * POSITION_LANES) {
      PVEC score[SHARED];
#pragma unroll
      for (int g = 0; g < SHARED; ++g) score[g] = 0.0f;
#if KV == 2
      for (int group = 0; group < KV_GROUPS; ++group) {
        PVEC share_of[SHARED];
#pragma unroll
        for (int g = 0; g < SHARED; ++g) share_of[g] = 0.0f;
        for (int nth = 0; nth < KV_GROUP; ++nth) {
          const int d = group * KV_GROUP + nth;
          if (HEAD_DIM % KV_GROUP && d >= HEAD_DIM) break;
          const PVEC value = LOAD_KV(POSITION_LANES, key_at + d * BLOCK_TOKENS + i);
#pragma unroll
          for (int g = 0; g < SHARED; ++g) {
            share_of[g] = MAD(value, (PVEC)(q[g * HEAD_DIM + d]), share_of[g]);
          }
        }
        const PVEC scale = JOIN(load_half, POSITION_LANES)(0, key_scales + group * BLOCK_TOKENS + i);
#pragma unroll
        for (int g = 0; g < SHARED; ++g) score[g] = MAD(share_of[g], scale, score[g]);
      }
#else
      for (int d = 0; d < HEAD_DIM; ++d) {
        const PVEC value = LOAD_KV(POSITION_LANES, key_at + d * BLOCK_TOKENS + i);
#pragma unroll
        for (int g = 0; g < SHARED; ++g) {
          score[g] = MAD(value, (PVEC)(q[g * HEAD_DIM + d]), score[g]);
        }
      }
#endif
#pragma unroll
      for (int g = 0; g < SHARED; ++g) {
        JOIN(store, POSITION_LANES)(score[g], 0, weights + g * BLOCK_TOKENS + i);
      }
    }
#if KV == 2
    for (int i = item; i < BLOCK_TOKENS * KV_GROUPS / 16; i += WGS) {
      vstore16(vload_half16(i, value_scales), i, widths);
    }
#endif
    SYNC(CLK_LOCAL_MEM_FENCE);
    // What lies beyond the last position was never written: it counts as far away.
    for (int i = item; i < SHARED * BLOCK_TOKENS; i += WGS) {
      if (i % BLOCK_TOKENS >= count) weights[i] = -INFINITY;
    }
    SYNC(CLK_LOCAL_MEM_FENCE);
    float now[SHARED];
#pragma unroll
    for (int g = 0; g < SHARED; ++g) {
      float16 most = vload16(0, weights + g * BLOCK_TOKENS);
      for (int i = 1; i < BLOCK_TOKENS / 16; ++i) {
        most = max(most, vload16(i, weights + g * BLOCK_TOKENS));
      }
      const float8 most8 = max(most.lo, most.hi);
      const float4 most4 = max(most8.lo, most8.hi);
      const float2 most2 = max(most4.lo, most4.hi);
      now[g] = max(top[g], max(most2.x, most2.y));
    }
    SYNC(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int g = 0; g < SHARED; ++g) {
      for (int i = item * POSITION_LANES; i < BLOCK_TOKENS; i += WGS * POSITION_LANES) {
        __local float* weight = weights + g * BLOCK_TOKENS + i;
        JOIN(store, POSITION_LANES)(exp(JOIN(load, POSITION_LANES)(0, weight) - now[g]), 0, weight);
      }
    }
    SYNC(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int g = 0; g < SHARED; ++g) {
      const float shrink = exp(top[g] - now[g]);
      top[g] = now[g];
      float16 totals = vload16(0, weights + g * BLOCK_TOKENS);
      for (int i = 1; i < BLOCK_TOKENS / 16; ++i) totals += vload16(i, weights + g * BLOCK_TOKENS);
      const float8 totals8 = totals.lo + totals.hi;
      const float4 totals4 = totals8.lo + totals8.hi;
      total[g] = total[g] * shrink + (totals4.x + totals4.y) + (totals4.z + totals4.w);
#pragma unroll
      for (int i = 0; i < DIM_STEPS; ++i) sum[g * DIM_STEPS + i] *= shrink;
    }
    for (int p = 0; p < count; ++p) {
#pragma unroll
      for (int i = 0; i < DIM_STEPS; ++i) {
        const int d = (i * WGS + item) * DIM_LANES;
        if (HEAD_DIM % (WGS * DIM_LANES) && d >= HEAD_DIM) break;
        DVEC value = LOAD_KV(DIM_LANES, value_at + p * HEAD_DIM + d);
#if KV == 2
        value *= widths[p * KV_GROUPS + d / KV_GROUP];
#endif
#pragma unroll
        for (int g = 0; g < SHARED; ++g) {
          sum[g * DIM_STEPS + i] =
              MAD(value, (DVEC)(weights[g * BLOCK_TOKENS + p]), sum[g * DIM_STEPS + i]);
        }
      }
    }
    SYNC(CLK_LOCAL_MEM_FENCE);  // the next block writes its weights over these
  }

#pragma unroll
  for (int g = 0; g < SHARED; ++g) {
    const int h = head * SHARED + g;
    __global float* to = a + (size_t)token * A_STRIDE + h * HEAD_DIM;
    float factor = 1.0f / total[g];
    if (!a) {
      to = partial + (((size_t)token * HEADS + h) * parts + part) * (HEAD_DIM + 2);
      factor = 1.0f;
      if (item == 0) {
        to[HEAD_DIM] = top[g];
        to[HEAD_DIM + 1] = total[g];
      }
    }
#pragma unroll
    for (int i = 0; i < DIM_STEPS; ++i) {
      const int d = (i * WGS + item) * DIM_LANES;
      if (d >= HEAD_DIM) break;
      JOIN(store, DIM_LANES)(sum[g * DIM_STEPS + i] * factor, 0, to + d);
    }
  }
}

// How much each part of a head counts when they are joined. partial: [parts, HEAD_DIM + 2]
inline void weigh_parts(__global const float* partial, int parts, float* weights) {
  float top = -INFINITY, total = 0.0f;
  for (int p = 0; p < parts; ++p) top = max(top, partial[p * (HEAD_DIM + 2) + HEAD_DIM]);
  for (int p = 0; p < parts; ++p) {
    __global const float* at = partial + p * (HEAD_DIM + 2) + HEAD_DIM;
    weights[p] = exp(at[0] - top);
    total += at[1] * weights[p];
  }
  for (int p = 0; p < parts; ++p) weights[p] /= total;
}

#endif
