// Rows of matrices: the rows of a weight that belong to kept channels.
#include "common.cuh"

// to (rows, length) = the `count` rows `kept` of from, and zeros in further rows; n elements
extern "C" __global__ void gather_rows(const float *from, const unsigned *kept, float *to, unsigned n, unsigned count, unsigned length) {
    FOR_EACH(i, n) to[i] = i / length < count ? from[(size_t)kept[i / length] * length + i % length] : 0;
}

// The rows `kept` of to += from (count, length); n elements
extern "C" __global__ void scatter_rows(const float *from, const unsigned *kept, float *to, unsigned n, unsigned length) {
    FOR_EACH(i, n) to[(size_t)kept[i / length] * length + i % length] += from[i];
}

// The rows `kept` of to += the sums of `parts` parts (count, length), `stride` from one to the next; without `kept` all
// rows, n elements. A block takes 32 elements, each of its 8 warps an eighth of the parts.
extern "C" __global__ void add_parts(const float *from, const unsigned *kept, float *to, unsigned n, unsigned length,
                                     unsigned parts, unsigned stride) {
    __shared__ float sums[8][32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, i = blockIdx.x * 32 + lane;
    float sum = 0;
    if (i < n)
        for (unsigned part = warp; part < parts; part += 8) sum += from[(size_t)part * stride + i];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || i >= n) return;
    for (int w = 1; w < 8; w++) sum += sums[w][lane];
    const unsigned row = i / length;
    to[(size_t)(kept ? kept[row] : row) * length + i % length] += sum;
}

// y (rows, length) = bias (length) in every row
extern "C" __global__ void bias_rows(const float *bias, float *y, unsigned n, unsigned length) {
    FOR_EACH(i, n) y[i] = bias[i % length];
}

extern "C" __global__ void zero(float *to, unsigned n) {
    FOR_EACH(i, n) to[i] = 0;
}
