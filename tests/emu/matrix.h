// Matrix loads and products of a warp.
#pragma once

namespace emu
{

// The lane reads its row itself, in one 16-byte load as the card does, so that sanitizers see it.
inline void load_matrix_row(const WarpOperation &operation, unsigned (&r)[4], const void *shared_row,
                            Where where)
{
    if (reinterpret_cast<uintptr_t>(shared_row) % 16 != 0)
        diagnose(where, "ldmatrix got the row address %p, which is not a multiple of 16", shared_row);
    int4 row = *static_cast<const int4 *>(shared_row);
    LaneOperands mine{&row, r, 0};
    warp_rendezvous(operation, 0xffffffffu, &mine, 0, where);
}

} // namespace emu

inline void load_matrix_x4(unsigned (&r)[4], const void *shared_row, emu::Where where = emu::here())
{
    emu::load_matrix_row(emu::load_matrix, r, shared_row, where);
}

inline void load_matrix_x4_trans(unsigned (&r)[4], const void *shared_row, emu::Where where = emu::here())
{
    emu::load_matrix_row(emu::load_matrix_transposed, r, shared_row, where);
}

inline void mma_bf16_16816(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                           emu::Where where = emu::here())
{
    const unsigned operands[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    emu::LaneOperands mine{operands, d, 0};
    emu::warp_rendezvous(emu::mma_bf16, 0xffffffffu, &mine, 0, where);
}

inline void mma_tf32_1688(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                          emu::Where where = emu::here())
{
    const unsigned operands[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    emu::LaneOperands mine{operands, d, 0};
    emu::warp_rendezvous(emu::mma_tf32, 0xffffffffu, &mine, 0, where);
}

inline void mma_f64_884(double (&d)[2], double a, double b, emu::Where where = emu::here())
{
    const double operands[2] = {a, b};
    emu::LaneOperands mine{operands, d, 0};
    emu::warp_rendezvous(emu::mma_f64, 0xffffffffu, &mine, 0, where);
}

// cvt.rna.tf32.f32: ten bits of fraction stay, ties go away from zero.
inline unsigned to_tf32(float x)
{
    if (x != x)
        return 0x7fffffffu;
    unsigned bits = emu::bit_cast<unsigned>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bits; // an infinity stays one
    return (bits + 0x1000u) & ~0x1fffu;
}

inline unsigned short to_bf16(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

inline unsigned to_bf16_pair(float first, float second)
{
    return static_cast<unsigned>(to_bf16(first)) | static_cast<unsigned>(to_bf16(second)) << 16;
}
