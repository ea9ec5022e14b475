#!/usr/bin/env python3
"""Holds the #include lines against the table of rooms: who may open which door. And device code against its dialect: what
nvcc and g++ read differently stands in kernels/cuda/dev.h alone.

usage: rooms.py ROOT | --self-test"""

import pathlib
import re
import sys

# What a room may include besides its own headers. A name that ends in / is every public header below it.
BASE = ["kernels/base/"]
TENSORS = ["kernels/tensor.h", "kernels/params.h"]
DOORS = {
    "kernels/base": [],
    "kernels": BASE,
    "dist": BASE,
    "data": BASE,
    "checkpoints": BASE + TENSORS + ["dist/comm.h", "dist/reduce.h"],
    "trainer": BASE + TENSORS + [
        "kernels/graph.h", "kernels/backend.h", "dist/comm.h", "dist/reduce.h", "dist/device.h", "dist/health.h", "data/shard.h",
        "data/augment.h", "data/loader.h", "data/feature_store.h", "data/tokenizer.h", "data/draw.h", "data/import.h", "data/shard_tools.h", "data/shard_leakage.h",
        "data/synth.h", "data/utf8.h",
        "checkpoints/checkpoint.h", "checkpoints/safetensors.h",
    ],
}
SOURCES = {".c", ".h", ".cu", ".cuh"}
DIALECT = re.compile(r"<<<|\b(?:__shared__|__global__|asm|__asm__)\b")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def room_of(path):
    """kernels/base is a room of its own below kernels."""
    return "kernels/base" if path.startswith("kernels/base/") else path.split("/")[0]


def complaint(room, header):
    if room_of(header) == room:
        return None
    if header.endswith("_impl.h"):
        return "is private to its room; a door of that room (DOORS in tests/rooms.py) has what others may use"
    if not any(header == door or (door.endswith("/") and header.startswith(door)) for door in DOORS[room]):
        return f"is no door that {room} may open; DOORS in tests/rooms.py lists those"
    return None


def device_complaint(name, text):
    if not name.startswith("kernels/cuda/") or name == "kernels/cuda/dev.h":
        return None
    foreign = DIALECT.search(COMMENT.sub("", text))
    return foreign and f"{foreign.group()} belongs into kernels/cuda/dev.h; its macros (KERNEL, LAUNCH, SHARED, ..) say it for nvcc and g++"


def main(root):
    faults, files, names = 0, 0, {}
    for room in ("kernels", "dist", "data", "checkpoints", "trainer"):
        for path in sorted(p for p in pathlib.Path(root, room).rglob("*") if p.suffix in SOURCES):
            name = path.relative_to(root).as_posix()
            files += 1
            twin = names.setdefault(path.name, name)
            if twin != name and "trainer/cmd/" not in name:  # those are named after their verbs
                print(f"{name}: {twin} has the same file name; rename one")
                faults += 1
            text = path.read_text()
            foreign = device_complaint(name, text)
            if foreign:
                print(f"{name}: {foreign}")
                faults += 1
            for header in INCLUDE.findall(text):
                if header.endswith(".def"):
                    continue
                if not pathlib.Path(root, header).exists():
                    reason = "does not exist; includes are written from the top folder"
                else:
                    reason = complaint(room_of(name), header)
                if reason:
                    print(f'{name}: "{header}" {reason}')
                    faults += 1
    print(f"{files} files, {faults} faults")
    return faults if files else 1


def self_test():
    """The check notices what it is there for."""
    import tempfile

    bad = {
        "data/one.c": '#include "trainer/options.h"\n',
        "dist/two.c": '#include "kernels/graph_impl.h"\n',
        "kernels/three.c": '#include "nowhere.h"\n',
        "kernels/cuda/four.cu": "/* <<< */ __shared__ float x;\n",
        "kernels/cuda/dev.h": "#define SHARED __shared__\n",
        "trainer/options.h": "",
        "kernels/graph_impl.h": "",
        "checkpoints/one.c": "",
    }
    with tempfile.TemporaryDirectory() as root:
        for name, text in bad.items():
            path = pathlib.Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0 if main(root) == 5 else 1


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1] == "--self-test" else main(sys.argv[1]) > 0)
