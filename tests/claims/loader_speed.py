"""Bytes of JPEGs to augmented batches, per core: ours, torchvision's DataLoader, and bare libjpeg-turbo with our stretch.

usage: loader_speed.py VLGTR BENCH_LOADER SCRATCH [SIDE...]     (a python with torch, torchvision and Pillow)
       loader_speed.py --torch FOLDER SIDE IMAGES KIND          one measurement of the other side, as bench_loader prints it

Takes the photographs below VLGTR_DATA, or made-up ones, at 640 x 480 and quality 90. Processor time counts: other work on
the machine then weighs little, and sides take turns."""

import json
import os
import pathlib
import pickle
import random
import resource
import statistics
import subprocess
import sys
import time

from PIL import Image, ImageFilter

PICTURES, IMAGES, ROUNDS = 64, 512, int(os.environ.get("ROUNDS", "3"))


# ---- the pictures, in the layout of a refer data set ----

def made_up(i):
    """Blurred noise under sharper noise: about as many bytes as a photograph."""
    chance = random.Random(i)
    base = Image.frombytes("RGB", (40, 30), chance.randbytes(3600)).resize((640, 480), Image.BICUBIC)
    fine = Image.frombytes("RGB", (640, 480), chance.randbytes(921600)).filter(ImageFilter.GaussianBlur(1.5))
    return Image.blend(base, fine, 0.3)


def photographs():
    folder = os.environ.get("VLGTR_DATA")
    found = sorted(pathlib.Path(folder).rglob("*.jpg"))[:PICTURES] if folder else []
    if not found:
        return [made_up(i) for i in range(PICTURES)]
    return [Image.open(p).convert("RGB").resize((640, 480), Image.LANCZOS) for p in found]


def make_set(folder):
    images, annotations, refs = [], [], []
    chance = random.Random(3)
    (folder / "images").mkdir(parents=True)
    (folder / "made").mkdir()
    for i, picture in enumerate(photographs()):
        name = f"{i:04d}.jpg"
        picture.save(folder / "images" / name, quality=90)
        box = [chance.uniform(0, 300), chance.uniform(0, 200), chance.uniform(40, 300), chance.uniform(40, 250)]
        images.append({"id": i, "file_name": name, "width": 640, "height": 480})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": box, "area": 1.0, "iscrowd": 0})
        sentence = {"raw": "the dog beside the chair", "sent": "the dog beside the chair", "sent_id": i,
                    "tokens": ["the", "dog", "beside", "the", "chair"]}
        refs.append({"ref_id": i, "ann_id": i, "category_id": 1, "image_id": i, "file_name": name, "split": "train",
                     "sent_ids": [i], "sentences": [sentence]})
    (folder / "made" / "instances.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}))
    (folder / "made" / "refs(made).p").write_bytes(pickle.dumps(refs, protocol=2))
    return len(images)


# ---- the other side ----

def torch_dataset(folder, side, kind):
    import torch
    from torchvision import io
    from torchvision.transforms import InterpolationMode, v2

    paths, jitter = sorted(str(p) for p in pathlib.Path(folder).rglob("*.jpg")), v2.ColorJitter(0.4, 0.4, 0.4)

    class Photographs(torch.utils.data.Dataset):
        def __len__(self):
            return 1 << 30

        def __getitem__(self, i):
            path, chance = paths[i % len(paths)], random.Random(i)
            x = Image.open(path).convert("RGB") if kind == "pil" else io.decode_jpeg(io.read_file(path))
            if chance.random() < 0.5:
                w, h = int(640 * chance.uniform(0.6, 1)), int(480 * chance.uniform(0.6, 1))
                x = v2.functional.crop(x, chance.randint(0, 480 - h), chance.randint(0, 640 - w), h, w)
            if chance.random() < 0.5:
                x = v2.functional.horizontal_flip(x)
            x = v2.functional.resize(x, [side, side], InterpolationMode.BICUBIC, antialias=True)
            if chance.random() < 0.8:
                x = jitter(x)
            return v2.functional.pil_to_tensor(x) if kind == "pil" else x

    return Photographs()


def torch_side(folder, side, n, kind):
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    loader = DataLoader(torch_dataset(folder, side, kind), batch_size=8, num_workers=1, prefetch_factor=2)
    batches, done = iter(loader), 0
    for _ in range(4):  # what starting costs is left out
        next(batches)

    def cpu():
        worker = batches._workers[0].pid
        ticks = pathlib.Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
        own = resource.getrusage(resource.RUSAGE_SELF)
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime

    wall, before = time.monotonic(), cpu()
    while done < n:
        done += len(next(batches))
    print(json.dumps({"images": done, "wall_s": time.monotonic() - wall, "cpu_s": cpu() - before}))


# ---- the comparison ----

def run(*words):
    """Milliseconds of processor and of wall time per image, and what else was told."""
    told = json.loads(subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout)
    return 1e3 * told["cpu_s"] / told["images"], 1e3 * told["wall_s"] / told["images"], told


def middle(values):
    return statistics.median(values)


def compare(side, bench, shards, tokenizer, folder):
    ours = [bench, "load", shards, "train", tokenizer, side, 1, IMAGES]
    bare = [bench, "bare", shards, "train", tokenizer, side, 1, IMAGES]
    torch = [sys.executable, __file__, "--torch", folder, side, IMAGES // 4]
    times = {"ours": [], "bare": [], "pil": [], "tensor": []}
    for _ in range(ROUNDS):
        for name, words in (("ours", ours), ("bare", bare), ("pil", [*torch, "pil"]), ("tensor", [*torch, "tensor"])):
            times[name].append(run(*words))
    cpu = {name: middle([t[0] for t in values]) for name, values in times.items()}
    wall = {name: middle([t[1] for t in values]) for name, values in times.items()}
    best = min("pil", "tensor", key=cpu.get)
    print(f"{side} pixels, ms of processor (wall) per image: ours {cpu['ours']:.2f} ({wall['ours']:.2f}), libjpeg-turbo and "
          f"our stretch {cpu['bare']:.2f} ({wall['bare']:.2f}), torchvision on PIL pictures {cpu['pil']:.2f} "
          f"({wall['pil']:.2f}), on tensors {cpu['tensor']:.2f} ({wall['tensor']:.2f})")
    faster, share = cpu[best] / cpu["ours"], cpu["bare"] / cpu["ours"]
    print(f"{side} pixels: {faster:.2f} times torchvision (wanted 3), {share:.2f} of the bare parts' speed (wanted 0.90)")
    return faster >= 3 and share >= 0.9


def many_workers(bench, shards, tokenizer):
    """Two processes of four workers each, at once, beside one of one: a lock that is fought for puts workers to sleep."""
    words = [str(w) for w in (bench, "load", shards, "train", tokenizer, 224)]
    alone, both = [], []
    for _ in range(ROUNDS):
        alone.append(run(*words, 1, IMAGES)[0])
        pair = [subprocess.Popen([*words, "4", str(2 * IMAGES)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        both += [json.loads(p.communicate()[0]) for p in pair]
    each = middle([1e3 * t["cpu_s"] / t["images"] for t in both])
    sleeps = middle([t["waits"] / t["images"] for t in both])
    print(f"2 processes x 4 workers: {each:.2f} ms of processor per image, alone {middle(alone):.2f}; workers and consumer went "
          f"to sleep {sleeps:.2f} times per image")
    return each <= 1.15 * middle(alone) and sleeps < 1


def main(vlgtr, bench, scratch, sides):
    scratch = pathlib.Path(scratch)
    n = make_set(scratch / "set")
    for words in (["shard", "import", "refer", scratch / "set/made", scratch / "shards", "--images", scratch / "set/images"],
                  ["synth", scratch / "words", "--train", "8"]):
        subprocess.run([str(w) for w in (vlgtr, *words)], check=True, capture_output=True)
    print(f"{n} pictures of 640 x 480, {sum(p.stat().st_size for p in (scratch / 'set/images').iterdir()) // n} bytes each")
    tokenizer = scratch / "words/tokenizer"
    good = [compare(side, bench, scratch / "shards", tokenizer, scratch / "set/images") for side in sides]
    good.append(many_workers(bench, scratch / "shards", tokenizer))
    return 0 if all(good) else 1


if __name__ == "__main__":
    if sys.argv[1] == "--torch":
        torch_side(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        sys.exit(main(*sys.argv[1:4], [int(s) for s in sys.argv[4:]] or [224, 518]))
