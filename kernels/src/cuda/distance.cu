// The mean of |x - target| (squared = 0) or (x - target)^2 over n elements. Sums in f64.
#include "common.cuh"

// Each block writes its sum; their number does not depend on the GPU.
extern "C" __global__ void distance_sums(const float *x, const float *target, double *sums, unsigned n, int squared) {
    double sum = 0;
    FOR_EACH(i, n) {
        const float d = x[i] - target[i];
        sum += squared ? d * d : fabsf(d);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block: y[0] = the sum of `blocks` sums / n
extern "C" __global__ void distance_mean(const double *sums, float *y, unsigned blocks, unsigned n) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[0] = (float)(sum / (n > 0 ? n : 1));
}

// dx (+)= dy[0] / n times the derivative, which is 0 where there is none
extern "C" __global__ void distance_backward(const float *x, const float *target, const float *dy, float *dx, unsigned n, int squared, int add) {
    const float factor = (float)((double)dy[0] / n);
    FOR_EACH(i, n) {
        const float d = x[i] - target[i];
        const float slope = squared ? d + d : d > 0 ? 1 : d < 0 ? -1 : d;
        put(dx + i, slope * factor, add);
    }
}
