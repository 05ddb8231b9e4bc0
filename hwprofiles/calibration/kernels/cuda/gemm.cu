// Rows times weights transposed, FP8 with scales by tile: out (R, N) = a (R, K) in tiles 1x128 times each group's b (N, K) in
// blocks 128x128. Rows of group g are [ends[g - 1], ends[g]); one group is a dense product. fprop as it stands, dgrad with the
// weights transposed. Tensor cores sum 128 of K with too few bits to go on; CUDA cores scale that sum and add it to an FP32 one
// ("promotion", DeepSeek-V3 report 3.3.2).
//
// A block stays on its multiprocessor and walks over tiles (TILE_ROWS, TILE_COLUMNS) of out. Its first warpgroup is one thread
// that starts copies into a ring of STAGES, each 128 of K; the other two multiply, each half of a tile's rows, 64 at a time:
// while one promotes, the other's products run. CLUSTER blocks take tiles beside each other, of the same rows: each copies its
// part of these rows to all of them, so that the L2 cache is read once.
//
// Constants of the compiler, which gemm.py chooses: TILE_ROWS, TILE_COLUMNS, STAGES, CLUSTER, BAND (tiles of rows that are done
// together, so that what they share stays in the L2 cache), FP32_OUT.
#include "hopper.cuh"

constexpr int DEPTH = 128;  // of K, in a stage: a row is the 128 bytes that are swizzled, and has one scale
constexpr int WARPGROUP = 128, WARP = 32, NUM_MATH_GROUPS = 2, NUM_MATH_WARPS = NUM_MATH_GROUPS * 4;
constexpr int NUM_THREADS = (1 + NUM_MATH_GROUPS) * WARPGROUP;
constexpr int WAVE_ROWS = 64, WAVES = TILE_ROWS / (NUM_MATH_GROUPS * WAVE_ROWS);
constexpr int NUM_SUMS = TILE_COLUMNS / 2;  // a thread's, of 64 rows: 64 x TILE_COLUMNS / 128
constexpr int CHUNK = 8, NUM_CHUNKS = TILE_COLUMNS / CHUNK;  // columns of which a thread has 2 in each of 2 rows
constexpr int BLOCK = 128;  // rows and columns of a weight's scale

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int power_of_two_in(int a) { return a & -a; }
// Blocks of weights that the columns of a tile touch: tiles begin at multiples of their width, in the worst case just before the
// end of a block.
constexpr int ALIGNED = power_of_two_in(TILE_COLUMNS) < BLOCK ? power_of_two_in(TILE_COLUMNS) : BLOCK;
constexpr int NUM_BLOCKS = ceil_div(BLOCK - ALIGNED + TILE_COLUMNS, BLOCK);

#if FP32_OUT
typedef float Out;
#else
typedef unsigned short Out;  // BF16's bits
#endif
constexpr int PANEL_BYTES = 128;  // of a row of out that a warp puts in order at a time
constexpr int PANEL_COLUMNS = PANEL_BYTES / int(sizeof(Out)), PIECE = 16 / int(sizeof(Out));
constexpr int WARP_ROWS = 16;

struct Shared {
    alignas(1024) uint8_t a[STAGES][TILE_ROWS * DEPTH];
    alignas(1024) uint8_t b[STAGES][TILE_COLUMNS * DEPTH];
    alignas(128) float a_scales[STAGES][TILE_ROWS];
    alignas(128) uint8_t panels[NUM_MATH_WARPS][WARP_ROWS * PANEL_BYTES];
    uint64_t full[STAGES], empty[STAGES];
};
static_assert(TILE_COLUMNS * DEPTH % 1024 == 0, "a stage's columns have to keep the next stage aligned");
constexpr int STAGE_BYTES = (TILE_ROWS + TILE_COLUMNS) * DEPTH + TILE_ROWS * int(sizeof(float));

// Tiles in the order in which they are done: group by group, within a group bands of rows, within a band columns, then rows.
struct Walk {
    const int* ends;
    int num_groups, num_rows, columns_of_tiles;  // of a cluster
    int group = 0, begin = 0, end = 0, tiles_before = 0;
    int row = 0, column = 0;

    __device__ Walk(const int* ends, int num_groups, int num_rows, int num_columns)
        : ends(ends),
          num_groups(num_groups),
          num_rows(num_rows),
          columns_of_tiles(ceil_div(num_columns, TILE_COLUMNS * CLUSTER)) {
        end = end_of(0);
    }

    __device__ int end_of(int which) const { return ends ? __ldg(ends + which) : num_rows; }

    // False where there is no such tile. `tile` may only grow from call to call.
    __device__ bool seek(int tile) {
        int rows_of_tiles = ceil_div(end - begin, TILE_ROWS);
        while (tile >= tiles_before + rows_of_tiles * columns_of_tiles) {
            tiles_before += rows_of_tiles * columns_of_tiles;
            if (++group == num_groups) return false;
            begin = end;
            end = end_of(group);
            rows_of_tiles = ceil_div(end - begin, TILE_ROWS);
        }
        const int within = tile - tiles_before, band = within / (BAND * columns_of_tiles);
        const int in_band = within - band * BAND * columns_of_tiles, height = min(BAND, rows_of_tiles - band * BAND);
        row = begin + (band * BAND + in_band % height) * TILE_ROWS;
        column = (in_band / height * CLUSTER + int(block_in_cluster())) * TILE_COLUMNS;
        return true;
    }
};

// One thread: tiles of both operands and the rows' scales, as fast as stages become free.
__device__ void copy_tiles(Shared& shared, Walk walk, const TensorMap* a, const TensorMap* a_scales, const TensorMap* b,
                           int num_columns, int depth) {
    constexpr int PART = TILE_ROWS / CLUSTER;  // of the rows, that this block copies to its cluster
    const int first = int(block_in_cluster()) * PART;
    Ring<STAGES> ring;
    for (int tile = blockIdx.x / CLUSTER; walk.seek(tile); tile += gridDim.x / CLUSTER) {
#pragma unroll 1
        for (int k = 0; k < depth; k += DEPTH) {
            const int stage = ring.stage;
            wait(&shared.empty[stage], ring.parity ^ 1);
            uint64_t* full = &shared.full[stage];
            arrive_and_expect_bytes(full, STAGE_BYTES);
            if (CLUSTER > 1)
                copy_box_to_blocks(shared.a[stage] + first * DEPTH, a, k, walk.row + first, full, (1 << CLUSTER) - 1);
            else
                copy_box(shared.a[stage], a, k, walk.row, full);
            copy_box(shared.b[stage], b, k, walk.group * num_columns + walk.column, full);
            copy_box(shared.a_scales[stage], a_scales, walk.row, k / DEPTH, full);
            ring.advance();
        }
    }
}

// sums += products x scales. scales[block][h]: of the thread's row h and of the block of weights, of which the tile's first ends
// after `first_block` chunks of columns.
__device__ inline void promote(float (&sums)[NUM_SUMS], const float (&products)[NUM_SUMS],
                               const float (&scales)[NUM_BLOCKS][2], int first_block) {
#pragma unroll
    for (int chunk = 0; chunk < NUM_CHUNKS; ++chunk) {
        float scale[2] = {scales[0][0], scales[0][1]};
#pragma unroll
        for (int block = 1; block < NUM_BLOCKS; ++block)
            if (chunk >= first_block + (block - 1) * (BLOCK / CHUNK)) scale[0] = scales[block][0], scale[1] = scales[block][1];
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[4 * chunk + i] += products[4 * chunk + i] * scale[i / 2];
    }
}

// A warp's 16 rows of sums go to out, by way of shared memory, so that each row's 128 bytes are written together. Rows from
// `num_rows` on are the next group's and stay as they are.
__device__ inline void write_rows(const float (&sums)[NUM_SUMS], uint8_t* panel, Out* out, int num_rows, int num_columns,
                                  int pitch) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int left = 0; left < TILE_COLUMNS; left += PANEL_COLUMNS) {
        // A piece of 16 bytes lies in its row at its place XOR the row, so that neither way has conflicts of banks.
#if FP32_OUT
#pragma unroll
        for (int i = 0; i < PANEL_COLUMNS / 2 && left / 2 + i < NUM_SUMS; i += 2) {
            const int row = lane / 4 + i / 2 % 2 * 8, piece = i / 4 * 2 + lane % 4 / 2;
            float2 both = {sums[left / 2 + i], sums[left / 2 + i + 1]};
            *reinterpret_cast<float2*>(panel + row * PANEL_BYTES + (piece ^ row % 8) * 16 + lane % 2 * 8) = both;
        }
#else
#pragma unroll
        for (int i = 0; i < PANEL_COLUMNS / 2 && left / 2 + i < NUM_SUMS; i += 8) {
            const float* s = sums + left / 2 + i;
            const int row = lane % 16, piece = i / 4 + lane / 16;
            store_matrices(panel + row * PANEL_BYTES + (piece ^ row % 8) * 16,
                           {to_bf16(s[0], s[1]), to_bf16(s[2], s[3]), to_bf16(s[4], s[5]), to_bf16(s[6], s[7])});
        }
#endif
        __syncwarp();
#pragma unroll
        for (int i = 0; i < WARP_ROWS; i += 4) {
            const int row = i + lane / 8, piece = lane % 8, column = left + piece * PIECE;
            const uint4 value = *reinterpret_cast<uint4*>(panel + row * PANEL_BYTES + (piece ^ row % 8) * 16);
            if (row < num_rows && column < min(num_columns, TILE_COLUMNS))
                *reinterpret_cast<uint4*>(out + size_t(row) * pitch + column) = value;
        }
        __syncwarp();
    }
}

// A warpgroup: half of each tile's rows.
__device__ void multiply_tiles(Shared& shared, Walk walk, const float* b_scales, int scales_of_group, int scales_of_row,
                               Out* out, int num_columns, int depth) {
    const int warp = uniform(threadIdx.x / WARP) - 4, lane = threadIdx.x % WARP, group = warp / 4;
    Ring<STAGES> ring;
    for (int tile = blockIdx.x / CLUSTER; walk.seek(tile); tile += gridDim.x / CLUSTER) {
        const int block = walk.column / BLOCK, last_block = (num_columns - 1) / BLOCK;
        const int first_block = (BLOCK - walk.column % BLOCK) / CHUNK;
        const float* scales_here[NUM_BLOCKS];
        float next_scales[NUM_BLOCKS];
#pragma unroll
        for (int i = 0; i < NUM_BLOCKS; ++i) {
            scales_here[i] = b_scales + size_t(walk.group) * scales_of_group + min(block + i, last_block) * scales_of_row;
            next_scales[i] = __ldg(scales_here[i]);
        }
        float sums[WAVES][NUM_SUMS] = {};
#pragma unroll 1
        for (int k = 0; k < depth; k += DEPTH) {
            float scales[NUM_BLOCKS];
#pragma unroll
            for (int i = 0; i < NUM_BLOCKS; ++i) {  // asked for a stage ahead: memory is far
                scales[i] = next_scales[i];
                next_scales[i] = load_now(scales_here[i] + min(k / DEPTH + 1, (depth - 1) / DEPTH));
            }
            const int stage = ring.stage;
            wait(&shared.full[stage], ring.parity);
            const uint64_t b = describe_operand(shared.b[stage]);
#pragma unroll
            for (int wave = 0; wave < WAVES; ++wave) {
                const int row = (group * WAVES + wave) * WAVE_ROWS;
                const uint64_t a = describe_operand(shared.a[stage] + row * DEPTH);
                float products[NUM_SUMS];
                fence_sums();
#pragma unroll
                for (int i = 0; i < DEPTH / 32; ++i) multiply(products, a + 2 * i, b + 2 * i, i > 0);
                commit_products();
                float both[NUM_BLOCKS][2];
#pragma unroll
                for (int i = 0; i < 2 * NUM_BLOCKS; ++i)
                    both[i / 2][i % 2] = shared.a_scales[stage][row + warp % 4 * WARP_ROWS + lane / 4 + i % 2 * 8] * scales[i / 2];
                wait_for_products<0>(products);
                if (wave == WAVES - 1 && lane < CLUSTER) arrive_at_block(&shared.empty[stage], lane);
                promote(sums[wave], products, both, first_block);
            }
            ring.advance();
        }
#pragma unroll
        for (int wave = 0; wave < WAVES; ++wave) {
            const int row = walk.row + (group * WAVES + wave) * WAVE_ROWS + warp % 4 * WARP_ROWS;
            write_rows(sums[wave], shared.panels[warp], out + size_t(row) * num_columns + walk.column,
                       walk.end - row, num_columns - walk.column, num_columns);
        }
    }
}

// ends: null for one group of num_rows. b_scales (groups, N / 128, K / 128), innermost contiguous, strides of the others given.
extern "C" __global__ void __launch_bounds__(NUM_THREADS, 1)
    gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap a_scales, const __grid_constant__ TensorMap b,
         const float* b_scales, const int* ends, Out* out, int num_groups, int num_rows, int num_columns, int depth,
         int scales_of_group, int scales_of_row) {
    extern __shared__ __align__(1024) uint8_t memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            init_barrier(&shared.full[stage], 1);
            init_barrier(&shared.empty[stage], CLUSTER * NUM_MATH_WARPS);
        }
        publish_barriers();
    }
    sync_cluster();
    const Walk walk(ends, num_groups, num_rows, num_columns);
    if (threadIdx.x < WARPGROUP) {
        give_registers_back<40>();
        if (threadIdx.x == 0) copy_tiles(shared, walk, &a, &a_scales, &b, num_columns, depth);
    } else {
        take_registers<232>();
        multiply_tiles(shared, walk, b_scales, scales_of_group, scales_of_row, out, num_columns, depth);
    }
    sync_cluster();  // a block's memory stays until the others have copied to it and arrived at its barriers for the last time
}
