// The cross entropy of classes: the mean over rows of -sum target ln(softmax(x)), x (rows, classes). One warp a
// row, in f64: there are few elements.
#include "common.cuh"

static __device__ inline unsigned warp_of_grid() {
    return (blockIdx.x * blockDim.x + threadIdx.x) / 32;
}

// ln(sum e^x) of a row, for every lane.
static __device__ double log_sum_exp(const float *x, unsigned classes) {
    const unsigned lane = threadIdx.x % 32;
    float largest = -INFINITY;
    for (unsigned c = lane; c < classes; c += 32) largest = fmaxf(largest, x[c]);
    for (int distance = 16; distance > 0; distance /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    double sum = 0;
    for (unsigned c = lane; c < classes; c += 32) sum += exp((double)x[c] - largest);
    return largest + log(warp_sum(sum));
}

// losses[r] = the loss of a row
extern "C" __global__ void cross_entropy_rows(const float *x, const float *target, double *losses, unsigned rows, unsigned classes) {
    const unsigned r = warp_of_grid();
    if (r >= rows) return;
    const float *row = x + (size_t)r * classes, *goal = target + (size_t)r * classes;
    const double log_sum = log_sum_exp(row, classes);
    double sum = 0;
    for (unsigned c = threadIdx.x % 32; c < classes; c += 32) sum += goal[c] * (log_sum - row[c]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) losses[r] = sum;
}

// One block: y[0] = the mean of the rows' losses
extern "C" __global__ void cross_entropy_mean(const double *losses, float *y, unsigned rows) {
    double sum = 0;
    for (unsigned r = threadIdx.x; r < rows; r += blockDim.x) sum += losses[r];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[0] = (float)(sum / (rows > 0 ? rows : 1));
}

// dx (+)= dy[0] / rows (softmax(x) sum target - target)
extern "C" __global__ void cross_entropy_backward(const float *x, const float *target, const float *dy, float *dx, unsigned rows, unsigned classes, int add) {
    const unsigned r = warp_of_grid(), lane = threadIdx.x % 32;
    if (r >= rows) return;
    const float *row = x + (size_t)r * classes, *goal = target + (size_t)r * classes;
    const double log_sum = log_sum_exp(row, classes), factor = (double)dy[0] / rows;
    double total = 0;
    for (unsigned c = lane; c < classes; c += 32) total += goal[c];
    total = warp_sum(total);
    for (unsigned c = lane; c < classes; c += 32)
        put(dx + (size_t)r * classes + c, (float)(factor * (exp(row[c] - log_sum) * total - goal[c])), add);
}
