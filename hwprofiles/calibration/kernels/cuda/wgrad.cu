// Weight gradients, FP8 with scales by tile: of each group's tokens, out[group] (N, K) = left (N, P) times right (K, P) transposed,
// in FP32, written or added. Both operands lie with the tokens innermost, in tiles of 128 tokens with a scale each: scales
// (P / 128, N) and (P / 128, K). Tokens of group g are [ends[g - 1], ends[g]), multiples of 128.
//
// Tensor cores sum 128 tokens with too few bits to go on; CUDA cores multiply each number of that sum by its row's and its
// column's scale and add it to an FP32 one ("promotion", DeepSeek-V3 report 3.3.2).
//
// A block stays on its multiprocessor and walks over tiles (TILE_ROWS, COLUMNS) of out. Its last warpgroup is one thread that
// starts copies into a ring of STAGES, each 128 tokens; the others multiply, each half of a tile's rows, 64 at a time: while one
// promotes, the other's products run. CLUSTER blocks take tiles beside each other, of the same rows: each copies its part of
// these rows to all of them.
//
// Constants of the compiler, which wgrad.py chooses: TILE_ROWS, STAGES, CLUSTER, BAND (rows of tiles that are done together, so
// that what they share stays in the L2 cache), MOST_GROUPS, ACCUMULATE.
#include "hopper.cuh"

constexpr int DEPTH = 128;  // tokens of a stage: a row is the 128 bytes that are swizzled, and has one scale
constexpr int COLUMNS = 128, WARPGROUP = 128, WARP = 32, NUM_MATH_GROUPS = 2, NUM_MATH_WARPS = NUM_MATH_GROUPS * 4;
constexpr int NUM_THREADS = (1 + NUM_MATH_GROUPS) * WARPGROUP;
constexpr int WAVE_ROWS = 64, GROUP_ROWS = TILE_ROWS / NUM_MATH_GROUPS, WAVES = GROUP_ROWS / WAVE_ROWS;
constexpr int NUM_SUMS = 64;            // a thread's, of a wave: 64 x 128 / 128
constexpr int NUM_CHUNKS = 8, CHUNK = 16;  // of columns: in each a thread has 4 beside each other, of 2 rows

struct Shared {
    alignas(1024) uint8_t left[STAGES][TILE_ROWS * DEPTH];
    alignas(1024) uint8_t right[STAGES][COLUMNS * DEPTH];
    alignas(128) float left_scales[STAGES][TILE_ROWS];
    alignas(128) float right_scales[STAGES][COLUMNS];
    int ends[MOST_GROUPS];
    uint64_t full[STAGES], empty[STAGES];
};
constexpr int STAGE_BYTES = (TILE_ROWS + COLUMNS) * (DEPTH + int(sizeof(float)));

struct Sizes {
    int num_groups, num_tokens, num_rows, num_columns;
};

// Where a tile begins, of how many stages from which token on, and with what sums: where a group's ends are no multiples of 128 it
// has no product, and NaN says so.
struct Tile {
    int group, row, column, token, num_stages;
    float start;
};

// A warp's: ends none of which is beyond the tokens, or before the one in front of it.
__device__ inline void read_ends(Shared& shared, const int* ends, const Sizes& sizes) {
    const int lane = threadIdx.x % WARP;
    int before = 0;
    for (int first = 0; first < sizes.num_groups; first += WARP) {
        const int group = first + lane;
        int end = max(before, group < sizes.num_groups ? min(ends[group], sizes.num_tokens) : 0);
        for (int distance = 1; distance < WARP; distance *= 2) end = max(end, __shfl_up_sync(0xffffffff, end, distance));
        if (group < sizes.num_groups) shared.ends[group] = end;
        before = __shfl_sync(0xffffffff, end, WARP - 1);
    }
}

// The tile of this block that comes as its cluster's `index`-th of all; beyond the last there is a group of that number.
__device__ inline Tile tile_of(int index, const Shared& shared, const Sizes& sizes) {
    const int rows_of_tiles = (sizes.num_rows + TILE_ROWS - 1) / TILE_ROWS;
    const int columns_of_tiles = (sizes.num_columns + CLUSTER * COLUMNS - 1) / (CLUSTER * COLUMNS);
    Tile tile;
    tile.group = index / (rows_of_tiles * columns_of_tiles);
    if (tile.group >= sizes.num_groups) return tile;
    const int within = index - tile.group * rows_of_tiles * columns_of_tiles, band = within / (BAND * columns_of_tiles);
    const int in_band = within - band * BAND * columns_of_tiles, height = min(BAND, rows_of_tiles - band * BAND);
    tile.row = (band * BAND + in_band % height) * TILE_ROWS;
    tile.column = (in_band / height * CLUSTER + int(block_in_cluster())) * COLUMNS;
    tile.token = tile.group ? shared.ends[tile.group - 1] : 0;
    const bool is_whole = (shared.ends[tile.group] | tile.token) % DEPTH == 0;
    tile.num_stages = is_whole ? (shared.ends[tile.group] - tile.token) / DEPTH : 0;
    tile.start = is_whole ? 0 : __int_as_float(0x7fffffff);  // NaN
    return tile;
}

// The right operand's rows in the order in which the product shall have its columns: of 16, row 4 q + 2 h + c as number
// 8 h + 2 q + c. A thread has columns 2 q + c of each 8 of a product (hopper.cuh), and so 4 of out beside each other.
__device__ inline void copy_in_products_order(void* to, const TensorMap* right, int token, int column, uint64_t* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, 0, 0, 0, %3}], [%4];" ::"r"(
            shared_address(to)),
        "l"(right), "r"(token), "r"(column / CHUNK), "r"(shared_address(barrier))
        : "memory");
}

// One thread: tiles of both operands and their scales, as fast as stages become free.
__device__ void copy_tiles(Shared& shared, const Sizes& sizes, const TensorMap& left, const TensorMap& right,
                           const TensorMap& left_scales, const TensorMap& right_scales) {
    constexpr int PART = TILE_ROWS / CLUSTER;  // of the rows, that this block copies to its cluster
    const int part = int(block_in_cluster()) * PART;
    Ring<STAGES> ring;
    for (int index = blockIdx.x / CLUSTER;; index += gridDim.x / CLUSTER) {
        const Tile tile = tile_of(index, shared, sizes);
        if (tile.group >= sizes.num_groups) return;
#pragma unroll 1
        for (int step = 0; step < tile.num_stages; ++step) {
            const int token = tile.token + step * DEPTH, stage = ring.stage;
            uint64_t* full = &shared.full[stage];
            wait(&shared.empty[stage], ring.parity ^ 1);
            arrive_and_expect_bytes(full, STAGE_BYTES);
            if (CLUSTER > 1)
                copy_box_to_blocks(shared.left[stage] + part * DEPTH, &left, token, tile.row + part, full, (1 << CLUSTER) - 1);
            else
                copy_box(shared.left[stage], &left, token, tile.row, full);
            copy_in_products_order(shared.right[stage], &right, token, tile.column, full);
            copy_box(shared.left_scales[stage], &left_scales, tile.row, token / DEPTH, full);
            copy_box(shared.right_scales[stage], &right_scales, tile.column, token / DEPTH, full);
            ring.advance();
        }
    }
}

// sums += products x scales. rows: scales of the thread's two rows; columns: of its columns, 4 a chunk.
__device__ inline void promote(float (&sums)[NUM_SUMS], const float (&products)[NUM_SUMS], const float (&rows)[2],
                               const float4 (&columns)[NUM_CHUNKS]) {
#pragma unroll
    for (int chunk = 0; chunk < NUM_CHUNKS; ++chunk) {
        const float4 four = columns[chunk];
        const float scales[2][2] = {{four.x, four.y}, {four.z, four.w}};
#pragma unroll
        for (int i = 0; i < 8; ++i)  // 4 numbers of each 8 columns of the product: 2 of a row, 2 of the other
            sums[8 * chunk + i] += products[8 * chunk + i] * (rows[i / 2 % 2] * scales[i / 4][i % 2]);
    }
}

__device__ inline void write_four(float* to, float4 four) {
#if ACCUMULATE
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(four.x), "f"(four.y), "f"(four.z), "f"(four.w)
                 : "memory");
#else
    *reinterpret_cast<float4*>(to) = four;
#endif
}

// A warpgroup's sums go to out, 4 at a time: 64 bytes of each of 8 rows with one instruction of a warp.
__device__ inline void write_sums(const float (&sums)[WAVES][NUM_SUMS], const Tile& tile, const Sizes& sizes, float* out) {
    if (ACCUMULATE && tile.num_stages == 0 && tile.start == 0) return;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int first_row = tile.row + warp / 4 * GROUP_ROWS + warp % 4 * 16 + lane / 4, column = tile.column + lane % 4 * 4;
#pragma unroll
    for (int wave = 0; wave < WAVES; ++wave) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + wave * WAVE_ROWS + half * 8;
            if (row >= sizes.num_rows) continue;
            float* to = out + (uint64_t(tile.group) * sizes.num_rows + row) * sizes.num_columns + column;
#pragma unroll
            for (int chunk = 0; chunk < NUM_CHUNKS; ++chunk) {
                const float* s = sums[wave] + 8 * chunk + 2 * half;
                if (column + chunk * CHUNK < sizes.num_columns) write_four(to + chunk * CHUNK, {s[0], s[1], s[4], s[5]});
            }
        }
    }
}

// Of shared memory by its own 32-bit address: a pointer takes a second register.
__device__ inline float4 read_four(uint32_t from) {
    float4 four;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(four.x), "=f"(four.y), "=f"(four.z), "=f"(four.w) : "r"(from));
    return four;
}

__device__ inline float read_one(uint32_t from) {
    float one;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(one) : "r"(from));
    return one;
}

// A warpgroup: half of each tile's rows, 64 at a time ("a wave"). Of its 240 registers a thread has 128 for sums, 64 for products
// and 36 for scales, so that little else may live through the loop: a tile's place is found again after it.
__device__ void multiply_tiles(Shared& shared, const Sizes& sizes, float* out) {
    const int group = uniform(threadIdx.x / WARPGROUP), warp = threadIdx.x / WARP % 4, lane = threadIdx.x % WARP;
    uint32_t own_rows = shared_address(&shared.left_scales[0][group * GROUP_ROWS + warp * 16 + lane / 4]);
    uint32_t own_columns = shared_address(&shared.right_scales[0][lane % 4 * 4]);
    asm volatile("" : "+r"(own_rows), "+r"(own_columns));  // else they are computed anew in each step
    const uint64_t left = describe_operand(shared.left[0] + group * GROUP_ROWS * DEPTH);
    const uint64_t right = describe_operand(shared.right[0]);
    Ring<STAGES> ring;
    for (int index = blockIdx.x / CLUSTER;; index += gridDim.x / CLUSTER) {
        const Tile tile = tile_of(index, shared, sizes);
        if (tile.group >= sizes.num_groups) return;
        float sums[WAVES][NUM_SUMS];
#pragma unroll
        for (int i = 0; i < WAVES * NUM_SUMS; ++i) sums[i / NUM_SUMS][i % NUM_SUMS] = tile.start;
        if (tile.num_stages) wait(&shared.full[ring.stage], ring.parity);
#pragma unroll 1
        for (int to_do = tile.num_stages; to_do > 0; --to_do) {
            const int stage = ring.stage;
            float4 columns[NUM_CHUNKS];
            float rows[WAVES][2];
#pragma unroll
            for (int wave = 0; wave < WAVES; ++wave) {
                const uint64_t a = left + (stage * TILE_ROWS + wave * WAVE_ROWS) * DEPTH / 16;
                const uint64_t b = right + stage * COLUMNS * DEPTH / 16;
                float products[NUM_SUMS];
                fence_sums();
#pragma unroll
                for (int i = 0; i < DEPTH / 32; ++i) multiply(products, a + 2 * i, b + 2 * i, i > 0);
                commit_products();
                if (wave == 0) {
                    // Scales come while the products run: shared memory answers late where tensor cores read it. Waiting for
                    // the next stage's copies, which have long come, keeps the compiler from asking for scales earlier: the
                    // tensor cores would wait for what they do not need.
                    ring.advance();
                    if (to_do > 1) wait(&shared.full[ring.stage], ring.parity);
#pragma unroll
                    for (int i = 0; i < NUM_CHUNKS; ++i) columns[i] = read_four(own_columns + (stage * COLUMNS + i * CHUNK) * 4);
#pragma unroll
                    for (int i = 0; i < 2 * WAVES; ++i)
                        rows[i / 2][i % 2] = read_one(own_rows + (stage * TILE_ROWS + i / 2 * WAVE_ROWS + i % 2 * 8) * 4);
                }
                wait_for_products<0>(products);
                if (wave == WAVES - 1) {
                    __syncwarp();
                    if (lane < CLUSTER) arrive_at_block(&shared.empty[stage], lane);
                }
                promote(sums[wave], products, rows[wave], columns);
            }
        }
        asm volatile("" : "+r"(index));  // else the compiler keeps the tile's place
        write_sums(sums, tile_of(index, shared, sizes), sizes, out);
    }
}

// Sizes: groups, P, N, K. out (groups, N, K) is contiguous.
extern "C" __global__ void __launch_bounds__(NUM_THREADS, 1)
    wgrad(const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right,
          const __grid_constant__ TensorMap left_scales, const __grid_constant__ TensorMap right_scales, const int* ends,
          float* out, int num_groups, int num_tokens, int num_rows, int num_columns) {
    extern __shared__ __align__(1024) uint8_t memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Sizes sizes{num_groups, num_tokens, num_rows, num_columns};
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            init_barrier(&shared.full[stage], 1);
            init_barrier(&shared.empty[stage], CLUSTER * NUM_MATH_WARPS);
        }
        publish_barriers();
    }
    if (threadIdx.x / WARP == 1) read_ends(shared, ends, sizes);
    sync_cluster();
    if (threadIdx.x < NUM_MATH_GROUPS * WARPGROUP) {
        take_registers<240>();
        multiply_tiles(shared, sizes, out);
    } else {
        give_registers_back<24>();
        if (threadIdx.x == NUM_MATH_GROUPS * WARPGROUP) copy_tiles(shared, sizes, left, right, left_scales, right_scales);
    }
    sync_cluster();  // a block's memory stays until the others have copied to it and arrived at its barriers for the last time
}
