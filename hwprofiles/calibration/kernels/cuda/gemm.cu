// Rows times weights transposed, FP8 with scales by tile: out (R, N) = a (R, K) in tiles 1x128 times each group's b (N, K) in
// blocks 128x128. Rows of group g are [ends[g - 1], ends[g]); one group is a dense product. fprop as it stands, dgrad with the
// weights transposed. Tensor cores sum 128 of K with too few bits to go on; CUDA cores scale that sum and add it to an FP32 one
// ("promotion", DeepSeek-V3 report 3.3.2).
//
// A block stays on its multiprocessor and walks over tiles (TILE_ROWS, TILE_COLUMNS) of out. Its first warpgroup is one thread
// that starts copies into a ring of STAGES, each 128 of K; the other two multiply, each half of a tile's rows, 64 at a time, by
// turns: while one promotes, the other's products run. CLUSTER blocks take tiles beside each other, of the same rows: each
// copies its part of these rows to all of them, so that the L2 cache is read once.
//
// Constants of the compiler, which gemm.py chooses: TILE_ROWS, TILE_COLUMNS, STAGES, CLUSTER, BAND (tiles of rows that are done
// together, so that what they share stays in the L2 cache), PANEL_COLUMNS and PANELS (of out, a warp's, on
// their way to memory), SHARED_BYTES (that a block is launched with), FP32_OUT.
#include "hopper.cuh"

constexpr int DEPTH = 128;  // of K, in a stage: a row is the 128 bytes that are swizzled, and has one scale
constexpr int WARPGROUP = 128, WARP = 32, NUM_MATH_GROUPS = 2, NUM_MATH_WARPS = NUM_MATH_GROUPS * 4;
constexpr int NUM_THREADS = (1 + NUM_MATH_GROUPS) * WARPGROUP;
constexpr int TURN = 1;  // a math warpgroup's named barrier, + 1 for the second: whose products are next
constexpr int WAVE_ROWS = 64, WAVES = TILE_ROWS / (NUM_MATH_GROUPS * WAVE_ROWS);
constexpr int NUM_SUMS = TILE_COLUMNS / 2;  // a thread's, of 64 rows: 64 x TILE_COLUMNS / 128
constexpr int CHUNK = 8, NUM_CHUNKS = TILE_COLUMNS / CHUNK;  // columns of which a thread has 2 in each of 2 rows
constexpr int BLOCK = 128;  // rows and columns of a weight's scale

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int power_of_two_in(int a) { return a & -a; }
// Blocks of weights that the columns of a tile touch: tiles begin at multiples of their width, at worst just before the end of
// a block.
constexpr int ALIGNED = power_of_two_in(TILE_COLUMNS) < BLOCK ? power_of_two_in(TILE_COLUMNS) : BLOCK;
constexpr int NUM_BLOCKS = ceil_div(BLOCK - ALIGNED + TILE_COLUMNS, BLOCK);

#if FP32_OUT
typedef float Out;
#else
typedef unsigned short Out;  // BF16's bits
#endif
constexpr int WARP_ROWS = 16;  // a warp's of a wave
constexpr int PANEL_PITCH = (PANEL_COLUMNS + 8) * int(sizeof(Out));  // 8 more, so that rows lie in other banks
constexpr int PANELS_OF_WAVE = ceil_div(TILE_COLUMNS, PANEL_COLUMNS);
static_assert(WAVES * PANELS_OF_WAVE % PANELS == 0, "panels are taken in turns, the next tile begins with the first");

// Scales of a math warpgroup's rows: the copy engine begins at a multiple of 16 bytes, so at up to 3 rows before them.
constexpr int GROUP_ROWS = WAVES * WAVE_ROWS, SCALES = GROUP_ROWS + 4, SCALES_PITCH = ceil_div(SCALES, 32) * 32;

struct Shared {
    alignas(1024) uint8_t a[STAGES][TILE_ROWS * DEPTH];
    alignas(1024) uint8_t b[STAGES][TILE_COLUMNS * DEPTH];
    alignas(128) float a_scales[STAGES][NUM_MATH_GROUPS][SCALES_PITCH];
    alignas(128) uint8_t panels[NUM_MATH_WARPS][PANELS][WARP_ROWS * PANEL_PITCH];
    uint64_t full[STAGES], empty[STAGES];
};
static_assert(TILE_COLUMNS * DEPTH % 1024 == 0, "a stage's columns have to keep the next stage aligned");
static_assert(sizeof(Shared) <= SHARED_BYTES, "gemm.py counts the same");
constexpr int STAGE_BYTES = (TILE_ROWS + TILE_COLUMNS) * DEPTH + NUM_MATH_GROUPS * SCALES * int(sizeof(float));

// Tiles in the order in which they are done: group by group, within a group bands of rows, within a band columns, then rows.
struct Walk {
    const int* ends;
    int num_groups, columns_of_tiles;  // of a cluster's tiles
    int group = 0, begin = 0, end = 0, tiles_before = 0;
    int row = 0, column = 0;

    __device__ Walk(const int* ends, int num_groups, int num_columns)
        : ends(ends),
          num_groups(num_groups),
          columns_of_tiles(ceil_div(num_columns, TILE_COLUMNS * CLUSTER)) {
        end = __ldg(ends);
    }

    // False where there is no such tile. `tile` may only grow from call to call.
    __device__ bool seek(int tile) {
        int rows_of_tiles = ceil_div(end - begin, TILE_ROWS);
        while (tile >= tiles_before + rows_of_tiles * columns_of_tiles) {
            tiles_before += rows_of_tiles * columns_of_tiles;
            if (++group == num_groups) return false;
            begin = end;
            end = __ldg(ends + group);
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
            for (int group = 0; group < NUM_MATH_GROUPS; ++group)
                copy_box(shared.a_scales[stage][group], a_scales, walk.row / 4 * 4 + group * GROUP_ROWS, k / DEPTH, full);
            ring.advance();
        }
    }
}

// sums += products x scales. scales[block][h]: of the thread's row h and of the block of weights, of which the first ends after
// `first_block` chunks of the tile's columns.
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

// A warp's 16 rows of sums go to out by way of shared memory, from where the copy engine writes them, row by row, while the
// next tile is under way. Rows from `num_rows` on are the next group's and stay as they are.
__device__ inline void write_rows(const float (&sums)[NUM_SUMS], uint8_t (&panels)[PANELS][WARP_ROWS * PANEL_PITCH], int wave,
                                  Out* out, int num_rows, int num_columns, int pitch) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int index = 0; index < PANELS_OF_WAVE; ++index) {
        const int left = index * PANEL_COLUMNS;
        uint8_t* panel = panels[(wave * PANELS_OF_WAVE + index) % PANELS];
        wait_for_writes<PANELS - 1>();  // of the panel that this one replaces
        __syncwarp();
#pragma unroll
        for (int column = 0; column < PANEL_COLUMNS; column += 2 * CHUNK) {
            const int first = (left + column) / 2;  // of the thread's 8 sums in these 16 columns
            if (first >= NUM_SUMS) break;
#if FP32_OUT
#pragma unroll
            for (int i = 0; i < 8; i += 2) {
                const int row = lane / 4 + i / 2 % 2 * 8, here = column + i / 4 * CHUNK + lane % 4 * 2;
                float* to = reinterpret_cast<float*>(panel + row * PANEL_PITCH) + here;
                *reinterpret_cast<float2*>(to) = {sums[first + i], sums[first + i + 1]};
            }
#else
            uint32_t pairs[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) pairs[i] = to_bf16(sums[first + 2 * i], sums[first + 2 * i + 1]);
            store_matrices(panel + lane % 16 * PANEL_PITCH + (column + lane / 16 * CHUNK) * int(sizeof(Out)), pairs);
#endif
        }
        show_to_copy_engine();
        __syncwarp();
        const int width = min(min(PANEL_COLUMNS, TILE_COLUMNS - left), num_columns - left);
        if (lane < min(num_rows, WARP_ROWS) && width > 0)
            write_row(out + size_t(lane) * pitch + left, panel + lane * PANEL_PITCH, width * int(sizeof(Out)));
        commit_writes();
    }
}

// A warpgroup: half of each tile's rows, 64 at a time ("a wave"). The first products of a tile run while the sums of the one
// before are written.
__device__ void multiply_tiles(Shared& shared, Walk walk, const float* b_scales, Out* out, int num_columns, int depth,
                               int pitch) {
    const int warp = uniform(threadIdx.x / WARP) - 4, lane = threadIdx.x % WARP, group = warp / 4;
    const int num_steps = ceil_div(depth, DEPTH), last_block = (num_columns - 1) / BLOCK;
    Ring<STAGES> ring;
    float products[NUM_SUMS];
    auto start = [&](int wave) {
        if (wave == 0) wait(&shared.full[ring.stage], ring.parity);
        const uint64_t a = describe_operand(shared.a[ring.stage] + (group * WAVES + wave) * WAVE_ROWS * DEPTH);
        const uint64_t b = describe_operand(shared.b[ring.stage]);
        sync_threads(TURN + group, NUM_MATH_GROUPS * WARPGROUP);
        fence_sums();
#pragma unroll
        for (int i = 0; i < DEPTH / 32; ++i) multiply(products, a + 2 * i, b + 2 * i, i > 0);
        announce_threads(TURN + (group ^ 1), NUM_MATH_GROUPS * WARPGROUP);
        commit_products();
    };
    if (group == 1) announce_threads(TURN, NUM_MATH_GROUPS * WARPGROUP);
    int tile = blockIdx.x / CLUSTER;
    if (!walk.seek(tile)) return;
    start(0);
    for (;;) {
        const int first_block = (BLOCK - walk.column % BLOCK) / CHUNK;
        const float* scales_here[NUM_BLOCKS];
        float scales[NUM_BLOCKS];
#pragma unroll
        for (int i = 0; i < NUM_BLOCKS; ++i) {
            const int row = walk.group * (last_block + 1) + min(walk.column / BLOCK + i, last_block);
            scales_here[i] = b_scales + size_t(row) * num_steps;
            scales[i] = __ldg(scales_here[i]);
        }
        float sums[WAVES][NUM_SUMS] = {};
        for (int step = 0;;) {
            float next_scales[NUM_BLOCKS];
            const int next = min(step + 1, num_steps - 1);
#pragma unroll
            for (int i = 0; i < NUM_BLOCKS; ++i) next_scales[i] = load_now(scales_here[i] + next);  // memory is far
            const float* a_scales = shared.a_scales[ring.stage][group] + walk.row % 4 + warp % 4 * WARP_ROWS + lane / 4;
#pragma unroll
            for (int wave = 0; wave < WAVES; ++wave) {
                if (wave > 0) start(wave);
                float both[NUM_BLOCKS][2];
#pragma unroll
                for (int i = 0; i < 2 * NUM_BLOCKS; ++i)
                    both[i / 2][i % 2] = scales[i / 2] * a_scales[wave * WAVE_ROWS + i % 2 * 8];
                wait_for_products<0>(products);
                if (wave == WAVES - 1 && lane < CLUSTER) arrive_at_block(&shared.empty[ring.stage], lane);
                promote(sums[wave], products, both, first_block);
            }
#pragma unroll
            for (int i = 0; i < NUM_BLOCKS; ++i) scales[i] = next_scales[i];
            ring.advance();
            if (++step == num_steps) break;
            start(0);
        }
        const int row = walk.row + group * GROUP_ROWS + warp % 4 * WARP_ROWS, num_rows = walk.end - row;
        const int columns_left = num_columns - walk.column;
        Out* here = out + size_t(row) * pitch + walk.column;
        auto write_wave = [&](int wave) {
            write_rows(sums[wave], shared.panels[warp], wave, here + size_t(wave * WAVE_ROWS) * pitch,
                       num_rows - wave * WAVE_ROWS, columns_left, pitch);
        };
        auto write = [&] {  // not a loop: of large bodies the compiler leaves one, and sums would be indexed at run time
            write_wave(0);
            if (WAVES > 1) write_wave(WAVES - 1);
        };
        if (!walk.seek(tile += gridDim.x / CLUSTER)) {
            write();
            break;
        }
        start(0);
        write();
    }
    wait_for_writes<0>();
}

// Sizes: N, K, and the distance of out's rows. b (groups, N, K) and b_scales (groups, N / 128, K / 128) are contiguous.
extern "C" __global__ void __launch_bounds__(NUM_THREADS, 1)
    gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap a_scales, const __grid_constant__ TensorMap b,
         const float* b_scales, const int* ends, Out* out, int num_groups, int num_columns, int depth, int pitch) {
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
    const Walk walk(ends, num_groups, num_columns);
    if (threadIdx.x < WARPGROUP) {
        give_registers_back<40>();
        if (threadIdx.x == 0) copy_tiles(shared, walk, &a, &a_scales, &b, num_columns, depth);
    } else {
        take_registers<232>();
        multiply_tiles(shared, walk, b_scales, out, num_columns, depth, pitch);
    }
    sync_cluster();  // a block's memory stays until the others have copied to it and arrived at its barriers for the last time
}
