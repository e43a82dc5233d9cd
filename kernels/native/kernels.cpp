// The kernels, compiled once for each instruction set (ISTHMUS_ISA names it). Everything here and in
// the headers below is local to this file: an inline function shared with another object could be
// the copy that was compiled for a newer CPU than the one at hand.
#include "kernels.hpp"

#include <cmath>
#include <cstring>

#include "codes.hpp"
#include "numbers.hpp"
#include "vectors.hpp"

// Each gives Acc, tile_dots4, tile_dots8, halved_tile_dots, zero, store_rows and kTokens, the tokens
// of a register tile. A tile's products with T tokens are added up as
// acc[t][r] += scale[r] * x_scale[t] * dot + minimum[r] * x_sum[t].
// For the cache in 8 bits each gives Codes, set_codes and square_dots.
#if defined(__AVX2__)
#include "dots_x86.hpp"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "dots_neon.hpp"
#else
#include "dots_scalar.hpp"
#endif
#include "attention.hpp"

#define ISTHMUS_JOIN_(a, b) a##b
#define ISTHMUS_JOIN(a, b) ISTHMUS_JOIN_(a, b)
#define ISTHMUS_TEXT_(a) #a
#define ISTHMUS_TEXT(a) ISTHMUS_TEXT_(a)

namespace isthmus {
namespace {

// How far ahead of a single token's product the weights are asked for, in bytes. The hardware
// stops at every page and the next row block is not a stride away. Past the end it costs nothing.
constexpr int kAhead = 2048;
constexpr int kFewTokens = 8;  // with more of them reading the weights is not what takes the time

template <int T, int Planes>
void row_block(const Matrix& w, const Activations& x, int index, float* out, int stride,
               const float* bias, bool accumulate) {
  const uint8_t* tile = w.data + static_cast<size_t>(index) * w.row_block_bytes();
  const int blocks = w.padded_cols() / w.block;
  Acc acc[T];
  for (int t = 0; t < T; ++t) acc[t] = zero();
  if (w.bits == 4 && w.has_minimums) {
    for (int b = 0; b < blocks; ++b, tile += Matrix::kTile4) {
      if (T == 1) prefetch(tile + kAhead, Matrix::kTile4);
      tile_dots4<T, Planes, true>(tile, x, b, acc);
    }
  } else if (w.bits == 4) {
    for (int b = 0; b < blocks; ++b, tile += Matrix::kTile8) {
      if (T == 1) prefetch(tile + kAhead, Matrix::kTile8);
      tile_dots4<T, Planes, false>(tile, x, b, acc);
    }
  } else if (w.halved()) {
    const uint8_t* low = w.low_tiles() + static_cast<size_t>(index) * w.low_row_block_bytes();
    for (int b = 0; b < blocks; ++b, tile += Matrix::kTile8, low += Matrix::kLowTile) {
      if (T == 1) {
        prefetch(tile + kAhead, Matrix::kTile8);
        prefetch(low + kAhead, Matrix::kLowTile);
      }
      halved_tile_dots<T, Planes>(tile, low, x, b, acc);
    }
  } else {
    for (int b = 0; b < blocks; ++b, tile += Matrix::kTile8) {
      tile_dots8<T, Planes>(tile, x, b, acc);
    }
  }
  const int row = index * kRows;
  const int rows = w.rows - row < kRows ? w.rows - row : kRows;
  for (int t = 0; t < T; ++t) {
    float y[kRows];
    store_rows(acc[t], y);
    float* to = out + static_cast<size_t>(t) * stride;
    if (bias != nullptr) {
      for (int r = 0; r < rows; ++r) y[r] += bias[row + r];
    }
    if (accumulate) {
      for (int r = 0; r < rows; ++r) to[r] += y[r];
    } else {
      for (int r = 0; r < rows; ++r) to[r] = y[r];
    }
  }
}

#if defined(__AVX512VNNI__)

enum class Form { kFour, kHalved, kHighHalf };

// The products of row blocks [index, index + kRowBlocks) with `tokens` tokens, kWideTokens at
// most; One says that it is a single one.
template <Form form, int Planes, bool One>
void wide_row_blocks(const Matrix& w, const Activations& x, int tokens, int index, float* out,
                     int stride, const float* bias, bool accumulate) {
  constexpr size_t kTile = form == Form::kFour ? Matrix::kTile4 : Matrix::kTile8;
  constexpr bool kHalved = form == Form::kHalved;
  const size_t bytes = w.row_block_bytes(), low_bytes = w.low_row_block_bytes();
  const uint8_t* tile = w.data + static_cast<size_t>(index) * bytes;
  const uint8_t* low = w.low_tiles() + static_cast<size_t>(index) * low_bytes;
  const uint8_t* next = tile + kRowBlocks * bytes;
  const uint8_t* next_low = low + kRowBlocks * low_bytes;
  const int blocks = w.padded_cols() / kBlock;
  const int count = One ? 1 : tokens;
  __m512 sums[One ? 1 : kWideTokens][2];
  for (int t = 0; t < count; ++t) sums[t][0] = sums[t][1] = _mm512_setzero_ps();
  for (int k = 0; k < blocks; ++k, tile += kTile, low += Matrix::kLowTile) {
    if (One || count <= kFewTokens) {
      prefetch(next + k * kRowBlocks * kTile, kRowBlocks * kTile);
      if (kHalved) {
        prefetch(next_low + k * kRowBlocks * Matrix::kLowTile, kRowBlocks * Matrix::kLowTile);
      }
    }
    WideTile tiles[2];
    for (int i = 0; i < 2; ++i) {
      const uint8_t *a = tile + 2 * i * bytes, *b = a + bytes;
      const uint8_t *low_a = low + 2 * i * low_bytes, *low_b = low_a + low_bytes;
      if constexpr (kHalved) {
        tiles[i] = unpack_halved(a, b, low_a, low_b);
      } else {
        tiles[i] = unpack<form == Form::kFour>(a, b);
      }
    }
    for (int t = 0; t < count; ++t) add_tiles<Planes>(tiles, x, t, k, sums[t]);
  }
  for (int i = 0; i < 2; ++i) {
    const int row = index * kRows + i * 16;
    const int left = w.rows - row < 16 ? w.rows - row : 16;
    const auto rows = static_cast<__mmask16>(left <= 0 ? 0 : (1u << left) - 1);
    for (int t = 0; t < count; ++t) {
      float* to = out + static_cast<size_t>(t) * stride + i * 16;
      __m512 y = sums[t][i];
      if (bias != nullptr) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(rows, bias + row));
      if (accumulate) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(rows, to));
      _mm512_mask_storeu_ps(to, rows, y);
    }
  }
}

template <Form form, int Planes>
void wide_row_blocks(const Matrix& w, const Activations& x, int tokens, int index, float* out,
                     int stride, const float* bias, bool accumulate) {
  for (int t = 0; t < tokens; t += kWideTokens) {
    const int count = tokens - t < kWideTokens ? tokens - t : kWideTokens;
    const auto run =
        count == 1 ? wide_row_blocks<form, Planes, true> : wide_row_blocks<form, Planes, false>;
    run(w, x.from(t), count, index, out + static_cast<size_t>(t) * stride, stride, bias,
        accumulate);
  }
}

#endif

template <int Planes>
void row_blocks(const Matrix& w, const Activations& x, int tokens, int first, int last, float* out,
                int stride, const float* bias, bool accumulate) {
  int b = first;
#if defined(__AVX512VNNI__)
  if (w.block == kBlock) {
    const auto run = w.halved()        ? wide_row_blocks<Form::kHalved, Planes>
                     : w.has_minimums ? wide_row_blocks<Form::kFour, Planes>
                                      : wide_row_blocks<Form::kHighHalf, Planes>;
    for (; b + kRowBlocks <= last; b += kRowBlocks) {
      run(w, x, tokens, b, out + (b - first) * kRows, stride, bias, accumulate);
    }
  }
#endif
  for (; b < last; ++b) {
    const auto place = [&](int t) {
      return out + static_cast<size_t>(t) * stride + (b - first) * kRows;
    };
    static_assert(kTokens == 4);
    constexpr decltype(&row_block<1, Planes>) kBy[] = {row_block<1, Planes>, row_block<2, Planes>,
                                                       row_block<3, Planes>, row_block<4, Planes>};
    for (int t = 0; t < tokens; t += kTokens) {
      const int count = tokens - t < kTokens ? tokens - t : kTokens;
      kBy[count - 1](w, x.from(t), b, place(t), stride, bias, accumulate);
    }
  }
}

void matmul(const Matrix& w, const Activations& x, int tokens, int first, int last, float* out,
            int stride, const float* bias, bool accumulate) {
  const auto run = x.low == nullptr ? row_blocks<1> : row_blocks<2>;
  run(w, x, tokens, first, last, out, stride, bias, accumulate);
}

void quantize(const float* x, int n, const Activations& out) {
  const float limit = out.low == nullptr ? 127.0f : kTwoPlanes;
  for (int b = 0; b * kBlock < n; ++b) {
    const float* block = x + b * kBlock;
    const int count = n - b * kBlock < kBlock ? n - b * kBlock : kBlock;
    float padded[kBlock];
    if (count < kBlock) {
      std::memset(padded, 0, sizeof padded);
      std::memcpy(padded, block, sizeof(float) * static_cast<size_t>(count));
      block = padded;
    }
    Vec values[kParts];
    for (int p = 0; p < kParts; ++p) values[p] = load(block + p * kLanes);
    IntVec codes[kParts];
    const float scale = to_codes(values, limit, codes);
    IntVec total = IntVec{};
    for (int p = 0; p < kParts; ++p) {
      int8_t* high = out.high + b * kBlock + p * kLanes;
      total += codes[p];
      if (out.low == nullptr) {
        store_bytes(codes[p], high);
      } else {
        store_planes(codes[p], high, out.low + b * kBlock + p * kLanes);
      }
    }
    out.scales[b] = scale;
    out.sums[b] = scale * static_cast<float>(sum(total));
  }
}

void rms_norm(const float* x, const float* weight, float eps, int n, float* y) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (int i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void swiglu(const float* gu, int n, float* h) {
  for (int i = 0; i < n; ++i) {
    const float g = gu[2 * i];
    // One exponential of a value that is never positive serves both signs of g.
    const float e = exp_nonpositive(-std::fabs(g));
    const float sigmoid = (g >= 0.0f ? 1.0f : e) / (1.0f + e);
    h[i] = g * sigmoid * gu[2 * i + 1];
  }
}

int best(const float* values, int n) {
  Vec most = splat(-INFINITY);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec value = load(values + i);
    most = value > most ? value : most;
  }
  float top = largest(most);
  for (; i < n; ++i) top = values[i] > top ? values[i] : top;
  for (i = 0; i < n; ++i) {
    if (values[i] == top) return i;
  }
  return 0;
}

bool could_reach(const float* logits, const float* residuals, int n, float reach, float floor) {
  int found = 0;
  for (int i = 0; i < n; ++i) found |= logits[i] + residuals[i] * reach >= floor;
  return found != 0;
}

void dequantize_row(const Matrix& w, int r, float* out) {
  const auto block = static_cast<size_t>(r / kRows);
  const uint8_t* tile = w.data + block * w.row_block_bytes();
  const uint8_t* low = w.low_tiles() + block * w.low_row_block_bytes();
  const int lane = r % kRows;
  for (int c0 = 0; c0 < w.cols; c0 += w.block, tile += w.tile_bytes(), low += Matrix::kLowTile) {
    const int count = w.cols - c0 < w.block ? w.cols - c0 : w.block;
    const float scale = half_to_float(load_u16(tile + 2 * lane));
    for (int c = 0; c < count; ++c) {
      const int at = c % 16 / 4 * 32 + lane * 4 + c % 4;
      const auto nibble = [&](const uint8_t* codes) {
        return c < 16 ? codes[at] & 15 : codes[at] >> 4;
      };
      if (w.halved()) {
        const int code = 16 * nibble(tile + 16) + nibble(low) - 128;
        out[c0 + c] = scale * static_cast<float>(code);
      } else if (w.bits == 4) {
        const float minimum = half_to_float(load_u16(tile + 16 + 2 * lane));
        out[c0 + c] = scale * static_cast<float>(nibble(tile + 32)) + minimum;
      } else {
        out[c0 + c] = scale * static_cast<float>(static_cast<int8_t>(tile[16 + at]));
      }
    }
  }
}

}  // namespace

extern const Kernels ISTHMUS_JOIN(kernels_, ISTHMUS_ISA);
const Kernels ISTHMUS_JOIN(kernels_, ISTHMUS_ISA) = {
    ISTHMUS_TEXT(ISTHMUS_ISA), matmul,
    quantize, rms_norm, swiglu, store_kv, attend, best, could_reach, dequantize_row,
};

}  // namespace isthmus
