// What every kernel shares: vectors of a width that is a define, a quantized code as a float, and
// the header of a step. The host puts this text in the place of `#include "common.h"`.
#ifndef ISTHMUS_COMMON
#define ISTHMUS_COMMON

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

// Loads and stores of a width that is a define; a vector of one is a scalar. The names are our own,
// since a driver's `vload` may be a macro, which would not join.
#define float1 float
#define uint1 uint
#define load1(i, p) ((p)[i])
#define load2 vload2
#define load4 vload4
#define load8 vload8
#define load16 vload16
#define store1(v, i, p) ((p)[i] = (v))
#define store2 vstore2
#define store4 vstore4
#define store8 vstore8
#define store16 vstore16
#define load_half1(i, p) vload_half(i, p)
#define load_half2 vload_half2
#define load_half4 vload_half4
#define load_half8 vload_half8
#define load_half16 vload_half16
#define bits1(v) as_float(v)
#define bits2 as_float2
#define bits4 as_float4
#define bits8 as_float8
#define bits16 as_float16
#define to_float1(v) convert_float(v)
#define to_float2 convert_float2
#define to_float4 convert_float4
#define to_float8 convert_float8
#define to_float16 convert_float16
#define to_half1(v) convert_half(v)
#define to_half2 convert_half2
#define to_half4 convert_half4
#define to_half8 convert_half8
#define to_half16 convert_half16
#define to_ushort1(v) convert_ushort(v)
#define to_ushort2 convert_ushort2
#define to_ushort4 convert_ushort4
#define to_ushort8 convert_ushort8
#define to_ushort16 convert_ushort16
#define half_bits1(v) as_half(v)
#define half_bits2 as_half2
#define half_bits4 as_half4
#define half_bits8 as_half8
#define half_bits16 as_half16
#define half1 half

#define total1(v) (v)
inline float total2(float2 v) { return v.x + v.y; }
inline float total4(float4 v) { return total2(v.lo + v.hi); }
inline float total8(float8 v) { return total4(v.lo + v.hi); }
inline float total16(float16 v) { return total8(v.lo + v.hi); }

// The compiler fuses it where the device can; `fma` would be emulated where it cannot.
#define MAD(a, b, c) ((a) * (b) + (c))

// Have a line of memory in the cache soon. OpenCL's own `prefetch` does nothing in PoCL.
#ifdef __clang__
#define FETCH(p) __builtin_prefetch(p)
#else
#define FETCH(p) prefetch(p, 16)
#endif
#ifndef AHEAD
#define AHEAD 1024  // words of weights between what is multiplied and what is fetched
#endif

// A code of `bits` bits, the j-th of a word, is moved to the top of a float's mantissa: the bits of
// 1 + code / 2^bits, without a conversion.
#define MANTISSA_OF(bits) (23 - (bits))
#define LEFT(bits, j) (MANTISSA_OF(bits) > (j) * (bits) ? MANTISSA_OF(bits) - (j) * (bits) : 0)
#define RIGHT(bits, j) ((j) * (bits) > MANTISSA_OF(bits) ? (j) * (bits) - MANTISSA_OF(bits) : 0)
#define MANTISSA_MASK(bits) (((1u << (bits)) - 1u) << MANTISSA_OF(bits))
#define BITS_OF_CODE(bits, word, j) \
  (((((word) << LEFT(bits, j)) >> RIGHT(bits, j)) & MANTISSA_MASK(bits)) | 0x3f800000u)

#define SILU(v) ((v) / (1.0f + exp(-(v))))

// A step's numbers, all in one buffer so that a step is one write: tokens, wanted rows, and where
// each of the arrays below begins. See opencl/step.py.
enum { kTokens, kWanted, kIds, kPositions, kTables, kRows, kTurns, kParts, kTickets };

#endif
