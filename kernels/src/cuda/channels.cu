// The channels of a gradient dY (batch, channels, pixels): what ranks them, and what keeps some of them.
#include "common.cuh"

// The place in dY of a channel's element j of batch * pixels.
static __device__ inline size_t place(unsigned j, unsigned c, unsigned channels, unsigned pixels) {
    return ((size_t)(j / pixels) * channels + c) * pixels + j % pixels;
}

// out[c] = the mean of |dY| over batch and pixels. One block a channel.
extern "C" __global__ void channel_importance(const float *dy, double *out, unsigned batch, unsigned channels, unsigned pixels) {
    const unsigned c = blockIdx.x, count = batch * pixels;
    double sum = 0;
    for (unsigned j = threadIdx.x; j < count; j += blockDim.x) sum += fabsf(dy[place(j, c, channels, pixels)]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[c] = sum / (count > 0 ? count : 1);
}

// db[kept[slot]] += the sum of dY's channel `slot` over batch and pixels; without `kept` db[slot]. One block
// a slot.
extern "C" __global__ void channel_bias(const float *dy, const unsigned *kept, float *db, unsigned batch, unsigned channels, unsigned pixels) {
    const unsigned slot = blockIdx.x, count = batch * pixels;
    double sum = 0;
    for (unsigned j = threadIdx.x; j < count; j += blockDim.x) sum += dy[place(j, slot, channels, pixels)];
    sum = block_sum(sum);
    if (threadIdx.x == 0) db[kept ? kept[slot] : slot] += (float)sum;
}

// shrunk (batch, count, pixels) = the channels `kept` of dY; n elements
extern "C" __global__ void gather_channels(const float *dy, const unsigned *kept, float *shrunk, unsigned n, unsigned channels, unsigned count, unsigned pixels) {
    FOR_EACH(i, n) {
        const unsigned pixel = i % pixels, slot = i / pixels % count, b = i / pixels / count;
        shrunk[i] = dy[((size_t)b * channels + kept[slot]) * pixels + pixel];
    }
}

// out[j] = the mean of |dY| over the rows of (rows, columns)
extern "C" __global__ void column_importance(const float *dy, double *out, unsigned rows, unsigned columns) {
    FOR_EACH(j, columns) {
        double sum = 0;
        for (unsigned r = 0; r < rows; r++) sum += fabsf(dy[(size_t)r * columns + j]);
        out[j] = sum / (rows > 0 ? rows : 1);
    }
}

// Whether `kept`, `count` ascending numbers, has `index`.
static __device__ inline bool contains(const unsigned *kept, unsigned count, unsigned index) {
    unsigned low = 0, high = count;
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (kept[middle] < index) low = middle + 1;
        else high = middle;
    }
    return low < count && kept[low] == index;
}

// masked = dY (rows, columns) in the columns `kept`, 0 elsewhere; n elements
extern "C" __global__ void mask_columns(const float *dy, const unsigned *kept, float *masked, unsigned n, unsigned columns, unsigned count) {
    FOR_EACH(i, n) masked[i] = contains(kept, count, i % columns) ? dy[i] : 0;
}

// dY = 0 in the channels that are not in `kept`; n elements
extern "C" __global__ void zero_dropped(float *dy, const unsigned *kept, unsigned n, unsigned channels, unsigned pixels, unsigned count) {
    FOR_EACH(i, n) if (!contains(kept, count, i / pixels % channels)) dy[i] = 0;
}

extern "C" __global__ void scale(float *dy, unsigned n, float factor) {
    FOR_EACH(i, n) dy[i] *= factor;
}
