// A step of SGD on n weights w, their momentum buffer (null without momentum) and their gradient g. The
// numbers that are the same for all weights come in f64.
#include "common.cuh"

template <typename T>
static __device__ void sgd(T *w, T *buffer, T *g, unsigned n, double lr, double momentum, double keep, double add, double decay, double grad_scale, int nesterov, int zero_grad) {
    FOR_EACH(i, n) {
        const T grad = (T)grad_scale * g[i] + (T)decay * w[i];
        T direction = grad;
        if (buffer) {
            buffer[i] = (T)keep * buffer[i] + (T)add * grad;
            direction = nesterov ? grad + (T)momentum * buffer[i] : buffer[i];
        }
        w[i] -= (T)lr * direction;
        if (zero_grad) g[i] = 0;
    }
}

#define SGD(T, name)                                                                               \
    extern "C" __global__ void name(T *w, T *buffer, T *g, unsigned n, double lr, double momentum, double keep, double add, double decay, double grad_scale, int nesterov, int zero_grad) { \
        sgd(w, buffer, g, n, lr, momentum, keep, add, decay, grad_scale, nesterov, zero_grad); \
    }
SGD(float, sgd_step_f32)
SGD(double, sgd_step_f64)
