// The sum of images (B, C, HW) and a vector for each position, (HW, C).
#include "common.cuh"

extern "C" __global__ void position_embedding_forward(const float *x, const float *embedding, float *y, unsigned n,
                                                      unsigned channels, unsigned plane) {
    FOR_EACH(i, n) y[i] = x[i] + embedding[(size_t)(i % plane) * channels + i / plane % channels];
}

// One thread an element of the embedding: adds dy of all images, in their order.
extern "C" __global__ void position_embedding_backward(const float *dy, float *gradient, unsigned batch,
                                                       unsigned channels, unsigned plane) {
    const unsigned image = channels * plane;
    FOR_EACH(i, image) {
        double sum = 0;
        for (unsigned b = 0; b < batch; b++) sum += dy[(size_t)b * image + i];
        gradient[(size_t)(i % plane) * channels + i / plane] += (float)sum;
    }
}
