// Images of twice the height and width. `width` is the small image's; n counts the elements written.
#include "common.cuh"

extern "C" __global__ void upsample_forward(const float *x, float *y, unsigned n, unsigned width) {
    FOR_EACH(i, n) {
        // Rows of all images follow each other, so that two rows of y are one of x.
        const unsigned row = i / (2 * width), column = i % (2 * width);
        y[i] = x[row / 2 * width + column / 2];
    }
}

// dx (+)= the sum of its four pixels of dy
extern "C" __global__ void upsample_backward(const float *dy, float *dx, unsigned n, unsigned width, int add) {
    FOR_EACH(i, n) {
        const float *square = dy + i / width * 4 * width + i % width * 2;
        put(dx + i, (square[0] + square[1]) + (square[2 * width] + square[2 * width + 1]), add);
    }
}
