"""Plants test photographs in training sets and counts what `vlgtr shard leakage` finds.

usage: leakage.py VLGTR DATA SCRATCH [PHOTOGRAPHS]"""

import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys

# Every test photograph goes into the training set once in each of these ways: side factors, quality, colours.
COPIES = {
    "half the side, quality 50": (0.5, 0.5, 50, ""),
    "a quarter of the side, quality 75": (0.25, 0.25, 75, ""),
    "three quarters, quality 30": (0.75, 0.75, 30, ""),
    "one and a half, quality 90": (1.5, 1.5, 90, ""),
    "same size, quality 20": (1, 1, 20, ""),
    "squeezed to 224 x 224, quality 85": (224, 224, 85, ""),
    "half the side in grey, quality 75": (0.5, 0.5, 75, "grey"),
}
USUAL_BITS = 8  # what the tool takes without --distance


def jpeg_size(path):
    """Width and height of the frame header."""
    data = path.read_bytes()
    at = 2
    while at + 9 < len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise SystemExit(f"{path}: no frame header")


def photographs(data):
    """Distinct ones by the COCO id in their name."""
    found = {}
    for path in sorted(pathlib.Path(data).rglob("*.jpg")):
        digits = path.stem.split("_")[-1]
        if digits.isdigit():
            found.setdefault(int(digits), path)
    return sorted(found.items())


class Sets:
    """Data sets in the refer layout, made and imported."""

    def __init__(self, vlgtr, scratch):
        self.vlgtr, self.scratch = vlgtr, pathlib.Path(scratch)

    def make(self, name, images, split):
        """images: (id, path). Every image has one ref in `split`. Returns the folder of shards."""
        root = self.scratch / name
        folder = root / "images"
        folder.mkdir(parents=True)
        instances = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
        refs = []
        for number, (image_id, path) in enumerate(images):
            width, height = jpeg_size(path)
            file_name = f"{name}-{image_id}.jpg"
            os.link(path, folder / file_name) if path.is_relative_to(self.scratch) else shutil.copy(path, folder / file_name)
            instances["images"].append({"id": image_id, "file_name": file_name, "width": width, "height": height})
            instances["annotations"].append(
                {"id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, width / 2, height / 2]})
            refs.append({"ref_id": number, "ann_id": number, "image_id": image_id, "category_id": 1, "split": split,
                         "file_name": file_name, "sentences": [{"sent_id": number, "sent": "thing", "raw": "thing", "tokens": []}]})
        (root / "instances.json").write_text(json.dumps(instances))
        (root / "refs(hand).p").write_bytes(pickle.dumps(refs, 2))
        shards = self.scratch / f"{name}-shards"
        subprocess.run([self.vlgtr, "shard", "import", "refer", root, shards, "--strict"], check=True, stdout=subprocess.DEVNULL)
        return shards

    def leakage(self, train, against, *options):
        """What is listed, as {image id: distance in bits or None}; the exit code must agree."""
        out = self.scratch / "found.jsonl"
        done = subprocess.run([self.vlgtr, "shard", "leakage", train, "--against", against, "--out", out, *options],
                              capture_output=True, text=True)
        found = {}
        for line in out.read_text().splitlines():
            record = json.loads(line)
            bits = record["reason"].rpartition("pixels (")[2].split(" ")[0] if "pixels" in record["reason"] else None
            found[record["image_id"]] = int(bits) if bits else None
        if done.returncode != (65 if found else 0):
            raise SystemExit(f"leakage ended with {done.returncode}: {done.stderr}")
        return found


def copies(photos, recode, scratch):
    """{way: [(new id, path)]}; new ids are 10^7 times the number of the way, plus the old id."""
    made = {}
    for number, (way, (x, y, quality, colours)) in enumerate(COPIES.items(), 1):
        folder = pathlib.Path(scratch, "copies", str(number))
        folder.mkdir(parents=True)
        made[way] = []
        for image_id, path in photos:
            width, height = jpeg_size(path)
            size = (x, y) if x > 10 else (round(width * x), round(height * y))
            out = folder / path.name
            subprocess.run([recode, path, out, str(size[0]), str(size[1]), str(quality), *([colours] if colours else [])],
                           check=True)
            made[way].append((number * 10_000_000 + image_id, out))
    return made


def main(vlgtr, data, scratch, most=None):
    sets = Sets(vlgtr, scratch)
    photos = photographs(data)[: int(most) if most else None]
    test, train = photos[::2], photos[1::2]
    test_shards = sets.make("test", test, "test")
    good = True

    planted = test[::5]
    found = sets.leakage(sets.make("same", train + planted, "train"), test_shards, "--by", "id")
    caught = set(found) == {image_id for image_id, _ in planted}
    good &= caught
    print(f"same id: {len(found)} found, {len(planted)} planted among {len(train)} others"
          f"{'' if caught else ': NOT THE SAME ONES'}")

    made = copies(test, os.path.join(scratch, "recode"), scratch)
    everything = [image for images in made.values() for image in images]
    found = sets.leakage(sets.make("copies", train + everything, "train"), test_shards, "--by", "pixels")
    for way, images in made.items():
        bits = [found[image_id] for image_id, _ in images if image_id in found]
        good &= len(bits) == len(images)
        print(f"copies, {way}: {len(bits)} of {len(images)} found, at most {max(bits, default=0)} bits apart")

    clean = pathlib.Path(scratch, "clean")
    subprocess.run([vlgtr, "shard", "filter", clean, pathlib.Path(scratch, "copies-shards"), "--without",
                    pathlib.Path(scratch, "found.jsonl")], check=True, stdout=subprocess.DEVNULL)
    left = sets.leakage(clean, test_shards)
    good &= not left
    print(f"after `filter --without` the list: {len(left)} found by any means")

    # Two numbers differ in some binary digit, so these halves set every pair of photographs against each other.
    alarms, nearest = set(), 64
    for bit in range(max(len(photos) - 1, 1).bit_length()):
        halves = [[p for i, p in enumerate(photos) if i >> bit & 1 == side] for side in (0, 1)]
        shards = [sets.make(f"half{bit}{side}", half, ("train", "test")[side]) for side, half in enumerate(halves)]
        found = sets.leakage(*shards, "--by", "pixels", "--distance", "15")
        alarms |= {image_id for image_id, bits in found.items() if bits <= USUAL_BITS}
        nearest = min([nearest, *found.values()])
    pairs = len(photos) * (len(photos) - 1) // 2
    good &= not alarms
    print(f"false alarms: {len(alarms)} over {pairs} pairs of {len(photos)} distinct photographs {sorted(alarms)}; the nearest pair"
          f" is {nearest if nearest < 64 else 'more than 15'} bits apart")
    print("leakage: holds" if good else "leakage: falls short")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
