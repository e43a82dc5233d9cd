#include "bpe.hpp"

#include <algorithm>
#include <queue>
#include <tuple>

namespace isthmus {

namespace {

// A piece of the word, in a list linked by indices. A piece that went into the one before it has
// the token -1.
struct Piece {
  int32_t token;
  int before, after;
};

// A merge of the piece `at` and the one after it, as they were when it was found.
struct Candidate {
  const Merge* merge;
  int at;

  bool operator<(const Candidate& other) const {  // the queue's first is the largest
    return std::tie(other.merge->rank, other.at) < std::tie(merge->rank, at);
  }
};

}  // namespace

const Merge* Bpe::find(int32_t left, int32_t right) const {
  const auto wanted = std::tie(left, right);
  const Merge* end = merges_ + count_;
  const Merge* found = std::lower_bound(merges_, end, wanted, [](const Merge& m, const auto& pair) {
    return std::tie(m.left, m.right) < pair;
  });
  return found != end && std::tie(found->left, found->right) == wanted ? found : nullptr;
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& out) const {
  std::vector<int32_t> tokens;
  tokens.reserve(word.size());
  for (const char c : word) {
    const int32_t token = byte_ids_[static_cast<uint8_t>(c)];
    if (token >= 0) tokens.push_back(token);
  }
  merge(tokens.data(), tokens.size(), out);
}

void Bpe::merge(const int32_t* tokens, size_t size, std::vector<int32_t>& out) const {
  const int count = static_cast<int>(size);
  std::vector<Piece> pieces(size);
  for (int at = 0; at < count; ++at) pieces[at] = {tokens[at], at - 1, at + 1};
  std::priority_queue<Candidate> queue;
  const auto look_at = [&](int at) {
    if (at < 0 || pieces[at].after == count) return;
    const Merge* merge = find(pieces[at].token, pieces[pieces[at].after].token);
    if (merge != nullptr) queue.push({merge, at});
  };
  for (int at = 0; at < count; ++at) look_at(at);
  while (!queue.empty()) {
    const auto [merge, at] = queue.top();
    queue.pop();
    Piece& left = pieces[at];
    if (left.token != merge->left || left.after == count) continue;
    Piece& right = pieces[left.after];
    if (right.token != merge->right) continue;
    left.token = merge->merged;
    right.token = -1;
    left.after = right.after;
    if (left.after < count) pieces[left.after].before = at;
    look_at(left.before);
    look_at(at);
  }
  for (int at = 0; at < count; at = pieces[at].after) out.push_back(pieces[at].token);
}

}  // namespace isthmus
