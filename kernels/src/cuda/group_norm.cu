// Group normalisation of images (B, C, HW), with the shift before it and the SiLU behind it.
//
// A group of one image lies in memory as one run. Forward a block takes a group. Backward a warp takes a
// channel of an image, a place in (B, C), since most sums are over one.
#include "common.cuh"

// The number of this thread's warp in the grid, and the thread's in the warp.
static __device__ inline unsigned warp() {
    return (blockIdx.x * blockDim.x + threadIdx.x) / 32;
}
static __device__ inline unsigned lane() {
    return threadIdx.x % 32;
}

// What normalises one channel of one image.
struct Norm {
    float offset; // shift - mean
    float scale;  // weight * inv_std
    float bias;
};

static __device__ inline float affine(float x, Norm norm) {
    return fmaf(x + norm.offset, norm.scale, norm.bias);
}

// One block a group: its mean and 1 / sqrt(var + eps), and y = f(weight (x + shift - mean) inv_std + bias).
// `shift` may be null.
extern "C" __global__ void group_norm_forward(const float *x, const float *shift, const float *weight,
                                              const float *bias, float *y, float *mean, float *inv_std,
                                              unsigned channels, unsigned group, unsigned plane, double eps,
                                              int with_silu) {
    const unsigned run = group * plane;
    const size_t place = (size_t)blockIdx.x * group; // of the group's first channel
    x += place * plane;
    y += place * plane;

    double sum = 0;
    for (unsigned i = threadIdx.x; i < run; i += blockDim.x) {
        sum += x[i];
        if (shift) sum += shift[place + i / plane];
    }
    const float m = (float)(block_sum(sum) / run);

    double squares = 0;
    for (unsigned i = threadIdx.x; i < run; i += blockDim.x) {
        const float d = x[i] + (shift ? shift[place + i / plane] - m : -m);
        squares += d * d;
    }
    const float inv = (float)(1 / sqrt(block_sum(squares) / run + eps));

    for (unsigned i = threadIdx.x; i < run; i += blockDim.x) {
        const unsigned c = (place + i / plane) % channels;
        const float offset = shift ? shift[place + i / plane] - m : -m;
        const float z = affine(x[i], {offset, weight[c] * inv, bias[c]});
        y[i] = with_silu ? silu(z) : z;
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        inv_std[blockIdx.x] = inv;
    }
}

static __device__ inline Norm norm_of(unsigned place, unsigned channels, unsigned group, const float *shift,
                                      const float *weight, const float *bias, const float *mean,
                                      const float *inv_std) {
    const unsigned g = place / group, c = place % channels;
    return {shift ? shift[place] - mean[g] : -mean[g], weight[c] * inv_std[g], bias[c]};
}

// dz, z being what the SiLU is applied to. To compute the sigmoid again is less than to read y.
static __device__ inline float grad_of_z(float x, float dy, Norm norm, int with_silu) {
    return with_silu ? silu_grad(affine(x, norm), dy) : dy;
}

// To `sums`, (4, B, C), for each place the sums of dz, of dz (x + offset) and of x + offset.
extern "C" __global__ void group_norm_backward_sums(const float *x, const float *dy, const float *shift,
                                                    const float *weight, const float *bias, const float *mean,
                                                    const float *inv_std, double *sums, unsigned places,
                                                    unsigned channels, unsigned group, unsigned plane,
                                                    int with_silu) {
    const unsigned place = warp();
    if (place >= places) return;
    const Norm norm = norm_of(place, channels, group, shift, weight, bias, mean, inv_std);
    x += (size_t)place * plane;
    dy += (size_t)place * plane;

    double sum_dz = 0, sum_dz_x = 0, sum_x = 0;
    for (unsigned i = lane(); i < plane; i += 32) {
        const float dz = grad_of_z(x[i], dy[i], norm, with_silu), centred = x[i] + norm.offset;
        sum_dz += dz;
        sum_dz_x += dz * centred;
        sum_x += centred;
    }
    sum_dz = warp_sum(sum_dz);
    sum_dz_x = warp_sum(sum_dz_x);
    sum_x = warp_sum(sum_x);

    if (lane() == 0) {
        sums[place] = sum_dz;
        sums[(size_t)places + place] = sum_dz_x;
        sums[2 * (size_t)places + place] = sum_x;
    }
}

// dx (+)= scale dz - level - (x + offset) slope. For each place the sum of dx goes to `dshift`, if that is not
// null, and the sum of |dx| to the last quarter of `sums`.
extern "C" __global__ void group_norm_backward_dx(const float *x, const float *dy, const float *shift,
                                                  const float *weight, const float *bias, const float *mean,
                                                  const float *inv_std, double *sums, float *dx, float *dshift,
                                                  unsigned places, unsigned channels, unsigned group,
                                                  unsigned plane, int with_silu, int add) {
    const unsigned place = warp();
    if (place >= places) return;
    const Norm norm = norm_of(place, channels, group, shift, weight, bias, mean, inv_std);
    x += (size_t)place * plane;
    dy += (size_t)place * plane;
    dx += (size_t)place * plane;

    // The group's means of weight dz and of weight dz (x + offset).
    const unsigned first = place / group * group;
    double mean_dz = 0, mean_dz_x = 0;
    for (unsigned other = first + lane(); other < first + group; other += 32) {
        mean_dz += weight[other % channels] * sums[other];
        mean_dz_x += weight[other % channels] * sums[(size_t)places + other];
    }
    const double run = (double)group * plane, inv = inv_std[place / group];
    mean_dz = warp_sum(mean_dz) / run;
    mean_dz_x = warp_sum(mean_dz_x) / run;

    const double level = inv * mean_dz, slope = inv * inv * inv * mean_dz_x;
    double sum = 0;
    for (unsigned i = lane(); i < plane; i += 32) {
        const float dz = grad_of_z(x[i], dy[i], norm, with_silu);
        put(dx + i, norm.scale * dz - (float)level - (x[i] + norm.offset) * (float)slope, add);
        sum += fabsf(dx[i]);
    }
    sum = warp_sum(sum);

    if (lane() == 0) {
        sums[3 * (size_t)places + place] = sum;
        // From the sums: without what may have been in dx before. An empty image has no mean.
        const double sum_dx = norm.scale * sums[place] - level * plane - slope * sums[2 * (size_t)places + place];
        if (dshift) dshift[place] = plane > 0 ? (float)sum_dx : 0;
    }
}

// One warp a channel: what is summed over the images, added to `dweight` and `dbias`. `importance`, the mean of |dx|,
// may be null.
extern "C" __global__ void group_norm_backward_params(const double *sums, const float *inv_std, float *dweight,
                                                      float *dbias, double *importance, unsigned batch,
                                                      unsigned channels, unsigned group, unsigned plane) {
    const unsigned c = warp();
    if (c >= channels) return;
    const size_t places = (size_t)batch * channels;
    double sum_dz = 0, sum_dz_x = 0, sum = 0;
    for (unsigned b = lane(); b < batch; b += 32) {
        const size_t place = (size_t)b * channels + c;
        sum_dz += sums[place];
        sum_dz_x += sums[places + place] * inv_std[place / group];
        if (importance) sum += sums[3 * places + place];
    }
    sum_dz = warp_sum(sum_dz);
    sum_dz_x = warp_sum(sum_dz_x);
    sum = warp_sum(sum);

    if (lane() == 0) {
        dbias[c] += (float)sum_dz;
        dweight[c] += (float)sum_dz_x;
        if (importance) importance[c] = batch > 0 && plane > 0 ? sum / ((double)batch * plane) : 0;
    }
}
