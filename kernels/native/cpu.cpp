// Chooses kernels by what the CPU can run.
#include <cstring>
#include <string>

#if defined(ISTHMUS_ARM64) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels.hpp"

namespace isthmus {

extern const Kernels kernels_scalar;
#ifdef ISTHMUS_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512vnni;
#endif
#ifdef ISTHMUS_ARM64
extern const Kernels kernels_neondot;
#endif

namespace {

struct Candidate {
  const Kernels* kernels;
  bool runs;
};

const Candidate* candidates(int* count) {
#ifdef ISTHMUS_X86
  __builtin_cpu_init();
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  static const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni");
  static const Candidate all[] = {
      {&kernels_avx512vnni, avx512}, {&kernels_avx2, avx2}, {&kernels_scalar, true}};
#elif defined(ISTHMUS_ARM64)
#if defined(__linux__)
  static const bool dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  static const bool dot = true;  // every Apple processor that runs arm64 programs has it
#endif
  static const Candidate all[] = {{&kernels_neondot, dot}, {&kernels_scalar, true}};
#else
  static const Candidate all[] = {{&kernels_scalar, true}};
#endif
  *count = static_cast<int>(sizeof(all) / sizeof(all[0]));
  return all;
}

}  // namespace

const Kernels* find_kernels(const char* name) {
  int count = 0;
  const Candidate* all = candidates(&count);
  for (int i = 0; i < count; ++i) {
    const bool wanted = *name == '\0' || std::strcmp(name, all[i].kernels->name) == 0;
    if (wanted && all[i].runs) return all[i].kernels;
  }
  return nullptr;
}

const char* runnable_kernels() {
  static const std::string names = [] {
    int count = 0;
    const Candidate* all = candidates(&count);
    std::string text;
    for (int i = 0; i < count; ++i) {
      if (all[i].runs) text += (text.empty() ? "" : ",") + std::string(all[i].kernels->name);
    }
    return text;
  }();
  return names.c_str();
}

}  // namespace isthmus
