"""Opens images with other people's readers and compares their voxels with what they should be.

Usage: zarr_readers.py FOLDER, in which `expected.json` lists images, and the raw file, type and shape that each of their arrays should equal.
"""

import json
import pathlib
import sys

import numpy
import tensorstore
import zarr
from ome_zarr_models.v05.image import Image


def main(folder):
    folder = pathlib.Path(folder)
    images = json.loads((folder / "expected.json").read_text())
    arrays = 0
    for image in images:
        root = folder / image["name"]
        group = zarr.open_group(root, mode="r")
        assert group.metadata.zarr_format == 3, image["name"]
        # Refuses what the specification does not allow, in the group and in its arrays.
        model = Image.from_zarr(group)
        assert len(model.ome_attributes.multiscales[0].datasets) == len(image["levels"]), image["name"]
        for place in image["levels"]:
            path, shape = place["path"], tuple(place["shape"])
            # Bits, not numbers: NaNs are compared too.
            bits = numpy.dtype(place["type"])
            unsigned = f"u{bits.itemsize}"
            expected = numpy.fromfile(folder / place["raw"], dtype=bits).reshape(shape).view(unsigned)
            found = numpy.ascontiguousarray(group[path][...])
            assert found.dtype == bits, (image["name"], path, found.dtype)
            assert (found.view(unsigned) == expected).all(), ("zarr", image["name"], path)
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(root / path)}}
            found = tensorstore.open(spec, read=True).result()
            found = numpy.ascontiguousarray(found[...].read().result())
            assert found.shape == shape and (found.view(unsigned) == expected).all(), ("tensorstore", image["name"], path)
            arrays += 1
    print(f"{len(images)} images, {arrays} arrays: zarr {zarr.__version__}, tensorstore, ome-zarr-models agree")


main(sys.argv[1])
