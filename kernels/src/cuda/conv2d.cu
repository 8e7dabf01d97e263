// What a convolution does beside its matrix products (backend/cuda/conv2d/): unfolding images to columns
// and back, and a change of the layout of outputs.
//
// Columns are a matrix (C K K, images P) with P = H_out W_out: the row (c, kh, kw), the column (image,
// pixel) holds the input that weight (c, kh, kw) meets at that pixel of the output. `n` counts what is
// written; images, planes and columns are those of a part of the batch.
#include "common.cuh"

// The sizes of a window's walk over an image, as parameters.
#define WINDOW                                                                                     \
    unsigned kernel, unsigned stride, unsigned padding, unsigned dilation, unsigned height,        \
        unsigned width, unsigned out_height, unsigned out_width

// columns (C K K, images P) of x (images, C, H, W)
extern "C" __global__ void unfold(const float *x, float *columns, unsigned n, unsigned channels, unsigned images, WINDOW) {
    const unsigned pixels = out_height * out_width, row_length = images * pixels;
    FOR_EACH(i, n) {
        const unsigned row = i / row_length, column = i % row_length;
        const unsigned image = column / pixels, pixel = column % pixels;
        const unsigned kw = row % kernel, kh = row / kernel % kernel, c = row / kernel / kernel;
        // Unsigned: above the image and left of it they are larger than any size.
        const unsigned y = pixel / out_width * stride + kh * dilation - padding;
        const unsigned x_at = pixel % out_width * stride + kw * dilation - padding;
        const bool inside = y < height && x_at < width;
        columns[i] = inside ? x[((size_t)(image * channels + c) * height + y) * width + x_at] : 0;
    }
}

// dx (images, C, H, W) (+)= the sum of the columns that x was unfolded to. Each pixel adds up its own taps:
// always in one order, without atomics.
extern "C" __global__ void fold(const float *columns, float *dx, unsigned n, unsigned channels, unsigned images, int add, WINDOW) {
    const unsigned pixels = out_height * out_width;
    const size_t row_length = (size_t)images * pixels;
    FOR_EACH(i, n) {
        const unsigned x_at = i % width, y = i / width % height;
        const unsigned c = i / width / height % channels, image = i / width / height / channels;
        float sum = 0;
        for (unsigned kh = 0; kh < kernel; kh++) {
            // Output row r meets y with this tap if r stride + kh dilation - padding = y.
            const unsigned down = y + padding - kh * dilation;
            if (y + padding < kh * dilation || down % stride != 0 || down / stride >= out_height) continue;
            for (unsigned kw = 0; kw < kernel; kw++) {
                const unsigned right = x_at + padding - kw * dilation;
                if (x_at + padding < kw * dilation || right % stride != 0 || right / stride >= out_width) continue;
                const size_t row = ((size_t)c * kernel + kh) * kernel + kw;
                sum += columns[row * row_length + (size_t)image * pixels + down / stride * out_width + right / stride];
            }
        }
        put(dx + i, sum, add);
    }
}

// y (images, C, P) = product (C, images P) + bias, if there is one
extern "C" __global__ void images_of_rows(const float *product, const float *bias, float *y, unsigned n, unsigned channels, unsigned images, unsigned pixels) {
    FOR_EACH(i, n) {
        const unsigned pixel = i % pixels, c = i / pixels % channels, image = i / pixels / channels;
        y[i] = product[((size_t)c * images + image) * pixels + pixel] + (bias ? bias[c] : 0);
    }
}

// y (images, C, P) += bias
extern "C" __global__ void add_bias(const float *bias, float *y, unsigned n, unsigned channels, unsigned pixels) {
    FOR_EACH(i, n) y[i] += bias[i / pixels % channels];
}

// rows (C, images P) = dY (images, C, P). With `kept` dY has only these channels: the other rows stay.
extern "C" __global__ void rows_of_images(const float *dy, const unsigned *kept, float *rows, unsigned n, unsigned channels, unsigned images, unsigned pixels) {
    FOR_EACH(i, n) {
        const unsigned pixel = i % pixels, image = i / pixels % images, c = i / pixels / images;
        const size_t row = kept ? kept[c] : c;
        rows[(row * images + image) * pixels + pixel] = dy[((size_t)image * channels + c) * pixels + pixel];
    }
}
