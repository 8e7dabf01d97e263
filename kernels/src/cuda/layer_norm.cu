// Layer normalisation over the channels of each position of images (B, C, HW).
//
// A thread takes a position of an image, one of B HW: neighbouring threads read neighbouring elements. What is
// summed over the positions takes a block a channel.
#include "common.cuh"

// Mean and 1 / sqrt(var + eps) of each position, and y = weight (x - mean) inv_std + bias.
extern "C" __global__ void layer_norm_forward(const float *x, const float *weight, const float *bias, float *y,
                                              float *mean, float *inv_std, unsigned positions, unsigned channels,
                                              unsigned plane, double eps) {
    FOR_EACH(i, positions) {
        const size_t first = (size_t)(i / plane) * channels * plane + i % plane;
        double sum = 0, squares = 0;
        for (unsigned c = 0; c < channels; c++) sum += x[first + (size_t)c * plane];
        const float m = (float)(sum / channels);
        for (unsigned c = 0; c < channels; c++) {
            const double centred = x[first + (size_t)c * plane] - m;
            squares += centred * centred;
        }
        const float inv = (float)(1 / sqrt(squares / channels + eps));
        for (unsigned c = 0; c < channels; c++) {
            const size_t at = first + (size_t)c * plane;
            y[at] = (x[at] - m) * inv * weight[c] + bias[c];
        }
        mean[i] = m;
        inv_std[i] = inv;
    }
}

// dx (+)= inv_std (dz - level - xhat slope), with dz = weight dy and level and slope the means of dz and of
// dz xhat over the channels.
extern "C" __global__ void layer_norm_backward_dx(const float *x, const float *dy, const float *weight,
                                                  const float *mean, const float *inv_std, float *dx,
                                                  unsigned positions, unsigned channels, unsigned plane, int add) {
    FOR_EACH(i, positions) {
        const size_t first = (size_t)(i / plane) * channels * plane + i % plane;
        const float m = mean[i], inv = inv_std[i];
        double sum_dz = 0, sum_dz_x = 0;
        for (unsigned c = 0; c < channels; c++) {
            const size_t at = first + (size_t)c * plane;
            const float dz = dy[at] * weight[c];
            sum_dz += dz;
            sum_dz_x += dz * ((x[at] - m) * inv);
        }
        const float level = (float)(sum_dz / channels), slope = (float)(sum_dz_x / channels);
        for (unsigned c = 0; c < channels; c++) {
            const size_t at = first + (size_t)c * plane;
            put(dx + at, inv * (dy[at] * weight[c] - level - (x[at] - m) * inv * slope), add);
        }
    }
}

// One block a channel: += the sums of dy xhat and of dy.
extern "C" __global__ void layer_norm_backward_params(const float *x, const float *dy, const float *mean,
                                                      const float *inv_std, float *dweight, float *dbias,
                                                      unsigned positions, unsigned channels, unsigned plane) {
    const unsigned c = blockIdx.x;
    double sum_dy = 0, sum_dy_x = 0;
    for (unsigned i = threadIdx.x; i < positions; i += blockDim.x) {
        const size_t at = ((size_t)(i / plane) * channels + c) * plane + i % plane;
        sum_dy += dy[at];
        sum_dy_x += dy[at] * ((x[at] - mean[i]) * inv_std[i]);
    }
    sum_dy = block_sum(sum_dy);
    sum_dy_x = block_sum(sum_dy_x);
    if (threadIdx.x == 0) {
        dbias[c] += (float)sum_dy;
        dweight[c] += (float)sum_dy_x;
    }
}
