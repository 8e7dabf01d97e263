// Batch normalisation of images (B, C, HW), with the residual sum and the ReLU behind it.
//
// The `count` = B HW elements of a channel are cut into chunks, and a block takes one: the first blocks those
// of the first channel. What a block sums up goes to its place in `partial`, and is added from there in the
// chunks' order, by one thread a channel.
#include "common.cuh"

// What a block does.
struct Task {
    unsigned channel, begin, end;
};

static __device__ inline Task task_of(unsigned count, unsigned chunk) {
    const unsigned chunks = (count + chunk - 1) / chunk, begin = blockIdx.x % chunks * chunk;
    return {blockIdx.x / chunks, begin, min(begin + chunk, count)};
}

// Where element n of a channel lies.
static __device__ inline size_t place(unsigned n, unsigned channel, unsigned channels, unsigned plane) {
    return ((size_t)(n / plane) * channels + channel) * plane + n % plane;
}

// What normalises a channel.
struct Norm {
    float mean, scale, bias;
};

static __device__ inline Norm norm_of(unsigned channel, const float *weight, const float *bias,
                                      const float *mean, const float *inv_std) {
    return {mean[channel], weight[channel] * inv_std[channel], bias[channel]};
}

// Forward and backward share this one expression, so that the mask computed again is the forward's to the bit.
static __device__ inline float affine(float x, Norm norm) {
    return fmaf(x - norm.mean, norm.scale, norm.bias);
}

// To `partial`, two numbers a chunk: the mean, and the sum of (x - mean)^2.
extern "C" __global__ void batch_norm_moments(const float *x, double *partial, unsigned channels, unsigned plane,
                                              unsigned count, unsigned chunk) {
    const Task task = task_of(count, chunk);
    double sum = 0;
    for (unsigned n = task.begin + threadIdx.x; n < task.end; n += blockDim.x)
        sum += x[place(n, task.channel, channels, plane)];
    const double mean = block_sum(sum) / (task.end - task.begin);

    double squares = 0;
    for (unsigned n = task.begin + threadIdx.x; n < task.end; n += blockDim.x) {
        const float d = x[place(n, task.channel, channels, plane)] - (float)mean;
        squares += d * d;
    }
    squares = block_sum(squares);

    if (threadIdx.x == 0) {
        partial[2 * (size_t)blockIdx.x] = mean;
        partial[2 * (size_t)blockIdx.x + 1] = squares;
    }
}

// One thread a channel: the chunks' moments together. The running statistics move towards them.
extern "C" __global__ void batch_norm_statistics(const double *partial, float *mean, float *inv_std,
                                                 float *running_mean, float *running_var, unsigned channels,
                                                 unsigned count, unsigned chunk, double eps, double momentum) {
    const unsigned chunks = (count + chunk - 1) / chunk;
    FOR_EACH(c, channels) {
        const double *moments = partial + 2 * (size_t)c * chunks;
        double sum = 0;
        for (unsigned s = 0; s < chunks; s++) sum += moments[2 * s] * min(chunk, count - s * chunk);
        const double batch_mean = sum / count;

        double squares = 0;
        for (unsigned s = 0; s < chunks; s++) {
            const double d = moments[2 * s] - batch_mean;
            squares += moments[2 * s + 1] + d * d * min(chunk, count - s * chunk);
        }

        mean[c] = (float)batch_mean;
        inv_std[c] = (float)(1 / sqrt(squares / count + eps));
        running_mean[c] = (float)(running_mean[c] * (1 - momentum) + batch_mean * momentum);
        running_var[c] = (float)(running_var[c] * (1 - momentum) + squares / (count - 1) * momentum);
    }
}

// 1 / sqrt(var + eps) of each channel.
extern "C" __global__ void batch_norm_inv_std(const float *var, float *inv_std, unsigned channels, double eps) {
    FOR_EACH(c, channels) inv_std[c] = (float)(1 / sqrt(var[c] + eps));
}

// y = f(affine(x) + residual); `residual` may be null.
extern "C" __global__ void batch_norm_forward(const float *x, const float *residual, const float *weight,
                                              const float *bias, const float *mean, const float *inv_std,
                                              float *y, unsigned channels, unsigned plane, unsigned count,
                                              unsigned chunk, int with_relu) {
    const Task task = task_of(count, chunk);
    const Norm norm = norm_of(task.channel, weight, bias, mean, inv_std);
    for (unsigned n = task.begin + threadIdx.x; n < task.end; n += blockDim.x) {
        const size_t i = place(n, task.channel, channels, plane);
        float z = affine(x[i], norm);
        if (residual) z += residual[i];
        y[i] = with_relu ? relu(z) : z;
    }
}

// To `partial`, two numbers a chunk: the sums of dz and of dz (x - mean), z being what the ReLU is applied to.
// The ReLU's mask is from its output y, and then dy becomes dz; or it is computed again, if y is null.
extern "C" __global__ void batch_norm_backward_sums(const float *x, const float *y, float *dy,
                                                    const float *weight, const float *bias, const float *mean,
                                                    const float *inv_std, double *partial, unsigned channels,
                                                    unsigned plane, unsigned count, unsigned chunk,
                                                    int with_relu) {
    const Task task = task_of(count, chunk);
    const Norm norm = norm_of(task.channel, weight, bias, mean, inv_std);
    double sum_dz = 0, sum_dz_x = 0;
    for (unsigned n = task.begin + threadIdx.x; n < task.end; n += blockDim.x) {
        const size_t i = place(n, task.channel, channels, plane);
        float dz = dy[i];
        if (with_relu) dz = relu_grad(y ? y[i] : affine(x[i], norm), dz);
        if (with_relu && y) dy[i] = dz;
        sum_dz += dz;
        sum_dz_x += dz * (x[i] - norm.mean);
    }
    sum_dz = block_sum(sum_dz);
    sum_dz_x = block_sum(sum_dz_x);

    if (threadIdx.x == 0) {
        partial[2 * (size_t)blockIdx.x] = sum_dz;
        partial[2 * (size_t)blockIdx.x + 1] = sum_dz_x;
    }
}

// One thread a channel: the gradients of weight and bias, and to `correction` two numbers that dx is corrected
// by, the mean of dz and the slope over x - mean: zeros, where mean and variance are constants.
extern "C" __global__ void batch_norm_backward_params(const double *partial, const float *inv_std,
                                                      float *dweight, float *dbias, double *correction,
                                                      unsigned channels, unsigned count, unsigned chunk,
                                                      int of_the_batch) {
    const unsigned chunks = (count + chunk - 1) / chunk;
    FOR_EACH(c, channels) {
        const double *sums = partial + 2 * (size_t)c * chunks;
        double sum_dz = 0, sum_dz_x = 0;
        for (unsigned s = 0; s < chunks; s++) {
            sum_dz += sums[2 * s];
            sum_dz_x += sums[2 * s + 1];
        }
        const double inv = inv_std[c];
        dbias[c] = (float)sum_dz;
        dweight[c] = (float)(sum_dz_x * inv);
        correction[2 * c] = of_the_batch ? sum_dz / count : 0;
        correction[2 * c + 1] = of_the_batch ? sum_dz_x * inv * inv / count : 0;
    }
}

// dx (+)= scale (dz - mean dz - (x - mean) slope), and the sum of |dx| to `partial`, if that is not null, one
// number a chunk. `masked`: dy is dz. dx may be dy itself.
extern "C" __global__ void batch_norm_backward_dx(const float *x, const float *dy, float *dx,
                                                  const float *weight, const float *bias, const float *mean,
                                                  const float *inv_std, const double *correction,
                                                  double *partial, unsigned channels, unsigned plane,
                                                  unsigned count, unsigned chunk, int masked, int add) {
    const Task task = task_of(count, chunk);
    const Norm norm = norm_of(task.channel, weight, bias, mean, inv_std);
    const float mean_dz = (float)correction[2 * task.channel], slope = (float)correction[2 * task.channel + 1];
    double sum = 0;
    for (unsigned n = task.begin + threadIdx.x; n < task.end; n += blockDim.x) {
        const size_t i = place(n, task.channel, channels, plane);
        const float dz = masked ? dy[i] : relu_grad(affine(x[i], norm), dy[i]);
        put(dx + i, norm.scale * (dz - mean_dz - (x[i] - norm.mean) * slope), add);
        sum += fabsf(dx[i]);
    }
    if (!partial) return;
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One thread a channel: the mean of |dx|.
extern "C" __global__ void batch_norm_importance(const double *partial, double *importance, unsigned channels,
                                                 unsigned count, unsigned chunk) {
    const unsigned chunks = (count + chunk - 1) / chunk;
    FOR_EACH(c, channels) {
        double sum = 0;
        for (unsigned s = 0; s < chunks; s++) sum += partial[(size_t)c * chunks + s];
        importance[c] = sum / (count > 0 ? count : 1);
    }
}
