// The kernels that differ between instruction sets, behind one table of functions.
//
// Packed matrices. Rows stand in blocks of 8, columns in blocks of `block` (32, or 16 for 8-bit
// weights with finer groups). A tile is 8 rows by one column block; the tiles of a row block
// follow each other, so a product reads memory in one stream:
//
//   4 bits, block 32:  scale f16[8] | minimum f16[8] | codes u8[128]                 160 bytes
//       codes[j * 32 + r * 4 + i]: low nibble  = row r, column 4 j + i       (j in 0..3)
//                                  high nibble = row r, column 4 j + i + 16
//       w = scale * code + minimum
//   8 bits, block 16:  scale f16[8] | codes i8[128]                                  144 bytes
//       codes[j * 32 + r * 4 + i] = row r, column 4 j + i
//       w = scale * code
//   8 bits, block 32:  of all tiles  scale f16[8] | high nibbles u8[128]             144 bytes
//                      of all tiles  low nibbles u8[128], in the same order          128 bytes
//                      residual f32[rows]
//       w = scale * (16 * high + low - 128). The first part alone is a matrix of 4 bits near to it,
//       scale * (16 * high - 120.5); what that leaves out of a row is `residual` long
//
// Rows are padded to a multiple of 8 and columns to a multiple of 32 with zeros.
//
// Activations are quantized once for all the products that read them: blocks of 32 columns with
// one float scale, and the float sum of the block (for the weights' minimum). A code has one or
// two planes of 8 bits: x = scale * high, or x = scale * (256 * high + low). One plane is half the
// work; two leave no error that shows (docs/adr/0002-activation-precision.md has the figures).
#pragma once
#include <cstddef>
#include <cstdint>

namespace isthmus {

constexpr int kRows = 8;    // rows in a tile
constexpr int kBlock = 32;  // columns in a block of activations
// Row blocks that a product takes together where registers are wide enough: hand out multiples.
constexpr int kRowBlocks = 4;

inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

struct Matrix {
  const uint8_t* data = nullptr;
  int rows = 0;
  int cols = 0;
  int bits = 4;
  int block = 32;

  int padded_cols() const { return round_up(cols, kBlock); }
  int row_blocks() const { return (rows + kRows - 1) / kRows; }
  bool has_minimums = true;  // of 4 bits: not, when it is the high half of a matrix of 8

  size_t tile_bytes() const { return bits == 4 && has_minimums ? kTile4 : kTile8; }
  size_t row_block_bytes() const { return tile_bytes() * (padded_cols() / block); }

  // 8 bits in two halves.
  bool halved() const { return bits == 8 && block == kBlock; }
  size_t low_row_block_bytes() const { return kLowTile * (padded_cols() / kBlock); }
  const uint8_t* low_tiles() const { return data + row_blocks() * row_block_bytes(); }
  const float* residuals() const {
    return reinterpret_cast<const float*>(low_tiles() + row_blocks() * low_row_block_bytes());
  }
  Matrix high_half() const { return {data, rows, cols, 4, block, false}; }

  size_t bytes() const {
    const size_t all = row_blocks() * row_block_bytes();
    if (!halved()) return all;
    return all + row_blocks() * (low_row_block_bytes() + kRows * sizeof(float));
  }

  static constexpr size_t kTile4 = 160, kTile8 = 144, kLowTile = 128;
};

constexpr float kHighMinimum = -120.5f;  // of a high half, in scales: as if low nibbles were 7.5

// high, low: [tokens, padded cols] int8; scales, sums: [tokens, padded cols / 32] float
struct Activations {
  int8_t* high = nullptr;
  int8_t* low = nullptr;  // null: one plane
  float* scales = nullptr;
  float* sums = nullptr;
  int cols = 0;  // padded: the stride of the planes

  // From token t, column c on; c is a multiple of 32.
  Activations from(int t, int c = 0) const {
    const size_t at = static_cast<size_t>(t) * cols + c;
    return {high + at, low == nullptr ? nullptr : low + at, scales + at / kBlock,
            sums + at / kBlock, cols};
  }
};

// The cache of one key/value head over one block of positions: `tiles()` square tiles of 32 rows by
// 32 columns for the keys, then as many for the values. A key tile's rows are dimensions of the
// head and its columns positions; a value tile's rows are positions and its columns dimensions. So
// both halves of attention are sums of rows times coefficients, without a horizontal step.
//
//   float32, float16:  element[32][32]
//   int8:              codes i8[1024] | scale f16[32], one a position: groups of 32 along the head
//       codes[j * 128 + column * 4 + i] = row 4 j + i, column: the form of a weight's tile
enum class KVType : int { kFloat32, kFloat16, kInt8 };

struct KVLayout {
  KVType type;
  int head_dim;

  int tiles() const { return (head_dim + kBlock - 1) / kBlock; }
  size_t tile_bytes() const {
    switch (type) {
      case KVType::kFloat32: return 32 * 32 * 4;
      case KVType::kFloat16: return 32 * 32 * 2;
      default: return 32 * 32 + 32 * 2;
    }
  }
  size_t bytes() const { return 2 * tiles() * tile_bytes(); }
};

struct KVBlock {
  const uint8_t* data;
  int positions;  // 1 to 32 are in use
};

// Some tokens of one sequence at consecutive positions, and of each the heads that share one key/
// value head.
struct Queries {
  const float* q;  // [tokens, group, head_dim], tokens `stride` floats apart
  int stride;
  int tokens;
  int group;
  float* out;  // [tokens, group, head_dim], tokens `out_stride` floats apart
  int out_stride;
};

struct Kernels {
  const char* name;

  // out[t, r] (= or +=) sum_c w[r, c] x[t, c] + bias[r] for the rows r of row blocks
  // [first, last); out begins at the first of them, its tokens are `stride` floats apart.
  void (*matmul)(const Matrix& w, const Activations& x, int tokens, int first, int last, float* out,
                 int stride, const float* bias, bool accumulate);

  // Quantizes x[0, n); codes are written up to the next multiple of 32, zeros past n.
  void (*quantize)(const float* x, int n, const Activations& out);

  // y = x / sqrt(mean(x^2) + eps) * weight; y may be x
  void (*rms_norm)(const float* x, const float* weight, float eps, int n, float* y);

  // h[i] = silu(gu[2 i]) * gu[2 i + 1]
  void (*swiglu)(const float* gu, int n, float* h);

  // Writes the key and the value of one position (its place in the block) to a head's cache.
  void (*store_kv)(const float* key, const float* value, const KVLayout& layout, int place,
                   uint8_t* block);

  // out = softmax(q . k / sqrt(head_dim)) v for each query. The last token sees every position of
  // the blocks, each one before it one position less.
  void (*attend)(const Queries& queries, const KVLayout& layout, const KVBlock* blocks, int count);

  // The index of the largest of n values; 0 when none is a number.
  int (*best)(const float* values, int n);

  // Whether some logits[i] + reach * residuals[i] is no smaller than `floor`.
  bool (*could_reach)(const float* logits, const float* residuals, int n, float reach, float floor);

  // out[0, cols) = row r of w
  void (*dequantize_row)(const Matrix& w, int r, float* out);
};

// The best table for this CPU, or the one named; null when it cannot run here.
const Kernels* find_kernels(const char* name);

// Names of the tables that this CPU can run, best first, separated by commas.
const char* runnable_kernels();

}  // namespace isthmus
