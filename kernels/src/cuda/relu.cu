// y = max(x, 0), element by element.
#include "common.cuh"

extern "C" __global__ void relu_forward(const float *x, float *y, unsigned n) {
    FOR_EACH(i, n) y[i] = relu(x[i]);
}

// dx (+)= dy where y > 0
extern "C" __global__ void relu_backward(const float *y, const float *dy, float *dx, unsigned n, int add) {
    FOR_EACH(i, n) put(dx + i, relu_grad(y[i], dy[i]), add);
}
