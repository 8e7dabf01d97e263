// Convolutions of 3x3 windows with stride and padding 1, on tensor cores, from images as they are (B, C, H, W): what a
// sparse backward pass mostly is. Libraries change the layout of all that goes in and out first, which takes longer
// than the few channels that are kept.
//
// A tile is some rows of an image, or some small images. In shared memory its rows are `pitch` = W + 2 long, with a
// column of zeros at either end and a row above and below, so that a tap (r, s) of the window is a constant distance,
// r pitch + s, whatever the pixel: pixels are counted along these rows, with the two columns as pixels of no use.
// Distances between channels are chosen so that the lanes of a warp read different banks.
#include "mma.cuh"

#define THREADS 128
#define WARPS (THREADS / 32)
// Channels of a tile, of either side.
#define CHANNELS 16
// Elements of a channel of a tile with its frame, and of one without, at most 344 and 288 (tiled.rs).
#define FRAMED 360
#define PLAIN 292
#define FRAMED_BY_PIXELS 356
// From an output of a tile to the next, where they wait to be written.
#define MADE 296
// Rows that a lane loads at once.
#define STEPS 3
#define NOWHERE 0xffffffffu
// Eights of pixels of a tile, at most, for each warp.
#define EIGHTS 9
// Output channels of a block of conv3x3_images, and from a row of its filters to the next.
#define OUTPUTS 32
#define FILTERS 40

// How images are cut into tiles: backend/cuda/conv2d/tiled.rs.
struct Tiles {
    unsigned batch, height, width;
    unsigned rows;   // of an image in a tile
    unsigned images; // in a tile: one, unless `rows` is all of its height
    unsigned eights; // of pixels of an image in a tile, rounded up
    unsigned lanes;  // that load a row together: a power of two up to 32
};
#define TILES                                                                                                          \
    unsigned batch, unsigned height, unsigned width, unsigned rows, unsigned images, unsigned eights_of_image,         \
        unsigned lanes
#define TILES_OF_PARAMETERS                                                                                            \
    { batch, height, width, rows, images, eights_of_image, lanes }

// A tile's images and rows.
struct Tile {
    unsigned image, top;
};
static __device__ inline Tile tile_of(unsigned number, const Tiles &tiles) {
    const unsigned parts = (tiles.height + tiles.rows - 1) / tiles.rows;
    return {number / parts * tiles.images, number % parts * tiles.rows};
}

// Rows of CHANNELS channels from `first` on, `above` rows above the tile's own and as many below, to shared memory:
// zeros where there is no such image, row or channel. A warp takes every WARPS-th channel, and some rows at once: many
// loads are on their way before the first is waited for.
template <int DISTANCE>
static __device__ inline void load_rows(const float *from, unsigned *to, unsigned channels, unsigned first, Tile tile,
                                        const Tiles &tiles, unsigned above, unsigned image_size) {
    const unsigned pitch = tiles.width + 2, at_once = 32 / tiles.lanes;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned rows = tiles.rows + 2 * above, steps_of_image = (rows + at_once - 1) / at_once;
    const unsigned steps = tiles.images * steps_of_image, plane = tiles.height * tiles.width;
    const unsigned own_row = lane / tiles.lanes;
    first += warp;
    to += warp * DISTANCE;
    for (unsigned column = 0; column < tiles.width; column += tiles.lanes) {
        const unsigned x = column + lane % tiles.lanes;
        unsigned image = 0, row = own_row; // of the next step
        for (unsigned step = 0; step < steps; step += STEPS) {
            float values[STEPS][CHANNELS / WARPS];
            unsigned places[STEPS];
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                const bool is_place = step + s < steps && row < rows && x < tiles.width;
                const unsigned y = tile.top + row - above; // above the image larger than any height
                const bool is_there = is_place && tile.image + image < tiles.batch && y < tiles.height;
                const float *const at = from + ((size_t)(tile.image + image) * channels + first) * plane + y * tiles.width + x;
                places[s] = is_place ? image * image_size + row * pitch + x + above : NOWHERE;
#pragma unroll
                for (int i = 0; i < CHANNELS / WARPS; i++)
                    values[s][i] = is_there && first + WARPS * i < channels ? at[(size_t)WARPS * i * plane] : 0;
                row += at_once;
                if (row >= rows + own_row) { // rounded up: all lanes go on to the next image together
                    row = own_row;
                    image++;
                }
            }
#pragma unroll
            for (int s = 0; s < STEPS; s++)
#pragma unroll
                for (int i = 0; i < CHANNELS / WARPS; i++)
                    if (places[s] != NOWHERE) to[WARPS * i * DISTANCE + places[s]] = to_tf32(values[s][i]);
        }
    }
}

// Calls f(image, row, x) for the pixels of a tile that the thread's lane has, `rows` rows an image.
template <typename F> static __device__ inline void for_pixels(const Tiles &tiles, unsigned rows, F f) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned image = 0; image < tiles.images; image++)
        for (unsigned row = lane / tiles.lanes; row < rows; row += 32 / tiles.lanes)
            for (unsigned x = lane % tiles.lanes; x < tiles.width; x += tiles.lanes) f(image, row, x);
}

static __device__ inline void clear(unsigned *memory, unsigned n) {
    for (unsigned i = threadIdx.x; i < n; i += THREADS) memory[i] = 0;
}

// partial (splits, 16 slot tiles, C 9): of the `slots` channels of dY and the C of x, the sums over some of the tiles.
// A block takes 16 channels of either, and every `splits`-th tile; its warps take eights of pixels in turn.
extern "C" __global__ void __launch_bounds__(THREADS, 4) conv3x3_weight(
    const float *x, const float *dy, float *partial, unsigned channels, unsigned slots, unsigned splits, TILES) {
    const Tiles tiles = TILES_OF_PARAMETERS;
    __shared__ unsigned shared[CHANNELS * (FRAMED_BY_PIXELS + PLAIN)];
    unsigned *const framed = shared, *const plain = shared + CHANNELS * FRAMED_BY_PIXELS;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const unsigned channel_tiles = (channels + CHANNELS - 1) / CHANNELS, slot_tiles = (slots + CHANNELS - 1) / CHANNELS;
    const unsigned first_channel = blockIdx.x % channel_tiles * CHANNELS;
    const unsigned first_slot = blockIdx.x / channel_tiles % slot_tiles * CHANNELS;
    const unsigned split = blockIdx.x / channel_tiles / slot_tiles;
    const unsigned pitch = tiles.width + 2;
    const unsigned framed_image = (tiles.rows + 2) * pitch, plain_image = 8 * tiles.eights;
    const unsigned parts = (tiles.height + tiles.rows - 1) / tiles.rows;
    const unsigned count = (tiles.batch + tiles.images - 1) / tiles.images * parts;
    const unsigned eights = tiles.images * tiles.eights;

    float sums[2][9][4] = {}; // of 8 channels, and a tap
    clear(shared, CHANNELS * (FRAMED_BY_PIXELS + PLAIN));
    for (unsigned number = split; number < count; number += splits) {
        const Tile tile = tile_of(number, tiles);
        __syncthreads(); // the tile before has been used
        load_rows<FRAMED_BY_PIXELS>(x, framed, channels, first_channel, tile, tiles, 1, framed_image);
        load_rows<PLAIN>(dy, plain, slots, first_slot, tile, tiles, 0, plain_image);
        __syncthreads();
        for (unsigned eight = warp; eight < eights; eight += WARPS) {
            const unsigned image = eight / tiles.eights, pixel = eight % tiles.eights * 8 + t;
            const unsigned *const from = plain + g * PLAIN + image * plain_image + pixel;
            const unsigned a[4] = {from[0], from[8 * PLAIN], from[4], from[8 * PLAIN + 4]};
            const unsigned *const at = framed + g * FRAMED_BY_PIXELS + image * framed_image + pixel;
#pragma unroll
            for (int eight_channels = 0; eight_channels < 2; eight_channels++)
#pragma unroll
                for (int tap = 0; tap < 9; tap++) {
                    const unsigned *const b_at = at + eight_channels * 8 * FRAMED_BY_PIXELS + tap / 3 * pitch + tap % 3;
                    const unsigned b[2] = {b_at[0], b_at[4]};
                    mma(sums[eight_channels][tap], a, b);
                }
        }
    }

    // The warps' sums side by side, then added up.
    __syncthreads();
    float *const of_warps = (float *)shared;
    const unsigned filters = CHANNELS * 9;
    for (int eight_channels = 0; eight_channels < 2; eight_channels++)
        for (int tap = 0; tap < 9; tap++)
            for (int i = 0; i < 4; i++) {
                const unsigned slot = g + i / 2 * 8, channel = eight_channels * 8 + 2 * t + i % 2;
                of_warps[(warp * CHANNELS + slot) * filters + channel * 9 + tap] = sums[eight_channels][tap][i];
            }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < CHANNELS * filters; i += THREADS) {
        const unsigned slot = i / filters, filter = i % filters;
        float sum = 0;
        for (unsigned w = 0; w < WARPS; w++) sum += of_warps[w * CHANNELS * filters + i];
        const size_t row = (size_t)split * slot_tiles * CHANNELS + first_slot + slot;
        if (first_channel * 9 + filter < channels * 9) partial[row * channels * 9 + first_channel * 9 + filter] = sum;
    }
}

// filters (inputs / 16, 9, 16, outputs), as conv3x3_images reads them: of weight (outputs, inputs, 3, 3) forward; for dX
// of weight (channels, outputs, 3, 3), of which the rows `kept` (or all) are the inputs, turned by half.
// Further inputs and outputs are zeros; n elements.
extern "C" __global__ void conv3x3_filters(const float *weight, const unsigned *kept, float *filters, unsigned n,
                                           unsigned inputs, unsigned outputs, unsigned outputs_rounded, int backward) {
    FOR_EACH(i, n) {
        const unsigned output = i % outputs_rounded, rest = i / outputs_rounded;
        const unsigned tap = rest / CHANNELS % 9, input = rest / CHANNELS / 9 * CHANNELS + rest % CHANNELS;
        float value = 0;
        if (output < outputs && input < inputs) {
            const size_t row = backward ? (kept ? kept[input] : input) : output;
            value = backward ? weight[(row * outputs + output) * 9 + 8 - tap] : weight[(row * inputs + input) * 9 + tap];
        }
        filters[i] = __uint_as_float(to_tf32(value));
    }
}

// y (B, outputs, H, W) (+)= conv(x, filters) + bias, of x (B, inputs, H, W). A block makes 32 outputs of a tile; its
// warps take eights of pixels in turn.
extern "C" __global__ void __launch_bounds__(THREADS, 4) conv3x3_images(
    const float *x, const float *filters, const float *bias, float *y, unsigned inputs, unsigned outputs,
    unsigned outputs_rounded, int add, TILES) {
    const Tiles tiles = TILES_OF_PARAMETERS;
    __shared__ __align__(16) unsigned shared[9 * CHANNELS * FILTERS + CHANNELS * FRAMED];
    unsigned *const weights = shared, *const framed = shared + 9 * CHANNELS * FILTERS;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const unsigned output_tiles = outputs_rounded / OUTPUTS, first_output = blockIdx.x % output_tiles * OUTPUTS;
    const Tile tile = tile_of(blockIdx.x / output_tiles, tiles);
    const unsigned pitch = tiles.width + 2, framed_image = (tiles.rows + 2) * pitch;
    const unsigned eights = tiles.images * tiles.eights;

    // Where the warp's eights begin; further ones are computed, and not written.
    unsigned begin[EIGHTS];
#pragma unroll
    for (int i = 0; i < EIGHTS; i++) {
        const unsigned eight = warp + WARPS * i;
        begin[i] = eight < eights ? eight / tiles.eights * framed_image + eight % tiles.eights * 8 : 0;
    }
    float sums[EIGHTS][2][4] = {}; // of eight pixels and 16 outputs
    clear(framed, CHANNELS * FRAMED);
    for (unsigned first = 0; first < inputs; first += CHANNELS) {
        __syncthreads(); // the channels before have been used
        load_rows<FRAMED>(x, framed, inputs, first, tile, tiles, 1, framed_image);
        const float *from = filters + (size_t)first * 9 * outputs_rounded + first_output;
        for (unsigned i = threadIdx.x; i < 9 * CHANNELS * (OUTPUTS / 4); i += THREADS) {
            const unsigned row = i / (OUTPUTS / 4), column = i % (OUTPUTS / 4) * 4;
            *(float4 *)(weights + row * FILTERS + column) = *(const float4 *)(from + (size_t)row * outputs_rounded + column);
        }
        __syncthreads();
#pragma unroll
        for (int tap = 0; tap < 9; tap++) {
#pragma unroll
            for (int eight_inputs = 0; eight_inputs < CHANNELS; eight_inputs += 8) {
                unsigned a[2][4];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const unsigned *const at = weights + (tap * CHANNELS + eight_inputs + t) * FILTERS + half * 16 + g;
                    a[half][0] = at[0], a[half][1] = at[8], a[half][2] = at[4 * FILTERS], a[half][3] = at[4 * FILTERS + 8];
                }
                const unsigned *const at = framed + (eight_inputs + t) * FRAMED + tap / 3 * pitch + tap % 3 + g;
#pragma unroll
                for (int i = 0; i < EIGHTS; i++) {
                    const unsigned b[2] = {at[begin[i]], at[begin[i] + 4 * FRAMED]};
                    mma(sums[i][0], a[0], b);
                    mma(sums[i][1], a[1], b);
                }
            }
        }
    }

    // To shared memory, and from there by rows.
    __syncthreads();
    float *const made = (float *)shared;
#pragma unroll
    for (int i = 0; i < EIGHTS; i++) {
        const unsigned pixel = (warp + WARPS * i) * 8 + 2 * t;
#pragma unroll
        for (int quarter = 0; quarter < 4; quarter++)
            *(float2 *)(made + (quarter * 8 + g) * MADE + pixel) =
                make_float2(sums[i][quarter / 2][quarter % 2 * 2], sums[i][quarter / 2][quarter % 2 * 2 + 1]);
    }
    __syncthreads();
    for_pixels(tiles, tiles.rows, [&](unsigned image, unsigned row, unsigned x_at) {
        if (tile.image + image >= tiles.batch || tile.top + row >= tiles.height) return;
        const unsigned pixel = image * 8 * tiles.eights + row * pitch + x_at;
        const unsigned plane = tiles.height * tiles.width;
        float *const to = y + ((size_t)(tile.image + image) * outputs + first_output) * plane +
                          (tile.top + row) * tiles.width + x_at;
#pragma unroll
        for (unsigned o = warp; o < OUTPUTS; o += WARPS)
            if (first_output + o < outputs)
                put(to + (size_t)o * plane, made[o * MADE + pixel] + (bias ? bias[first_output + o] : 0), add);
    });
}
