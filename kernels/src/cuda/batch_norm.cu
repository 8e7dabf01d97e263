// Batch normalisation of images (B, C, HW), with the residual sum and the ReLU behind it, by chunks of channels. What
// needs the sums of a channel adds them up from its chunks' ones, in every block that takes a chunk of it, always in one
// order.
#include "chunks.cuh"

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

// One pass: sums of d and d^2 of the distances d to a value amid the elements, the mean of the first ones.
template <int V>
static __device__ inline void moments(Task task, const float *x, double *partial, unsigned channels, unsigned plane) {
    const unsigned first = task.begin + V * threadIdx.x;
    const float own = first < task.end ? x[place(first, task.channel, channels, plane)] : 0;
    const unsigned count = task.end - task.begin, firsts = min((count + V - 1) / V, blockDim.x);
    const float amid = block_sum(own) / firsts;
    double sum = 0, squares = 0;
    FOR_EACH_OF_TASK(i) {
        const Elements<V> values = read<V>(x + i);
        for (int v = 0; v < V; v++) {
            const float d = values.at[v] - amid;
            sum += d;
            squares += d * d;
        }
    }
    sum = block_sum(sum);
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        partial[2 * (size_t)blockIdx.x] = amid + sum / count;
        partial[2 * (size_t)blockIdx.x + 1] = squares - sum * sum / count;
    }
}

// To `partial`, two numbers a chunk: the mean, and the sum of (x - mean)^2.
extern "C" __global__ void batch_norm_moments(const float *x, double *partial, unsigned channels, unsigned plane,
                                              unsigned count, unsigned chunk) {
    BY_FOUR(moments, task_of(count, chunk), x, partial, channels, plane);
}

// 1 / sqrt(var + eps) of each channel.
extern "C" __global__ void batch_norm_inv_std(const float *var, float *inv_std, unsigned channels, double eps) {
    FOR_EACH(c, channels) inv_std[c] = (float)(1 / sqrt(var[c] + eps));
}

// y = f(affine(x) + residual); `residual` may be null.
template <int V>
static __device__ inline void normalise(Task task, Norm norm, const float *x, const float *residual, float *y,
                                        unsigned channels, unsigned plane, int with_relu) {
    FOR_EACH_OF_TASK(i) {
        Elements<V> values = read<V>(x + i), added{};
        if (residual) added = read<V>(residual + i);
        for (int v = 0; v < V; v++) {
            const float z = affine(values.at[v], norm) + added.at[v];
            values.at[v] = with_relu ? relu(z) : z;
        }
        write<V>(y + i, values);
    }
}

// By the given mean and 1 / sqrt(var + eps).
extern "C" __global__ void batch_norm_forward(const float *x, const float *residual, const float *weight,
                                              const float *bias, const float *mean, const float *inv_std,
                                              float *y, unsigned channels, unsigned plane, unsigned count,
                                              unsigned chunk, int with_relu) {
    const Task task = task_of(count, chunk);
    const Norm norm = norm_of(task.channel, weight, bias, mean, inv_std);
    BY_FOUR(normalise, task, norm, x, residual, y, channels, plane, with_relu);
}

// By the batch's, which come from the chunks' moments. The block of a channel's first chunk writes them, and the
// running statistics move towards them.
extern "C" __global__ void batch_norm_train(const double *partial, const float *x, const float *residual,
                                            const float *weight, const float *bias, float *mean, float *inv_std,
                                            float *running_mean, float *running_var, float *y, unsigned channels,
                                            unsigned plane, unsigned count, unsigned chunk, double eps,
                                            double momentum, int with_relu) {
    const Task task = task_of(count, chunk);
    const unsigned chunks = (count + chunk - 1) / chunk, c = task.channel;
    const double *moments = partial + 2 * (size_t)c * chunks;
    double sum = 0;
    for (unsigned s = threadIdx.x; s < chunks; s += blockDim.x)
        sum += moments[2 * s] * min(chunk, count - s * chunk);
    const double batch_mean = block_sum(sum) / count;

    double squares = 0;
    for (unsigned s = threadIdx.x; s < chunks; s += blockDim.x) {
        const double d = moments[2 * s] - batch_mean;
        squares += moments[2 * s + 1] + d * d * min(chunk, count - s * chunk);
    }
    squares = block_sum(squares);

    const float m = (float)batch_mean, inv = (float)(1 / sqrt(squares / count + eps));
    if (task.begin == 0 && threadIdx.x == 0) {
        mean[c] = m;
        inv_std[c] = inv;
        running_mean[c] = (float)(running_mean[c] * (1 - momentum) + batch_mean * momentum);
        running_var[c] = (float)(running_var[c] * (1 - momentum) + squares / (count - 1) * momentum);
    }
    const Norm norm = {m, weight[c] * inv, bias[c]};
    BY_FOUR(normalise, task, norm, x, residual, y, channels, plane, with_relu);
}

template <int V>
static __device__ inline void backward_sums(Task task, Norm norm, const float *x, const float *y, float *dy,
                                            double *partial, unsigned channels, unsigned plane, int with_relu) {
    double sum_dz = 0, sum_dz_x = 0;
    FOR_EACH_OF_TASK(i) {
        const Elements<V> values = read<V>(x + i);
        Elements<V> dz = read<V>(dy + i), outputs{};
        if (with_relu && y) outputs = read<V>(y + i);
        for (int v = 0; v < V; v++) {
            if (with_relu) dz.at[v] = relu_grad(y ? outputs.at[v] : affine(values.at[v], norm), dz.at[v]);
            sum_dz += dz.at[v];
            sum_dz_x += dz.at[v] * (values.at[v] - norm.mean);
        }
        if (with_relu && y) write<V>(dy + i, dz);
    }
    sum_dz = block_sum(sum_dz);
    sum_dz_x = block_sum(sum_dz_x);
    if (threadIdx.x == 0) {
        partial[2 * (size_t)blockIdx.x] = sum_dz;
        partial[2 * (size_t)blockIdx.x + 1] = sum_dz_x;
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
    BY_FOUR(backward_sums, task, norm, x, y, dy, partial, channels, plane, with_relu);
}

// What dx is corrected by.
struct Correction {
    float mean_dz, slope;
};

template <int V>
static __device__ inline void backward_dx(Task task, Norm norm, Correction correction, const float *x, const float *dy,
                                          float *dx, double *magnitudes, unsigned channels, unsigned plane, int masked,
                                          int add) {
    double sum = 0;
    FOR_EACH_OF_TASK(i) {
        const Elements<V> values = read<V>(x + i), outer = read<V>(dy + i);
        Elements<V> result{};
        if (add) result = read<V>(dx + i);
        for (int v = 0; v < V; v++) {
            const float dz = masked ? outer.at[v] : relu_grad(affine(values.at[v], norm), outer.at[v]);
            result.at[v] += norm.scale * (dz - correction.mean_dz - (values.at[v] - norm.mean) * correction.slope);
            sum += fabsf(result.at[v]);
        }
        write<V>(dx + i, result);
    }
    if (!magnitudes) return;
    sum = block_sum(sum);
    if (threadIdx.x == 0) magnitudes[blockIdx.x] = sum;
}

// dx (+)= scale (dz - mean dz - (x - mean) slope), and the sum of |dx| to `magnitudes`, if that is not null, one
// number a chunk. The means of dz and of dz (x - mean), from the sums in `partial`, are of the batch; where mean and
// variance are constants, dx is not corrected by them. The block of a channel's first chunk adds to the gradients
// of weight and bias. `masked`: dy is dz. dx may be dy itself.
extern "C" __global__ void batch_norm_backward_dx(const double *partial, const float *x, const float *dy, float *dx,
                                                  const float *weight, const float *bias, const float *mean,
                                                  const float *inv_std, float *dweight, float *dbias,
                                                  double *magnitudes, unsigned channels, unsigned plane,
                                                  unsigned count, unsigned chunk, int of_the_batch, int masked,
                                                  int add) {
    const Task task = task_of(count, chunk);
    const unsigned chunks = (count + chunk - 1) / chunk, c = task.channel;
    const Norm norm = norm_of(c, weight, bias, mean, inv_std);
    const double *sums = partial + 2 * (size_t)c * chunks;
    double sum_dz = 0, sum_dz_x = 0;
    for (unsigned s = threadIdx.x; s < chunks; s += blockDim.x) {
        sum_dz += sums[2 * s];
        sum_dz_x += sums[2 * s + 1];
    }
    sum_dz = block_sum(sum_dz);
    sum_dz_x = block_sum(sum_dz_x);
    const double inv = inv_std[c];
    if (task.begin == 0 && threadIdx.x == 0) {
        dbias[c] += (float)sum_dz;
        dweight[c] += (float)(sum_dz_x * inv);
    }

    const Correction correction = {of_the_batch ? (float)(sum_dz / count) : 0,
                                   of_the_batch ? (float)(sum_dz_x * inv * inv / count) : 0};
    BY_FOUR(backward_dx, task, norm, correction, x, dy, dx, magnitudes, channels, plane, masked, add);
}
