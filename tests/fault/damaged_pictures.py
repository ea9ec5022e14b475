#!/usr/bin/env python3
"""Pictures of every kind, broken ones, damage in a shard, reads that fail: each with its promised outcome.

usage: damaged_pictures.py VLGTR [FAILING_READS]     without the library reads do not fail and
memory is not limited, for sanitizers load first and take much address space"""

import json
import os
import pathlib
import re
import resource
import struct
import sys
import zlib
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

DATA, STORAGE = 65, 74
FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures/images"
KINDS = ("rgb.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "turned.jpg", "halved.jpg", "grey16.png", "palette.png", "alpha.png")
FEW = {"schedule.heads.steps": 6, "schedule.blocks.steps": 6, "train.global_batch": 4, "data.cache_mb": 0, "data.max_bad": 0.5}
check = harness.Check()


# ---- pictures ----

def png(width, height, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def resized_jpeg(name, side):
    """The same bytes under a header that claims side x side pixels."""
    data = bytearray((FIXTURES / name).read_bytes())
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
    data[at + 5:at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def pictures(bench):
    """Good and bad ones below `photos`, a line each in photos.jsonl; names of both."""
    folder = pathlib.Path(bench.path("photos"))
    folder.mkdir()
    good = {name: (FIXTURES / name).read_bytes() for name in KINDS}
    good["wide.png"] = png(20000, 30, (b"\0" + b"\x55" * 2500) * 30)
    bad = {"empty.jpg": b"", "text.jpg": b"not a picture", "cut.png": good["palette.png"][:60], "header.jpg": good["rgb.jpg"][:200],
           "bomb.jpg": resized_jpeg("rgb.jpg", 65500), "bomb-progressive.jpg": resized_jpeg("progressive.jpg", 65500),
           "bomb.png": png(60000, 60000, b"\0" * 7501 * 60000)}
    with open(bench.path("photos.jsonl"), "w") as lines:
        for name, data in {**good, **bad}.items():
            (folder / name).write_bytes(data)
            lines.write(json.dumps({"image": f"photos/{name}", "phrase": "the left dog", "box": [1, 1, 9, 9], "split": "train"}) + "\n")
    return good, bad


def kinds_of_pictures(bench, limited):
    """A bomb is refused by what its header claims: 2 GB of address space are enough for all."""
    good, bad = pictures(bench)
    limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))) if limited else None
    done = bench.run("shard", "import", "jsonl", "photos.jsonl", "photo-shards", "--max-bad", "1", preexec_fn=limit)
    told = done.stdout + done.stderr
    check("import leaves broken pictures out by name", done.returncode == 0 and all(name in told for name in bad), told[-600:])
    named = [name for name in good if f"/{name}:" in told]
    check("import takes every other kind", not named, named)
    for ranks in (1, 2):
        folder = f"photos{ranks}"
        done = bench.run("train", "run.yaml", *bench.sets({**FEW, "run.folder": folder, "data.shards": "photo-shards",
                                                          "data.eval_split": "train"}), ranks=ranks)
        check(f"they train on {ranks} ranks, none left out", done.returncode == 0 and "left out" not in done.stderr, done.stderr[-400:])
    check("with the same bits", bench.hashes("photos1") == bench.hashes("photos2"))


# ---- a shard with a bad image ----

def damage(bench, source, target, n):
    """A byte changed in n images of a copy of the shards."""
    pathlib.Path(bench.path(target)).mkdir()
    for path in pathlib.Path(bench.path(source)).glob("*.h5"):
        data, at = bytearray(path.read_bytes()), 0
        for _ in range(n):
            at = data.index(b"\xff\xd8\xff", at) + 4
            data[at + 60] ^= 0x40
        pathlib.Path(bench.path(target), path.name).write_bytes(data)


def damaged_shard(bench):
    damage(bench, "shards", "bad-shards", 3)
    for ranks in (1, 3):
        done = bench.run("train", "run.yaml", *bench.sets({**FEW, "run.folder": f"bad{ranks}", "data.shards": "bad-shards",
                                                          "data.eval_split": "train", "run.eval_every": 0}), ranks=ranks)
        named = done.stderr.count("does not match its hash")
        check(f"bad images are named on {ranks} ranks, and the run goes on", named >= 3 and done.returncode == 0 and
              "count as misses" in done.stderr, done.stderr[-600:])
    steps = [r for r in bench.records("bad1") if "phrases" in r]
    whole = all(r["phrases"] > 0 for r in steps) and steps[-1]["bad_samples"] >= 1
    check("what replaces them is the same on 1 and 3 ranks", whole and bench.hashes("bad1") == bench.hashes("bad3"))
    too_many(bench)
    misses(bench)


def misses(bench):
    """Phrases of bad images are trials that missed: of all phrases, however many ranks answer."""
    def evaluate(ranks, *more):
        return bench.run("eval", "bad1", "--split", "train", "--out", f"answers{ranks}.jsonl", "--gallery", "answers.png", *more, ranks=ranks)

    done = [evaluate(ranks) for ranks in (1, 3)]
    lines = [pathlib.Path(bench.path(f"answers{ranks}.jsonl")).read_text() for ranks in (1, 3)]
    answers = [json.loads(line) for line in lines[0].splitlines()]
    unread = [a for a in answers if a.get("unread")]
    row = next(line for line in done[0].stdout.splitlines() if line.startswith("all ")).split()
    check("bad images are misses of an evaluation, whose other answers stand", done[0].returncode == 0 and len(unread) >= 3 and
          all(a["box"] is None and a["iou"] == 0 for a in unread) and int(row[1]) == len(answers) and
          row[2] == f"{sum(a['iou'] >= 0.5 for a in answers) / len(answers):.4f}", done[0].stderr[-400:])
    check("it says so", f"{len(unread)} of the phrases have no answer" in done[0].stdout)
    check("the same on 3 ranks", done[0].stdout == done[1].stdout and lines[0] == lines[1])
    for share, code in ((len(unread) / len(answers), 0), (0.99 * len(unread) / len(answers), DATA)):
        done = evaluate(1, "--set", f"data.max_bad={share}")
        check(f"with data.max_bad {share:.4f} it ends with {code}", done.returncode == code and
              (code == 0 or "more than data.max_bad" in done.stderr), done.stderr[-400:])


def too_many(bench):
    """The run ends at one step, however many ranks count and wherever it was taken up."""
    def ending(folder, ranks, share):
        done = bench.run("train", "run.yaml", *bench.sets({**FEW, "run.folder": folder, "data.shards": "bad-shards", "data.max_bad": share,
                                                          "run.checkpoint_every": 1, "run.eval_every": 0}), ranks=ranks)
        told = re.search(r"step (\d+): (\d+) samples cannot be read in \d+ epochs? of (\d+), more than data.max_bad", done.stderr)
        check(f"above data.max_bad {share:.3g} the run ends, {ranks} ranks", done.returncode == DATA and told, done.stderr[-400:])
        saved = sorted(p.parent.name for p in pathlib.Path(bench.path(folder, "checkpoints")).glob("step-*/manifest.json"))
        check("what was being saved is", told and saved[-1:] == [f"step-{int(told[1]):08}"], saved)
        return told and [int(n) for n in told.groups()]

    step, bad, epoch = ending("none", 1, 0)
    share = 1.5 * bad / epoch  # that step is allowed, a later one is not
    ends = [ending("some1", 1, share), ending("some3", 3, share), ending("some1", 2, share)]
    check("at the same step on 1 and 3 ranks, and once more on 2 from its checkpoint", ends[0] == ends[1] == ends[2] and
          ends[0][0] > step, (step, ends))


# ---- reads that fail ----

def failing_reads(bench, library):
    options = {**FEW, "data.workers": 2}
    bench.train(1, {**options, "run.folder": "sound"})
    for every, after, code in ((37, 0, 0), (0, 60, STORAGE)):
        with mock.patch.dict(os.environ, harness.preloading(library), FAIL_EVERY=str(every), FAIL_AFTER=str(after)):
            done = bench.run("train", "run.yaml", *bench.sets({**options, "run.folder": f"eio{every}"}))
        check(f"reads that fail {'now and then are tried again' if every else 'for good end the run as storage'}",
              done.returncode == code and (code == 0 or "Input/output error" in done.stderr), done.stderr[-600:])
        check("and put no image aside", "left out" not in done.stderr, done.stderr[-600:])
    check("tried again, the bits are those of sound reads", bench.hashes("eio37") == bench.hashes("sound"))


def main(vlgtr, library):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        kinds_of_pictures(bench, bool(library))
        damaged_shard(bench)
        if library:
            failing_reads(bench, library)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
