// What Hopper (compute capability 9.0) has beyond older chips, one PTX instruction a function, in words.
//
// A tile's way: the copy engine (TMA) reads a box of a matrix from memory into shared memory and counts its bytes at a barrier
// there ("mbarrier"); the tensor cores (wgmma) read both operands from shared memory and add into registers, 128 threads (a
// "warpgroup") at a time; neither needs a thread to wait beside it. Blocks of a cluster run together and reach each other's
// shared memory. Names and operands: PTX ISA 8.0 and later, https://docs.nvidia.com/cuda/parallel-thread-execution.
#pragma once

typedef unsigned char uint8_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;

// How the copy engine finds boxes of a matrix; the host encodes it (driver.py), a kernel hands it on.
struct alignas(64) TensorMap {
    uint8_t bytes[128];
};

__device__ inline uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarriers: a phase ends once `count` threads have arrived and all the bytes announced have come. ----------------------

__device__ inline void init_barrier(uint64_t* barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count));
}

// Makes fresh barriers known to the copy engine and to the cluster's other blocks.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives at the same barrier of another block of the cluster (or of this one), as one who has read: nothing is published, for
// that would wait for all of the thread's writes.
__device__ inline void arrive_at_block(uint64_t* barrier, uint32_t block) {
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(shared_address(barrier)), "r"(block)
        : "memory");
}

__device__ inline void arrive_and_expect_bytes(uint64_t* barrier, uint32_t num_bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(num_bytes)
                 : "memory");
}

// Waits for the end of the phase of this parity: phases 0, 2, 4 ... have parity 0. A fresh barrier is in phase 0, so that
// waiting for parity 1 returns at once.
__device__ inline void wait(uint64_t* barrier, uint32_t parity) {
    asm volatile(
        "{ .reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again; }" ::"r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

// Whether the phase of this parity is over, without waiting.
__device__ inline bool has_ended(uint64_t* barrier, uint32_t parity) {
    uint32_t is_over;
    asm volatile(
        "{ .reg .pred over; mbarrier.test_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over; }"
        : "=r"(is_over)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    return is_over;
}

// ---- The ring of stages that copies and products share: which stage is next, and the parity of its barriers. ---------------

template <int num_stages>
struct Ring {
    int stage = 0;
    uint32_t parity = 0;

    __device__ inline void advance() {
        if (++stage == num_stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// ---- The copy engine. Coordinates count numbers from the matrix's origin, innermost first; beyond its ends come zeros. -----

__device__ inline void prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ inline void copy_box(void* to, const TensorMap* map, int column, int row, uint64_t* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
}

// Contiguous bytes; both addresses and the number are multiples of 16.
__device__ inline void copy_bytes(void* to, const void* from, uint32_t num_bytes, uint64_t* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(num_bytes), "r"(shared_address(barrier))
                 : "memory");
}

// The box goes to the same place in each block whose bit is set, and counts at each one's own barrier.
__device__ inline void copy_box_to_blocks(void* to, const TensorMap* map, int column, int row, uint64_t* barrier,
                                          unsigned short blocks) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(blocks)
        : "memory");
}

// What a thread wrote to shared memory with ordinary stores, the copy engine may read after this and a barrier.
__device__ inline void show_to_copy_engine() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void write_box(const TensorMap* map, int column, int row, const void* from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(column),
                 "r"(row), "r"(shared_address(from))
                 : "memory");
}

// Closes a thread's batch of writes.
__device__ inline void commit_writes() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until at most `pending` batches of this thread's still read shared memory.
template <int pending>
__device__ inline void wait_for_writes() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

// ---- Clusters, warps, registers. -------------------------------------------------------------------------------------------

// A number that all of a warp's threads have: the compiler learns that one register serves the warp.
__device__ inline int uniform(int value) { return __shfl_sync(0xffffffff, value, 0); }

// Constant memory's number, asked for here and not, as the compiler likes, shortly before it is needed.
__device__ inline float load_now(const float* from) {
    float value;
    asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(value) : "l"(from));
    return value;
}

// True for one thread of a warp whose 32 run here together. The compiler knows this instruction: copies, whose operands are a
// warp's, need no loop over the warp's threads behind it, as they do behind `threadIdx.x == 0`.
__device__ inline bool is_elected() {
    uint32_t is_one;
    asm volatile(
        "{ .reg .pred one; elect.sync _|one, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, one; }"
        : "=r"(is_one));
    return is_one;
}

__device__ inline uint32_t block_in_cluster() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ inline void sync_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A warpgroup gives registers back, or takes them: a block's 65,536 are dealt out evenly at its start.
template <int count>
__device__ inline void give_registers_back() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count>
__device__ inline void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// Four 8x8 matrices of 16-bit numbers from a warp's registers to shared memory: lane i holds in `values` two numbers of row
// i / 4 of each, and says where row i % 8 of matrix i / 8 goes.
__device__ inline void store_matrices(void* row, const uint32_t (&values)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                 "r"(values[0]), "r"(values[1]), "r"(values[2]), "r"(values[3])
                 : "memory");
}

// Two FP32 numbers to BF16, the first in the lower half, as memory has them.
__device__ inline uint32_t to_bf16(float first, float second) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}

// ---- Tensor cores: a warpgroup's sums (64, N) += A (64, 32) times B (N, 32) transposed, FP8 E4M3, both in shared memory. ---
//
// Lane i of the warpgroup's warp w holds sums[4 j + 2 h + c]: row 16 w + 8 h + i / 4, column 8 j + 2 (i % 4) + c.

// Where an operand lies: rows of 128 bytes, 16-byte pieces interchanged by the copy engine's 128-byte swizzle within each 8
// rows (1,024 bytes, to which tiles are aligned). 32 bytes further along a row is the descriptor + 2: it counts in 16 bytes.
__device__ inline uint64_t describe_operand(const void* tile) {
    constexpr uint64_t swizzled_128 = 1ull << 62, eight_rows = uint64_t(1024 >> 4) << 32, unused = 1ull << 16;
    return swizzled_128 | eight_rows | unused | (shared_address(tile) >> 4 & 0x3fff);
}

// Before the first product that uses registers which were written otherwise.
__device__ inline void fence_sums() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Closes a batch of products.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most `pending` batches run; `sums` may be read then, and by this the compiler knows.
template <int pending, int count>
__device__ inline void wait_for_products(float (&sums)[count]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#pragma unroll
    for (int i = 0; i < count; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

#define REGISTERS_8(i)                                                                                              \
    "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]),    \
        "+f"(sums[i + 6]), "+f"(sums[i + 7])

// N = 128. add: false writes the product, true adds it.
__device__ inline void multiply(float (&sums)[64], uint64_t a, uint64_t b, bool add) {
    asm volatile(
        "{ .reg .pred add; setp.ne.b32 add, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, "
        "%13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, "
        "%35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, "
        "%57, %58, %59, %60, %61, %62, %63}, %64, %65, add, 1, 1; }"
        : REGISTERS_8(0), REGISTERS_8(8), REGISTERS_8(16), REGISTERS_8(24), REGISTERS_8(32), REGISTERS_8(40),
          REGISTERS_8(48), REGISTERS_8(56)
        : "l"(a), "l"(b), "r"(int(add)));
}
