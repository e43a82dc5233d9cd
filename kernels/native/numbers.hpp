// Half precision, rounding and the exponential, without library calls, so that loops vectorise.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace isthmus {
namespace {

using Half = uint16_t;

inline float half_to_float(Half h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#else
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t bits = h & 0x7fff;
  if (bits < 0x0400) {  // zero and subnormals: bits * 2^-24
    const float magnitude = static_cast<float>(bits) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t out = sign | (bits >= 0x7c00 ? 0x7f800000u | (bits << 13)
                                              : (bits << 13) + 0x38000000u);
  float f;
  std::memcpy(&f, &out, sizeof f);
  return f;
#endif
}

// Round to nearest even without a library call, so that loops over it vectorise. |x| < 2^22.
inline int round_to_int(float x) {
  const float shifted = x + 12582912.0f;  // 1.5 * 2^23: the integer stands in the low mantissa
  int bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

// Rounds to nearest, ties to even; beyond half precision it becomes infinity.
inline Half float_to_half(float x) {
#if defined(__F16C__)
  return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  bits &= 0x7fffffff;
  if (bits >= 0x47800000) return sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (bits < 0x38800000) {  // subnormal: count in steps of 2^-24
    const float steps = std::fabs(x) * 16777216.0f;
    return sign | static_cast<uint16_t>(round_to_int(steps));
  }
  const uint32_t rounded = bits + 0x0fff + ((bits >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000) >> 13);
#endif
}

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// e^(x - n ln 2), its argument in [-0.35, 0.35]: the polynomial of Cephes' expf. The compiler may
// reassociate it, which costs the last bits: the relative error stays below 1e-5, that of an 8-bit
// key is 4e-3. For a float or a vector of them.
template <class F>
inline F exp_of_rest(const F& x, const F& n) {
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r + 1.0f;
}

// e^x for x <= 0
inline float exp_nonpositive(float x) {
  x = x < -87.0f ? -87.0f : x;
  const int power = round_to_int(x * 1.44269504f);
  const float p = exp_of_rest(x, static_cast<float>(power));
  const uint32_t bits = (static_cast<uint32_t>(power) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

}  // namespace
}  // namespace isthmus
