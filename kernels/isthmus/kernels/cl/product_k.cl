// product.k: k-contiguous; knows X_IMAGE, FP16 and TEXEL. A work-group of WGS items has ROWS rows and
// TOKENS tokens; its items stride over the words of a row, and their sums meet in local memory or in
// sub-groups.
//
//   TEXEL 0   codes [rows][WORDS] uint, scales [rows][GROUPS] half: rows one after the other
//   TEXEL 1   K8N4: codes [rows / 4][WORDS][4] uint, scales [rows / 4][GROUPS][4] half; one read
//             of four words is 8 columns (4 of 8 bits) by 4 rows
//   TEXEL 2   K8N4 in an image, WORDS wide and rows / 4 high, RGBA of uint
#include "product.h"

#ifndef ROWS
#define ROWS 1            // 1, 2 or 4; 4 with TEXEL; at least 2 with EPILOGUE 2
#endif
#ifndef TOKENS
#define TOKENS 1
#endif
#ifndef WGS
#define WGS 64            // a power of two
#endif
#ifndef STAGED
#define STAGED 0          // 1: scales and minimums of the rows are brought into local memory first
#endif
#ifndef SUB
#define SUB 0             // adds up in sub-groups: 1 of the driver's size, 16 to 128 of that size
#endif

#if SUB
#ifdef cl_intel_subgroups
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#endif
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#endif
#if SUB > 1 && defined(cl_qcom_reqd_sub_group_size)
#pragma OPENCL EXTENSION cl_qcom_reqd_sub_group_size : enable
#if SUB == 128
#define SUB_SIZE __attribute__((qcom_reqd_sub_group_size("full")))
#else
#define SUB_SIZE __attribute__((qcom_reqd_sub_group_size("half")))
#endif
#elif SUB > 1
#define SUB_SIZE __attribute__((intel_reqd_sub_group_size(SUB)))
#else
#define SUB_SIZE
#endif
#define RESULTS (ROWS * TOKENS)

__kernel __attribute__((reqd_work_group_size(WGS, 1, 1))) SUB_SIZE
void product(CODES, PRODUCT_ARGUMENTS) {
  const int item = (int)get_local_id(0);
  const int row = (int)get_group_id(0) * ROWS, token = (int)get_group_id(1) * TOKENS;
  float sum[RESULTS];
  for (int i = 0; i < RESULTS; ++i) sum[i] = 0.0f;

#if STAGED
  __local float widths[GROUPS * ROWS], bases[GROUPS * ROWS];
  for (int i = item; i < GROUPS * ROWS; i += WGS) {
    const size_t r = (size_t)(row + i % ROWS), group = (size_t)(i / ROWS);
    const size_t from = TEXEL ? (r / 4 * GROUPS + group) * 4 + r % 4 : r * GROUPS + group;
    const float scale = vload_half(from, scales);
    widths[i] = STEP(scale);
    bases[i] = BASE(scale, vload_half(from, minimums));
  }
  barrier(CLK_LOCAL_MEM_FENCE);
#endif
  for (int at = item; at < WORDS; at += WGS) {
    const int group = at / WORDS_A_GROUP;
    uint word[ROWS];
    float width[ROWS], base[ROWS];
#if TEXEL
    vstore4(TEXEL_AT(at, row / 4), 0, word);
#else
#pragma unroll
    for (int r = 0; r < ROWS; ++r) word[r] = codes[(size_t)(row + r) * WORDS + at];
#endif
#if STAGED
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      width[r] = widths[group * ROWS + r];
      base[r] = bases[group * ROWS + r];
    }
#elif TEXEL
    const size_t quad = (size_t)(row / 4);
    const float4 scale = vload_half4(quad * GROUPS + group, scales);
    vstore4(STEP(scale), 0, width);
#if SYMMETRIC
    vstore4(BASE(scale, 0), 0, base);
#else
    vstore4(BASE(scale, vload_half4(quad * GROUPS + group, minimums)), 0, base);
#endif
#else
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const size_t of_row = (size_t)(row + r);
      const float scale = vload_half(of_row * GROUPS + group, scales);
      width[r] = STEP(scale);
      base[r] = BASE(scale, vload_half(of_row * GROUPS + group, minimums));
    }
#endif
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
      float xs[CODES_A_WORD];
      const int from = (token + t) * X_STRIDE + at * CODES_A_WORD;
#pragma unroll
      for (int j = 0; j < CODES_A_WORD; j += 4) {
#if X_IMAGE
        vstore4(read_imagef(x, (from + j) / 4), 0, xs + j);
#else
        vstore4(vload4(0, x + from + j), 0, xs + j);
#endif
      }
      real dot_of[ROWS], total = 0;
#pragma unroll
      for (int r = 0; r < ROWS; ++r) dot_of[r] = 0;
#pragma unroll
      for (int j = 0; j < CODES_A_WORD; ++j) {
        const real value = (real)xs[j];
        total += value;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) dot_of[r] = MAD(REAL_CODE(word[r], j), value, dot_of[r]);
      }
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        const int i = t * ROWS + r;
        sum[i] = MAD((float)dot_of[r], width[r], MAD((float)total, base[r], sum[i]));
      }
    }
  }

#if WGS > 1
  __local float partial[RESULTS * WGS];
#if SUB
  const int parts = (int)get_num_sub_groups(), part = (int)get_sub_group_id();
  for (int i = 0; i < RESULTS; ++i) {
    const float reduced = sub_group_reduce_add(sum[i]);
    if (get_sub_group_local_id() == 0) partial[i * WGS + part] = reduced;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if (item != 0) return;
  for (int i = 0; i < RESULTS; ++i) {
    sum[i] = 0.0f;
    for (int p = 0; p < parts; ++p) sum[i] += partial[i * WGS + p];
  }
#else
  for (int i = 0; i < RESULTS; ++i) partial[i * WGS + item] = sum[i];
  for (int half_of = WGS / 2; half_of > 0; half_of /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (item < half_of) {
      for (int i = 0; i < RESULTS; ++i) {
        partial[i * WGS + item] += partial[i * WGS + item + half_of];
      }
    }
  }
  if (item != 0) return;
  for (int i = 0; i < RESULTS; ++i) sum[i] = partial[i * WGS];
#endif
#endif

  const int tokens = step[counter];
  for (int t = 0; t < TOKENS && token + t < tokens; ++t) {
    __global float* to = out + (size_t)(token + t) * OUT_STRIDE;
    float value[ROWS];
    for (int r = 0; r < ROWS; ++r) {
      value[r] = sum[t * ROWS + r] + (BIAS ? bias[row0 + row + r] : 0.0f);
    }
#if EPILOGUE == 2
    for (int r = 0; r < ROWS; r += 2) to[(row0 + row + r) / 2] = SILU(value[r]) * value[r + 1];
#else
    for (int r = 0; r < ROWS; ++r) {
      __global float* one = to + row0 + row + r;
      *one = EPILOGUE == 1 ? *one + value[r] : value[r];
    }
#endif
  }
}
