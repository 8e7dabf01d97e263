// y = a + b, element by element.
#include "common.cuh"

extern "C" __global__ void add_forward(const float *a, const float *b, float *y, unsigned n) {
    FOR_EACH(i, n) y[i] = a[i] + b[i];
}

// dx = dy, or dx += dy
extern "C" __global__ void add_backward(const float *dy, float *dx, unsigned n, int add) {
    FOR_EACH(i, n) put(dx + i, dy[i], add);
}
