// The CUDA driver, cuBLAS and NVRTC as far as dfdx 0.13 and cudarc 0.9 call them, on a CPU. What the default
// stream is asked for is done at once; copies on another one as late as possible, when somebody waits for it.
// A module's functions are the kernels that are linked in, whatever its PTX says (it is empty under
// dfdx's `ci-check`).
#include "shim.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <dlfcn.h>
#include <unistd.h>
#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

// What a thread has asked of the driver, for tests that count it.
struct emu_counts {
    uint64_t allocations, frees, synchronisations, copies_to_host, bytes_to_host, copies_on_device;
    uint64_t launches; // of kernels, and calls of cuBLAS and cuDNN
};
static thread_local emu_counts counts;

namespace {
std::mutex lock;
std::map<uint64_t, size_t> live;               // allocations
std::map<std::string, std::string *> functions; // a function's handle is its interned name
int intern(void **handle, const char *name) {
    std::lock_guard<std::mutex> guard(lock);
    if (!emu::known(name)) {
        fprintf(stderr, "emu: no kernel %s\n", name);
        return 500; // CUDA_ERROR_NOT_FOUND
    }
    auto &f = functions[name];
    if (!f) f = new std::string(name);
    *handle = f;
    return 0;
}
uint64_t setting(const char *name, uint64_t otherwise) {
    const char *value = getenv(name);
    return value ? strtoull(value, nullptr, 10) : otherwise;
}
uint64_t bytes_live; // of all allocations
int alloc(uint64_t *ptr, size_t bytes) {
    counts.allocations += bytes > 0;

    static const uint64_t memory = setting("EMU_MEMORY", ~0ull);
    std::lock_guard<std::mutex> guard(lock);
    if (bytes_live + bytes > memory) return 2; // CUDA_ERROR_OUT_OF_MEMORY
    void *p; // never null, as the driver's for 0 bytes
    if (posix_memalign(&p, 256, bytes ? bytes : 1)) return 2;
    memset(p, 0xff, bytes); // NaN: whoever reads before he writes shall know
    bytes_live += bytes;
    live[*ptr = (uint64_t)p] = bytes;
    return 0;
}
int release(uint64_t ptr) {
    std::lock_guard<std::mutex> guard(lock);
    const auto found = live.find(ptr);
    if (found == live.end()) return 1;
    counts.frees += found->second > 0; // the driver has nothing to do for 0 bytes
    bytes_live -= found->second;
    live.erase(found);
    free((void *)ptr);
    return 0;
}
// Whether [ptr, ptr + bytes) lies inside one allocation.
bool inside(uint64_t ptr, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto next = live.upper_bound(ptr);
    if (next == live.begin()) return bytes == 0;
    --next;
    return bytes == 0 || ptr + bytes <= next->first + next->second;
}
// A stream that is not the default one, and what it has still to do.
struct Stream {
    std::vector<std::function<int()>> work;
    size_t done = 0;
    void run(size_t until) {
        for (; done < until; done++)
            if (work[done]()) fprintf(stderr, "emu: a copy outside of allocated memory\n"), abort();
    }
};
// The work of a stream that was there when it was recorded; of the default stream that is done.
struct Event {
    Stream *stream = nullptr;
    size_t until = 0;
    bool pending() const { return stream && stream->done < until; }
};
void wait(void *event) {
    auto e = (Event *)event;
    if (e->stream) e->stream->run(e->until);
}
int handle(void **out) { static char some; *out = &some; return 0; }

// EMU_SKIP: nothing is computed, so that what is left is the host's time.
extern "C" int emu_skip() {
    static const bool skip = getenv("EMU_SKIP");
    return skip;
}

// A kernel, or what a library makes of one call. EMU_TRACE: named on standard error.
extern "C" void emu_launched(const char *name) {
    static const bool trace = getenv("EMU_TRACE");
    counts.launches++;
    if (trace) fprintf(stderr, "launch %s\n", name);
}

// Sums in f64, in loops along the columns of a and b.
template <class T> int gemm(int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, int ldb,
                            const T *beta, T *c, int ldc) {
    // cuBLAS's own conditions.
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m)) {
        fprintf(stderr, "emu: gemm %d %d %d with leading dimensions %d %d %d\n", m, n, k, lda, ldb, ldc);
        return 7; // CUBLAS_STATUS_INVALID_VALUE
    }
    if (emu_skip()) return 0;
    std::vector<double> sums(m);
    std::vector<T> column(k);
    for (int j = 0; j < n; j++) {
        for (int l = 0; l < k; l++) column[l] = tb ? b[j + (size_t)l * ldb] : b[l + (size_t)j * ldb];
        if (ta) {
            for (int i = 0; i < m; i++) {
                const T *row = a + (size_t)i * lda;
                double part[8] = {};
                int l = 0;
                for (; l + 8 <= k; l += 8)
                    for (int p = 0; p < 8; p++) part[p] += (double)row[l + p] * column[l + p];
                for (; l < k; l++) part[0] += (double)row[l] * column[l];
                sums[i] = part[0] + part[1] + part[2] + part[3] + part[4] + part[5] + part[6] + part[7];
            }
        } else {
            std::fill(sums.begin(), sums.end(), 0.0);
            for (int l = 0; l < k; l++) {
                const T *from = a + (size_t)l * lda;
                const double factor = column[l];
                for (int i = 0; i < m; i++) sums[i] += from[i] * factor;
            }
        }
        T *out = c + (size_t)j * ldc;
        for (int i = 0; i < m; i++) out[i] = *alpha * (T)sums[i] + (*beta == 0 ? 0 : *beta * out[i]);
    }
    return 0;
}
// At once on the default stream, on another one when it is waited for.
int later(void *stream, std::function<int()> work) {
    if (!stream) return work();
    ((Stream *)stream)->work.push_back(work);
    return 0;
}
struct Program { std::string source, log; };
} // namespace

extern "C" {
emu_counts emu_counts_of_thread() { return counts; }
int cuInit(unsigned) { return (int)setting("EMU_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = (int)setting("EMU_DRIVER", 13000); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal == 0 ? 0 : 101; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    const char *capability = getenv("EMU_CAPABILITY");
    *value = attribute != 75 ? 1 : capability ? atoi(capability) : 9; // memory pools: yes
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return handle(context); }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void *) { return 0; }
int cuEventCreate(void **event, unsigned) { *event = new Event; return 0; }
int cuEventDestroy_v2(void *event) { delete (Event *)event; return 0; }
int cuEventRecord(void *event, void *stream) {
    auto s = (Stream *)stream;
    *(Event *)event = {s, s ? s->work.size() : 0};
    return 0;
}
int cuEventQuery(void *event) { return ((Event *)event)->pending() ? 600 : 0; } // CUDA_ERROR_NOT_READY
int cuStreamCreate(void **stream, unsigned) { *stream = new Stream; return 0; }
int cuStreamDestroy_v2(void *stream) { // events may know it still
    if (auto s = (Stream *)stream) s->run(s->work.size());
    return 0;
}
int cuStreamSynchronize(void *stream) {
    counts.synchronisations++;
    if (auto s = (Stream *)stream) s->run(s->work.size());
    return 0;
}
int cuCtxSynchronize() { counts.synchronisations++; return 0; }
int cuEventSynchronize(void *event) {
    counts.synchronisations++;
    wait(event);
    return 0;
}
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
    if (!stream) wait(event);
    else if (((Event *)event)->stream != stream) ((Stream *)stream)->work.push_back([e = *(Event *)event]() mutable { return wait(&e), 0; });
    return 0;
}
int cuGetErrorString(int, const char **text) { *text = "emulated"; return 0; }
int cuGetErrorName(int, const char **text) { *text = "EMULATED"; return 0; }
int cuMemAlloc_v2(uint64_t *ptr, size_t bytes) { return alloc(ptr, bytes); }
int cuMemAllocAsync(uint64_t *ptr, size_t bytes, void *) { return alloc(ptr, bytes); }
int cuMemAllocHost_v2(void **ptr, size_t bytes) {
    counts.allocations++;
    return (*ptr = malloc(bytes)) ? 0 : 2;
}
int cuMemFreeHost(void *ptr) {
    counts.frees++;
    free(ptr);
    return 0;
}
int cuMemFree_v2(uint64_t ptr) { return release(ptr); }
int cuMemFreeAsync(uint64_t ptr, void *) { return release(ptr); }
int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t n) {
    counts.copies_on_device++;
    if (!inside(to, n) || !inside(from, n)) return 1;
    memmove((void *)to, (void *)from, n);
    return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *stream) {
    return later(stream, [=] { return cuMemcpyDtoD_v2(to, from, n); });
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n) {
    counts.copies_to_host++;
    counts.bytes_to_host += n;
    if (!inside(from, n)) return 1;
    memcpy(to, (void *)from, n);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *) { return cuMemcpyDtoH_v2(to, from, n); }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n) {
    if (!inside(to, n)) return 1;
    memcpy((void *)to, from, n);
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *stream) {
    return later(stream, [=] { return cuMemcpyHtoD_v2(to, from, n); });
}
int cuMemsetD8_v2(uint64_t to, unsigned char byte, size_t n) {
    if (!inside(to, n)) return 1;
    if (emu_skip()) return 0;
    memset((void *)to, byte, n);
    return 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t n, void *) { return cuMemsetD8_v2(to, byte, n); }
int cuModuleLoad(void **module, const char *) { return handle(module); }
int cuModuleLoadData(void **module, const void *) { return handle(module); }
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) { return intern(function, name); }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *,
                   void **params, void **) {
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || gy > 65535 || gz > 65535 || bz > 64) return 1;
    emu_launched(((std::string *)f)->c_str());
    return emu::launch(((std::string *)f)->c_str(), dim3(gx, gy, gz), dim3(bx, by, bz), params) ? 0 : 500;
}

static int math_mode;
int cublasCreate_v2(void **blas) { return handle(blas); }
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasSetMathMode(void *, int mode) { math_mode = mode; return 0; }
int cublasGetMathMode(void *, int *mode) { *mode = math_mode; return 0; }
#define GEMM(T, L)                                                                                                        \
    int cublas##L##gemm_v2(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, \
                           int ldb, const T *beta, T *c, int ldc) {                                                      \
        emu_launched("gemm");                                                                                             \
        return gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                                               \
    }                                                                                                                     \
    int cublas##L##gemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,   \
                                      long long sa, const T *b, int ldb, long long sb, const T *beta, T *c, int ldc,      \
                                      long long sc, int count) {                                                          \
        emu_launched("gemm");                                                                                             \
        for (int i = 0; i < count; i++)                                                                                    \
            if (int err = gemm(ta, tb, m, n, k, alpha, a + i * sa, lda, b + i * sb, ldb, beta, c + i * sc, ldc)) return err; \
        return 0;                                                                                                         \
    }
GEMM(float, S)
GEMM(double, D)

// NVRTC: what it compiles is built by g++ and loaded at once.
int nvrtcCreateProgram(void **p, const char *source, const char *, int, const char **, const char **) {
    *p = new Program{source, ""};
    return 0;
}
int nvrtcDestroyProgram(void **p) { delete (Program *)*p; return 0; }
int nvrtcCompileProgram(void *p, int, const char **) {
    static int count;
    auto &source = ((Program *)p)->source;
    std::string base = std::string(getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir) + "/emu-nvrtc-" + std::to_string(getpid()) + "-" + std::to_string(count++);
    std::string text = "#include \"shim.h\"\n" + source, tail;
    for (size_t at = 0; (at = source.find("__global__ void ", at)) != std::string::npos;) {
        at += strlen("__global__ void ");
        tail += "EMU_KERNEL(" + source.substr(at, source.find_first_of("( \n", at) - at) + ")\n";
    }
    FILE *f = fopen((base + ".cpp").c_str(), "w");
    fputs((text + "\n" + tail).c_str(), f);
    fclose(f);
    const char *dir = getenv("EMU_DIR");
    std::string command = "g++ -O1 -std=c++17 -w -D__CUDA_ARCH__=900 -shared -fPIC -I" + std::string(dir ? dir : EMU_DIR) + " " +
                          EMU_INCLUDES + " -o " + base + ".so " + base + ".cpp";
    if (system(command.c_str()) != 0 || !dlopen((base + ".so").c_str(), RTLD_NOW | RTLD_GLOBAL)) {
        const char *why = dlerror();
        ((Program *)p)->log = why ? why : "g++ failed";
        return 6;
    }
    return 0;
}
int nvrtcGetPTXSize(void *, size_t *size) { *size = 1; return 0; }
int nvrtcGetPTX(void *, char *ptx) { *ptx = 0; return 0; }
int nvrtcGetProgramLogSize(void *p, size_t *size) { *size = ((Program *)p)->log.size() + 1; return 0; }
int nvrtcGetProgramLog(void *p, char *log) { strcpy(log, ((Program *)p)->log.c_str()); return 0; }
}
