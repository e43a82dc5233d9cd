// What every kernel shares: vectors of a width that is a define, a quantized code as a float, and
// the header of a step. The host puts this text in the place of `#include "common.h"`.
#ifndef ISTHMUS_COMMON
#define ISTHMUS_COMMON

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

// A vector of one is a scalar.
#define float1 float
#define uint1 uint
#define int1 int
#define vload1(i, p) ((p)[i])
#define vstore1(v, i, p) ((p)[i] = (v))
#define as_float1 as_float
#define vload_half1 vload_half
#define vstore_half1 vstore_half
#define convert_float1 convert_float
#define convert_char1_rte convert_char_rte

// A step's numbers, all in one buffer so that a step is one write: tokens, wanted rows, and where
// each of the arrays below begins. See opencl/step.py.
enum { kTokens, kWanted, kIds, kPositions, kTables, kRows, kTurns, kParts };

#endif
