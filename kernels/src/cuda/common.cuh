// What the kernels share. A file is compiled by nvcc, and by g++ through tools/cuda-emulator/shim.h.
#pragma once

// Every thread takes some of n elements, n < 2^31.
#define FOR_EACH(i, n)                                                                             \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)

// Adds to a gradient, or overwrites it.
static __device__ inline void put(float *to, float value, int add) {
    *to = add ? *to + value : value;
}

// max(v, 0), and the gradient that it lets through where it gave y. Both keep NaN.
static __device__ inline float relu(float v) {
    return v <= 0 ? 0 : v;
}
static __device__ inline float relu_grad(float y, float dy) {
    return y <= 0 ? 0 : dy;
}

static __device__ inline float sigmoid(float v) {
    return 1 / (1 + expf(-v));
}

// v sigmoid(v), and dy times its derivative at v.
static __device__ inline float silu(float v) {
    return v * sigmoid(v);
}
static __device__ inline float silu_grad(float v, float dy) {
    const float s = sigmoid(v);
    return dy * (s + v * s * (1 - s));
}

// The sum of a warp's values, for each of its 32 lanes. Always in one order.
template <typename T> static __device__ T warp_sum(T value) {
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

// The sum of the block's values, for every thread; blockDim.x is a multiple of 32. Always in one order.
template <typename T> static __device__ T block_sum(T value) {
    __shared__ T of_warp[32];
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    T sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; warp++) sum += of_warp[warp];
    __syncthreads(); // the next sum overwrites of_warp
    return sum;
}
