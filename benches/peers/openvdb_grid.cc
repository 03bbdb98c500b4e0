// OpenVDB's side of `benches/grid`: workload G1024 in a FloatGrid, and a thin shell.
//
//     openvdb_grid THREADS         reads the names of rows from standard input, runs each once, and answers with a line "seconds sum"
//     openvdb_grid THREADS shell   makes the shell in a process that did nothing else, and prints what it takes
//
// The arithmetic, the random numbers and the order of what is drawn are those of `benches/common/mod.rs`: sums must come out equal.
#include <openvdb/openvdb.h>
#include <openvdb/tree/LeafManager.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_reduce.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

using openvdb::Coord;
using openvdb::FloatGrid;
using Leaf = openvdb::FloatTree::LeafNodeType;

constexpr int kTile = 64;
constexpr int kActive = 205;
constexpr int kInner = 16;

struct SplitMix {
  uint64_t state;
  uint64_t next() {
    state += 0x9E3779B97F4A7C15ull;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
};

inline float value(uint32_t x, uint32_t y, uint32_t z) {
  uint32_t h = x * 73856093u ^ y * 19349663u ^ z * 83492791u;
  return float((h ^ (h >> 13)) & 0xffff) / 65536.0f;
}

Coord origin(uint32_t tile) {
  return Coord(int(tile & 15) * kTile, int(tile >> 4 & 15) * kTile, int(tile >> 8) * kTile);
}

/// Positions come in 10 bits an axis on both sides: less of the time is spent on reading where to read.
inline uint32_t pack(const Coord &c) { return uint32_t(c.x()) | uint32_t(c.y()) << 10 | uint32_t(c.z()) << 20; }
inline Coord unpack(uint32_t c) { return Coord(int(c & 1023), int(c >> 10 & 1023), int(c >> 20)); }

struct Workload {
  std::vector<uint32_t> tiles, inner, active, anywhere, centres;

  Workload() {
    SplitMix shuffle{1};
    std::vector<uint32_t> all(4096);
    for (uint32_t i = 0; i < 4096; ++i) all[i] = i;
    for (uint32_t i = 4095; i > 0; --i) std::swap(all[i], all[shuffle.next() % (i + 1)]);
    tiles.assign(all.begin(), all.begin() + kActive);

    auto inside = [](uint32_t t) { return t >= 1 && t < 15; };
    auto sorted = tiles;
    std::sort(sorted.begin(), sorted.end());
    for (uint32_t t : sorted) {
      bool is_inner = inside(t & 15) && inside(t >> 4 & 15) && inside(t >> 8);
      if (is_inner && inner.size() < kInner) inner.push_back(t);
    }

    auto pick = [this](SplitMix &random) {
      Coord first = origin(tiles[random.next() % kActive]);
      uint64_t q = random.next();
      return first.offsetBy(int(q & 63), int(q >> 6 & 63), int(q >> 12 & 63));
    };
    SplitMix second{2}, third{3}, fourth{4};
    for (int i = 0; i < 1 << 22; ++i) active.push_back(pack(pick(second)));
    for (int i = 0; i < 1 << 22; ++i) anywhere.push_back(uint32_t(third.next() & 0x3fffffff));
    for (int i = 0; i < 1 << 18; ++i) {
      Coord c = pick(fourth);
      centres.push_back(pack(Coord::minComponent(Coord::maxComponent(c, Coord(1)), Coord(1022))));
    }
  }
};

/// Writes every voxel of the active tiles through the buffers of their leaves, which are made where they are missing.
void write_leaves(FloatGrid &grid, const Workload &workload) {
  auto &tree = grid.tree();
  for (uint32_t tile : workload.tiles) {
    Coord first = origin(tile);
    for (int a = 0; a < kTile; a += 8)
      for (int b = 0; b < kTile; b += 8)
        for (int c = 0; c < kTile; c += 8) {
          Leaf *leaf = tree.touchLeaf(first.offsetBy(a, b, c));
          leaf->setValuesOn();
          float *out = leaf->buffer().data();
          Coord at = leaf->origin();
          for (int x = 0; x < 8; ++x)
            for (int y = 0; y < 8; ++y)
              for (int z = 0; z < 8; ++z) *out++ = value(at.x() + x, at.y() + y, at.z() + z);
        }
  }
}

template <typename Accessor>
float around(Accessor &accessor, const Coord &c) {
  float sum = 0;
  for (int i = -1; i < 2; ++i)
    for (int j = -1; j < 2; ++j)
      for (int k = -1; k < 2; ++k) sum += accessor.getValue(c.offsetBy(i, j, k));
  return sum;
}

/// A leaf's 512 voxels, in 16 lanes.
double leaf_sum(const Leaf &leaf) {
  const float *voxels = leaf.buffer().data();
  float lanes[16] = {};
  for (int i = 0; i < 512; i += 16)
    for (int lane = 0; lane < 16; ++lane) lanes[lane] += voxels[i + lane];
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

using Rows = std::map<std::string, std::function<double()>>;

void serve(Rows &rows) {
  std::string name;
  while (std::getline(std::cin, name)) {
    auto row = rows.find(name);
    if (row == rows.end()) {
      std::cerr << "no row is called " << name << "\n";
      std::exit(2);
    }
    auto start = std::chrono::steady_clock::now();
    double sum = row->second();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::cout.precision(17);
    std::cout << took.count() << " " << sum << std::endl;
  }
}

/// A figure of /proc/self/status, in bytes.
double status(const std::string &key) {
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word)
    if (word == key + ":") {
      double kilobytes;
      file >> kilobytes;
      return kilobytes * 1024;
    }
  return 0;
}

/// The shell of radius 400 in 1024^3: the signed distance, active within 3 voxels; leaves where there is an active voxel.
void shell() {
  constexpr double radius = 400, half_width = 3, centre = 511.5;
  // The side of the grid in leaves, and half a leaf's diagonal between its outermost voxels.
  constexpr int side = 128;
  const double reach = 3.5 * std::sqrt(3.0);
  double before = status("VmRSS") + status("VmPTE");
  auto start = std::chrono::steady_clock::now();
  auto grid = FloatGrid::create(float(half_width));
  auto &tree = grid->tree();
  for (int i = 0; i < side * side * side; ++i) {
    Coord first((i / side / side) * 8, (i / side % side) * 8, (i % side) * 8);
    auto far = [&](double x, double y, double z) { return std::sqrt(x * x + y * y + z * z) - radius; };
    auto from = first.asVec3d() - openvdb::Vec3d(centre);
    if (std::abs(far(from.x() + 3.5, from.y() + 3.5, from.z() + 3.5)) > half_width + reach) continue;
    std::array<float, 512> distances;
    bool touched = false;
    for (int n = 0; n < 512; ++n) {
      distances[n] = float(far(from.x() + n / 64, from.y() + n / 8 % 8, from.z() + n % 8));
      touched |= std::abs(distances[n]) <= float(half_width);
    }
    if (!touched) continue;
    Leaf *leaf = tree.touchLeaf(first);
    for (int n = 0; n < 512; ++n) {
      bool on = std::abs(distances[n]) <= float(half_width);
      leaf->buffer().data()[n] = std::clamp(distances[n], -float(half_width), float(half_width));
      if (on) leaf->setValueOn(n);
    }
  }
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  double grown = status("VmRSS") + status("VmPTE") - before;
  std::cout.precision(17);
  std::cout << took.count() << " " << grown << " " << grid->memUsage() << " " << grid->activeVoxelCount() << " "
            << tree.leafCount() << std::endl;
}

int main(int count, char **arguments) {
  openvdb::initialize();
  tbb::global_control threads(tbb::global_control::max_allowed_parallelism, count > 1 ? std::stoul(arguments[1]) : 1);
  if (count > 2 && std::string(arguments[2]) == "shell") {
    shell();
    return 0;
  }
  Workload workload;
  auto grid = FloatGrid::create(0.0f), other = FloatGrid::create(0.0f);
  write_leaves(*grid, workload);
  const FloatGrid &read = *grid;
  openvdb::tree::LeafManager<const openvdb::FloatTree> leaves(read.tree());

  auto by_accessor = [&](const std::vector<uint32_t> &at) {
    auto accessor = read.getConstAccessor();
    double sum = 0;
    for (uint32_t c : at) sum += accessor.getValue(unpack(c));
    return sum;
  };
  auto by_tree = [&](const std::vector<uint32_t> &at) {
    const auto &tree = read.constTree();
    double sum = 0;
    for (uint32_t c : at) sum += tree.getValue(unpack(c));
    return sum;
  };
  Rows rows;
  rows["active accessor"] = [&] { return by_accessor(workload.active); };
  rows["active tree"] = [&] { return by_tree(workload.active); };
  rows["domain accessor"] = [&] { return by_accessor(workload.anywhere); };
  rows["domain tree"] = [&] { return by_tree(workload.anywhere); };
  rows["stencils"] = [&] {
    auto accessor = read.getConstAccessor();
    double sum = 0;
    for (uint32_t c : workload.centres) sum += around(accessor, unpack(c));
    return sum;
  };
  rows["sweep"] = [&] {
    auto accessor = read.getConstAccessor();
    double sum = 0;
    for (uint32_t tile : workload.inner) {
      Coord first = origin(tile);
      for (int x = 0; x < kTile; ++x)
        for (int y = 0; y < kTile; ++y)
          for (int z = 0; z < kTile; ++z) sum += around(accessor, first.offsetBy(x, y, z));
    }
    return sum;
  };
  rows["sum"] = [&] {
    auto add = [&](const tbb::blocked_range<size_t> &part, double sum) {
      for (size_t i = part.begin(); i < part.end(); ++i) sum += leaf_sum(leaves.leaf(i));
      return sum;
    };
    return tbb::parallel_reduce(tbb::blocked_range<size_t>(0, leaves.leafCount()), 0.0, add, std::plus<double>());
  };
  // Not timed: the tree loses its leaves, and the heap keeps their memory.
  rows["clear"] = [&] {
    other->tree().clear();
    return 0.0;
  };
  rows["write"] = [&] {
    write_leaves(*other, workload);
    return double(workload.tiles.size());
  };
  rows["bytes"] = [&] { return double(read.memUsage()); };
  serve(rows);
}
