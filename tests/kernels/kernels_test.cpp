// Every kernel table that this CPU can run, against plain double arithmetic, over odd shapes.
//
// Built by scripts/test_neon.sh for a CPU that the build machine does not have, and run under
// emulation: a program without Python, so that nothing else has to be cross-compiled.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../kernels/native/kernels.hpp"

using namespace isthmus;

namespace {

std::mt19937 generator(20261121);
int failures = 0;
int checks = 0;

float uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(generator);
}

int below(int n) { return static_cast<int>(generator() % static_cast<unsigned>(n)); }

void expect_close(const char* what, double found, double expected, double bound) {
  ++checks;
  if (std::fabs(found - expected) <= bound) return;  // false for NaN
  if (++failures <= 20) std::printf("FAILED %s: %g, not %g (+- %g)\n", what, found, expected, bound);
}

// Half precision of a positive number between 2^-14 and 2^15, its mantissa cut to 10 bits.
uint16_t half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<uint16_t>((((bits >> 23) - 112) << 10) | ((bits >> 13) & 0x3ff));
}

struct Weight {
  std::vector<uint8_t> bytes;
  Matrix matrix;
};

Weight random_weight(int bits, int block, int rows, int cols) {
  Weight weight;
  weight.matrix = {nullptr, rows, cols, bits, block};
  weight.bytes.resize(weight.matrix.bytes());
  const size_t tile = weight.matrix.tile_bytes();
  // Packing leaves no -128: not as a byte, and no pair of nibbles that are both 0.
  for (uint8_t& byte : weight.bytes) {
    byte = static_cast<uint8_t>(generator());
    if (block == 16 && byte == 128) byte = 129;
    if (weight.matrix.halved()) byte |= 0x11;
  }
  const size_t tiles = weight.matrix.row_blocks() * weight.matrix.row_block_bytes();
  for (size_t at = 0; at < tiles; at += tile) {
    for (int r = 0; r < (bits == 4 ? 16 : 8); ++r) {
      const uint16_t scale = half(uniform(0.01f, 0.1f));
      std::memcpy(&weight.bytes[at + 2 * static_cast<size_t>(r)], &scale, sizeof scale);
    }
  }
  weight.matrix.data = weight.bytes.data();
  return weight;
}

void test_matmul(const Kernels& kernels) {
  const int forms[][2] = {{4, 32}, {8, 32}, {8, 16}};
  for (int round = 0; round < 60; ++round) {
    const int* form = forms[round % 3];
    const int rows = 1 + below(50), cols = 1 + below(150), tokens = 1 + below(19);
    const int planes = 1 + below(2);
    const Weight weight = random_weight(form[0], form[1], rows, cols);
    const Matrix& w = weight.matrix;
    const int padded = w.padded_cols();
    std::vector<int8_t> high(static_cast<size_t>(tokens) * padded), low(high.size());
    std::vector<float> scales(high.size() / kBlock), sums(scales.size());
    const Activations x{high.data(), planes == 2 ? low.data() : nullptr, scales.data(), sums.data(),
                        padded};
    std::vector<float> input(static_cast<size_t>(tokens) * cols);
    for (float& value : input) value = uniform(-3, 3);
    for (int t = 0; t < tokens; ++t) {
      kernels.quantize(&input[static_cast<size_t>(t) * cols], cols, x.from(t));
    }
    std::vector<float> bias(static_cast<size_t>(rows));
    for (float& value : bias) value = uniform(-1, 1);
    std::vector<float> out(static_cast<size_t>(tokens) * rows, NAN), row(static_cast<size_t>(cols));
    kernels.matmul(w, x, tokens, 0, w.row_blocks(), out.data(), rows, bias.data(), false);
    std::vector<float> near(out.size(), NAN);
    if (w.halved()) {
      kernels.matmul(w.high_half(), x, tokens, 0, w.row_blocks(), near.data(), rows, bias.data(),
                     false);
    }
    for (int r = 0; r < rows; ++r) {
      kernels.dequantize_row(w, r, row.data());
      for (int t = 0; t < tokens; ++t) {
        double expected = bias[static_cast<size_t>(r)], sum = 0;
        for (int c = 0; c < cols; ++c) {
          expected += static_cast<double>(row[static_cast<size_t>(c)]) *
                      input[static_cast<size_t>(t) * cols + static_cast<size_t>(c)];
          sum += std::fabs(row[static_cast<size_t>(c)]);
        }
        if (w.halved()) {  // a low nibble is at most 7.5 scales, 0.75, from what is taken for it
          double most = 0;
          for (int c = 0; c < cols; ++c) {
            most += 0.75 * std::fabs(input[static_cast<size_t>(t) * cols + static_cast<size_t>(c)]);
          }
          expect_close("high half", near[static_cast<size_t>(t) * rows + static_cast<size_t>(r)],
                       expected, 1.1 * most + 1e-3);
        }
        const double step = 3.0 / (planes == 2 ? 65024 : 254);
        expect_close("matmul", out[static_cast<size_t>(t) * rows + static_cast<size_t>(r)],
                     expected, 2 * step * sum + 1e-3);
      }
    }
  }
}

void test_attention(const Kernels& kernels) {
  const KVType types[] = {KVType::kFloat32, KVType::kFloat16, KVType::kInt8};
  const double bounds[] = {1e-5, 5e-3, 8e-2};
  for (int round = 0; round < 60; ++round) {
    const KVLayout layout{types[round % 3], 2 * (1 + below(50))};
    const int d = layout.head_dim, group = 1 + below(7), positions = 1 + below(100);
    const int count = (positions + kBlock - 1) / kBlock;
    // Filled with what would show if an unwritten value were used.
    std::vector<std::vector<uint8_t>> pool(count, std::vector<uint8_t>(layout.bytes(), 0xff));
    std::vector<float> keys(static_cast<size_t>(positions) * d), values(keys.size());
    for (float& value : keys) value = uniform(-1, 1);
    for (float& value : values) value = uniform(-1, 1);
    std::vector<KVBlock> blocks;
    for (int p = 0; p < positions; ++p) {
      const auto at = static_cast<size_t>(p) * d;
      kernels.store_kv(&keys[at], &values[at], layout, p % kBlock, pool[p / kBlock].data());
      if (p % kBlock == 0) blocks.push_back({pool[p / kBlock].data(), 0});
      ++blocks.back().positions;
    }
    const int tokens = 1 + below(positions < 20 ? positions : 20);
    std::vector<float> q(static_cast<size_t>(tokens) * group * d), out(q.size(), NAN);
    for (float& value : q) value = uniform(-2, 2);
    kernels.attend({q.data(), group * d, tokens, group, out.data(), group * d}, layout,
                   blocks.data(), count);
    for (int i = 0; i < tokens * group; ++i) {
      const float* query = &q[static_cast<size_t>(i) * d];
      const int seen = positions - (tokens - 1 - i / group);
      std::vector<double> weight(static_cast<size_t>(seen)), sum(static_cast<size_t>(d));
      double total = 0;
      for (int p = 0; p < seen; ++p) {
        double dot = 0;
        for (int c = 0; c < d; ++c) dot += double{query[c]} * keys[p * d + c];
        total += weight[p] = std::exp(dot / std::sqrt(double(d)));
      }
      for (int p = 0; p < seen; ++p) {
        for (int c = 0; c < d; ++c) sum[c] += weight[p] / total * values[p * d + c];
      }
      for (int c = 0; c < d; ++c) {
        expect_close("attend", out[i * d + c], sum[c], bounds[round % 3]);
      }
    }
  }
}

void test_vectors(const Kernels& kernels) {
  for (int round = 0; round < 20; ++round) {
    const int n = 1 + below(100);
    std::vector<float> x(static_cast<size_t>(2 * n)), weight(x.size()), y(x.size(), NAN);
    for (float& value : x) value = uniform(-20, 20);
    for (float& value : weight) value = uniform(0, 2);
    kernels.rms_norm(x.data(), weight.data(), 1e-5f, n, y.data());
    double square = 0;
    for (int i = 0; i < n; ++i) square += double{x[i]} * x[i];
    for (int i = 0; i < n; ++i) {
      expect_close("rms_norm", y[i], x[i] / std::sqrt(square / n + 1e-5) * weight[i], 1e-4);
    }
    kernels.swiglu(x.data(), n, y.data());
    for (int i = 0; i < n; ++i) {
      const double gate = x[2 * i];
      expect_close("swiglu", y[i], gate / (1 + std::exp(-gate)) * x[2 * i + 1], 1e-3);
    }
  }
}

}  // namespace

// Arguments: the tables that must be there. Missing one is a failure, not a pass.
int main(int argc, char** argv) {
  std::stringstream names(runnable_kernels());
  std::string ran;
  for (std::string name; std::getline(names, name, ',');) {
    const Kernels* kernels = find_kernels(name.c_str());
    test_matmul(*kernels);
    test_attention(*kernels);
    test_vectors(*kernels);
    ran += " " + name;
  }
  for (int i = 1; i < argc; ++i) {
    if (find_kernels(argv[i]) == nullptr) {
      std::printf("FAILED: this CPU does not run %s\n", argv[i]);
      ++failures;
    }
  }
  std::printf("%d checks over%s\n%d passed, %d failed\n", checks, ran.c_str(), checks - failures,
              failures);
  return failures == 0 ? 0 : 1;
}
