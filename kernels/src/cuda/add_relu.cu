// y = max(a + b, 0), element by element.
#include "common.cuh"

extern "C" __global__ void add_relu_forward(const float *a, const float *b, float *y, unsigned n) {
    FOR_EACH(i, n) y[i] = relu(a[i] + b[i]);
}

// dy = 0 where y is not above 0
extern "C" __global__ void add_relu_backward(const float *y, float *dy, unsigned n) {
    FOR_EACH(i, n) dy[i] = relu_grad(y[i], dy[i]);
}
