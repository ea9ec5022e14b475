"""The work of tests/claims/import_counts.

usage: import_counts.py VLGTR SCRATCH DATA REGIONS"""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import generated_genome
import harness

MOST_MB = 300
vlgtr, scratch, data, n_regions = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
check = harness.Check()


def counts(*words):
    """Images, refs, sentences and boxes of an import in which nothing was set aside."""
    out = subprocess.run([vlgtr, "shard", "import", *words, "--strict"], capture_output=True, text=True)
    if out.returncode != 0:
        return out.stderr.strip()
    return tuple(int(n) for n in next(l for l in out.stdout.splitlines() if l.startswith("all ")).split()[1:5])


def expect(what, wanted, *words):
    """wanted: images, refs, sentences, boxes; None where the README does not say."""
    got = counts(*words, str(scratch / what.replace("/", "-").replace(" ", "-")), "--allow-absent-images")
    good = isinstance(got, tuple) and all(w is None or w == g for w, g in zip(wanted, got))
    check(f"{what}: {got}, wanted {wanted}", good)


def as_lines(name, rows):
    """Rows of image, phrase, box and size (None: the smallest that holds its boxes) as a file of JSON lines."""
    size = {}
    for image, _, (x, y, w, h), _, given in rows:
        most = size.get(image, (1, 1))
        size[image] = given or (max(most[0], int(x + w) + 1), max(most[1], int(y + h) + 1))
    path = scratch / f"{name}.jsonl"
    with open(path, "w") as f:
        for image, phrase, box, split, _ in rows:
            f.write(json.dumps(dict(image=image, phrase=phrase, bbox=box, split=split, width=size[image][0],
                                    height=size[image][1])) + "\n")
    return str(path)


def real_sets(root):
    expect("refer-mini refcoco", (5, 9, 26, None), "refcoco", f"{root}/refer-mini")
    expect("refer-mini refcoco+", (3, 6, 18, None), "refcoco+", f"{root}/refer-mini")
    expect("refer-mini refcocog", (3, 4, 8, None), "refcocog", f"{root}/refer-mini")
    expect("refcocos-mini", (None, 26, 26, None), "refer", f"{root}/refcocos-mini/refcocos")
    expect("coco-template", (156, 398, 1073, None), "refer", f"{root}/coco-template/cocotemplate")
    expect("coco-template as detection", (156, None, None, 398), "coco-detection",
           f"{root}/coco-template/cocotemplate/instances.json", "--images", f"{root}/coco-template/images")
    expect("visual-genome-layout", (70, None, 362, 362), "vg", f"{root}/visual-genome-layout")
    expect("visual-genome-annotations v1.0.0", (4, None, None, 1038), "vg", f"{root}/visual-genome-annotations/v1.0.0")
    expect("visual-genome-annotations v1.2.0", (4, None, None, 1030), "vg", f"{root}/visual-genome-annotations/v1.2.0")
    expect("refer-annotations refcoco", (2882, 6909, 18497, None), "refcoco", f"{root}/refer-annotations")
    expect("refer-annotations refcoco+", (2438, 6146, 17326, None), "refcoco+", f"{root}/refer-annotations")
    expect("refer-annotations refcocog", (3176, 6208, 11852, None), "refcocog", f"{root}/refer-annotations")
    regions = csv.DictReader(open(f"{root}/visual-genome-annotations/regions-hausavg.tsv", newline=""), delimiter="\t",
                             quoting=csv.QUOTE_NONE)
    rows = [(r["image_id"] + ".jpg", r["phrase"], [int(r[k]) for k in ("x", "y", "width", "height")], "train", None)
            for r in regions]
    expect("regions-hausavg", (1926, None, 1936, 1936), "jsonl", as_lines("hausavg", rows))
    rows = [(r["file_name"], r["phrase"], r["bbox"], "train", None)
            for r in map(json.loads, open(f"{root}/refer-annotations/refcoco_train_subset.jsonl"))]
    expect("refcoco_train_subset", (3967, None, 9335, 9335), "jsonl", as_lines("train_subset", rows))


# --- a Visual Genome of any size ---


def import_genome(stop_at=None):
    """Time, most memory in MB, what was printed; killed as soon as the shard `stop_at` is there."""
    begin = time.monotonic()
    printed = open(scratch / "printed", "w+")
    process = subprocess.Popen([vlgtr, "shard", "import", "vg", str(scratch / "genome"), str(scratch / "shards"),
                                "--allow-absent-images"], stdout=printed, stderr=subprocess.DEVNULL)
    while stop_at and not os.path.exists(scratch / "shards" / stop_at):
        time.sleep(0.01)
    if stop_at:
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    printed.seek(0)
    return time.monotonic() - begin, usage, os.waitstatus_to_exitcode(status), printed.read()


def generated():
    generated_genome.write(str(scratch / "genome"), n_regions)
    size = sum(f.stat().st_size for f in (scratch / "genome").iterdir())
    sentences_of_shard = 131072
    middle = n_regions // sentences_of_shard // 2
    _, first, code, _ = import_genome(f"vg-{middle:05d}.h5")
    check(f"{n_regions} regions, {size / 1e6:.0f} MB of JSON: killed behind shard {middle}", code == -signal.SIGKILL)
    seconds, second, code, printed = import_genome()
    check("started again it ends", code == 0)
    print(printed, end="")
    most = max(first.ru_maxrss, second.ru_maxrss) / 1024
    check(f"memory {most:.0f} MB, at most {MOST_MB}", most <= MOST_MB)
    lines = printed.splitlines()
    boxes = int(next(l for l in lines if l.startswith("all ")).split()[4])
    check(f"{boxes} boxes of {n_regions} regions", boxes == n_regions)
    kept = int(next(l for l in lines if "finished before" in l).split(";")[2].split()[0])
    check(f"{kept} shards were kept", kept >= middle + 1)
    print(f"{n_regions / seconds:.0f} regions/s, {size / 1e6 / seconds:.1f} MB/s of JSON; "
          f"{n_regions / second.ru_utime:.0f} regions per second of processor")


if data:
    real_sets(data)
else:
    print("--  VLGTR_DATA does not name a folder of data: real sets were left out")
generated()
print("import_counts: holds" if not check.bad else f"import_counts: falls short, {check.bad} times")
sys.exit(1 if check.bad else 0)
