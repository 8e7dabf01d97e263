// Images side by side in their channels: x's `part` elements of an image lie at `begin` of the `whole`
// elements of an image of y.
#include "common.cuh"

extern "C" __global__ void concat_forward(const float *x, float *y, unsigned n, unsigned part, unsigned whole, unsigned begin) {
    FOR_EACH(i, n) y[i / part * whole + begin + i % part] = x[i];
}

// dx (+)= its part of dy
extern "C" __global__ void concat_backward(const float *dy, float *dx, unsigned n, unsigned part, unsigned whole, unsigned begin, int add) {
    FOR_EACH(i, n) put(dx + i, dy[i / part * whole + begin + i % part], add);
}
