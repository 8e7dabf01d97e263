// The norm of n elements of a gradient, and clipping. Sums in f64.
#include "common.cuh"

// Each block writes its sum; their number does not depend on the GPU.
template <typename T> static __device__ void sum_squares(const T *g, double *sums, unsigned n) {
    double sum = 0;
    FOR_EACH(i, n) sum += (double)g[i] * (double)g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
extern "C" __global__ void square_sums_f32(const float *g, double *sums, unsigned n) {
    sum_squares(g, sums, n);
}
extern "C" __global__ void square_sums_f64(const double *g, double *sums, unsigned n) {
    sum_squares(g, sums, n);
}

// One block: to[0] = the sum of `count` sums
extern "C" __global__ void sum_of_sums(const double *sums, double *to, unsigned count) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) to[0] = sum;
}

// g = factor g
extern "C" __global__ void scale_f32(float *g, unsigned n, double factor) {
    FOR_EACH(i, n) g[i] *= (float)factor;
}
extern "C" __global__ void scale_f64(double *g, unsigned n, double factor) {
    FOR_EACH(i, n) g[i] *= factor;
}

// g in -limit..limit. NaN stays NaN.
template <typename T> static __device__ void clamp(T *g, unsigned n, T limit) {
    FOR_EACH(i, n) g[i] = g[i] > limit ? limit : g[i] < -limit ? -limit : g[i];
}
extern "C" __global__ void clamp_f32(float *g, unsigned n, double limit) {
    clamp(g, n, (float)limit);
}
extern "C" __global__ void clamp_f64(double *g, unsigned n, double limit) {
    clamp(g, n, limit);
}
