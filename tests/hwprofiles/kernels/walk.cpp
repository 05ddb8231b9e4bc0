// gemm.cu's walk over tiles on the host: with random ends, also such as are none, every block of rows and columns of each group
// is one block's, once, whatever the number of clusters.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>
using std::max;
using std::min;
#define __device__
static int block = 0;
static int block_in_cluster() { return block; }
static int __ldg(const int* from) { return *from; }
constexpr int TILE_ROWS = 256, TILE_COLUMNS = 128, CLUSTER = 2, BAND = 3;
#include "walk.inc"

static int wrong(int row, int column, const char* what) { return std::printf("row %d, column %d %s\n", row, column, what), 1; }

int main() {
    for (int trial = 0; trial < 300; ++trial) {
        const int num_groups = 1 + std::rand() % 8, num_rows = 1 + std::rand() % 4000, columns = 1 + std::rand() % 9;
        std::vector<int> ends(num_groups), owner(num_rows, -1), seen(num_rows * columns, 0);
        for (int& end : ends) end = std::rand() % (num_rows + 1000) - 200;
        if (trial % 2) std::sort(ends.begin(), ends.end());
        for (int group = 0, begin = 0; group < num_groups; ++group) {
            const int end = min(max(ends[group], begin), num_rows);
            std::fill(owner.begin() + begin, owner.begin() + end, group);
            begin = end;
        }
        const Sizes sizes = {num_groups, num_rows, columns * TILE_COLUMNS, 1, num_rows, columns * TILE_COLUMNS};
        const int num_clusters = 1 + std::rand() % 70;
        for (int first = 0; first < num_clusters * CLUSTER; ++first) {
            block = first % CLUSTER;
            Walk walk(ends.data(), sizes);
            for (int tile = first / CLUSTER; walk.seek(tile); tile += num_clusters)
                for (int row = walk.row; row < min(walk.row + TILE_ROWS, walk.end); ++row) {
                    if (row >= num_rows || owner[row] != walk.group) return wrong(row, walk.column, "is another group's");
                    if (walk.column < columns * TILE_COLUMNS) ++seen[row * columns + walk.column / TILE_COLUMNS];
                }
        }
        for (int i = 0; i < num_rows * columns; ++i)
            if (seen[i] != (owner[i / columns] >= 0)) return wrong(i / columns, i % columns, "is not done once");
    }
}
