#!/usr/bin/env python3
"""Damaged shards: what is bad is named, listed and left out, and I/O errors are never taken for damage.

usage: shard_damage.py VLGTR [FAILING_READS]     without the library reads do not fail"""

import json
import os
import pathlib
import struct
import sys
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

DATA, STORAGE = 65, 74
check = harness.Check()


def line_of(done):
    """The error's one line; other lines of a run are news."""
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""


def expect(what, done, code, *words):
    line = line_of(done)
    check(f"{what}: {done.returncode}  {line[:160]}", done.returncode == code and all(w in line for w in words),
          f"\n    wanted {code} and {words}\n{done.stderr}{done.stdout}")


# --- shards ---


def copied(bench, name, change):
    """A folder with the made-up shard, whose bytes `change` has its way with."""
    shard = next(pathlib.Path(bench.path("shards")).glob("*.h5"))
    data = bytearray(shard.read_bytes())
    data = change(data) or data
    os.mkdir(bench.path(name))
    pathlib.Path(bench.path(name, shard.name)).write_bytes(data)
    return name


def patched(data, pattern, offset, value):
    """`value` goes `offset` bytes behind the only place of `pattern`."""
    at = data.find(pattern)
    assert at >= 0 and data.find(pattern, at + 1) < 0
    data[at + offset : at + offset + len(value)] = value


def salvaged(bench, name, lost_images, lost_sentences):
    """verify lists what is bad, filter leaves it out, the rest is whole and can be trained on."""
    whole = json.loads(bench.must("shard", "inspect", "shards", "--json"))
    done = bench.run("shard", "verify", name, "--quarantine", f"{name}.jsonl")
    told = bench.must("shard", "filter", f"{name}-clean", name, "--without", f"{name}.jsonl")
    clean = json.loads(bench.must("shard", "inspect", f"{name}-clean", "--json"))
    bench.must("shard", "verify", f"{name}-clean")
    lost = [sum(s[k] for s in whole["shards"]) - sum(s[k] for s in clean["shards"]) for k in ("images", "sentences")]
    check(f"{name}: what is listed is left out, {lost[0]} images and {lost[1]} sentences; the rest is whole",
          done.returncode == DATA and lost[0] == lost_images and lost_sentences(lost[1]) and "1 of 1 listed records" in told, told)


def damaged_shards(bench):
    instances = json.loads(pathlib.Path(bench.path("data", "synth", "instances.json")).read_text())
    image = instances["images"][3]
    ids = struct.pack("<qqqii", image["id"], 0, 0, image["width"], image["height"])
    picture = pathlib.Path(bench.path("data", "images", image["file_name"])).read_bytes()

    copied(bench, "half", lambda d: d[: len(d) // 2])
    expect("truncated shard, verify", bench.run("shard", "verify", "half"), DATA, "half/", "cut short")
    expect("truncated shard, train", bench.run("train", "run.yaml", "--set", "data.shards=half"), DATA, "half/", "cut short")
    copied(bench, "byte", lambda d: d[:-1])
    expect("shard without its last byte", bench.run("shard", "verify", "byte"), DATA, "byte/")

    middle = len(picture) // 2
    copied(bench, "pixels", lambda d: patched(d, picture[middle : middle + 32], 16, bytes([picture[middle + 16] ^ 1])))
    expect("image that does not match its hash", bench.run("shard", "verify", "pixels"), DATA, f"image {image['id']}", "hash")
    salvaged(bench, "pixels", 1, lambda n: n > 0)

    copied(bench, "beyond", lambda d: patched(d, ids, 32, struct.pack("<Q", 1 << 62)))
    expect("offset beyond the file", bench.run("shard", "verify", "beyond"), DATA, f"image {image['id']}", "outside the shard")
    expect("offset beyond the file, train", bench.run("train", "run.yaml", "--set", "data.shards=beyond"), DATA,
           f"image {image['id']}", "outside the shard")
    salvaged(bench, "beyond", 1, lambda n: n > 0)
    short = {"data.without": "beyond.jsonl", "schedule.heads.steps": 2, "schedule.blocks.steps": 1}
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "without", "data.sets": "it=beyond", "schedule.heads.mix": "it=1",
                                                      "schedule.blocks.mix": "it=1", **short}))
    check("training leaves out what is listed", done.returncode == 0 and "step 3/3" in done.stderr
          and "1 of 1 records that data.without lists" in done.stderr, done.stderr[-400:])
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "late", "data.shards": "beyond", **short}))
    expect("evaluation does not, and says so before the first step", done, DATA, "data.eval_split", "filter --without")
    check("nothing was trained", not os.path.exists(bench.path("late")))

    for what, options, words in (("a cut shard", {"data.shards": "half"}, ("half/", "cut short")),
                                 ("a folder without shards", {"data.shards": "data"}, ("data",)),
                                 ("a split that is not there", {"data.eval_split": "absent"}, ("no split 'absent'", "val"))):
        done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "late", "data.sets": "it=shards", "schedule.heads.mix": "it=1",
                                                          "schedule.blocks.mix": "it=1", **options}))
        expect(f"{what} to evaluate on, before the first step", done, DATA, "data.eval_split", *words)
        check("nothing was trained", not os.path.exists(bench.path("late")))

    copied(bench, "width", lambda d: patched(d, ids, 24, struct.pack("<i", -5)))
    expect("negative width", bench.run("shard", "verify", "width"), DATA, f"image {image['id']}", "impossible")
    salvaged(bench, "width", 1, lambda n: n > 0)

    stored = next(pathlib.Path(bench.path("shards")).glob("*.h5")).read_bytes()
    corners = next(c for c in (struct.pack("<4f", x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in
                   instances["annotations"])) if c in stored)  # of an object that a phrase names
    for name, value, word in (("nan", float("nan"), "not finite"), ("outside", 1e6, "leaves the image")):
        def change(d, value=value):
            at = d.find(corners)
            d[at + 8 : at + 12] = struct.pack("<f", value)
        copied(bench, name, change)
        expect(f"box with {value}", bench.run("shard", "verify", name), DATA, "/sentences row", word)
        salvaged(bench, name, 0, lambda n: n > 0)


def list_stays(bench):
    kept = pathlib.Path(bench.path("kept.jsonl"))
    kept.write_text("a list of before\n")
    done = bench.run("shard", "verify", "nowhere", "--quarantine", "kept.jsonl")
    check("a folder that is not there writes no list over another", done.returncode == DATA and kept.read_text() != "", done.stderr)


# --- I/O errors ---


def failing(bench, library, how, *words):
    how = {"FAIL_AFTER": 10**9, **how}
    with mock.patch.dict(os.environ, {**{name: str(value) for name, value in how.items()}, **harness.preloading(library)}):
        return bench.run(*words)


def io_errors_of_names(bench, library):
    """Files and folders that cannot be looked at: not the data's fault, nor absent."""
    bench.must("train", "run.yaml", *bench.sets({"run.folder": "went", "run.until": "heads", "run.checkpoint_every": 8}))
    kept = sorted(p.name for p in pathlib.Path(bench.path("went", "checkpoints")).glob("step-*"))
    go_on = ["train", "run.yaml", *bench.sets({"run.folder": "went", "run.checkpoint_every": 8})]
    for what, how, words in (("a folder of shards", {"FAIL_LOOK": "shards"}, ["shard", "inspect", "shards"]),
                             ("the shards in it", {"FAIL_LIST": 2}, ["shard", "inspect", "shards"]),
                             ("the checkpoints", {"FAIL_LOOK": "/checkpoints"}, go_on),
                             ("those in their folder", {"FAIL_LIST": 10}, go_on),
                             ("an annotation's folder", {"FAIL_LOOK": "data/synth"}, ["shard", "import", "refer", "data/synth", "other"])):
        done = failing(bench, library, how, *words)
        expect(f"{what} cannot be looked at", done, STORAGE, "Input/output error")
    done = failing(bench, library, {"FAIL_LOOK": f"{kept[0]}/manifest.json"}, *go_on, "--set", "run.checkpoint_every=100")
    check("a checkpoint whose manifest cannot be looked at is neither taken for unfinished nor deleted", done.returncode == 0
          and f"resumed from went/checkpoints/{kept[-1]}" in done.stderr and os.path.exists(bench.path("went", "checkpoints", kept[0])),
          f"{done.returncode} {kept} {line_of(done)}")


def io_errors(bench, library):
    """Reads that fail for good, from the n-th on: while the shard is opened, and while its images are read. Files that the
    first n times cannot be opened."""
    codes, listed = {}, []
    for n in (0, 3, 5, 9, 14, 30):
        done = failing(bench, library, {"FAIL_EVERY": 0, "FAIL_AFTER": n}, "shard", "verify", "shards", "--quarantine", "eio.jsonl")
        codes[n] = done.returncode
        listed += [n] if os.path.exists(bench.path("eio.jsonl")) else []
    for n, code in ((2, 0), (1000, STORAGE)):
        done = failing(bench, library, {"FAIL_OPENS": n}, "shard", "verify", "shards")
        check(f"a shard that {n} times cannot be opened for ESTALE ends it with {code}", done.returncode == code, done.stderr[-400:])
    check(f"EIO is the storage's fault wherever it begins, and nothing is listed for it: {codes}",
          set(codes.values()) == {STORAGE} and not listed)


def main(vlgtr, library=None):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        damaged_shards(bench)
        list_stays(bench)
        if library:  # a sanitizer wants to be loaded first
            io_errors(bench, library)
            io_errors_of_names(bench, library)
    print(f"{check.bad} faults")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
