// What the library that stands in for cuBLASLt tells the test, and is told by it.
#ifndef SC_TESTS_CUBLASLT_FAKE_H
#define SC_TESTS_CUBLASLT_FAKE_H

#include <cstdint>

struct FakeCublasLt {
    int asked;             // the heuristic, how often
    int multiplied;        // products made
    int alive;             // descriptors, layouts and preferences
    uint32_t alignment[4]; // of A, B, C, D, that the heuristic was told last
    bool refuses;          // the heuristic finds nothing
};

#endif
