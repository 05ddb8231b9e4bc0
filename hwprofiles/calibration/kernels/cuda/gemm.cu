// Rows times weights transposed, FP8 with scales by tile: out (R, N) = a (R, K) in tiles 1x128 times each group's b (N, K) in
// blocks 128x128. Rows of group g are [ends[g - 1], ends[g]); one group is a dense product. fprop as it stands, dgrad with the
// weights transposed. Tensor cores sum 128 of K with too few bits to go on; CUDA cores scale that sum and add it to an FP32 one
// ("promotion", DeepSeek-V3 report 3.3.2).
//
// A block stays on its multiprocessor and walks over tiles (TILE_ROWS, 128) of out. Its first warpgroup has one warp that
// starts copies into a ring of STAGES, each 128 of K; the other NUM_MATH_GROUPS multiply, each its part of a tile's rows, 64 at
// a time: while one promotes, the others' products run. CLUSTER blocks take tiles beside each other, of the same rows: each
// copies its part of these rows to all of them, so that the L2 cache is read once.
//
// Constants of the compiler, which gemm.py chooses: TILE_ROWS, NUM_MATH_GROUPS, STAGES, CLUSTER, BAND (tiles of rows that are
// done together, so that what they share stays in the L2 cache), SHARED_BYTES (that a block is launched with), FP32_OUT.
#include "hopper.cuh"

constexpr int DEPTH = 128;  // of K, in a stage: a row is the 128 bytes that are swizzled, and has one scale
constexpr int TILE_COLUMNS = 128;  // and so one block of weights has one scale for a tile and a stage
constexpr int WARP = 32, WARPGROUP = 128, NUM_MATH_WARPS = NUM_MATH_GROUPS * 4;
constexpr int NUM_THREADS = (1 + NUM_MATH_GROUPS) * WARPGROUP;
constexpr int COPY_REGISTERS = NUM_MATH_GROUPS == 2 ? 40 : 32, MATH_REGISTERS = NUM_MATH_GROUPS == 2 ? 232 : 160;
constexpr int WAVE_ROWS = 64, WARP_ROWS = 16;  // that a warpgroup, a warp of it, has in one instruction
constexpr int GROUP_ROWS = TILE_ROWS / NUM_MATH_GROUPS, WAVES = GROUP_ROWS / WAVE_ROWS;
constexpr int NUM_SUMS = WAVE_ROWS * TILE_COLUMNS / WARPGROUP;  // a thread's, of a wave
constexpr int SCALES = TILE_ROWS + 4;  // of a's rows: their copy begins at a multiple of 16 bytes, up to 3 rows before

#if FP32_OUT
typedef float Out;
__device__ inline void write_pair(Out* to, float first, float second) { *reinterpret_cast<float2*>(to) = {first, second}; }
#else
typedef unsigned short Out;  // BF16's bits
__device__ inline void write_pair(Out* to, float first, float second) {
    *reinterpret_cast<uint32_t*>(to) = to_bf16(first, second);
}
#endif
// A warp's rows of out on their way to memory, in panels: boxes of the copy engine, whose rows are the 128 bytes swizzled.
constexpr int PANEL_COLUMNS = 128 / int(sizeof(Out)), NUM_PANELS = TILE_COLUMNS / PANEL_COLUMNS;
constexpr int BUFFERS = FP32_OUT ? 1 : WAVES;  // waves that have room there at once

struct Shared {
    alignas(1024) uint8_t a[STAGES][TILE_ROWS * DEPTH];
    alignas(1024) uint8_t b[STAGES][TILE_COLUMNS * DEPTH];
    alignas(1024) uint8_t panels[NUM_MATH_WARPS][BUFFERS][NUM_PANELS][WARP_ROWS * 128];
    alignas(16) float a_scales[STAGES][SCALES];
    uint64_t full[STAGES], empty[STAGES];
};
static_assert(sizeof(Shared) <= SHARED_BYTES, "gemm.py counts the same");
constexpr int STAGE_BYTES = (TILE_ROWS + TILE_COLUMNS) * DEPTH;  // of operands

struct Sizes {
    int num_groups, num_rows, num_columns, num_steps;  // groups, R, N, K / 128
    int scales_pitch, out_pitch;  // distances of a_scales' columns and of out's rows
};

__device__ inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Tiles in the order in which they are done: group by group, within a group bands of rows, within a band columns, then rows.
struct Walk {
    const int* ends;
    int num_groups, num_rows, columns_of_tiles;  // of a cluster's tiles
    int group = 0, begin = 0, end = 0, tiles_before = 0;
    int row = 0, column = 0;

    __device__ Walk(const int* ends, const Sizes& sizes)
        : ends(ends),
          num_groups(sizes.num_groups),
          num_rows(sizes.num_rows),
          columns_of_tiles(ceil_div(sizes.num_columns, TILE_COLUMNS * CLUSTER)) {
        end = end_of_group();
    }

    // Held into the rows that there are: nobody has checked it.
    __device__ int end_of_group() const { return min(max(__ldg(ends + group), begin), num_rows); }

    // False where there is no such tile. `tile` may only grow from call to call.
    __device__ bool seek(int tile) {
        int rows_of_tiles = ceil_div(end - begin, TILE_ROWS);
        while (tile >= tiles_before + rows_of_tiles * columns_of_tiles) {
            tiles_before += rows_of_tiles * columns_of_tiles;
            if (++group == num_groups) return false;
            begin = end;
            end = end_of_group();
            rows_of_tiles = ceil_div(end - begin, TILE_ROWS);
        }
        const int within = tile - tiles_before, band = within / (BAND * columns_of_tiles);
        const int in_band = within - band * BAND * columns_of_tiles, height = min(BAND, rows_of_tiles - band * BAND);
        row = begin + (band * BAND + in_band % height) * TILE_ROWS;
        column = (in_band / height * CLUSTER + int(block_in_cluster())) * TILE_COLUMNS;
        return true;
    }
};

// One warp: tiles of both operands and the rows' scales, as fast as stages become free.
__device__ void copy_tiles(Shared& shared, Walk walk, const TensorMap* a, const TensorMap* b, const float* a_scales,
                           const Sizes& sizes) {
    constexpr int PART = TILE_ROWS / CLUSTER;  // of the rows, that this block copies to its cluster
    const int first = int(block_in_cluster()) * PART;
    Ring<STAGES> ring;
    for (int tile = blockIdx.x / CLUSTER; walk.seek(tile); tile += gridDim.x / CLUSTER) {
        const int row_of_scales = walk.row / 4 * 4;
        const int scale_bytes = min(SCALES, ceil_div(sizes.num_rows - row_of_scales, 4) * 4) * int(sizeof(float));
#pragma unroll 1
        for (int step = 0; step < sizes.num_steps; ++step) {
            const int stage = ring.stage, k = step * DEPTH;
            wait(&shared.empty[stage], ring.parity ^ 1);
            if (is_elected()) {
                uint64_t* full = &shared.full[stage];
                arrive_and_expect_bytes(full, STAGE_BYTES + scale_bytes);
                if (CLUSTER > 1)
                    copy_box_to_blocks(shared.a[stage] + first * DEPTH, a, k, walk.row + first, full, (1 << CLUSTER) - 1);
                else
                    copy_box(shared.a[stage], a, k, walk.row, full);
                copy_box(shared.b[stage], b, k, walk.group * sizes.num_columns + walk.column, full);
                const float* scales = a_scales + size_t(step) * sizes.scales_pitch + row_of_scales;
                copy_bytes(shared.a_scales[stage], scales, scale_bytes, full);
            }
            __syncwarp();
            ring.advance();
        }
    }
}

// A warp's 16 rows of sums go to out by way of shared memory, from where the copy engine writes them while the next tile is
// under way. Where only some rows are the group's, each thread writes its own: those from `num_rows` on are the next group's.
__device__ inline void write_rows(const float (&sums)[NUM_SUMS], uint8_t (&panels)[NUM_PANELS][WARP_ROWS * 128],
                                  const TensorMap* map, Out* out, int row, int column, int num_rows, const Sizes& sizes) {
    const int lane = threadIdx.x % WARP;
    if (num_rows >= WARP_ROWS) {
        wait_for_writes<BUFFERS - 1>();  // of the wave that this one replaces
        __syncwarp();
#pragma unroll
        for (int i = 0; i < NUM_SUMS; i += 16 / sizeof(Out)) {
            // The copy engine's swizzle: in a row of a panel, the piece of 16 bytes is that of its place XOR the row.
            uint8_t* panel = panels[i * 2 / PANEL_COLUMNS];
            const int first = i % (PANEL_COLUMNS / 2) * int(sizeof(Out)) / 8;
#if FP32_OUT
            const int r = lane / 4, piece = first + lane % 4 / 2;
            float* to = reinterpret_cast<float*>(panel + r * 128 + (piece ^ r % 8) * 16) + lane % 2 * 2;
            write_pair(to, sums[i], sums[i + 1]);
            write_pair(to + 8 * PANEL_COLUMNS, sums[i + 2], sums[i + 3]);
#else
            const int r = lane % 16, piece = first + lane / 16;
            store_matrices(panel + r * 128 + (piece ^ r % 8) * 16,
                           {to_bf16(sums[i], sums[i + 1]), to_bf16(sums[i + 2], sums[i + 3]),
                            to_bf16(sums[i + 4], sums[i + 5]), to_bf16(sums[i + 6], sums[i + 7])});
#endif
        }
        show_to_copy_engine();
        __syncwarp();
        if (lane == 0)
            for (int i = 0; i < NUM_PANELS; ++i) write_box(map, column + i * PANEL_COLUMNS, row, panels[i]);
    } else {
#pragma unroll
        for (int i = 0; i < NUM_SUMS; i += 2) {
            const int r = lane / 4 + i / 2 % 2 * 8, c = column + i / 4 * 8 + lane % 4 * 2;
            if (r < num_rows && c < sizes.num_columns)
                write_pair(out + size_t(row + r) * sizes.out_pitch + c, sums[i], sums[i + 1]);
        }
    }
    commit_writes();  // an empty batch counts, too
}

// A math warpgroup: its part of each tile's rows, 64 at a time ("a wave"). A wave's products always run: those of the next
// stage, or of the next tile, are started before a tile's sums are written.
__device__ void multiply_tiles(Shared& shared, Walk walk, const float* b_scales, const TensorMap* out_map, Out* out,
                               const Sizes& sizes) {
    const int warp = uniform(threadIdx.x / WARP) - 4, lane = threadIdx.x % WARP, group = warp / 4;
    const int row_in_tile = group * GROUP_ROWS + warp % 4 * WARP_ROWS;
    int tile = blockIdx.x / CLUSTER;
    bool is_tile = walk.seek(tile);
    if (!is_tile) return;
    auto first_scale = [&](const Walk& at) {
        const int blocks = ceil_div(sizes.num_columns, TILE_COLUMNS), block = min(at.column / TILE_COLUMNS, blocks - 1);
        return b_scales + size_t(at.group * blocks + block) * sizes.num_steps;
    };
    Ring<STAGES> ring;
    float products[NUM_SUMS];
    auto start = [&](int wave) {
        const uint64_t a = describe_operand(shared.a[ring.stage] + (group * GROUP_ROWS + wave * WAVE_ROWS) * DEPTH);
        const uint64_t b = describe_operand(shared.b[ring.stage]);
        fence_sums();
#pragma unroll
        for (int i = 0; i < DEPTH / 32; ++i) multiply(products, a + 2 * i, b + 2 * i, i > 0);
        commit_products();
    };
    const float* b_scale = first_scale(walk);
    float scale = load_now(b_scale);
    wait(&shared.full[ring.stage], ring.parity);
    start(0);
    while (is_tile) {
        const int row = walk.row + row_in_tile, num_rows = walk.end - row, column = walk.column;
        float sums[WAVES][NUM_SUMS] = {};
        for (int step = 1; step <= sizes.num_steps; ++step) {
            const float* a_scales = shared.a_scales[ring.stage] + row_in_tile + row % 4 + lane / 4;
            ++b_scale;
            if (step == sizes.num_steps) {
                is_tile = walk.seek(tile += gridDim.x / CLUSTER);
                b_scale = is_tile ? first_scale(walk) : b_scales;
            }
            const float next_scale = load_now(b_scale);  // a stage ahead: memory is far
            Ring<STAGES> next = ring;
            next.advance();
            bool is_full = false;
#pragma unroll
            for (int wave = 0; wave < WAVES; ++wave) {
                if (wave > 0) start(wave);
                const float scales[2] = {scale * a_scales[wave * WAVE_ROWS], scale * a_scales[wave * WAVE_ROWS + 8]};
                if (wave == WAVES - 1) is_full = has_ended(&shared.full[next.stage], next.parity);
                wait_for_products<0>(products);
                if (wave == WAVES - 1) {
                    __syncwarp();  // every lane has read its scales
                    if (lane < CLUSTER) arrive_at_block(&shared.empty[ring.stage], lane);
                }
#pragma unroll
                for (int i = 0; i < NUM_SUMS; ++i) sums[wave][i] += products[i] * scales[i / 2 % 2];
            }
            scale = next_scale;
            ring = next;
            // After the last tile no stage comes; what is multiplied then is nobody's, and saves a case.
            if (!is_full && is_tile) wait(&shared.full[ring.stage], ring.parity);
            start(0);
        }
        // Not a loop: of large bodies the compiler leaves one, and sums would be indexed at run time, in slow memory.
        write_rows(sums[0], shared.panels[warp][0], out_map, out, row, column, num_rows, sizes);
        if (WAVES > 1)
            write_rows(sums[WAVES - 1], shared.panels[warp][BUFFERS - 1], out_map, out, row + WAVE_ROWS, column,
                       num_rows - WAVE_ROWS, sizes);
    }
    wait_for_products<0>(products);
    wait_for_writes<0>();
}

// Of operands, a_map and b_map describe where copies come from, out_map where results go. a_scales (R, K / 128) with the rows
// innermost; b_scales (groups, N / 128, K / 128), N rounded up, contiguous.
extern "C" __global__ void __launch_bounds__(NUM_THREADS, 1)
    gemm(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
         const __grid_constant__ TensorMap out_map, const float* a_scales, const float* b_scales, const int* ends, Out* out,
         int num_groups, int num_rows, int num_columns, int num_steps, int scales_pitch, int out_pitch) {
    extern __shared__ __align__(1024) uint8_t memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    if (threadIdx.x == 0) {
        for (const TensorMap* map : {&a_map, &b_map, &out_map}) prefetch_map(map);
        for (int stage = 0; stage < STAGES; ++stage) {
            init_barrier(&shared.full[stage], 1);
            init_barrier(&shared.empty[stage], CLUSTER * NUM_MATH_WARPS);
        }
        publish_barriers();
    }
    sync_cluster();
    const Sizes sizes = {num_groups, num_rows, num_columns, num_steps, scales_pitch, out_pitch};
    const Walk walk(ends, sizes);
    if (threadIdx.x < WARPGROUP) {
        give_registers_back<COPY_REGISTERS>();
        if (uniform(threadIdx.x / WARP) == 0) copy_tiles(shared, walk, &a_map, &b_map, a_scales, sizes);
    } else {
        take_registers<MATH_REGISTERS>();
        multiply_tiles(shared, walk, b_scales, &out_map, out, sizes);
    }
    sync_cluster();  // a block's memory stays until the others have copied to it and arrived at its barriers for the last time
}
