// ldmatrix and mma.sync. Fragment layouts: PTX ISA, sections "Warp-level matrix load instruction: ldmatrix" and "Matrix
// Fragments for mma.m16n8k16 / m16n8k8 / m8n8k4". Lane 4 g + t belongs to group g, and is its member t.
#include "emu/machine.h"

#include <cmath>

namespace emu
{

namespace
{

float from_bits(uint32_t bits)
{
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

float from_bf16(uint16_t bits)
{
    return from_bits(static_cast<uint32_t>(bits) << 16);
}

// Lane 8 j + r brought row r of matrix j. Lane 4 g + t takes from each matrix words 2 t and 2 t + 1 of row g, or, when
// transposed, of column g.
void load_four(LaneOperands *const *lanes, bool transposed)
{
    for (int lane = 0; lane < warp_size; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int j = 0; j < 4; j++) {
            auto word = [&](int row, int column) -> uint32_t {
                return static_cast<const uint16_t *>(lanes[8 * j + row]->in)[column];
            };
            uint32_t low = transposed ? word(2 * t, g) : word(g, 2 * t);
            uint32_t high = transposed ? word(2 * t + 1, g) : word(g, 2 * t + 1);
            static_cast<uint32_t *>(lanes[lane]->out)[j] = low | high << 16;
        }
    }
}

void do_load(LaneOperands *const *lanes, unsigned, int)
{
    load_four(lanes, false);
}

void do_load_transposed(LaneOperands *const *lanes, unsigned, int)
{
    load_four(lanes, true);
}

// d[16][8] += a[16][depth] b[depth][8]; both products have d's layout in common.
template <int depth>
void accumulate(LaneOperands *const *lanes, const float (&a)[16][depth], const float (&b)[depth][8])
{
    for (int lane = 0; lane < warp_size; lane++) {
        int g = lane / 4, t = lane % 4;
        float *d = static_cast<float *>(lanes[lane]->out);
        for (int i = 0; i < 4; i++) {
            int row = g + i / 2 * 8, column = 2 * t + i % 2;
            float sum = 0;
            for (int k = 0; k < depth; k++)
                sum += a[row][k] * b[k][column];
            d[i] += sum;
        }
    }
}

void do_bf16(LaneOperands *const *lanes, unsigned, int)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < warp_size; lane++) {
        int g = lane / 4, t = lane % 4;
        const uint16_t *in = static_cast<const uint16_t *>(lanes[lane]->in); // a: four pairs, b: two
        for (int i = 0; i < 8; i++)
            a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = from_bf16(in[i]);
        for (int i = 0; i < 4; i++)
            b[2 * t + i % 2 + i / 2 * 8][g] = from_bf16(in[8 + i]);
    }
    accumulate(lanes, a, b);
}

void do_tf32(LaneOperands *const *lanes, unsigned, int)
{
    const uint32_t kept = ~0x1fffu; // the hardware does not look at the low 13 bits
    float a[16][8], b[8][8];
    for (int lane = 0; lane < warp_size; lane++) {
        int g = lane / 4, t = lane % 4;
        const uint32_t *in = static_cast<const uint32_t *>(lanes[lane]->in);
        for (int i = 0; i < 4; i++)
            a[g + i % 2 * 8][t + i / 2 * 4] = from_bits(in[i] & kept);
        for (int i = 0; i < 2; i++)
            b[t + i * 4][g] = from_bits(in[4 + i] & kept);
    }
    accumulate(lanes, a, b);
}

void do_f64(LaneOperands *const *lanes, unsigned, int)
{
    double a[8][4], b[4][8];
    for (int lane = 0; lane < warp_size; lane++) {
        const double *in = static_cast<const double *>(lanes[lane]->in);
        a[lane / 4][lane % 4] = in[0];
        b[lane % 4][lane / 4] = in[1];
    }
    for (int lane = 0; lane < warp_size; lane++) {
        double *d = static_cast<double *>(lanes[lane]->out);
        for (int i = 0; i < 2; i++)
            for (int k = 0; k < 4; k++)
                d[i] = std::fma(a[lane / 4][k], b[k][lane % 4 * 2 + i], d[i]);
    }
}

} // namespace

const WarpOperation load_matrix = {"load_matrix_x4()", do_load, false, true};
const WarpOperation load_matrix_transposed = {"load_matrix_x4_trans()", do_load_transposed, false, true};
const WarpOperation mma_bf16 = {"mma_bf16_16816()", do_bf16, false, true};
const WarpOperation mma_tf32 = {"mma_tf32_1688()", do_tf32, false, true};
const WarpOperation mma_f64 = {"mma_f64_884()", do_f64, false, true};

} // namespace emu
