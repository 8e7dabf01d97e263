// The softmax between the matrix products of self-attention, which are cuBLAS's.
//
// For each head S = qT k is a matrix (N, N) with a row for every query. Its scores are S times `scale`, which is
// 1 / sqrt(d). A head's `statistics` are 2 N numbers: each row's largest score, and 1 over the sum of the
// exponentials of its scores less that. One warp takes a row.
#include "common.cuh"

static __device__ inline float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

// S, in `weights`, becomes P, the softmax of its rows' scores.
extern "C" __global__ void attention_softmax(float *weights, float *statistics, unsigned rows, unsigned n,
                                             float scale) {
    const unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    weights += (size_t)row * n;

    float largest = -INFINITY;
    for (unsigned s = lane; s < n; s += 32) largest = fmaxf(largest, weights[s] * scale);
    largest = warp_max(largest);

    double sum = 0;
    for (unsigned s = lane; s < n; s += 32) {
        weights[s] = expf(weights[s] * scale - largest);
        sum += weights[s];
    }
    const float inverse = (float)(1 / warp_sum(sum));

    for (unsigned s = lane; s < n; s += 32) weights[s] *= inverse;
    if (lane == 0) {
        statistics += (size_t)(row / n) * 2 * n + row % n;
        statistics[0] = largest;
        statistics[n] = inverse;
    }
}

// S, in `weights`, becomes P again. P's gradient dP, in `gradient`, becomes that of S: P (dP - sum(P dP)) scale.
// Where a weight is almost 1 the difference is small beside both: it is taken in double.
extern "C" __global__ void attention_softmax_backward(float *weights, float *gradient, const float *statistics,
                                                      unsigned rows, unsigned n, float scale) {
    const unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    weights += (size_t)row * n;
    gradient += (size_t)row * n;
    statistics += (size_t)(row / n) * 2 * n + row % n;
    const float largest = statistics[0], inverse = statistics[n];

    double sum = 0;
    for (unsigned s = lane; s < n; s += 32) {
        weights[s] = expf(weights[s] * scale - largest) * inverse;
        sum += (double)weights[s] * gradient[s];
    }
    const double mean = warp_sum(sum);

    for (unsigned s = lane; s < n; s += 32) gradient[s] = weights[s] * (float)(gradient[s] - mean) * scale;
}
