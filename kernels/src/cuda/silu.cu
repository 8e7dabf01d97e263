// y = x sigmoid(x), element by element.
#include "common.cuh"

extern "C" __global__ void silu_forward(const float *x, float *y, unsigned n) {
    FOR_EACH(i, n) y[i] = silu(x[i]);
}

// dx (+)= dy (s + x s (1 - s)), s = sigmoid(x)
extern "C" __global__ void silu_backward(const float *x, const float *dy, float *dx, unsigned n, int add) {
    FOR_EACH(i, n) put(dx + i, silu_grad(x[i], dy[i]), add);
}
