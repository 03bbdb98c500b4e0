#!/usr/bin/env python3
"""Builds every .cu of this folder to PTX, or checks with --check that the PTX that is here is what the sources make.

Needs python3 and, for the first time, PyPI: NVRTC comes from a wheel of a pinned version, into a virtual environment of its own under target/. Needs no GPU, no driver
and no CUDA toolkit. The compiler is an old one on purpose: drivers refuse PTX newer than themselves.

    build.py            writes NAME.ptx for every NAME.cu
    build.py --check    fails, and says where they differ, if one is stale
    build.py --where    prints the folder that the compiler lies in, for LD_LIBRARY_PATH
"""

import ctypes
import hashlib
import pathlib
import re
import subprocess
import sys
import venv

WHEEL = "nvidia-cuda-nvrtc-cu12==12.4.127"
VERSION = (12, 4)
OPTIONS = ["--gpu-architecture=compute_75", "--std=c++11"]

HERE = pathlib.Path(__file__).resolve().parent
HOME = HERE.parent.parent / "target" / "nvrtc-12.4.127"


def library():
    """The compiler's shared library, installed where it is not yet."""
    wanted = "lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
    if not list(HOME.glob(wanted)):
        venv.create(HOME, with_pip=True, clear=True)
        pip = [str(HOME / "bin" / "python3"), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run(pip + ["install", "--quiet", "--no-deps", WHEEL], check=True)
    found = sorted(HOME.glob(wanted))
    if not found:
        sys.exit(f"{WHEEL} has no libnvrtc.so.12")
    return found[0]


def headers(source):
    """The headers of this folder that a source includes, and those that they do, in the order in which they are first met."""
    found = []
    for name in re.findall(r'^#include "(.+)"$', source.read_text(), re.MULTILINE):
        for header in [HERE / name, *headers(HERE / name)]:
            if header not in found:
                found.append(header)
    return found


def checksum(source):
    """What a PTX file was made of: the sha256 of its source, its headers and the options, each followed by a zero byte."""
    parts = [source.read_bytes(), *(header.read_bytes() for header in headers(source)), " ".join(OPTIONS).encode()]
    return hashlib.sha256(b"".join(part + b"\0" for part in parts)).hexdigest()


def text(get_size, get, program):
    """One of the compiler's two-step strings."""
    size = ctypes.c_size_t()
    get_size(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(size.value, 1))
    get(program, buffer)
    return buffer.value.decode()


def renumbered(ptx):
    """Calls counted from 0 in their comments: the compiler counts on from the source before."""
    first = min(map(int, re.findall(r"// callseq (\d+)", ptx)), default=0)
    return re.sub(r"// callseq (\d+)", lambda found: f"// callseq {int(found[1]) - first}", ptx)


def compiled(nvrtc, source):
    """The PTX of a source, with the lines on top that say what it was made of."""
    program = ctypes.c_void_p()
    used = headers(source)
    texts = (ctypes.c_char_p * len(used))(*[header.read_bytes() for header in used])
    names = (ctypes.c_char_p * len(used))(*[header.name.encode() for header in used])
    options = (ctypes.c_char_p * len(OPTIONS))(*[option.encode() for option in OPTIONS])
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), source.name.encode(), len(used), texts, names)
    code = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
    log = text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    if code != 0:
        sys.exit(f"{source.name} does not compile ({code}):\n{log}")
    if log.strip():
        print(log, file=sys.stderr)
    ptx = text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    made_of = ", ".join([source.name, *(header.name for header in used)])
    head = f"// sha256 {checksum(source)} of {made_of} and the options\n// options {' '.join(OPTIONS)}\n"
    return head + renumbered(ptx)


def first_difference(name, old, new):
    """One line that says where two texts differ."""
    old, new = old.splitlines(), new.splitlines()
    for number, (a, b) in enumerate(zip(old, new), 1):
        if a != b:
            return f"{name}:{number}: has `{a}`, the source makes `{b}`"
    return f"{name}: has {len(old)} lines, the source makes {len(new)}"


def main(arguments):
    if arguments not in ([], ["--check"], ["--where"]):
        sys.exit(__doc__)
    path = library()
    if arguments == ["--where"]:
        print(path.parent)
        return
    nvrtc = ctypes.CDLL(str(path))
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    if (major.value, minor.value) != VERSION:
        sys.exit(f"{path} is NVRTC {major.value}.{minor.value}; the PTX must come from {WHEEL}")
    stale = []
    for source in sorted(HERE.glob("*.cu")):
        target = source.with_suffix(".ptx")
        ptx = compiled(nvrtc, source)
        old = target.read_text() if target.exists() else ""
        if arguments and old != ptx:
            stale.append(first_difference(target.name, old, ptx))
        elif not arguments:
            target.write_text(ptx)
            print(f"{target.name}: {ptx.count('.visible .entry')} kernels, {len(ptx)} bytes")
    if stale:
        sys.exit("\n".join(stale) + "\nstale: run assets/kernels/build.py and commit what it writes")


main(sys.argv[1:])
