// The choice of channels (or columns): the `count` of n with the largest importance, in ascending order.
#include "common.cuh"

// Whether a ranks before b: the larger one, NaN before any number, and of equals the one with the lower index.
static __device__ inline bool before(double a, unsigned at_a, double b, unsigned at_b) {
    const bool nan_a = a != a, nan_b = b != b;
    if (nan_a != nan_b) return nan_a;
    return a > b || (!(b > a) && at_a < at_b);
}

// kept[i] = whether fewer than `count` rank before i. Each thread counts by itself.
extern "C" __global__ void rank_channels(const double *importance, unsigned *kept, unsigned n, unsigned count) {
    FOR_EACH(i, n) {
        const double own = importance[i];
        unsigned place = 0;
        for (unsigned j = 0; j < n; j++) place += before(importance[j], j, own, i);
        kept[i] = place < count;
    }
}

// indices = those of the kept ones of n, ascending. One block, which takes blockDim.x of them at a time.
static __device__ void compact(const unsigned *kept, unsigned *indices, unsigned n) {
    __shared__ unsigned of_warp[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned found = 0;
    for (unsigned start = 0; start < n; start += blockDim.x) {
        const unsigned i = start + threadIdx.x;
        const bool is_kept = i < n && kept[i];
        const unsigned in_warp = __ballot_sync(0xffffffffu, is_kept);
        if (lane == 0) of_warp[warp] = __popc(in_warp);
        __syncthreads();
        unsigned place = found + __popc(in_warp & ((1u << lane) - 1));
        for (unsigned w = 0; w < warp; w++) place += of_warp[w];
        if (is_kept) indices[place] = i;
        for (unsigned w = 0; w < blockDim.x / 32; w++) found += of_warp[w];
        __syncthreads(); // the next part overwrites of_warp
    }
}

extern "C" __global__ void indices_of_kept(const unsigned *kept, unsigned *indices, unsigned n) {
    compact(kept, indices, n);
}

// A whole number that is the larger the earlier a value ranks.
static __device__ inline unsigned long long order_of(double value) {
    const long long bits = __double_as_longlong(value + 0.0); // -0 becomes 0
    if (value != value) return ~0ull;
    return bits < 0 ? ~(unsigned long long)bits : (unsigned long long)bits | 1ull << 63;
}

// Both in one, for n <= 1024, of importances of which `sums` has the sums of `chunks` chunks, of `elements` in all: one
// block. Some lanes add up a channel's sums, and each warp counts for one channel at a time.
extern "C" __global__ void choose_few(const double *sums, unsigned *indices, unsigned n, unsigned count, unsigned chunks,
                                      unsigned elements) {
    __shared__ unsigned long long value[1024];
    __shared__ unsigned kept[1024];
    unsigned lanes = 1; // a power of two up to 32
    while (lanes < 32 && lanes < chunks) lanes *= 2;
    const unsigned lane = threadIdx.x % lanes;
    for (unsigned first = 0; first < n; first += blockDim.x / lanes) {
        const unsigned i = first + threadIdx.x / lanes;
        double sum = 0;
        if (i < n)
            for (unsigned chunk = lane; chunk < chunks; chunk += lanes) sum += sums[(size_t)i * chunks + chunk];
        for (unsigned distance = lanes / 2; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (i < n && lane == 0) value[i] = order_of(sum / (elements > 0 ? elements : 1));
    }
    __syncthreads();
    for (unsigned i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
        const unsigned long long own = value[i];
        unsigned place = 0;
#pragma unroll 4
        for (unsigned j = threadIdx.x % 32; j < n; j += 32) place += value[j] > own || (value[j] == own && j < i);
        place = warp_sum(place);
        if (threadIdx.x % 32 == 0) kept[i] = place < count;
    }
    __syncthreads();
    compact(kept, indices, n);
}

// Indices that the host has chosen.
struct Indices {
    unsigned at[960];
};
extern "C" __global__ void store_indices(unsigned *to, unsigned n, Indices indices) {
    FOR_EACH(i, n) to[i] = indices.at[i];
}
