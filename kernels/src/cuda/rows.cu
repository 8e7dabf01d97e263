// Rows of matrices: the rows of a weight that belong to kept channels.
#include "common.cuh"

// to (count, length) = the rows `kept` of from; n elements
extern "C" __global__ void gather_rows(const float *from, const unsigned *kept, float *to, unsigned n, unsigned length) {
    FOR_EACH(i, n) to[i] = from[(size_t)kept[i / length] * length + i % length];
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
