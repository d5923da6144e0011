// CUDA's words for a C++17 compiler, so that the text of kernels/*.cu runs on a CPU as it stands.
//
// Every thread of a block is a fiber: it runs until it ends or until it has to wait for others.
//
//     launch --> blocks, one after another, in a shuffled order
//                  |-- threads start in a shuffled order ----+
//                  |                                         v
//                  |   __syncthreads: waits for the whole block      nobody can run, some still wait:
//                  |   __shfl_*, mma_*, ldmatrix_*, __syncwarp:      the launch ends with a message
//                  |     waits for the lanes of its mask; the last
//                  |     one to come works for all of them
//                  +-- shared memory is filled with 0xFF (NaN) before each block
//
// A kernel that needs no other thread never waits, so its threads run one after another on one stack.
// What a GPU lets pass by luck is an error here: a barrier that a part of the block reaches, a warp
// primitive that a part of its mask reaches, threads that meet at different lines, an address that
// is not aligned. Atomics are for integers only, since a sum of floats would depend on the order.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>
#include <utility>
#include <vector>

#define __global__ __attribute__((unused))
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ const __attribute__((unused))
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
#define __shared__ static __attribute__((section("stand_in_shared")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(stand_in::dynamic_shared)

// ---------------------------------------------------------------------------------------- vector types

struct alignas(8) float2 { float x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) double4 { double x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct int3 { int x, y, z; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(4) short2 { short x, y; };
struct alignas(8) short4 { short x, y, z, w; };
struct alignas(4) ushort2 { unsigned short x, y; };
struct alignas(8) ushort4 { unsigned short x, y, z, w; };
struct alignas(2) uchar2 { unsigned char x, y; };
struct uchar3 { unsigned char x, y, z; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(16) longlong2 { long long x, y; };
struct alignas(16) ulonglong2 { unsigned long long x, y; };

#define STAND_IN_MAKE(...) __attribute__((unused)) static inline __VA_ARGS__
STAND_IN_MAKE(float2 make_float2(float x, float y)) { return {x, y}; }
STAND_IN_MAKE(float3 make_float3(float x, float y, float z)) { return {x, y, z}; }
STAND_IN_MAKE(float4 make_float4(float x, float y, float z, float w)) { return {x, y, z, w}; }
STAND_IN_MAKE(double2 make_double2(double x, double y)) { return {x, y}; }
STAND_IN_MAKE(double4 make_double4(double x, double y, double z, double w)) { return {x, y, z, w}; }
STAND_IN_MAKE(int2 make_int2(int x, int y)) { return {x, y}; }
STAND_IN_MAKE(int3 make_int3(int x, int y, int z)) { return {x, y, z}; }
STAND_IN_MAKE(int4 make_int4(int x, int y, int z, int w)) { return {x, y, z, w}; }
STAND_IN_MAKE(uint2 make_uint2(unsigned x, unsigned y)) { return {x, y}; }
STAND_IN_MAKE(uint3 make_uint3(unsigned x, unsigned y, unsigned z)) { return {x, y, z}; }
STAND_IN_MAKE(uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)) { return {x, y, z, w}; }
STAND_IN_MAKE(short2 make_short2(short x, short y)) { return {x, y}; }
STAND_IN_MAKE(ushort2 make_ushort2(unsigned short x, unsigned short y)) { return {x, y}; }
STAND_IN_MAKE(uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w)) {
  return {x, y, z, w};
}
STAND_IN_MAKE(longlong2 make_longlong2(long long x, long long y)) { return {x, y}; }
STAND_IN_MAKE(ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y)) { return {x, y}; }

// ------------------------------------------------------------------------------------ threads and blocks

struct dim3 { unsigned x = 1, y = 1, z = 1; };
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize __attribute__((unused)) = 32;

extern "C" {
extern char __start_stand_in_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_stand_in_shared[] __attribute__((weak, visibility("hidden")));

// What Python hands over, field for field (tests/stand_in/kernel.py: _Launch).
struct StandInLaunch {
  unsigned grid[3], block[3];
  uint64_t seed;
  uint64_t shared;  // bytes of dynamic shared memory
  char* dynamic;    // where it is; GUARD bytes follow it
  char* stacks;     // 1024 stacks
  uint64_t stack;   // bytes of one
  char message[1024];
};
}

#if defined(__x86_64__) && !defined(STAND_IN_UCONTEXT)
// Saves what a call must keep, changes stacks, goes on where that stack was left. swapcontext would ask the
// kernel for the signal mask each time.
asm(R"(
.text
.p2align 4
.local stand_in_switch
.type stand_in_switch, @function
stand_in_switch:
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
.size stand_in_switch, . - stand_in_switch
)");
extern "C" __attribute__((visibility("hidden"))) void stand_in_switch(void** save, void* load);
#else
#include <ucontext.h>
#define STAND_IN_USES_UCONTEXT
#endif

struct half;

namespace stand_in {

enum State { UNBORN, READY, AT_BARRIER, AT_WARP, ENDED };
constexpr unsigned FULL = 0xffffffffu;
constexpr unsigned MAX_THREADS = 1024;
constexpr uint64_t CANARY = 0x5ca1ab1e0ddba115ull;
constexpr size_t GUARD = 1024;

struct Copy { char* to; const char* from; bool valid; };

struct Fiber {
#ifdef STAND_IN_USES_UCONTEXT
  ucontext_t context;
#else
  void* sp;
#endif
  uint3 thread;
  unsigned index;
  State state;
  char* stack;
  const char* what;  // where it waits
  int line;
  unsigned mask;
  const void* in;
  void* out;
  std::vector<Copy> copies;    // asynchronous copies that have not arrived
  std::vector<size_t> groups;  // ends of committed groups in `copies`
};

static Fiber fibers[MAX_THREADS];
static Fiber* current;
static unsigned threads, ended, arrived, counted, queue_head, queue_size;
static unsigned order[MAX_THREADS], queue[MAX_THREADS], lanes_waiting[MAX_THREADS / 32];
static int barrier_count;  // threads with a true argument, for __syncthreads_or and its kin
static const char* barrier_what;
static int barrier_line;
static uint64_t random_state;
static std::vector<char*> free_stacks;
static char* dynamic_shared;
static StandInLaunch* launch;
static bool failed;
static void (*body)(void**);
static void** body_args;
static sigjmp_buf rescue;
static volatile sig_atomic_t running;
#ifdef STAND_IN_USES_UCONTEXT
static ucontext_t scheduler;
#else
static void* scheduler;
#endif

static inline uint64_t random() {  // xorshift64*
  random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
  return (random_state * 2685821657736338717ull) >> 16;
}

static inline void leave() {  // back to the scheduler
#ifdef STAND_IN_USES_UCONTEXT
  swapcontext(&current->context, &scheduler);
#else
  stand_in_switch(&current->sp, scheduler);
#endif
}

template <class... Args>
static void say(const char* text, Args... args) {
  if (failed) return;
  failed = true;
  int n = snprintf(launch->message, sizeof launch->message, "block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
  if (current)
    n += snprintf(launch->message + n, sizeof launch->message - n, ", thread (%u, %u, %u)", threadIdx.x, threadIdx.y,
                  threadIdx.z);
  n += snprintf(launch->message + n, sizeof launch->message - n, ": ");
  snprintf(launch->message + n, sizeof launch->message - n, text, args...);
}

// Ends the launch; the fiber that calls it is not resumed.
template <class... Args>
[[noreturn]] static void fail(const char* text, Args... args) {
  say(text, args...);
  for (;;) leave();
}

static void enter() {
  body(body_args);
  current->state = ENDED;
  for (;;) leave();
}

static inline void push(Fiber& fiber) {
  fiber.state = READY;
  unsigned tail = queue_head + queue_size++;
  queue[tail % MAX_THREADS] = fiber.index;
}

static void born(Fiber& fiber) {
  fiber.stack = free_stacks.back();
  free_stacks.pop_back();
  fiber.copies.clear();
  fiber.groups.clear();
  memcpy(fiber.stack, &CANARY, sizeof CANARY);
#ifdef STAND_IN_USES_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack + 16;
  fiber.context.uc_stack.ss_size = launch->stack - 16;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
#else
  void** top = reinterpret_cast<void**>(fiber.stack + launch->stack - 16);  // aligned to 16
  *--top = nullptr;                                                         // enter's return address
  *--top = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.sp = top;
#endif
  fiber.state = READY;
}

static void resume(Fiber& fiber) {
  if (fiber.state == UNBORN) born(fiber);
  current = &fiber;
  threadIdx = fiber.thread;
#ifdef STAND_IN_USES_UCONTEXT
  swapcontext(&scheduler, &fiber.context);
#else
  stand_in_switch(&scheduler, fiber.sp);
#endif
  if (memcmp(fiber.stack, &CANARY, sizeof CANARY) != 0) say("the stack overflowed (%llu bytes)",
                                                            static_cast<unsigned long long>(launch->stack));
  current = nullptr;
  if (fiber.state == ENDED) {
    ++ended;
    free_stacks.push_back(fiber.stack);
  }
}

static void report_deadlock() {
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    if (fiber.state != AT_BARRIER && fiber.state != AT_WARP) continue;
    unsigned same = 0;
    for (unsigned j = 0; j < threads; ++j)
      same += fibers[j].state == fiber.state && fibers[j].what == fiber.what && fibers[j].line == fiber.line;
    say("deadlock: %u of %u threads, thread (%u, %u, %u) among them, wait at %s in line %d; %u have ended, %u wait "
        "elsewhere", same, threads, fiber.thread.x, fiber.thread.y, fiber.thread.z, fiber.what, fiber.line, ended,
        threads - same - ended);
    return;
  }
}

static void run_block() {
  size_t fixed = __start_stand_in_shared ? __stop_stand_in_shared - __start_stand_in_shared : 0;
  if (fixed) memset(__start_stand_in_shared, 0xff, fixed);
  memset(dynamic_shared, 0xff, launch->shared + GUARD);
  for (unsigned i = 0; i < threads; ++i) fibers[i].state = UNBORN;
  memset(lanes_waiting, 0, sizeof lanes_waiting);
  ended = arrived = queue_head = queue_size = 0;
  barrier_count = 0;
  for (unsigned i = threads - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  const bool young_first = random() & 1;
  for (unsigned next = 0; !failed;) {
    if (next < threads && (young_first || !queue_size)) {
      resume(fibers[order[next++]]);
    } else if (queue_size) {
      unsigned index = queue[queue_head];
      queue_head = (queue_head + 1) % MAX_THREADS, --queue_size;
      resume(fibers[index]);
    } else {
      break;
    }
  }
  if (!failed && ended < threads) report_deadlock();
  for (size_t i = 0; i < GUARD && !failed; ++i)
    if (dynamic_shared[launch->shared + i] != '\xff')
      say("wrote %llu bytes behind the %llu bytes of dynamic shared memory", static_cast<unsigned long long>(i),
          static_cast<unsigned long long>(launch->shared));
}

static void on_signal(int number, siginfo_t* info, void*) {
  if (!running) {
    signal(number, SIG_DFL);
    return;
  }
  if (number == SIGFPE)
    say("divided an integer by zero");
  else
    say("accessed address %p, where there is no memory, or a vector at an address that is not aligned", info->si_addr);
  siglongjmp(rescue, 1);
}

static uint64_t gcd(uint64_t a, uint64_t b) { return b ? gcd(b, a % b) : a; }

static int run(StandInLaunch* what, void (*kernel)(void**), void** args) {
  launch = what, body = kernel, body_args = args;
  failed = false;
  current = nullptr;
  launch->message[0] = 0;
  dynamic_shared = launch->dynamic;
  random_state = launch->seed * 0x9e3779b97f4a7c15ull + 0x1234567;
  gridDim.x = launch->grid[0], gridDim.y = launch->grid[1], gridDim.z = launch->grid[2];
  blockDim.x = launch->block[0], blockDim.y = launch->block[1], blockDim.z = launch->block[2];
  threads = blockDim.x * blockDim.y * blockDim.z;
  for (unsigned i = 0; i < threads; ++i) {
    fibers[i].index = order[i] = i;
    fibers[i].thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  }
  free_stacks.clear();
  for (unsigned i = MAX_THREADS; i-- > 0;) free_stacks.push_back(launch->stacks + i * launch->stack);
  struct sigaction action, old_segv, old_bus, old_fpe;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &old_segv);
  sigaction(SIGBUS, &action, &old_bus);
  sigaction(SIGFPE, &action, &old_fpe);
  running = 1;
  if (!sigsetjmp(rescue, 1)) {
    const uint64_t blocks = static_cast<uint64_t>(gridDim.x) * gridDim.y * gridDim.z;
    uint64_t step = random() % blocks + 1;
    while (gcd(step, blocks) != 1) step = step % blocks + 1;
    uint64_t b = random() % blocks;
    for (uint64_t i = 0; i < blocks && !failed; ++i, b = (b + step) % blocks) {
      blockIdx = {static_cast<unsigned>(b % gridDim.x), static_cast<unsigned>(b / gridDim.x % gridDim.y),
                  static_cast<unsigned>(b / gridDim.x / gridDim.y)};
      run_block();
    }
  }
  running = 0;
  sigaction(SIGSEGV, &old_segv, nullptr);
  sigaction(SIGBUS, &old_bus, nullptr);
  sigaction(SIGFPE, &old_fpe, nullptr);
  return failed;
}

// Unpacks the arguments, each at its own address, and calls the kernel once a thread.
template <class... P, size_t... I>
static int start(StandInLaunch* what, void (*kernel)(P...), void** args, std::index_sequence<I...>) {
  static void (*target)(P...);
  target = kernel;
  return run(what, [](void** values) { (void)values, target(*static_cast<std::decay_t<P>*>(values[I])...); }, args);
}

template <class... P>
static int start(StandInLaunch* what, void (*kernel)(P...), void** args) {
  return start(what, kernel, args, std::index_sequence_for<P...>());
}

template <class... P>
static int describe(void (*)(P...), int* sizes) {  // bytes of each parameter; negative: pointer, 100 more: floating point
  const int all[] = {(std::is_pointer<P>::value ? -1 : 1) * static_cast<int>(sizeof(P)) +
                     (std::is_floating_point<P>::value || std::is_same<P, struct half>::value ? 100 : 0)..., 0};
  for (size_t i = 0; i < sizeof...(P); ++i) sizes[i] = all[i];
  return sizeof...(P);
}

// ------------------------------------------------------------------------------------------- barriers

static int barrier(const char* what, int line, int predicate) {
  Fiber& me = *current;
  if (arrived == 0) {
    barrier_what = what, barrier_line = line, barrier_count = 0;
  } else if (barrier_what != what || barrier_line != line) {
    fail("meets %s in line %d while others of its block are at %s in line %d", what, line, barrier_what, barrier_line);
  }
  barrier_count += predicate != 0;
  if (++arrived < threads) {
    me.state = AT_BARRIER, me.what = what, me.line = line;
    leave();
    return counted;
  }
  arrived = 0;
  counted = barrier_count;
  const unsigned offset = random() % threads, backward = random() & 1;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& other = fibers[order[(offset + (backward ? threads - i : i)) % threads]];
    if (&other != &me) push(other);
  }
  push(me);  // the last one to come waits for its turn like the others
  leave();
  return counted;
}

// Lanes of a mask meet; `complete(lanes, mask)` is called once, with every lane's `in` and `out`.
template <class F>
static void meet(const char* what, int line, unsigned mask, const void* in, void* out, F complete) {
  Fiber& me = *current;
  const unsigned warp = me.index / 32, lane = me.index % 32;
  Fiber* lanes = &fibers[warp * 32];
  if (!(mask >> lane & 1)) fail("%s in line %d: the mask %#x leaves out lane %u, which calls it", what, line, mask, lane);
  if (threads - warp * 32 < 32 && mask >> (threads - warp * 32))
    fail("%s in line %d: the mask %#x names lanes that the block of %u threads does not have", what, line, mask, threads);
  me.state = AT_WARP, me.what = what, me.line = line, me.mask = mask, me.in = in, me.out = out;
  lanes_waiting[warp] |= 1u << lane;
  if ((lanes_waiting[warp] & mask) != mask) {
    leave();
    return;
  }
  for (unsigned i = 0; i < 32; ++i)
    if ((mask >> i & 1) && (lanes[i].what != what || lanes[i].line != line || lanes[i].mask != mask))
      fail("%s in line %d, mask %#x: lane %u of the same warp is at %s in line %d, mask %#x", what, line, mask, i,
           lanes[i].what, lanes[i].line, lanes[i].mask);
  complete(lanes, mask);
  lanes_waiting[warp] &= ~mask;
  const unsigned offset = random() % 32;
  for (unsigned i = 0; i < 32; ++i) {
    const unsigned other = (i + offset) % 32;
    if ((mask >> other & 1) && other != lane) push(lanes[other]);
  }
  me.state = READY;
}

template <class T, class F>
static T shuffle(const char* what, int line, unsigned mask, T value, int width, F source) {
  static_assert(std::is_arithmetic<T>::value || sizeof(T) <= 4, "numbers only");
  if (width < 1 || width > 32 || (width & (width - 1))) fail("%s in line %d: width %d", what, line, width);
  T result = value;
  meet(what, line, mask, &value, &result, [&](Fiber* lanes, unsigned members) {
    for (int i = 0; i < 32; ++i) {
      if (!(members >> i & 1)) continue;
      int from = source(i, i / width * width);  // -1: keeps its own
      if (from < 0) from = i;
      if (!(members >> from & 1)) fail("%s in line %d: lane %d reads lane %d, which the mask leaves out", what, line, i, from);
      *static_cast<T*>(lanes[i].out) = *static_cast<const T*>(lanes[from].in);
    }
  });
  return result;
}

static unsigned vote(const char* what, int line, unsigned mask, int predicate) {
  unsigned result = 0;
  meet(what, line, mask, &predicate, &result, [](Fiber* lanes, unsigned members) {
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i)
      if (members >> i & 1) votes |= static_cast<unsigned>(*static_cast<const int*>(lanes[i].in) != 0) << i;
    for (int i = 0; i < 32; ++i)
      if (members >> i & 1) *static_cast<unsigned*>(lanes[i].out) = votes;
  });
  return result;
}

}  // namespace stand_in

#define STAND_IN_FUNCTION __attribute__((unused)) static inline
#define STAND_IN_LINE int line = __builtin_LINE()

STAND_IN_FUNCTION void __syncthreads(STAND_IN_LINE) { stand_in::barrier("__syncthreads", line, 0); }
STAND_IN_FUNCTION int __syncthreads_or(int p, STAND_IN_LINE) { return stand_in::barrier("__syncthreads_or", line, p) > 0; }
STAND_IN_FUNCTION int __syncthreads_and(int p, STAND_IN_LINE) {
  return stand_in::barrier("__syncthreads_and", line, !p) == 0;
}
STAND_IN_FUNCTION int __syncthreads_count(int p, STAND_IN_LINE) {
  return stand_in::barrier("__syncthreads_count", line, p);
}
STAND_IN_FUNCTION void __syncwarp(unsigned mask = stand_in::FULL, STAND_IN_LINE) {
  stand_in::meet("__syncwarp", line, mask, nullptr, nullptr, [](stand_in::Fiber*, unsigned) {});
}
STAND_IN_FUNCTION unsigned __ballot_sync(unsigned mask, int p, STAND_IN_LINE) {
  return stand_in::vote("__ballot_sync", line, mask, p);
}
STAND_IN_FUNCTION int __any_sync(unsigned mask, int p, STAND_IN_LINE) {
  return stand_in::vote("__any_sync", line, mask, p) != 0;
}
STAND_IN_FUNCTION int __all_sync(unsigned mask, int p, STAND_IN_LINE) {
  return stand_in::vote("__all_sync", line, mask, !p) == 0;
}
template <class T>
STAND_IN_FUNCTION T __shfl_sync(unsigned mask, T value, int from, int width = 32, STAND_IN_LINE) {
  struct Pair { T value; int from; } pair = {value, from};
  T result = value;
  stand_in::meet("__shfl_sync", line, mask, &pair, &result, [&](stand_in::Fiber* lanes, unsigned members) {
    for (int i = 0; i < 32; ++i) {
      if (!(members >> i & 1)) continue;
      const int source = i / width * width + (static_cast<const Pair*>(lanes[i].in)->from & (width - 1));
      if (!(members >> source & 1))
        stand_in::fail("__shfl_sync in line %d: lane %d reads lane %d, which the mask leaves out", line, i, source);
      *static_cast<T*>(lanes[i].out) = static_cast<const Pair*>(lanes[source].in)->value;
    }
  });
  return result;
}
template <class T>
STAND_IN_FUNCTION T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, STAND_IN_LINE) {
  return stand_in::shuffle("__shfl_xor_sync", line, mask, value, width,
                           [=](int i, int base) { return (i ^ lanes) < base + width ? i ^ lanes : -1; });
}
template <class T>
STAND_IN_FUNCTION T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, STAND_IN_LINE) {
  return stand_in::shuffle("__shfl_down_sync", line, mask, value, width, [=](int i, int base) {
    return i + static_cast<int>(delta) < base + width ? i + static_cast<int>(delta) : -1;
  });
}
template <class T>
STAND_IN_FUNCTION T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, STAND_IN_LINE) {
  return stand_in::shuffle("__shfl_up_sync", line, mask, value, width, [=](int i, int base) {
    return i - static_cast<int>(delta) >= base ? i - static_cast<int>(delta) : -1;
  });
}
STAND_IN_FUNCTION void __threadfence() {}
STAND_IN_FUNCTION void __threadfence_block() {}
[[noreturn]] STAND_IN_FUNCTION void __trap(STAND_IN_LINE) { stand_in::fail("__trap() in line %d", line); }

// -------------------------------------------------------------------------------------------- numbers

namespace stand_in {
template <class To, class From>
static inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "same width");
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}
template <class A, class B>
using Common = std::common_type_t<A, B>;
template <class A, class B>
using Numbers = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, Common<A, B>>;
}  // namespace stand_in

// CUDA's max and min of floating-point numbers prefer the number to NaN, as fmax and fmin do.
template <class A, class B>
STAND_IN_FUNCTION stand_in::Numbers<A, B> max(A a, B b) {
  const stand_in::Common<A, B> x = a, y = b;
  if constexpr (std::is_floating_point<stand_in::Common<A, B>>::value) return fmax(x, y);
  return x < y ? y : x;
}
template <class A, class B>
STAND_IN_FUNCTION stand_in::Numbers<A, B> min(A a, B b) {
  const stand_in::Common<A, B> x = a, y = b;
  if constexpr (std::is_floating_point<stand_in::Common<A, B>>::value) return fmin(x, y);
  return y < x ? y : x;
}

STAND_IN_FUNCTION float rsqrtf(float x) { return 1.0f / sqrtf(x); }
STAND_IN_FUNCTION float rsqrt(float x) { return 1.0f / sqrtf(x); }
STAND_IN_FUNCTION double rsqrt(double x) { return 1.0 / sqrt(x); }
// glibc has functions of these names in its headers.
#define __expf stand_in_expf
#define __logf stand_in_logf
#define __log2f stand_in_log2f
#define __powf stand_in_powf
#define __sinf stand_in_sinf
#define __cosf stand_in_cosf
STAND_IN_FUNCTION float stand_in_expf(float x) { return expf(x); }
STAND_IN_FUNCTION float stand_in_logf(float x) { return logf(x); }
STAND_IN_FUNCTION float stand_in_log2f(float x) { return log2f(x); }
STAND_IN_FUNCTION float stand_in_powf(float x, float y) { return powf(x, y); }
STAND_IN_FUNCTION float stand_in_sinf(float x) { return sinf(x); }
STAND_IN_FUNCTION float stand_in_cosf(float x) { return cosf(x); }
STAND_IN_FUNCTION float __fdividef(float x, float y) { return x / y; }
STAND_IN_FUNCTION float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
STAND_IN_FUNCTION float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
STAND_IN_FUNCTION float __fadd_rn(float x, float y) { return x + y; }
STAND_IN_FUNCTION float __fsub_rn(float x, float y) { return x - y; }
STAND_IN_FUNCTION float __fmul_rn(float x, float y) { return x * y; }
STAND_IN_FUNCTION float __fdiv_rn(float x, float y) { return x / y; }
STAND_IN_FUNCTION float __frcp_rn(float x) { return 1.0f / x; }
STAND_IN_FUNCTION float __fsqrt_rn(float x) { return sqrtf(x); }
STAND_IN_FUNCTION double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
STAND_IN_FUNCTION double __dadd_rn(double x, double y) { return x + y; }
STAND_IN_FUNCTION double __dsub_rn(double x, double y) { return x - y; }
STAND_IN_FUNCTION double __dmul_rn(double x, double y) { return x * y; }
STAND_IN_FUNCTION double __ddiv_rn(double x, double y) { return x / y; }
STAND_IN_FUNCTION double __dsqrt_rn(double x) { return sqrt(x); }
STAND_IN_FUNCTION int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
STAND_IN_FUNCTION int __float2int_rz(float x) { return static_cast<int>(x); }
STAND_IN_FUNCTION int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
STAND_IN_FUNCTION int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
STAND_IN_FUNCTION float __int2float_rn(int x) { return static_cast<float>(x); }
STAND_IN_FUNCTION float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
STAND_IN_FUNCTION float __double2float_rn(double x) { return static_cast<float>(x); }
STAND_IN_FUNCTION int __float_as_int(float x) { return stand_in::bits<int>(x); }
STAND_IN_FUNCTION unsigned __float_as_uint(float x) { return stand_in::bits<unsigned>(x); }
STAND_IN_FUNCTION float __int_as_float(int x) { return stand_in::bits<float>(x); }
STAND_IN_FUNCTION float __uint_as_float(unsigned x) { return stand_in::bits<float>(x); }
STAND_IN_FUNCTION long long __double_as_longlong(double x) { return stand_in::bits<long long>(x); }
STAND_IN_FUNCTION double __longlong_as_double(long long x) { return stand_in::bits<double>(x); }
STAND_IN_FUNCTION unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32);
}
STAND_IN_FUNCTION int __mulhi(int x, int y) { return static_cast<int>(static_cast<long long>(x) * y >> 32); }
STAND_IN_FUNCTION unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
STAND_IN_FUNCTION int __popc(unsigned x) { return __builtin_popcount(x); }
STAND_IN_FUNCTION int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
STAND_IN_FUNCTION int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
STAND_IN_FUNCTION int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
STAND_IN_FUNCTION int __ffs(int x) { return __builtin_ffs(x); }
STAND_IN_FUNCTION int __ffsll(long long x) { return __builtin_ffsll(x); }
STAND_IN_FUNCTION unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1u) << (31 - i);
  return result;
}
template <class T>
STAND_IN_FUNCTION T __ldg(const T* address) { return *address; }

// ------------------------------------------------------------------------------ half: 1 + 5 + 10 bits

namespace stand_in {
static inline uint16_t to_half_bits(float value) {  // to nearest, ties to even
  const uint32_t x = bits<uint32_t>(value), sign = x >> 16 & 0x8000, magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(0x7fff);                      // CUDA's NaN
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);              // from 65520 on: infinity
  if (magnitude < 0x38800000) {                                                          // subnormal: units of 2^-24
    const float scaled = rintf(bits<float>(magnitude) * 16777216.0f);
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(scaled));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112 << 10)));
}
static inline float from_half_bits(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 31) return bits<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(mantissa) * (1.0f / 16777216.0f);
  return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}
static inline uint16_t to_half_bits(double value) {  // once, not by way of float: through round-to-odd
  float near = static_cast<float>(value);
  if (static_cast<double>(near) != value && !(bits<uint32_t>(near) & 1)) {
    const bool up = fabs(static_cast<double>(near)) < fabs(value);
    near = bits<float>(bits<uint32_t>(near) + (up ? 1u : ~0u));
  }
  return to_half_bits(near);
}
}  // namespace stand_in

struct half {
  uint16_t raw;
  half() = default;
  half(float value) : raw(stand_in::to_half_bits(value)) {}
  half(double value) : raw(stand_in::to_half_bits(value)) {}
  half(int value) : raw(stand_in::to_half_bits(static_cast<double>(value))) {}
  half(unsigned value) : raw(stand_in::to_half_bits(static_cast<double>(value))) {}
  operator float() const { return stand_in::from_half_bits(raw); }
  half& operator+=(half other) { return *this = half(float(*this) + float(other)); }
  half& operator-=(half other) { return *this = half(float(*this) - float(other)); }
  half& operator*=(half other) { return *this = half(float(*this) * float(other)); }
};
typedef half __half;
STAND_IN_FUNCTION half operator+(half a, half b) { return half(float(a) + float(b)); }
STAND_IN_FUNCTION half operator-(half a, half b) { return half(float(a) - float(b)); }
STAND_IN_FUNCTION half operator*(half a, half b) { return half(float(a) * float(b)); }
STAND_IN_FUNCTION half operator/(half a, half b) { return half(float(a) / float(b)); }
STAND_IN_FUNCTION bool operator<(half a, half b) { return float(a) < float(b); }
STAND_IN_FUNCTION bool operator>(half a, half b) { return float(a) > float(b); }
STAND_IN_FUNCTION half __float2half(float x) { return half(x); }
STAND_IN_FUNCTION half __float2half_rn(float x) { return half(x); }
STAND_IN_FUNCTION half __double2half(double x) { return half(x); }
STAND_IN_FUNCTION float __half2float(half x) { return x; }
STAND_IN_FUNCTION unsigned short __half_as_ushort(half x) { return x.raw; }
STAND_IN_FUNCTION half __ushort_as_half(unsigned short x) { return stand_in::bits<half>(x); }
STAND_IN_FUNCTION half __hadd(half a, half b) { return a + b; }
STAND_IN_FUNCTION half __hsub(half a, half b) { return a - b; }
STAND_IN_FUNCTION half __hmul(half a, half b) { return a * b; }
STAND_IN_FUNCTION half __hfma(half a, half b, half c) {
  return half(static_cast<double>(float(a)) * float(b) + float(c));
}
STAND_IN_FUNCTION half __hmax(half a, half b) { return half(fmaxf(a, b)); }
STAND_IN_FUNCTION half __hmin(half a, half b) { return half(fminf(a, b)); }

struct alignas(4) half2 {
  half x, y;
  half2() = default;
  half2(half low, half high) : x(low), y(high) {}
};
typedef half2 __half2;
STAND_IN_FUNCTION half2 make_half2(half x, half y) { return half2(x, y); }
STAND_IN_FUNCTION half2 __halves2half2(half x, half y) { return half2(x, y); }
STAND_IN_FUNCTION half2 __floats2half2_rn(float x, float y) { return half2(half(x), half(y)); }
STAND_IN_FUNCTION half2 __float22half2_rn(float2 v) { return half2(half(v.x), half(v.y)); }
STAND_IN_FUNCTION half2 __float2half2_rn(float x) { return half2(half(x), half(x)); }
STAND_IN_FUNCTION float2 __half22float2(half2 v) { return {v.x, v.y}; }
STAND_IN_FUNCTION half __low2half(half2 v) { return v.x; }
STAND_IN_FUNCTION half __high2half(half2 v) { return v.y; }
STAND_IN_FUNCTION float __low2float(half2 v) { return v.x; }
STAND_IN_FUNCTION float __high2float(half2 v) { return v.y; }
STAND_IN_FUNCTION half2 __hadd2(half2 a, half2 b) { return half2(a.x + b.x, a.y + b.y); }
STAND_IN_FUNCTION half2 __hmul2(half2 a, half2 b) { return half2(a.x * b.x, a.y * b.y); }

// -------------------------------------------------------------------- atomics: integers, old value back

#define STAND_IN_ATOMIC(name, T, next)                     \
  STAND_IN_FUNCTION T name(T* address, T value) {          \
    const T old = *address;                                \
    *address = next;                                       \
    return old;                                            \
  }
#define STAND_IN_ATOMICS(T)                                           \
  STAND_IN_ATOMIC(atomicAdd, T, static_cast<T>(old + value))          \
  STAND_IN_ATOMIC(atomicMax, T, old < value ? value : old)            \
  STAND_IN_ATOMIC(atomicMin, T, value < old ? value : old)            \
  STAND_IN_ATOMIC(atomicAnd, T, old & value)                          \
  STAND_IN_ATOMIC(atomicOr, T, old | value)                           \
  STAND_IN_ATOMIC(atomicXor, T, old ^ value)                          \
  STAND_IN_ATOMIC(atomicExch, T, value)                               \
  STAND_IN_FUNCTION T atomicCAS(T* address, T compare, T value) {     \
    const T old = *address;                                           \
    if (old == compare) *address = value;                             \
    return old;                                                       \
  }
STAND_IN_ATOMICS(int)
STAND_IN_ATOMICS(unsigned)
STAND_IN_ATOMICS(unsigned long long)
STAND_IN_ATOMIC(atomicSub, int, old - value)
STAND_IN_ATOMIC(atomicSub, unsigned, old - value)

// -------------------------------------- matrix products of a warp and copies in flight: kernels/mma.cuh
//
// Fragments as in the PTX manual, lane = 4 g + t: D[g + 8 (i / 2)][2 t + i % 2] = d[i] for both products.

STAND_IN_FUNCTION unsigned to_tf32(float value) {  // 10 bits of mantissa, to nearest, ties away from zero
  const unsigned x = stand_in::bits<unsigned>(value);
  return (x & 0x7f800000) == 0x7f800000 ? x : (x + 0x1000) & 0xffffe000;
}

namespace stand_in {

struct Fragments { const unsigned *a, *b; const float* c; };

template <int K, class SetA, class SetB>
static void product(Fiber* lanes, SetA set_a, SetB set_b) {
  float a[16][K], b[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& own = *static_cast<const Fragments*>(lanes[lane].in);
    set_a(a, own.a, lane / 4, lane % 4);
    set_b(b, own.b, lane / 4, lane % 4);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& own = *static_cast<const Fragments*>(lanes[lane].in);
    float* d = static_cast<float*>(lanes[lane].out);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = own.c[i];
      for (int k = 0; k < K; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
      d[i] = static_cast<float>(sum);
    }
  }
}

static inline void unpack(float* to, size_t step, unsigned pair) {
  to[0] = from_half_bits(static_cast<uint16_t>(pair));
  to[step] = from_half_bits(static_cast<uint16_t>(pair >> 16));
}

// Four 8x8 matrices of 16 bits; lane 8 i + j gives the address of row j of matrix i.
template <class Take>
static void load_matrices(const char* what, int line, unsigned (&r)[4], const void* row, Take take) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail("%s in line %d: a row that is not aligned to 16 bytes", what, line);
  meet(what, line, FULL, row, r, [=](Fiber* lanes, unsigned) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const void* rows[8];
        for (int j = 0; j < 8; ++j) rows[j] = lanes[8 * i + j].in;
        static_cast<unsigned*>(lanes[lane].out)[i] = take(rows, lane);
      }
  });
}

static inline unsigned element(const void* row, int column) { return static_cast<const uint16_t*>(row)[column]; }

}  // namespace stand_in

STAND_IN_FUNCTION void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], STAND_IN_LINE) {
  using namespace stand_in;
  const float before[4] = {d[0], d[1], d[2], d[3]};
  const Fragments own = {a, b, before};
  meet("mma_m16n8k16_f16", line, FULL, &own, d, [](Fiber* lanes, unsigned) {
    product<16>(lanes,
                [](float (&m)[16][16], const unsigned* r, int g, int t) {
                  for (int i = 0; i < 4; ++i) unpack(&m[g + i % 2 * 8][2 * t + i / 2 * 8], 1, r[i]);
                },
                [](float (&m)[16][8], const unsigned* r, int g, int t) {
                  for (int i = 0; i < 2; ++i) unpack(&m[2 * t + i * 8][g], 8, r[i]);
                });
  });
}

STAND_IN_FUNCTION void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], STAND_IN_LINE) {
  using namespace stand_in;
  const float before[4] = {d[0], d[1], d[2], d[3]};
  const Fragments own = {a, b, before};
  meet("mma_m16n8k8_tf32", line, FULL, &own, d, [](Fiber* lanes, unsigned) {
    product<8>(lanes,
               [](float (&m)[16][8], const unsigned* r, int g, int t) {
                 for (int i = 0; i < 4; ++i) m[g + i % 2 * 8][t + i / 2 * 4] = bits<float>(r[i] & 0xffffe000);
               },
               [](float (&m)[8][8], const unsigned* r, int g, int t) {
                 for (int i = 0; i < 2; ++i) m[t + i * 4][g] = bits<float>(r[i] & 0xffffe000);
               });
  });
}

STAND_IN_FUNCTION void ldmatrix_x4(unsigned (&r)[4], const void* shared_row, STAND_IN_LINE) {
  stand_in::load_matrices("ldmatrix_x4", line, r, shared_row, [](const void** rows, int lane) {
    const int column = lane % 4 * 2;
    return stand_in::element(rows[lane / 4], column) | stand_in::element(rows[lane / 4], column + 1) << 16;
  });
}

STAND_IN_FUNCTION void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row, STAND_IN_LINE) {
  stand_in::load_matrices("ldmatrix_x4_trans", line, r, shared_row, [](const void** rows, int lane) {
    const int row = lane % 4 * 2, column = lane / 4;
    return stand_in::element(rows[row], column) | stand_in::element(rows[row + 1], column) << 16;
  });
}

// The bytes arrive when they are waited for, not before; until then the target holds 0xFF.
STAND_IN_FUNCTION void cp_async_16(void* shared, const void* global, bool valid, STAND_IN_LINE) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || (valid && reinterpret_cast<uintptr_t>(global) % 16))
    stand_in::fail("cp_async_16 in line %d: an address that is not aligned to 16 bytes", line);
  memset(shared, 0xff, 16);
  stand_in::current->copies.push_back({static_cast<char*>(shared), static_cast<const char*>(global), valid});
}

STAND_IN_FUNCTION void cp_async_commit() {
  stand_in::current->groups.push_back(stand_in::current->copies.size());
}

template <int N>
STAND_IN_FUNCTION void cp_async_wait() {
  stand_in::Fiber& me = *stand_in::current;
  if (me.groups.size() <= N) return;
  const size_t groups = me.groups.size() - N, count = me.groups[groups - 1];
  for (size_t i = 0; i < count; ++i) {
    if (me.copies[i].valid)
      memcpy(me.copies[i].to, me.copies[i].from, 16);
    else
      memset(me.copies[i].to, 0, 16);
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<long>(count));
  me.groups.erase(me.groups.begin(), me.groups.begin() + static_cast<long>(groups));
  for (size_t& end : me.groups) end -= count;
}

// Entry points for Python, one pair a kernel.
#define STAND_IN_KERNEL(name)                                                                                          \
  extern "C" __attribute__((visibility("default"))) int stand_in_run_##name(StandInLaunch* launch, void** args) {      \
    return stand_in::start(launch, &name, args);                                                                       \
  }                                                                                                                    \
  extern "C" __attribute__((visibility("default"))) int stand_in_describe_##name(int* sizes) {                         \
    return stand_in::describe(&name, sizes);                                                                           \
  }
