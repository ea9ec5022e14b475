"""Our stretch beside PIL's antialiased bicubic, on photographs below VLGTR_DATA or on made-up pictures.

usage: augmentation.py BENCH_LOADER"""

import os
import pathlib
import random
import subprocess
import sys
import tempfile

from PIL import Image, ImageChops, ImageFilter

SIDES, PICTURES = (224, 518), 24


def made_up(folder):
    for i in range(PICTURES):
        chance, (w, h) = random.Random(i), ((640, 480), (333, 500), (1024, 300), (100, 90))[i % 4]
        noise = Image.frombytes("RGB", (w, h), chance.randbytes(3 * w * h))
        noise.filter(ImageFilter.GaussianBlur(chance.choice([0, 1, 3]))).save(pathlib.Path(folder, f"{i}.png"))
    return sorted(pathlib.Path(folder).iterdir())


def photographs(folder, scratch):
    """As PNG, so that both sides stretch the same pixels."""
    found = sorted(pathlib.Path(folder).rglob("*.jpg"))[:: max(1, len(list(pathlib.Path(folder).rglob("*.jpg"))) // PICTURES)]
    for i, path in enumerate(found[:PICTURES]):
        Image.open(path).convert("RGB").save(pathlib.Path(scratch, f"{i}.png"))
    return sorted(pathlib.Path(scratch).iterdir())


def main(bench):
    folder, pixels, near, same, worst = os.environ.get("VLGTR_DATA"), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        pictures = photographs(folder, scratch) if folder else made_up(scratch)
        for path in pictures:
            for side in SIDES:
                ours = subprocess.run([bench, "resize", path, str(side)], check=True, capture_output=True).stdout
                mine = Image.frombytes("RGB", (side, side), ours)
                theirs = Image.open(path).resize((side, side), Image.BICUBIC)
                r, g, b = ImageChops.difference(mine, theirs).split()
                counts = ImageChops.lighter(ImageChops.lighter(r, g), b).histogram()
                pixels += side * side
                same += counts[0]
                near += counts[0] + counts[1]
                worst = max(worst, max(i for i in range(256) if counts[i]))
    print(f"{len(pictures)} pictures to {SIDES} pixels: {100 * same / pixels:.4f} % of pixels as PIL has them, "
          f"{100 * near / pixels:.4f} % within one level (wanted 99.9), the worst off by {worst}")
    return 0 if near >= 0.999 * pixels else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
