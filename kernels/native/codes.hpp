// Blocks of 32 floats as integers with one scale.
// Part of kernels.cpp, which is compiled once for each instruction set; for no other file.
#pragma once
#include <cmath>
#include <cstring>

#include "kernels.hpp"
#include "vectors.hpp"

namespace isthmus {
namespace {

constexpr float kTwoPlanes = 127.0f * 256.0f;  // the largest code of two planes of 8 bits
constexpr float kLeast = 1e-30f;  // smaller numbers are as good as 0

// codes = round(x / scale), none larger than `limit`; returns the scale. Magnitudes are compared as
// integers, which order as the floats do, and NaN above all: what is no number shows in the scale.
// Its codes are 0, and so are those of numbers so small that `limit / most` would be infinite.
inline float to_codes(const Vec x[kParts], float limit, IntVec codes[kParts]) {
  IntVec magnitude = IntVec{};
  for (int p = 0; p < kParts; ++p) {
    const IntVec bits = bits_of(x[p]) & 0x7fffffff;
    magnitude = bits > magnitude ? bits : magnitude;
  }
  const int top = largest(magnitude);
  float most;
  std::memcpy(&most, &top, sizeof most);
  const bool codable = most >= kLeast && most < INFINITY;
  const Vec inverse = splat(codable ? limit / most : 0.0f);
  for (int p = 0; p < kParts; ++p) codes[p] = codable ? round_to_int(x[p] * inverse) : IntVec{};
  return most / limit;
}

// A code is 256 * high + low with low in -128..127: low's byte is the code's own lowest.
inline void store_planes(const IntVec& codes, int8_t* high, int8_t* low) {
  store_bytes((codes + 128) >> 8, high);
  store_bytes(codes, low);
}

}  // namespace
}  // namespace isthmus
