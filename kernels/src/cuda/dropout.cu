// y = scale x where the mask keeps the element, 0 elsewhere. The mask is a function of a key and the
// element's place: the CPU's, bit for bit (kernels/args/dropout.rs).
#include "common.cuh"

#define MASK_BLOCK (1u << 14)

// SplitMix64's number `index` of the sequence `key`.
static __device__ inline unsigned long long mix(unsigned long long key, unsigned long long index) {
    unsigned long long z = key + (index + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static __device__ inline bool keeps(unsigned long long key, unsigned threshold, unsigned place) {
    const unsigned long long of_block = mix(key, place / MASK_BLOCK);
    unsigned bits = place % MASK_BLOCK + (unsigned)of_block;
    bits = ((bits ^ (bits >> 16)) * 0x7feb352du) ^ (unsigned)(of_block >> 32);
    bits = (bits ^ (bits >> 15)) * 0x846ca68bu;
    return (bits ^ (bits >> 16)) >= threshold;
}

extern "C" __global__ void dropout_forward(const float *x, float *y, unsigned n, unsigned long long key, unsigned threshold, float scale, unsigned start) {
    FOR_EACH(i, n) y[i] = keeps(key, threshold, start + i) ? x[i] * scale : 0;
}

// dx (+)= scale dy where the mask keeps the element
extern "C" __global__ void dropout_backward(const float *dy, float *dx, unsigned n, unsigned long long key, unsigned threshold, float scale, unsigned start, int add) {
    FOR_EACH(i, n) put(dx + i, keeps(key, threshold, start + i) ? dy[i] * scale : 0, add);
}
