// The channels of a gradient dY (batch, channels, pixels): what ranks them, and what keeps some of them.
#include "chunks.cuh"

template <int V>
static __device__ inline void sums(Task task, const float *dy, double *partial, unsigned channels, unsigned plane,
                                   int magnitudes) {
    double sum = 0;
    FOR_EACH_OF_TASK(i) {
        const Elements<V> values = read<V>(dy + i);
        for (int v = 0; v < V; v++) sum += magnitudes ? fabsf(values.at[v]) : values.at[v];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// To `partial`, a number a chunk: the sum of dY, or of |dY|.
extern "C" __global__ void channel_sums(const float *dy, double *partial, unsigned channels, unsigned plane,
                                        unsigned count, unsigned chunk, int magnitudes) {
    BY_FOUR(sums, task_of(count, chunk), dy, partial, channels, plane, magnitudes);
}

// The sum of a channel's chunks, by a warp: its lanes all have it. Volatile: other blocks may just have written them.
static __device__ inline double sum_of_chunks(const volatile double *partial, unsigned channel, unsigned chunks) {
    double sum = 0;
    for (unsigned s = threadIdx.x % 32; s < chunks; s += 32) sum += partial[(size_t)channel * chunks + s];
    return warp_sum(sum);
}

// out[c] = the mean of |dY| over batch and pixels. One warp a channel.
extern "C" __global__ void channel_importance(const double *partial, double *out, unsigned channels, unsigned count,
                                              unsigned chunks) {
    const unsigned c = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (c >= channels) return;
    const double sum = sum_of_chunks(partial, c, chunks);
    if (threadIdx.x % 32 == 0) out[c] = sum / (count > 0 ? count : 1);
}

// db[kept[slot]] += the sum of dY's channel `slot` over batch and pixels; without `kept` db[slot]. Channels from `slots`
// on have no place in db. The last block of a channel to get done adds up what all of them have written to `partial`,
// in the chunks' order; `done` counts them, from 0, and is left so.
extern "C" __global__ void channel_bias(const float *dy, double *partial, unsigned *done, const unsigned *kept,
                                        float *db, unsigned channels, unsigned plane, unsigned count, unsigned chunk,
                                        unsigned slots) {
    __shared__ bool is_last;
    const Task task = task_of(count, chunk);
    const unsigned slot = task.channel, chunks = (count + chunk - 1) / chunk;
    BY_FOUR(sums, task, dy, partial, channels, plane, 0);
    if (threadIdx.x == 0) {
        __threadfence(); // the sum is there before it counts
        is_last = atomicAdd(done + slot, 1u) == chunks - 1;
    }
    __syncthreads();
    if (!is_last || threadIdx.x >= 32) return;
    __threadfence();
    const double sum = sum_of_chunks(partial, slot, chunks);
    if (threadIdx.x > 0) return;
    done[slot] = 0;
    if (slot < slots) db[kept ? kept[slot] : slot] += (float)sum;
}

// shrunk (batch, slots, pixels) = the `count` channels `kept` of dY, and zeros in further slots; n elements
extern "C" __global__ void gather_channels(const float *dy, const unsigned *kept, float *shrunk, unsigned n, unsigned channels, unsigned count, unsigned slots, unsigned pixels) {
    FOR_EACH(i, n) {
        const unsigned pixel = i % pixels, slot = i / pixels % slots, b = i / pixels / slots;
        shrunk[i] = slot < count ? dy[((size_t)b * channels + kept[slot]) * pixels + pixel] : 0;
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
