"""Reads the chunks of a Zarr array with TensorStore, so many at once, when told to.

    python tensorstore_zarr.py FOLDER IN_FLIGHT CACHE_BYTES < rounds

FOLDER: a Zarr v3 array of three dimensions. Each line on standard input names tiles of 64^3 in order, as x + 16 (y + 8 z); for each line it prints the seconds that reading them took by the
clock and of all processors, and the sum of the first voxel of each. Nothing else is done with the voxels. Needs: pip install tensorstore
"""

import sys
import time
from collections import deque

import tensorstore as ts


def main():
    folder, in_flight, cache_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder}}
    array = ts.open(
        spec, context=context, read=True, open=True, recheck_cached_data=False, recheck_cached_metadata=False
    ).result()
    for line in sys.stdin:
        tiles = []
        for tile in map(int, line.split()):
            x, y, z = tile % 16 * 64, tile // 16 % 8 * 64, tile // 128 * 64
            tiles.append((slice(z, z + 64), slice(y, y + 64), slice(x, x + 64)))
        total, reads = 0.0, deque()
        begun, before = time.perf_counter(), time.process_time()
        for tile in tiles:
            reads.append(array[tile].read())
            if len(reads) >= in_flight:
                total += float(reads.popleft().result()[0, 0, 0])
        while reads:
            total += float(reads.popleft().result()[0, 0, 0])
        print(time.perf_counter() - begun, time.process_time() - before, total, flush=True)


main()
