// Pooling of planes (H, W) by square windows. One block a plane, where nothing else is said.
//
// Sizes are less than 2^31, and `int` here: a window may begin on the padding, before the image.
//
// Backward, each thread gathers what one element of dx gets, in the order of the windows: no two threads add
// to one place, and every run gives the same bits.
#include "common.cuh"

// The window's maximum, and if `argmax` is not null the number of the tap that met it, kh * K + kw. The first
// of equal ones; NaN counts as larger than any number; padding never is the maximum.
extern "C" __global__ void max_pool_forward(const float *x, float *y, float *argmax, int kernel, int stride,
                                                int padding, int height, int width, int out_height,
                                                int out_width) {
    const int outputs = out_height * out_width;
    x += (size_t)blockIdx.x * height * width;
    const size_t first = (size_t)blockIdx.x * outputs;
    for (int o = threadIdx.x; o < outputs; o += blockDim.x) {
        const int top = o / out_width * stride - padding, left = o % out_width * stride - padding;
        float best = -INFINITY;
        // A window of nothing but -inf has its first element as its maximum.
        int tap = max(-top, 0) * kernel + max(-left, 0);
        for (int kh = 0; kh < kernel; kh++) {
            const int h = top + kh;
            if (h < 0 || h >= height) continue;
            for (int kw = 0; kw < kernel; kw++) {
                const int w = left + kw;
                if (w < 0 || w >= width) continue;
                const float v = x[h * width + w];
                if (v > best || v != v) best = v, tap = kh * kernel + kw;
            }
        }
        y[first + o] = best;
        if (argmax) argmax[first + o] = (float)tap;
    }
}

// The windows (along one axis) that cover element i: from `begin` to before `end`.
static __device__ inline int begin_window(int i, int kernel, int stride, int padding) {
    return max(i + padding - kernel + stride, 0) / stride;
}
static __device__ inline int end_window(int i, int stride, int padding, int outputs) {
    return min((i + padding) / stride + 1, outputs);
}

// dx (+)= dy of those windows whose maximum the element was.
extern "C" __global__ void max_pool_backward(const float *argmax, const float *dy, float *dx, int kernel,
                                                 int stride, int padding, int height, int width, int out_height,
                                                 int out_width, int add) {
    const size_t first = (size_t)blockIdx.x * out_height * out_width;
    dx += (size_t)blockIdx.x * height * width;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) {
        const int h = i / width, w = i % width;
        const int end_h = end_window(h, stride, padding, out_height);
        const int end_w = end_window(w, stride, padding, out_width);
        float sum = add ? dx[i] : 0;
        for (int oh = begin_window(h, kernel, stride, padding); oh < end_h; oh++)
            for (int ow = begin_window(w, kernel, stride, padding); ow < end_w; ow++) {
                const int tap = (h + padding - oh * stride) * kernel + w + padding - ow * stride;
                const size_t o = first + (size_t)oh * out_width + ow;
                if ((int)argmax[o] == tap) sum += dy[o];
            }
        dx[i] = sum;
    }
}

// The window's mean; padding counts as zeros.
extern "C" __global__ void avg_pool_forward(const float *x, float *y, int kernel, int stride, int padding,
                                                int height, int width, int out_height, int out_width) {
    const int outputs = out_height * out_width;
    x += (size_t)blockIdx.x * height * width, y += (size_t)blockIdx.x * outputs;
    const float share = 1.0f / (kernel * kernel);
    for (int o = threadIdx.x; o < outputs; o += blockDim.x) {
        const int top = o / out_width * stride - padding, left = o % out_width * stride - padding;
        float sum = 0;
        for (int h = max(top, 0); h < min(top + kernel, height); h++)
            for (int w = max(left, 0); w < min(left + kernel, width); w++) sum += x[h * width + w];
        y[o] = sum * share;
    }
}

// dx (+)= the shares of all windows over the element.
extern "C" __global__ void avg_pool_backward(const float *dy, float *dx, int kernel, int stride,
                                                 int padding, int height, int width, int out_height,
                                                 int out_width, int add) {
    dy += (size_t)blockIdx.x * out_height * out_width;
    dx += (size_t)blockIdx.x * height * width;
    const float share = 1.0f / (kernel * kernel);
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) {
        const int h = i / width, w = i % width;
        const int end_h = end_window(h, stride, padding, out_height);
        const int end_w = end_window(w, stride, padding, out_width);
        float sum = add ? dx[i] : 0;
        for (int oh = begin_window(h, kernel, stride, padding); oh < end_h; oh++)
            for (int ow = begin_window(w, kernel, stride, padding); ow < end_w; ow++)
                sum += dy[oh * out_width + ow] * share;
        dx[i] = sum;
    }
}

// One warp a plane: its mean.
extern "C" __global__ void global_avg_pool_forward(const float *x, float *y, int planes, int plane) {
    const int p = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (p >= planes) return;
    double sum = 0;
    for (int i = threadIdx.x % 32; i < plane; i += 32) sum += x[(size_t)p * plane + i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) y[p] = (float)(sum / plane);
}

// One warp a plane: dx (+)= dy / plane
extern "C" __global__ void global_avg_pool_backward(const float *dy, float *dx, int planes, int plane,
                                                        int add) {
    const int p = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (p >= planes) return;
    const float share = dy[p] * (float)(1.0 / plane);
    dx += (size_t)p * plane;
    for (int i = threadIdx.x % 32; i < plane; i += 32) put(dx + i, share, add);
}
