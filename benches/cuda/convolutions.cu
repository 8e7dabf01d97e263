// Times what convolutions are done by beside cuDNN's fastest algorithm that gives the same bits each time, in TF32:
// the 3x3 ones of a ResNet-18 by the tiled kernels of kernels/src/cuda/conv3x3.cu, the 1x1 ones of a ResNet-50 by
// cuBLAS, image by image. Forward (F), dX (D) and dW (W), of all output channels and of a fifth. Where tiled.rs and
// pointwise.rs (backend/cuda/conv2d) prefer which is read off this.
//
//     nvcc -std=c++17 -O3 -arch=sm_90 convolutions.cu -lcudnn -lcublas
#include "../../kernels/src/cuda/conv3x3.cu"
#include "../../kernels/src/cuda/rows.cu"
#include <algorithm>
#include <cstdio>
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cudnn.h>
#include <vector>

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        if (const int status = (int)(call)) {                                                                          \
            printf("%s: %d\n", #call, status);                                                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

// Median microseconds of a call.
template <class F> static float timed(F f) {
    for (int i = 0; i < 3; i++) f();
    std::vector<float> times;
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    for (int i = 0; i < 15; i++) {
        CHECK(cudaEventRecord(begin));
        f();
        CHECK(cudaEventRecord(end));
        CHECK(cudaEventSynchronize(end));
        float ms;
        CHECK(cudaEventElapsedTime(&ms, begin, end));
        times.push_back(ms * 1000);
    }
    std::nth_element(times.begin(), times.begin() + 7, times.end());
    return times[7];
}

static const size_t WORKSPACE = (size_t)1 << 30;
static cudnnHandle_t handle;
static cublasHandle_t blas;
static float *x, *y, *weight, *filters, *partial, *dw;
static void *workspace;
static unsigned *kept;

struct Times {
    float forward, input, weight;
};

template <class Algorithm> static const Algorithm *first(const std::vector<Algorithm> &found) {
    for (const auto &a : found)
        if (a.status == 0 && a.determinism == CUDNN_DETERMINISTIC && a.memory <= WORKSPACE) return &a;
    return nullptr;
}

// `inputs` and `outputs` channels, size x size; windows of 3x3 or 1x1.
static Times of_cudnn(int batch, int inputs, int outputs, int size, int window) {
    cudnnTensorDescriptor_t of_x, of_y;
    cudnnFilterDescriptor_t of_w;
    cudnnConvolutionDescriptor_t conv;
    CHECK(cudnnCreateTensorDescriptor(&of_x));
    CHECK(cudnnCreateTensorDescriptor(&of_y));
    CHECK(cudnnCreateFilterDescriptor(&of_w));
    CHECK(cudnnCreateConvolutionDescriptor(&conv));
    CHECK(cudnnSetTensor4dDescriptor(of_x, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, batch, inputs, size, size));
    CHECK(cudnnSetTensor4dDescriptor(of_y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, batch, outputs, size, size));
    CHECK(cudnnSetFilter4dDescriptor(of_w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, outputs, inputs, window, window));
    CHECK(cudnnSetConvolution2dDescriptor(conv, window / 2, window / 2, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    CHECK(cudnnSetConvolutionMathType(conv, CUDNN_DEFAULT_MATH));
    const float one = 1, zero = 0;
    Times times = {-1, -1, -1};
    int count;
    std::vector<cudnnConvolutionFwdAlgoPerf_t> forward(16);
    CHECK(cudnnGetConvolutionForwardAlgorithm_v7(handle, of_x, of_w, conv, of_y, 16, &count, forward.data()));
    forward.resize(count);
    if (auto a = first(forward))
        times.forward = timed([&] {
            CHECK(cudnnConvolutionForward(handle, &one, of_x, x, of_w, weight, conv, a->algo, workspace, a->memory, &zero, of_y, y));
        });
    std::vector<cudnnConvolutionBwdDataAlgoPerf_t> input(16);
    CHECK(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, of_w, of_y, conv, of_x, 16, &count, input.data()));
    input.resize(count);
    if (auto a = first(input))
        times.input = timed([&] {
            CHECK(cudnnConvolutionBackwardData(handle, &one, of_w, weight, of_y, y, conv, a->algo, workspace, a->memory, &zero, of_x, x));
        });
    std::vector<cudnnConvolutionBwdFilterAlgoPerf_t> filter(16);
    CHECK(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, of_x, of_y, conv, of_w, 16, &count, filter.data()));
    filter.resize(count);
    if (auto a = first(filter))
        times.weight = timed([&] {
            CHECK(cudnnConvolutionBackwardFilter(handle, &one, of_x, x, of_y, y, conv, a->algo, workspace, a->memory, &zero, of_w, weight));
        });
    return times;
}

static unsigned rounded(unsigned n, unsigned multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

// `channels` in and out, of which dY has `count`, in `slots`.
static Times of_tiles(unsigned batch, unsigned channels, unsigned count, unsigned slots, unsigned size) {
    // As tiled.rs has it.
    const unsigned pitch = size + 2, rows = std::min(size, 344 / pitch - 2);
    const unsigned fitting = std::min(344 / ((rows + 2) * pitch), 288 / rounded(rows * pitch, 8));
    const unsigned images = rows == size ? fitting : 1, eights = (rows * pitch + 7) / 8, lanes = size;
    const unsigned tiles = (batch + images - 1) / images * ((size + rows - 1) / rows);
    const auto convolve = [&](unsigned inputs, unsigned of_them, int backward) {
        const unsigned outputs = rounded(channels, OUTPUTS), n = rounded(inputs, CHANNELS) * 9 * outputs;
        conv3x3_filters<<<std::min((n + 255) / 256, 16384u), 256>>>(weight, backward ? kept : nullptr, filters, n, of_them, channels, outputs, backward);
        conv3x3_images<<<tiles * outputs / OUTPUTS, THREADS>>>(x, filters, nullptr, y, inputs, channels, outputs, 0, batch, size, size, rows, images, eights, lanes);
    };
    const unsigned blocks = rounded(slots, CHANNELS) / CHANNELS * (rounded(channels, CHANNELS) / CHANNELS);
    const unsigned splits = std::max(1u, std::min(1280 / blocks, tiles)), n = count * channels * 9;
    return {
        timed([&] { convolve(channels, channels, 0); }),
        timed([&] { convolve(slots, count, 1); }),
        timed([&] {
            conv3x3_weight<<<blocks * splits, THREADS>>>(x, y, partial, channels, slots, splits, batch, size, size, rows, images, eights, lanes);
            add_parts<<<(n + 31) / 32, 256>>>(partial, kept, dw, n, channels * 9, splits, rounded(slots, CHANNELS) * channels * 9);
        }),
    };
}

// As pointwise.rs has it: `inputs` channels in, of dY `count` in `slots`. No dW where that has too many parts.
static Times of_products(int batch, int inputs, int outputs, int count, int slots, int pixels) {
    const float one = 1, zero = 0;
    const auto product = [&](cublasOperation_t of_b, cublasOperation_t of_a, int n, int m, int k, const float *b, int b_row,
                             long long b_step, const float *a, int a_row, long long a_step, float *c) {
        CHECK(cublasSgemmStridedBatched(blas, of_b, of_a, n, m, k, &one, b, b_row, b_step, a, a_row, a_step, &zero, c, n,
                                        (long long)m * n, batch));
    };
    const long long x_step = (long long)inputs * pixels, dy_step = (long long)slots * pixels;
    Times times = {-1, -1, -1};
    times.forward = timed([&] { product(CUBLAS_OP_N, CUBLAS_OP_N, pixels, outputs, inputs, x, pixels, x_step, weight, inputs, 0, y); });
    times.input = timed([&] {
        if (count < outputs) gather_rows<<<(slots * inputs + 255) / 256, 256>>>(weight, kept, filters, slots * inputs, count, inputs);
        product(CUBLAS_OP_N, CUBLAS_OP_T, pixels, inputs, slots, y, pixels, dy_step, count < outputs ? filters : weight, inputs, 0, x);
    });
    const long long part = (long long)slots * inputs;
    if (part > (long long)(slots + inputs) * pixels) return times;
    times.weight = timed([&] {
        product(CUBLAS_OP_T, CUBLAS_OP_N, inputs, slots, pixels, x, pixels, x_step, y, pixels, dy_step, partial);
        add_parts<<<(count * inputs + 31) / 32, 256>>>(partial, kept, dw, count * inputs, inputs, batch, part);
    });
    return times;
}

static __global__ void fill(float *to, size_t n) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        to[i] = (i * 2654435761u >> 8 & 0xffff) / 65536.f - 0.5f;
}

int main() {
    const size_t images = (size_t)128 * 256 * 32 * 32, weights = (size_t)1 << 24;
    CHECK(cudnnCreate(&handle));
    CHECK(cublasCreate(&blas));
    CHECK(cublasSetMathMode(blas, CUBLAS_TF32_TENSOR_OP_MATH));
    for (float **memory : {&x, &y}) CHECK(cudaMalloc(memory, images * sizeof(float)));
    for (float **memory : {&weight, &filters, &dw}) CHECK(cudaMalloc(memory, weights * sizeof(float)));
    CHECK(cudaMalloc(&partial, WORKSPACE));
    CHECK(cudaMalloc(&workspace, WORKSPACE));
    for (float *memory : {x, y}) fill<<<2048, 256>>>(memory, images);
    fill<<<2048, 256>>>(weight, weights);
    std::vector<unsigned> all(2048);
    for (unsigned i = 0; i < all.size(); i++) all[i] = i;
    CHECK(cudaMalloc(&kept, all.size() * sizeof(unsigned)));
    CHECK(cudaMemcpy(kept, all.data(), all.size() * sizeof(unsigned), cudaMemcpyHostToDevice));

    printf("cuDNN %zu; microseconds, cuDNN's and the tiled kernels' or cuBLAS's; -1: not done so\n\n", cudnnGetVersion());
    printf("| images | in | out | kept | size | window | F | D | W |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    const auto row = [](unsigned batch, unsigned inputs, unsigned outputs, unsigned count, unsigned size, unsigned window) {
        const unsigned slots = rounded(count, 8);
        const Times theirs = of_cudnn(batch, inputs, slots, size, window);
        const Times ours = window == 3 ? of_tiles(batch, inputs, count, slots, size)
                                       : of_products(batch, inputs, outputs, count, slots, size * size);
        printf("| %u | %u | %u | %u | %ux%u | %ux%u | ", batch, inputs, outputs, count, size, size, window, window);
        if (count == outputs) printf("%.0f, %.0f", theirs.forward, ours.forward);
        printf(" | %.0f, %.0f | %.0f, %.0f |\n", theirs.input, ours.input, theirs.weight, ours.weight);
        fflush(stdout);
    };
    const unsigned layers[][2] = {{64, 32}, {128, 16}, {256, 8}, {512, 4}};
    for (unsigned batch : {128, 512})
        for (auto [channels, size] : layers)
            for (unsigned count : {channels, channels / 5}) row(batch, channels, channels, count, size, 3);
    const unsigned pointwise[][3] = {{64, 256, 32}, {256, 64, 32}, {128, 512, 16}, {512, 128, 16}, {256, 1024, 8}, {1024, 256, 8}, {512, 2048, 4}};
    for (auto [inputs, outputs, size] : pointwise)
        for (unsigned count : {outputs, outputs / 5}) row(128, inputs, outputs, count, size, 1);
    CHECK(cudaDeviceSynchronize());
}
