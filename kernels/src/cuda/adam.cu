// A step of Adam on n weights w, their moments m and v and their gradient g, and the moving average of
// weights. The numbers that are the same for all weights come in f64.
#include "common.cuh"

#define NO_DECAY 0
#define L2_DECAY 1
#define DECOUPLED_DECAY 2

template <typename T>
static __device__ void adam(T *w, T *m, T *v, T *g, unsigned n, double one_minus_beta1, double beta2, double one_minus_beta2, double step_size, double inv_sqrt_correction2, double eps, int decay_kind, double decay, double grad_scale, int zero_grad, int lazy) {
    FOR_EACH(i, n) {
        if (lazy && g[i] == 0) continue;
        T weight = w[i], grad = (T)grad_scale * g[i];
        if (decay_kind == L2_DECAY) grad += (T)decay * weight;
        if (decay_kind == DECOUPLED_DECAY) weight *= (T)decay; // 1 - lr decay
        const T mean = m[i] + (T)one_minus_beta1 * (grad - m[i]);
        const T square = v[i] * (T)beta2 + (T)one_minus_beta2 * (grad * grad);
        m[i] = mean;
        v[i] = square;
        w[i] = weight - (T)step_size * mean / (sqrt(square) * (T)inv_sqrt_correction2 + (T)eps);
        if (zero_grad) g[i] = 0;
    }
}

#define ADAM(T, name)                                                                              \
    extern "C" __global__ void name(T *w, T *m, T *v, T *g, unsigned n, double one_minus_beta1, double beta2, double one_minus_beta2, double step_size, double inv_sqrt_correction2, double eps, int decay_kind, double decay, double grad_scale, int zero_grad, int lazy) { \
        adam(w, m, v, g, n, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_correction2, eps, decay_kind, decay, grad_scale, zero_grad, lazy); \
    }
ADAM(float, adam_step_f32)
ADAM(double, adam_step_f64)

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
