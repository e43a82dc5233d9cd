// What the products `out = x @ weight.T` share: how a code becomes a float, and what is done with
// a result. Every product kernel has the same arguments, so that the host can exchange them.
//
//   codes     the weight's codes, in the layout that the kernel's own header draws
//   scales    half, and minimums (not read when SYMMETRIC): weight = scale * code + minimum
//   x         [tokens, X_STRIDE] float, zero from COLS on
//   bias      [rows] float, read when BIAS
//   out       [tokens, OUT_STRIDE] float; rows are padded to whole blocks, and so is the stride
//   step      see common.h; `counter` names the number of tokens in it
//   row0      the first row of this part of the weight, `rows` how many it has (padded)
//   norm      [X_STRIDE] float: with NORM, x is the residual stream of one token and is normed
//             here, x / rms(x) * norm, with `eps`; kernels that cannot do that are not asked to
#include "common.h"

// The shape and form of the weight. No defaults are good for all: these are for compiling by hand.
#ifndef COLS
#define COLS 576          // padded to whole groups
#endif
#ifndef X_STRIDE
#define X_STRIDE 640
#endif
#ifndef OUT_STRIDE
#define OUT_STRIDE 640
#endif
#ifndef BITS
#define BITS 4            // 4 or 8
#endif
#ifndef GROUP
#define GROUP 32          // columns that share a scale: 16, 32, 64 or 128
#endif
#ifndef SYMMETRIC
#define SYMMETRIC 0       // 1: minimum = -2^(BITS-1) * scale
#endif
#ifndef EPILOGUE
#define EPILOGUE 0        // 0: store, 1: add to what is there, 2: rows g0 u0 g1 u1 … become silu(g) * u
#endif
#ifndef BIAS
#define BIAS 0
#endif
#ifndef X_IMAGE
#define X_IMAGE 0         // 1: x is read as texels of four floats; for kernels that say so
#endif
#ifndef FP16
#define FP16 0            // 1: a group is multiplied and added up in half precision (cl_khr_fp16)
#endif
#ifndef TEXEL
#define TEXEL 0           // 1: rows lie in fours (K8N4) and are read as texels; 2: out of an image
#endif
#ifndef NORM
#define NORM 0            // 1: one token, normed on the way in; of NORM_WIDTH columns
#endif
#ifndef NORM_WIDTH
#define NORM_WIDTH 576
#endif

#define CODES_A_WORD (32 / BITS)
#define WORDS (COLS / CODES_A_WORD)
#define GROUPS (COLS / GROUP)
#define WORDS_A_GROUP (GROUP / CODES_A_WORD)

#define MANTISSA MANTISSA_OF(BITS)
#define CODE_BITS(word, j) BITS_OF_CODE(BITS, word, j)
// weight = STEP(scale) * CODE(word, j) + base, with base = minimum - STEP(scale)
#define STEP(scale) ((scale) * (float)(1 << BITS))
#if SYMMETRIC
#define BASE(scale, minimum) ((scale) * (-1.5f * (float)(1 << BITS)))
#else
#define BASE(scale, minimum) ((minimum) - STEP(scale))
#endif

// The type to multiply in, and a code in it: a half's mantissa has 10 bits.
#if FP16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
typedef half real;
#define REAL_CODE(word, j) \
  as_half((ushort)(((word) >> ((j) * BITS) & ((1u << BITS) - 1u)) << (10 - BITS) | 0x3c00u))
#else
typedef float real;
#define REAL_CODE(word, j) as_float(CODE_BITS(word, j))
#endif

// A texel of K8N4: four words, of 8 columns (4 of 8 bits) by 4 rows.
#if TEXEL == 2
#define CODES __read_only image2d_t codes
#define TEXEL_AT(at, quad) read_imageui(codes, (int2)(at, quad))
#else
#define CODES __global const uint* restrict codes
#define TEXEL_AT(at, quad) vload4((size_t)(quad)*WORDS + (at), codes)
#endif

#if X_IMAGE
#define X_ARGUMENT __read_only image1d_buffer_t x
#else
#define X_ARGUMENT __global const float* restrict x
#endif
#define PRODUCT_ARGUMENTS                                                                     \
  __global const half* restrict scales, __global const half* restrict minimums,               \
      X_ARGUMENT, __global const float* restrict bias,                                        \
      __global float* restrict out, __global const int* restrict step, const int counter,     \
      const int row0, const int rows, __global const float* restrict norm, const float eps

