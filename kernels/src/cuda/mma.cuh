// The tensor cores' product of small matrices in TF32: f32 with 10 bits behind the binary point, sums in f32.
#pragma once
#include "common.cuh"

// The bits of a value rounded to TF32.
static __device__ inline unsigned to_tf32(float value) {
#ifdef __CUDACC__
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#else
    return isfinite(value) ? (__float_as_uint(value) + 0x1000) & ~0x1fffu : __float_as_uint(value);
#endif
}

// d (16, 8) += a (16, 8) b (8, 8), by the 32 lanes of a warp. With g = lane / 4 and t = lane % 4 a lane has
//   a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
//   b: (t, g), (t + 4, g)
//   d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
static __device__ inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    // What each lane of each warp has, for the others to read.
    static thread_local unsigned lefts[32][32][4], rights[32][32][2];
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) lefts[warp][lane][i] = a[i];
    for (int i = 0; i < 2; i++) rights[warp][lane][i] = b[i];
    __syncwarp();
    for (unsigned k = 0; k < 8; k++) {
        const unsigned half = k / 4, from = k % 4;
        const auto left = [&](unsigned i) { return __uint_as_float(lefts[warp][g * 4 + from][2 * half + i]); };
        const auto right = [&](unsigned n) { return __uint_as_float(rights[warp][(2 * t + n) * 4 + from][half]); };
        for (unsigned i = 0; i < 4; i++) d[i] += left(i / 2) * right(i % 2);
    }
    __syncwarp(); // the next product overwrites them
#endif
}
