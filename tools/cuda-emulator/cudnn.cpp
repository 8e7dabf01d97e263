// cuDNN's convolutions by plain loops: the 21 functions that the crate loads. Memory is the driver's.
#include <cstddef>
#include <cstring>
#include <vector>

extern "C" int emu_skip();
extern "C" void emu_launched(const char *name);

namespace {
struct Tensor { int size[4]; };
struct Convolution { int padding, stride, dilation, groups = 1, math = 0; };
struct Algorithm { int number, status; float time; size_t memory; int determinism, math, reserved[3]; };

template <typename T> int made(void **to) { *to = new T(); return 0; }
template <typename T> int gone(void *from) { delete (T *)from; return 0; }

int set(void *to, int n, int c, int h, int w) {
    if (n <= 0 || c <= 0 || h <= 0 || w <= 0) return 2000; // CUDNN_STATUS_BAD_PARAM
    *(Tensor *)to = {{n, c, h, w}};
    return 0;
}

// The first two are not deterministic, as some of cuDNN's, or take too much memory.
const size_t workspace = 4096;
int found(int room, int *count, Algorithm *to) {
    const Algorithm all[] = {{0, 0, 1, 0, 0, 0}, {3, 0, 2, (size_t)1 << 40, 1, 0}, {1, 0, 3, workspace, 1, 0}};
    *count = room < 3 ? room : 3;
    memcpy(to, all, *count * sizeof *to);
    return 0;
}

// The outputs whose tap `k` meets one of `size` inputs: from the first to before the last.
struct Range { int begin, end; };
Range range(const Convolution &c, int k, int size, int outputs) {
    const int shift = k * c.dilation - c.padding; // of output 0
    const int begin = shift >= 0 ? 0 : (-shift + c.stride - 1) / c.stride;
    const int end = shift >= size ? 0 : (size - 1 - shift) / c.stride + 1;
    return {begin, end < outputs ? end : outputs};
}

// Calls f(x, w, y) with the places of all that meet, along a row of outputs in the innermost loop.
template <typename F> void each(const Tensor &x, const Tensor &w, const Tensor &y, const Convolution &c, F f) {
    const int group_in = w.size[1], group_out = y.size[1] / c.groups;
    for (int n = 0; n < y.size[0]; n++) for (int k = 0; k < y.size[1]; k++) for (int i = 0; i < group_in; i++)
        for (int ky = 0; ky < w.size[2]; ky++) for (int kx = 0; kx < w.size[3]; kx++) {
            const Range rows = range(c, ky, x.size[2], y.size[2]), columns = range(c, kx, x.size[3], y.size[3]);
            const int at_w = ((k * group_in + i) * w.size[2] + ky) * w.size[3] + kx;
            for (int oy = rows.begin; oy < rows.end; oy++) {
                const int iy = oy * c.stride - c.padding + ky * c.dilation, ix = kx * c.dilation - c.padding;
                const int at_x = ((n * x.size[1] + k / group_out * group_in + i) * x.size[2] + iy) * x.size[3] + ix;
                const int at_y = ((n * y.size[1] + k) * y.size[2] + oy) * y.size[3];
                for (int ox = columns.begin; ox < columns.end; ox++) f(at_x + ox * c.stride, at_w, at_y + ox);
            }
        }
}

int count(const Tensor &t) { return t.size[0] * t.size[1] * t.size[2] * t.size[3]; }

// to = alpha sum + beta to; the workspace is written to, as cuDNN does.
int finish(std::vector<double> &sum, float alpha, float beta, float *to, int algorithm, void *memory, size_t bytes) {
    if (algorithm != 1 || bytes < workspace) return 2000;
    memset(memory, 0xff, workspace);
    for (size_t i = 0; i < sum.size(); i++) to[i] = alpha * sum[i] + (beta ? beta * to[i] : 0);
    return 0;
}
} // namespace

#define CONVOLVE(NAME, A, B, TO, X, W, Y)                                                                                  \
    int NAME(void *, const float *alpha, Tensor *A##d, const float *A, Tensor *B##d, const float *B, Convolution *c,       \
             int algorithm, void *memory, size_t bytes, const float *beta, Tensor *TO##d, float *TO) {                     \
        emu_launched(#NAME);                                                                                               \
        if (emu_skip()) return 0;                                                                                          \
        std::vector<double> sum(count(*TO##d));                                                                            \
        each(*X##d, *W##d, *Y##d, *c, [&](int at_x, int at_w, int at_y) {                                                  \
            (void)at_x, (void)at_w, (void)at_y;                                                                            \
            sum[at_##TO] += (double)A[at_##A] * B[at_##B];                                                                 \
        });                                                                                                                \
        return finish(sum, *alpha, *beta, TO, algorithm, memory, bytes);                                                   \
    }

extern "C" {
size_t cudnnGetVersion() { return 91900; }
const char *cudnnGetErrorString(int) { return "an error of the emulated cuDNN"; }
int cudnnCreate(void **to) { return made<int>(to); }
int cudnnDestroy(void *from) { return gone<int>(from); }
int cudnnCreateTensorDescriptor(void **to) { return made<Tensor>(to); }
int cudnnDestroyTensorDescriptor(void *from) { return gone<Tensor>(from); }
int cudnnSetTensor4dDescriptor(void *to, int, int, int n, int c, int h, int w) { return set(to, n, c, h, w); }
int cudnnCreateFilterDescriptor(void **to) { return made<Tensor>(to); }
int cudnnDestroyFilterDescriptor(void *from) { return gone<Tensor>(from); }
int cudnnSetFilter4dDescriptor(void *to, int, int, int n, int c, int h, int w) { return set(to, n, c, h, w); }
int cudnnCreateConvolutionDescriptor(void **to) { return made<Convolution>(to); }
int cudnnDestroyConvolutionDescriptor(void *from) { return gone<Convolution>(from); }
int cudnnSetConvolution2dDescriptor(Convolution *to, int padding, int, int stride, int, int dilation, int, int, int) {
    to->padding = padding, to->stride = stride, to->dilation = dilation;
    return 0;
}
int cudnnSetConvolutionGroupCount(Convolution *to, int groups) { to->groups = groups; return 0; }
int cudnnSetConvolutionMathType(Convolution *to, int math) { to->math = math; return 0; }
#define FIND(NAME) int NAME(void *, void *, void *, void *, void *, int room, int *count, Algorithm *to) { return found(room, count, to); }
FIND(cudnnGetConvolutionForwardAlgorithm_v7)
FIND(cudnnGetConvolutionBackwardDataAlgorithm_v7)
FIND(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
CONVOLVE(cudnnConvolutionForward, x, w, y, x, w, y)
CONVOLVE(cudnnConvolutionBackwardData, w, y, x, x, w, y)
CONVOLVE(cudnnConvolutionBackwardFilter, x, y, w, x, w, y)
}
