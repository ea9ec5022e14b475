"""Our stretch beside PIL's antialiased bicubic, on photographs below VLGTR_DATA or on made-up pictures; and what data.reduced
changes: colours that become RGB after the stretch, and decoding at a fraction of the size.

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


def stretched(bench, path, side, reduced):
    done = subprocess.run([bench, "resize", path, str(side), str(reduced)], check=True, capture_output=True)
    return Image.frombytes("RGB", (side, side), done.stdout)


def differences(a, b):
    """How many channel values differ by each number of levels."""
    counts = ImageChops.difference(a, b).histogram()
    return [counts[i] + counts[256 + i] + counts[512 + i] for i in range(256)]


def reduced_decoding(bench, pictures, scratch):
    """Photographs at quality 90 to 0.4 of their short side, which data.reduced: 2 decodes at full size, to a quarter of it, which
    is decoded at half the size, and to a half, which data.reduced: 1 does."""
    for reduced, part, size in ((2, 2.5, "full"), (2, 4, "half"), (1, 2, "half")):
        counts = [0] * 256
        for i, path in enumerate(pictures):
            picture, jpeg = Image.open(path), str(pathlib.Path(scratch, f"{i}.jpg"))
            picture.save(jpeg, quality=90)
            side = int(min(picture.size) / part)
            counts = [a + b for a, b in zip(counts, differences(stretched(bench, jpeg, side, 0), stretched(bench, jpeg, side, reduced)))]
        total, mean = sum(counts), sum(i * n for i, n in enumerate(counts)) / sum(counts)
        print(f"data.reduced: {reduced}, to 1/{part} of the short side, decoded at {size} size: off by {mean:.2f} levels on average, "
              f"{100 * sum(counts[:5]) / total:.1f} % within four")
        yield mean


def main(bench):
    folder, pixels, near, same, worst = os.environ.get("VLGTR_DATA"), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        pictures = photographs(folder, scratch) if folder else made_up(scratch)
        for path in pictures:
            for side in SIDES:
                mine = stretched(bench, path, side, 0)
                theirs = Image.open(path).resize((side, side), Image.BICUBIC)
                r, g, b = ImageChops.difference(mine, theirs).split()
                counts = ImageChops.lighter(ImageChops.lighter(r, g), b).histogram()
                pixels += side * side
                same += counts[0]
                near += counts[0] + counts[1]
                worst = max(worst, max(i for i in range(256) if counts[i]))
        means = list(reduced_decoding(bench, pictures, scratch))
    print(f"{len(pictures)} pictures to {SIDES} pixels: {100 * same / pixels:.4f} % of pixels as PIL has them, "
          f"{100 * near / pixels:.4f} % within one level (wanted 99.9), the worst off by {worst}")
    return 0 if near >= 0.999 * pixels and max(means[:2]) < 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
