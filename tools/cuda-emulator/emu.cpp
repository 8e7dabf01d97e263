// The fibers behind shim.h.
#include "shim.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace emu {
thread_local Geometry geo;
// The tests run in two orders.
unsigned order = getenv("EMU_ORDER") ? atoi(getenv("EMU_ORDER")) : 0;

namespace {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Thread { State state; uint3 idx; uint64_t value; int from; struct Fiber *fiber; };
struct Fiber { void *sp; std::unique_ptr<char[]> stack; };

// Saves the registers that a call keeps on the stack, its pointer in *from, and goes on with `to`'s.
extern "C" void emu_switch(void **from, void *to);
asm(R"(
    .text
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");

struct Warp {
    std::vector<int> turn; // its threads, in their order
    size_t next;           // in `turn`: the next that has not begun
};

struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps; // in their order
    Warp *running;
    int current = -1;
    void *scheduler; // its stack pointer, while a fiber runs
    std::vector<std::unique_ptr<Fiber>> fibers; // kept from block to block
    size_t used;                                // of them, by this block
    void (*call)(void *, void **);
    void *fn;
    void **params;
};
thread_local Block *block;
constexpr size_t STACK = 64 << 10;

void begin(int t) {
    block->current = t;
    geo.thread_idx = block->threads[t].idx;
}

// A fiber runs thread after thread of a warp until one has to wait; the scheduler then begins another fiber. Only when
// all of them have begun are those that wait resumed, so that a fiber ends with the first thread after that.
void body() {
    Fiber *self = block->fibers[block->used - 1].get();
    Warp &warp = *block->running;
    while (warp.next < warp.turn.size()) {
        int t = warp.turn[warp.next++];
        block->threads[t].fiber = self;
        begin(t);
        block->call(block->fn, block->params);
        block->threads[block->current].state = DONE;
    }
    emu_switch(&self->sp, block->scheduler);
    abort(); // nobody resumes it
}

void wait(State state) {
    Thread &me = block->threads[block->current];
    me.state = state;
    emu_switch(&me.fiber->sp, block->scheduler);
}

// What a shuffle or a ballot gives to the threads of a warp that wait for it.
void exchange(Block &b, const Warp &warp) {
    uint64_t values[32] = {}, votes = 0;
    for (int t : warp.turn) {
        const Thread &thread = b.threads[t];
        values[t % 32] = thread.value;
        if (thread.state == AT_WARP && thread.from < 0) votes |= (thread.value & 1) << t % 32;
    }
    for (int t : warp.turn) {
        Thread &thread = b.threads[t];
        if (thread.state != AT_WARP) continue;
        thread.value = thread.from < 0 ? votes : values[thread.from < 32 ? thread.from : t % 32];
        thread.state = READY;
    }
}

// Runs a warp until each of its threads is done, or waits for the block: true if one waits.
bool run_warp(Block &b, Warp &warp) {
    b.running = &warp;
    for (;;) {
        // Those that have begun and may go on.
        for (int t : warp.turn)
            if (b.threads[t].state == READY && b.threads[t].fiber) {
                begin(t);
                emu_switch(&b.scheduler, b.threads[t].fiber->sp);
            }
        // The others, each on a fiber of its own until one gets through without waiting.
        while (warp.next < warp.turn.size()) {
            if (b.used == b.fibers.size()) {
                b.fibers.push_back(std::make_unique<Fiber>());
                b.fibers.back()->stack.reset(new char[STACK]);
            }
            Fiber &fiber = *b.fibers[b.used++];
            // As if `body` had been called and had switched away at once: six registers, then where to go.
            void **top = (void **)((uintptr_t)(fiber.stack.get() + STACK) & ~(uintptr_t)15);
            top[-2] = (void *)body;
            fiber.sp = top - 8;
            emu_switch(&b.scheduler, fiber.sp);
        }
        bool at_warp = false, at_block = false;
        for (int t : warp.turn) {
            at_warp |= b.threads[t].state == AT_WARP;
            at_block |= b.threads[t].state == AT_BLOCK;
        }
        if (!at_warp) return at_block;
        if (at_block) {
            fprintf(stderr, "emu: some threads wait at a warp's barrier, others at the block's\n");
            abort();
        }
        exchange(b, warp);
    }
}

void run_block() {
    Block &b = *block;
    for (auto &t : b.threads) t.state = READY, t.fiber = nullptr;
    for (auto &warp : b.warps) warp.next = 0;
    b.used = 0;
    for (bool waits = true; waits;) {
        waits = false;
        for (auto &warp : b.warps) waits |= run_warp(b, warp);
        for (auto &t : b.threads)
            if (t.state == AT_BLOCK) t.state = READY;
    }
}
} // namespace

void sync_threads() { wait(AT_BLOCK); }
int lane() { return block->current % 32; }
uint64_t shuffle(uint64_t value, int from) {
    Thread &me = block->threads[block->current];
    me.value = value, me.from = from;
    wait(AT_WARP);
    return block->threads[block->current].value;
}
uint64_t ballot(bool value) { return shuffle(value, -1); }

void run(dim3 grid, dim3 size, void (*call)(void *, void **), void *fn, void **params) {
    Block b;
    b.call = call, b.fn = fn, b.params = params;
    for (unsigned z = 0; z < size.z; z++)
        for (unsigned y = 0; y < size.y; y++)
            for (unsigned x = 0; x < size.x; x++) b.threads.push_back({READY, {x, y, z}, 0, 0, nullptr});
    for (size_t t = 0; t < b.threads.size(); t++) {
        if (t % 32 == 0) b.warps.emplace_back();
        b.warps.back().turn.push_back(t);
    }
    if (order == 1) {
        std::reverse(b.warps.begin(), b.warps.end());
        for (auto &warp : b.warps) std::reverse(warp.turn.begin(), warp.turn.end());
    }
    std::mt19937 rng(order);
    Block *outer = block;
    Geometry outer_geo = geo;
    block = &b;
    geo.grid = grid, geo.block = size;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                if (order > 1) {
                    std::shuffle(b.warps.begin(), b.warps.end(), rng);
                    for (auto &warp : b.warps) std::shuffle(warp.turn.begin(), warp.turn.end(), rng);
                }
                geo.block_idx = {x, y, z};
                run_block();
            }
    block = outer;
    geo = outer_geo;
}

struct Kernel { void (*call)(void *, void **); void *fn; };
static std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
void add(const char *name, void (*call)(void *, void **), void *fn) { kernels()[name] = {call, fn}; }
bool known(const char *name) { return kernels().count(name); }
extern "C" int emu_skip();

bool launch(const char *name, dim3 grid, dim3 size, void **params) {
    auto found = kernels().find(name);
    if (found == kernels().end()) return false;
    if (emu_skip()) return true;
    run(grid, size, found->second.call, found->second.fn, params);
    return true;
}
} // namespace emu
