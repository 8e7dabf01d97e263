// Steps of Adam on tensors of weights w, their moments m and v and their gradient g, many by one launch, and the
// moving average of weights. Numbers come in f64.
#include "common.cuh"

#define NO_DECAY 0
#define L2_DECAY 1
#define DECOUPLED_DECAY 2

// Elements that a block takes, and tensors of a launch (adam.rs).
#define CHUNK 4096
#define TENSORS 48

template <typename T> struct Tensor {
    T *w, *m, *v, *g;
    double step_size, inv_sqrt_correction2, decay;
    int decay_kind;
    unsigned len, first_block;
};
struct Common {
    double one_minus_beta1, beta2, one_minus_beta2, eps, grad_scale;
    int zero_grad, lazy;
};
template <typename T> struct Steps {
    Common common;
    Tensor<T> tensors[TENSORS];
    unsigned count;
};

template <typename T> static __device__ void adam(const Steps<T> &steps) {
    // The last tensor that begins at this block or before it: one without elements has no block.
    unsigned at = 0;
    while (at + 1 < steps.count && steps.tensors[at + 1].first_block <= blockIdx.x) at++;
    const Tensor<T> &t = steps.tensors[at];
    const Common &c = steps.common;
    T *const w = t.w, *const m = t.m, *const v = t.v, *const g = t.g;
    const T one_minus_beta1 = (T)c.one_minus_beta1, beta2 = (T)c.beta2, one_minus_beta2 = (T)c.one_minus_beta2;
    const T eps = (T)c.eps, grad_scale = (T)c.grad_scale, decay = (T)t.decay;
    const T step_size = (T)t.step_size, inv_sqrt_correction2 = (T)t.inv_sqrt_correction2;

    const unsigned begin = (blockIdx.x - t.first_block) * CHUNK, end = min(begin + CHUNK, t.len);
    for (unsigned i = begin + threadIdx.x; i < end; i += blockDim.x) {
        if (c.lazy && g[i] == 0) continue;
        T weight = w[i], grad = grad_scale * g[i];
        if (t.decay_kind == L2_DECAY) grad += decay * weight;
        if (t.decay_kind == DECOUPLED_DECAY) weight *= decay; // 1 - lr decay
        const T mean = m[i] + one_minus_beta1 * (grad - m[i]);
        const T square = v[i] * beta2 + one_minus_beta2 * (grad * grad);
        m[i] = mean;
        v[i] = square;
        w[i] = weight - step_size * mean / (sqrt(square) * inv_sqrt_correction2 + eps);
        if (c.zero_grad) g[i] = 0;
    }
}

extern "C" __global__ void adam_steps_f32(const __grid_constant__ Steps<float> steps) {
    adam(steps);
}
extern "C" __global__ void adam_steps_f64(const __grid_constant__ Steps<double> steps) {
    adam(steps);
}

// average += rate (w - average)
template <typename T> static __device__ void move_average(T *average, const T *w, unsigned n, double rate) {
    FOR_EACH(i, n) average[i] += (T)rate * (w[i] - average[i]);
}
extern "C" __global__ void ema_step_f32(float *average, const float *w, unsigned n, double rate) {
    move_average(average, w, n, rate);
}
extern "C" __global__ void ema_step_f64(double *average, const double *w, unsigned n, double rate) {
    move_average(average, w, n, rate);
}
