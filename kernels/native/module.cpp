// The Python face of the native backend. All checks of shapes and ranges are made here or in
// native.py: the kernels trust what they are given.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bandwidth.hpp"
#include "bpe.hpp"
#include "plan.hpp"

namespace nb = nanobind;
using namespace isthmus;

namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatsIn = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

const Kernels* kernels_named(const std::string& isa) {
  const Kernels* kernels = find_kernels(isa.c_str());
  if (kernels == nullptr) {
    throw std::invalid_argument("isa '" + isa + "' cannot run on this CPU; it runs " +
                                runnable_kernels());
  }
  return kernels;
}

Matrix matrix_of(const Bytes& data, int rows, int cols, int bits, int block) {
  Matrix matrix{data.data(), rows, cols, bits, block};
  const size_t expected = matrix.bytes();
  if (data.size() != expected) {
    throw std::invalid_argument("packed weight has " + std::to_string(data.size()) +
                                " bytes, its shape needs " + std::to_string(expected));
  }
  return matrix;
}

// Collects operators; keeps the arrays that they point into alive.
class Builder {
 public:
  void add(int kind, nb::object packed, nb::object vector, float eps, int layer, int heads,
           int kv_heads, int head_dim, float rope_base, bool rope_halves,
           nb::object rope_factors, nb::object q_norm, nb::object k_norm) {
    Op op{};
    op.kind = static_cast<OpKind>(kind);
    if (!packed.is_none()) {
      auto data = nb::cast<Bytes>(packed.attr("data"));
      op.weight = matrix_of(data, nb::cast<int>(packed.attr("rows")),
                            nb::cast<int>(packed.attr("cols")), nb::cast<int>(packed.attr("bits")),
                            nb::cast<int>(packed.attr("block")));
      matrices_.push_back(data);
    }
    op.vector = kept(vector);
    op.rope_factors = kept(rope_factors);
    op.q_norm = kept(q_norm);
    op.k_norm = kept(k_norm);
    op.eps = eps;
    op.layer = layer;
    op.heads = heads;
    op.kv_heads = kv_heads;
    op.head_dim = head_dim;
    op.rope_base = rope_base;
    op.rope_halves = rope_halves;
    ops.push_back(op);
  }

  std::vector<Op> ops;

 private:
  // The numbers of an array, which is kept alive; null for None.
  const float* kept(const nb::object& array) {
    if (array.is_none()) return nullptr;
    vectors_.push_back(nb::cast<Floats>(array));
    return vectors_.back().data();
  }

  std::vector<Bytes> matrices_;
  std::vector<Floats> vectors_;
};

class BoundPlan {
 public:
  BoundPlan(const Builder& builder, const std::string& isa, int threads, int planes,
            int kv_type, int kv_blocks, int max_tokens)
      : kept_(builder),
        plan_(builder.ops, kernels_named(isa), threads, planes,
              static_cast<KVType>(kv_type), kv_blocks, max_tokens) {}

  int64_t run(const Ints& tokens, const Ints& positions, const Ints& sequence, const Table& tables,
              const Ints& rows, bool greedy, const FloatsOut& logits, nb::object hidden) {
    Batch batch{tokens.data(),
                positions.data(),
                sequence.data(),
                static_cast<int>(tokens.size()),
                tables.data(),
                static_cast<int>(tables.shape(1)),
                rows.data(),
                static_cast<int>(rows.size()),
                greedy,
                logits.data(),
                nullptr};
    FloatsOut captured;
    if (!hidden.is_none()) {
      captured = nb::cast<FloatsOut>(hidden);
      batch.hidden = captured.data();
    }
    nb::gil_scoped_release release;
    return plan_.run(batch);
  }

  void copy_block(int source, int target) { plan_.copy_block(source, target); }

  size_t block_bytes() const { return plan_.block_bytes(); }
  void read_block(int block, const BytesOut& to) const { plan_.read_block(block, to.data()); }
  void write_block(int block, const Bytes& from) { plan_.write_block(block, from.data()); }

 private:
  Builder kept_;
  Plan plan_;
};

// Byte pair encoding over tables that it keeps alive.
class BoundBpe {
 public:
  BoundBpe(const Ints& byte_ids, const Table& merges)
      : byte_ids_(byte_ids),
        merges_(merges),
        bpe_(byte_ids.data(), reinterpret_cast<const Merge*>(merges.data()), merges.shape(0)) {
    if (byte_ids.size() != 256 || merges.shape(1) != 4) {
      throw std::invalid_argument("the tables must be of [256] and [merges, 4]");
    }
  }

  std::vector<int32_t> encode(const std::vector<nb::bytes>& words) const {
    std::vector<std::string_view> views;
    views.reserve(words.size());
    for (const nb::bytes& word : words) views.emplace_back(word.c_str(), word.size());
    std::vector<int32_t> tokens;
    nb::gil_scoped_release release;
    for (const std::string_view& view : views) bpe_.encode(view, tokens);
    return tokens;
  }

  std::vector<int32_t> merge(const Ints& tokens) const {
    std::vector<int32_t> merged;
    nb::gil_scoped_release release;
    bpe_.merge(tokens.data(), tokens.size(), merged);
    return merged;
  }

 private:
  Ints byte_ids_;
  Table merges_;
  Bpe bpe_;
};

// One product on one thread, for tests of a kernel against the reference.
void matmul(nb::object packed, const FloatsIn& x, const FloatsOut& out, const std::string& isa,
            int planes) {
  const Kernels* kernels = kernels_named(isa);
  auto data = nb::cast<Bytes>(packed.attr("data"));
  const Matrix w = matrix_of(data, nb::cast<int>(packed.attr("rows")),
                             nb::cast<int>(packed.attr("cols")), nb::cast<int>(packed.attr("bits")),
                             nb::cast<int>(packed.attr("block")));
  const int tokens = static_cast<int>(x.shape(0));
  const int padded = w.padded_cols();
  std::vector<int8_t> high(static_cast<size_t>(tokens) * padded), low(high.size());
  std::vector<float> scales(static_cast<size_t>(tokens) * padded / kBlock), sums(scales.size());
  const Activations all{high.data(), planes == 2 ? low.data() : nullptr, scales.data(), sums.data(),
                        padded};
  for (int t = 0; t < tokens; ++t) {
    kernels->quantize(x.data() + static_cast<size_t>(t) * w.cols, w.cols, all.from(t));
  }
  kernels->matmul(w, all, tokens, 0, w.row_blocks(), out.data(), w.rows, nullptr, false);
}

}  // namespace

NB_MODULE(_native, m) {
  m.attr("sources") = ISTHMUS_SOURCES;
  m.def("runnable_kernels", [] { return std::string(runnable_kernels()); });
  m.def("read_bandwidth", &read_bandwidth, nb::arg("bytes"), nb::arg("threads"), nb::arg("passes"),
        nb::call_guard<nb::gil_scoped_release>());
  m.def("matmul", &matmul, nb::arg("packed"), nb::arg("x"), nb::arg("out"), nb::arg("isa"),
        nb::arg("planes"));
  nb::class_<BoundBpe>(m, "Bpe")
      .def(nb::init<const Ints&, const Table&>(), nb::arg("byte_ids"), nb::arg("merges"))
      .def("encode", &BoundBpe::encode, nb::arg("words"))
      .def("merge", &BoundBpe::merge, nb::arg("tokens"));
  nb::class_<Builder>(m, "Builder")
      .def(nb::init<>())
      .def("add", &Builder::add, nb::arg("kind"), nb::arg("packed").none() = nb::none(),
           nb::arg("vector").none() = nb::none(), nb::arg("eps") = 0.0f, nb::arg("layer") = 0,
           nb::arg("heads") = 0, nb::arg("kv_heads") = 0, nb::arg("head_dim") = 0,
           nb::arg("rope_base") = 0.0f, nb::arg("rope_halves") = false,
           nb::arg("rope_factors").none() = nb::none(), nb::arg("q_norm").none() = nb::none(),
           nb::arg("k_norm").none() = nb::none());
  nb::class_<BoundPlan>(m, "Plan")
      .def(nb::init<const Builder&, const std::string&, int, int, int, int, int>(),
           nb::arg("builder"), nb::arg("isa"), nb::arg("threads"), nb::arg("planes"),
           nb::arg("kv_type"), nb::arg("kv_blocks"), nb::arg("max_tokens"))
      .def("copy_block", &BoundPlan::copy_block, nb::arg("source"), nb::arg("target"))
      .def_prop_ro("block_bytes", &BoundPlan::block_bytes)
      .def("read_block", &BoundPlan::read_block, nb::arg("block"), nb::arg("to"))
      .def("write_block", &BoundPlan::write_block, nb::arg("block"), nb::arg("from_"))
      .def("run", &BoundPlan::run, nb::arg("tokens"), nb::arg("positions"), nb::arg("sequence"),
           nb::arg("block_tables"), nb::arg("rows"), nb::arg("greedy"), nb::arg("logits"),
           nb::arg("hidden").none() = nb::none());
}
