// layers: all that one token does in some layers of the model, in one launch, for a CPU, where the
// threads of a launch cost more to wake than a small product takes. Every stage of a layer is cut
// into pieces, and the work-groups, one a core, take one after the other. A group begins with a stage
// when all pieces before it are done. Others that run already have those, so it cannot wait for ever,
// be there one group or many; and a group that has waited long (it may keep its core from the very
// thread that it waits for) leaves the rest to the others: who does the last piece of a stage is
// never one that waits.
//
// The residual stream x [X_STRIDE] is read and added to. Weights lie as in product_n.cl, with any
// BLOCK that 16 divides; attention.h says what its arguments are. What differs between layers is
// found by its address, noted beforehand: buffers of a CPU stay where they are. The number of pieces
// taken, and of those done, both zero at first, stand in `step` at kTickets.
#include "attention.h"

// The shape and form of each weight of a layer: its padded rows and columns, bits, group, whether
// minimum = -2^(BITS-1) * scale, rows that lie together, and into how many pieces it is cut.
#ifndef QKV_ROWS
#define QKV_ROWS 960
#define QKV_COLS 576
#define QKV_BITS 4
#define QKV_GROUP 32
#define QKV_SYMMETRIC 0
#define QKV_BLOCK 16
#define QKV_PIECES 10
#define OUTPUT_ROWS 576
#define OUTPUT_COLS 576
#define OUTPUT_BITS 4
#define OUTPUT_GROUP 32
#define OUTPUT_SYMMETRIC 0
#define OUTPUT_BLOCK 16
#define OUTPUT_PIECES 9
#define GATE_UP_ROWS 3072
#define GATE_UP_COLS 576
#define GATE_UP_BITS 4
#define GATE_UP_GROUP 32
#define GATE_UP_SYMMETRIC 0
#define GATE_UP_BLOCK 16
#define GATE_UP_PIECES 16
#define DOWN_ROWS 576
#define DOWN_COLS 1536
#define DOWN_BITS 4
#define DOWN_GROUP 32
#define DOWN_SYMMETRIC 0
#define DOWN_BLOCK 16
#define DOWN_PIECES 9
#endif
#ifndef BIAS
#define BIAS 0            // 1: qkv has one
#endif
#ifndef WIDTH
#define WIDTH 576         // of x
#endif
#ifndef X_STRIDE
#define X_STRIDE 640      // WIDTH padded with zeros
#endif
#ifndef MOST_COLS
#define MOST_COLS 1536    // the longest input, padded
#endif
#ifndef PATIENCE
#define PATIENCE 8000000  // looks at a counter: about a millisecond
#endif
#define ENTRIES 18        // addresses of a layer

#define WEIGHT(name)                                                                        \
  __global const uint* name##_codes, __global const half* name##_scales,                    \
      __global const half* name##_minimums
#define NOTED(name, at)                                                                     \
  __global const uint* restrict name##_codes = (__global const uint*)addresses[at];         \
  __global const half* restrict name##_scales = (__global const half*)addresses[(at) + 1];  \
  __global const half* restrict name##_minimums = (__global const half*)addresses[(at) + 2];
#define SIXTEEN_ROWS(name, NAME, run)                                                              \
  sixteen_rows(name##_codes, name##_scales, name##_minimums, (run)*16, NAME##_COLS, NAME##_BITS,   \
               NAME##_GROUP, NAME##_SYMMETRIC, NAME##_BLOCK, input, sums)
// The runs of 16 rows of a piece.
#define RUNS(NAME, run)                                                    \
  int run = (piece - begin) * (NAME##_ROWS / 16) / NAME##_PIECES;         \
  run < (piece - begin + 1) * (NAME##_ROWS / 16) / NAME##_PIECES; ++run

// Take pieces as long as there are some before `end`.
#define EACH_PIECE                                                                 \
  int piece = take_piece(counters, end); piece < end;                              \
      atomic_inc(counters + 1), piece = take_piece(counters, end)

// The product of 16 rows with the input; all but the pointers and `row` is known to the compiler.
static inline __attribute__((always_inline))
float16 sixteen_rows(__global const uint* restrict codes, __global const half* restrict scales,
                     __global const half* restrict minimums, int row, const int cols,
                     const int bits, const int group, const int symmetric, const int block,
                     __local const float* input, __local const float* sums) {
  const int codes_a_word = 32 / bits, words_a_group = group / codes_a_word;
  const int groups = cols / group;
  const size_t at = (size_t)(row / block) * groups * block + row % block;
  codes += (size_t)(row / block) * groups * words_a_group * block + row % block;
  float16 sum = 0.0f;
  for (int g = 0; g < groups; ++g) {
    const float16 scale = vload_half16(0, scales + at + g * block);
    float16 part[4] = {0.0f, 0.0f, 0.0f, 0.0f};  // several, to hide the latency of an addition
#pragma unroll
    for (int i = 0; i < words_a_group; ++i) {
      __global const uint* words = codes + (g * words_a_group + i) * block;
      FETCH(words + AHEAD);
      const uint16 word = vload16(0, words);
#pragma unroll
      for (int j = 0; j < codes_a_word; ++j) {
        const float16 code = as_float16(BITS_OF_CODE(bits, word, j));
        part[j % 4] = MAD(code, (float16)(input[g * group + i * codes_a_word + j]), part[j % 4]);
      }
    }
    const float16 width = scale * (float)(1 << bits);
    const float16 base = symmetric ? width * -1.5f
                                   : vload_half16(0, minimums + at + g * block) - width;
    sum = MAD((part[0] + part[1]) + (part[2] + part[3]), width, MAD(base, (float16)(sums[g]), sum));
  }
  return sum;
}

// input = x / rms(x) * weight
inline void norm_input(__global const float* x, __global const float* restrict weight,
                       const float eps, __local float* input) {
  float16 square = 0.0f;
  for (int i = 0; i < X_STRIDE / 16; ++i) square = MAD(vload16(i, x), vload16(i, x), square);
  const float factor = 1.0f / sqrt(total16(square) / WIDTH + eps);
  for (int i = 0; i < X_STRIDE / 16; ++i) {
    vstore16(vload16(i, x) * factor * vload16(i, weight), i, input);
  }
}

// What attention found in each part of the context, joined.
inline void join_input(__global const float* partial, int parts, __local float* input) {
  for (int h = 0; h < HEADS; ++h) {
    float weights[MOST_PARTS];
    weigh_parts(partial, parts, weights);
    for (int i = 0; i < HEAD_DIM / 16; ++i) {
      float16 sum = 0.0f;
      for (int p = 0; p < parts; ++p) {
        sum = MAD(vload16(i, partial + p * (HEAD_DIM + 2)), (float16)(weights[p]), sum);
      }
      vstore16(sum, i, input + h * HEAD_DIM);
    }
    partial += parts * (HEAD_DIM + 2);
  }
  for (int i = HEADS * HEAD_DIM; i < OUTPUT_COLS; ++i) input[i] = 0.0f;
}

inline void sum_groups(__local const float* input, const int groups, const int group,
                       __local float* sums) {
  for (int g = 0; g < groups; ++g) {
    float16 sum = 0.0f;
    for (int i = 0; i < group / 16; ++i) sum += vload16(g * group / 16 + i, input);
    sums[g] = total16(sum);
  }
}

// The next piece before `end`, or `end` when all of those are taken.
inline int take_piece(volatile __global int* counters, int end) {
  for (int piece = counters[0]; piece < end; piece = counters[0]) {
    if (atomic_cmpxchg(counters, piece, piece + 1) == piece) return piece;
  }
  return end;
}

// Whether the pieces before `begin` are done, now or soon. Atomic operations are fences on a CPU.
inline int comes(volatile __global int* counters, int begin) {
  for (int i = 0; i < PATIENCE; ++i) {
    if (counters[1] >= begin) return atomic_add(counters + 1, 0) >= begin;
  }
  return 0;
}

// Note the addresses of the l-th layer of a launch.
__kernel void note(WEIGHT(qkv), WEIGHT(output), WEIGHT(gate_up), WEIGHT(down),
                   __global const float* bias, __global const float* attention_norm,
                   __global const float* mlp_norm, __global const float* head_norms,
                   __global uchar* keys, __global uchar* values, __global ulong* addresses,
                   const int l) {
  const ulong all[ENTRIES] = {
      (ulong)qkv_codes,     (ulong)qkv_scales,     (ulong)qkv_minimums,
      (ulong)output_codes,  (ulong)output_scales,  (ulong)output_minimums,
      (ulong)gate_up_codes, (ulong)gate_up_scales, (ulong)gate_up_minimums,
      (ulong)down_codes,    (ulong)down_scales,    (ulong)down_minimums,
      (ulong)bias,          (ulong)attention_norm, (ulong)mlp_norm,
      (ulong)head_norms,    (ulong)keys,           (ulong)values};
  for (int i = 0; i < ENTRIES; ++i) addresses[l * ENTRIES + i] = all[i];
}

// `counters` is where those of this launch begin, beyond kTickets.
__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void layers(__global const ulong* restrict addresses, const int count, const float attention_eps,
            const float mlp_eps, const float head_eps, __global float* x, __global float* qkv,
            __global float* partial, __global float* h, __global int* step, const int first_counter) {
  __local float input[MOST_COLS], sums[MOST_COLS / 16];
  __local float q[SHARED * HEAD_DIM], key[HEAD_DIM], weights[SHARED * BLOCK_TOKENS];
  __local float widths[WIDTHS];
  volatile __global int* counters = step + step[kTickets] + first_counter;
  const int parts = step[kParts];
  int begin = 0, end = 0;

  for (int l = 0; l < count; ++l, addresses += ENTRIES) {
    NOTED(qkv, 0)
    NOTED(output, 3)
    NOTED(gate_up, 6)
    NOTED(down, 9)
    __global const float* restrict bias = (__global const float*)addresses[12];
    __global const float* restrict attention_norm = (__global const float*)addresses[13];
    __global const float* restrict mlp_norm = (__global const float*)addresses[14];
    __global const float* restrict head_norms = (__global const float*)addresses[15];
    __global uchar* keys = (__global uchar*)addresses[16];
    __global uchar* values = (__global uchar*)addresses[17];

    begin = end;
    end += QKV_PIECES;
    if (counters[0] < end) {
      if (!comes(counters, begin)) return;
      norm_input(x, attention_norm, attention_eps, input);
      sum_groups(input, QKV_COLS / QKV_GROUP, QKV_GROUP, sums);
      for (EACH_PIECE) {
        for (RUNS(QKV, run)) {
          float16 value = SIXTEEN_ROWS(qkv, QKV, run);
          if (BIAS) value += vload16(run, bias);
          vstore16(value, run, qkv);
        }
      }
    }

    begin = end;
    end += KV_HEADS * parts;
    if (counters[0] < end) {
      if (!comes(counters, begin)) return;
      for (EACH_PIECE) {
        const int head = (piece - begin) % KV_HEADS, part = (piece - begin) / KV_HEADS;
        attend_part(qkv, keys, values, 0, partial, step, head_norms, head_eps, q, key, weights,
                    widths, 0, head, part, parts, 1, 0);
      }
    }

    begin = end;
    end += OUTPUT_PIECES;
    if (counters[0] < end) {
      if (!comes(counters, begin)) return;
      join_input(partial, parts, input);
      sum_groups(input, OUTPUT_COLS / OUTPUT_GROUP, OUTPUT_GROUP, sums);
      for (EACH_PIECE) {
        for (RUNS(OUTPUT, run)) vstore16(vload16(run, x) + SIXTEEN_ROWS(output, OUTPUT, run), run, x);
      }
    }

    begin = end;
    end += GATE_UP_PIECES;
    if (counters[0] < end) {
      if (!comes(counters, begin)) return;
      norm_input(x, mlp_norm, mlp_eps, input);
      sum_groups(input, GATE_UP_COLS / GATE_UP_GROUP, GATE_UP_GROUP, sums);
      for (EACH_PIECE) {
        for (RUNS(GATE_UP, run)) {
          const float16 both = SIXTEEN_ROWS(gate_up, GATE_UP, run);
          vstore8(SILU(both.even) * both.odd, run, h);
        }
      }
    }

    begin = end;
    end += DOWN_PIECES;
    if (counters[0] < end) {
      if (!comes(counters, begin)) return;
      for (int i = 0; i < DOWN_COLS / 16; ++i) vstore16(vload16(i, h), i, input);
      sum_groups(input, DOWN_COLS / DOWN_GROUP, DOWN_GROUP, sums);
      for (EACH_PIECE) {
        for (RUNS(DOWN, run)) vstore16(vload16(run, x) + SIXTEEN_ROWS(down, DOWN, run), run, x);
      }
    }
  }
}
