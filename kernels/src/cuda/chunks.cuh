// The channels of images (B, C, HW) by chunks.
//
// The `count` = B HW elements of a channel are cut into chunks, and a block takes one: the first blocks those of the
// first channel. What a block sums up goes to its place in `partial`.
#pragma once
#include "common.cuh"

// What a block does.
struct Task {
    unsigned channel, begin, end;
};

static __device__ inline Task task_of(unsigned count, unsigned chunk) {
    const unsigned chunks = (count + chunk - 1) / chunk, begin = blockIdx.x % chunks * chunk;
    return {blockIdx.x / chunks, begin, min(begin + chunk, count)};
}

// Where element n of a channel lies.
static __device__ inline size_t place(unsigned n, unsigned channel, unsigned channels, unsigned plane) {
    return ((size_t)(n / plane) * channels + channel) * plane + n % plane;
}

// V elements of a plane, read and written as one. With V = 4 planes have a multiple of four elements, and chunks too.
template <int V> struct Elements {
    float at[V];
};
template <int V> static __device__ inline Elements<V> read(const float *from) {
    Elements<V> values;
    if constexpr (V == 4) {
        const float4 four = *(const float4 *)from;
        values.at[0] = four.x, values.at[1] = four.y, values.at[2] = four.z, values.at[3] = four.w;
    } else
        values.at[0] = *from;
    return values;
}
template <int V> static __device__ inline void write(float *to, const Elements<V> &values) {
    if constexpr (V == 4) *(float4 *)to = make_float4(values.at[0], values.at[1], values.at[2], values.at[3]);
    else *to = values.at[0];
}

// Loops over the task's elements, V at a time, i being where they lie.
#define FOR_EACH_OF_TASK(i)                                                                                            \
    for (unsigned n_ = task.begin + V * threadIdx.x; n_ < task.end; n_ += V * blockDim.x)                              \
        if (const size_t i = place(n_, task.channel, channels, plane); true)
// Calls f<4> or f<1>.
#define BY_FOUR(f, ...)                                                                                                \
    do {                                                                                                               \
        if (plane % 4 == 0) f<4>(__VA_ARGS__);                                                                         \
        else f<1>(__VA_ARGS__);                                                                                        \
    } while (0)
