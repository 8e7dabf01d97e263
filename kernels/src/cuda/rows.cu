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

// y (rows, length) = bias (length) in every row
extern "C" __global__ void bias_rows(const float *bias, float *y, unsigned n, unsigned length) {
    FOR_EACH(i, n) y[i] = bias[i % length];
}

extern "C" __global__ void zero(float *to, unsigned n) {
    FOR_EACH(i, n) to[i] = 0;
}
