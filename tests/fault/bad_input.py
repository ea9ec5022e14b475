#!/usr/bin/env python3
"""Bad input ends in one clear line, the documented exit code, and nothing lost.

usage: bad_input.py VLGTR"""

import json
import os
import pathlib
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

USAGE, DATA, COMMUNICATION, STORAGE, STOPPED, NUMERICS, CONFIG = 64, 65, 69, 74, 75, 76, 78
FLAGS = {"--allow-absent-images", "--strict", "--dry-run", "--json", "--no-decode"}
check = harness.Check()


def expect(what, done, code, *words):
    """One line on standard error that names the place, and this exit code."""
    lines = [l for l in done.stderr.splitlines() if l.startswith("vlgtr")]
    good = done.returncode == code and len(lines) == 1 and all(w in lines[0] for w in words)
    check(what, good, f"{done.returncode}  {lines[-1] if lines else ''}" if good else
          f"wanted code {code}, one line with {words}; {done.returncode}, lines: {lines}")


# --- configuration ---


def configurations(bench):
    bench.write("typo.yaml", harness.CONFIG.replace("clip_norm", "clip_nrom"))
    expect("unknown key", bench.run("train", "typo.yaml"), CONFIG, "typo.yaml:6", "clip_nrom", "did you mean 'train.clip_norm'")
    expect("value out of range", bench.run("train", "run.yaml", "--set", "train.beta1=2"), CONFIG, "train.beta1", "0 to")
    expect("not a number", bench.run("train", "run.yaml", "--set", "schedule.heads.steps=many"), CONFIG, "steps", "many")
    expect("unknown choice", bench.run("train", "run.yaml", "--set", "fusion.norm=mid"), CONFIG, "post|pre")
    expect("a key beyond any", bench.run("train", "run.yaml", "--set", f"{'a' * 300}=1"), USAGE, "aaa=1: the key is too long")
    expect("no value", bench.run("train", "run.yaml", "--set", "train.seed"), USAGE, "--set train.seed: key=value is expected")
    expect("no tokenizer", bench.run("train", "run.yaml", "--set", "text.tokenizer="), CONFIG, "text.tokenizer names no folder")
    bench.write("twice.yaml", harness.CONFIG.replace("name: blocks", "name: heads"))
    expect("two stages of that name", bench.run("train", "twice.yaml", "--set", "schedule.heads.steps=2"), CONFIG, "more than one stage 'heads'")
    expect("no stage of that name", bench.run("train", "run.yaml", "--set", "schedule.head.steps=2"), CONFIG, "no stage 'head'; it has 'heads', 'blocks'")
    expect("no stage to end at", bench.run("train", "run.yaml", "--set", "run.until=block"), CONFIG, "run.until", "no stage 'block'; it has 'heads', 'blocks'")
    bench.write("anchor.yaml", "train: {seed: &a 1}\n")
    expect("anchor", bench.run("train", "anchor.yaml"), CONFIG, "anchor.yaml:1", "anchors")
    bench.write("broken.yaml", "train: [1, 2\ndata: }\n")
    expect("not YAML", bench.run("train", "broken.yaml"), CONFIG, "broken.yaml:")
    expect("no such file", bench.run("train", "nowhere.yaml"), CONFIG, "nowhere.yaml")
    expect("heads do not divide", bench.run("train", "run.yaml", "--set", "fusion.heads=3"), CONFIG, "fusion.heads")
    expect("more ranks than micro-batches", bench.run("train", "run.yaml", "--set", "train.micro_batch=4", ranks=3), CONFIG,
           "3 ranks", "at most 2")
    expect("random towers", bench.run("train", "run.yaml", "--set", "train.allow_from_scratch=false"), CONFIG,
           "allow_from_scratch")
    frozen = {"train.allow_from_scratch": "false", "schedule.heads.steps": 1, "schedule.blocks.steps": 1,
              "schedule.blocks.unfreeze_blocks": 0, "run.folder": "frozen"}
    done = bench.run("train", "run.yaml", *bench.sets(frozen))
    check("random towers that stay frozen are told", done.returncode == 0 and all(
        f"warning: {tower}.weights is not set" in done.stdout + done.stderr for tower in ("vision", "text")), done.stderr)
    late = ["--set", "run.folder=late", "--set", "vision.grid=8", "--set", "schedule.blocks.unfreeze_blocks=2"]
    expect("a later stage that cannot train", bench.run("train", "run.yaml", *late), CONFIG, "vision.grid", "set vision.grid to 4")
    check("is told before the first one trains", not os.path.exists(bench.path("late")))
    expect("weights that are not there", bench.run("train", "run.yaml", "--set", "model.weights=nowhere", "--set", "run.folder=anew"), USAGE, "model.weights: nowhere: there is no checkpoint: No such file")
    expect("micro-batches that do not fit", bench.run("plan", "run.yaml", "--set", "train.micro_batch=3"), CONFIG, "multiple of")
    expect("memory beside a GPU", bench.run("plan", "run.yaml", "--gpu", "h100", "--memory-gb", "4"), USAGE, "--memory-gb")
    expect("unknown verb", bench.run("trian"), USAGE, "did you mean 'train'")
    expect("unknown argument", bench.run("train", "run.yaml", "--sets", "a=1"), USAGE, "--set")


def helps(bench):
    """Every verb answers --help, and what the help of shards tells is known."""
    verbs = re.findall(r"^  (\w+) ", bench.run("--help").stdout, re.M)
    of_shards = re.findall(r"^  (\w+) ", bench.run("shard", "--help").stdout, re.M)
    for words in [[v] for v in verbs] + [["shard", v] for v in of_shards]:
        done = bench.run(*words, "--help")
        short = bench.run(*words, "-h")
        check(f"{' '.join(words)} -h", (short.returncode, short.stdout, short.stderr) == (done.returncode, done.stdout, done.stderr))
        check(f"{' '.join(words)} --help", done.returncode == 0 and f"vlgtr {' '.join(words)}" in done.stdout and not done.stderr)
    for verb in of_shards:
        for name in re.findall(r"--[a-z-]+", bench.run("shard", verb, "--help").stdout.partition("\n\n")[0]):
            expect(f"shard {verb} {name}", bench.run("shard", verb, name), USAGE, "a value is missing"
                   if name not in FLAGS else "vlgtr shard " + verb)
    expect("one dash for two", bench.run("shard", "import", "synth", "data", "out", "-strict"), USAGE, "'-strict'; did you mean '--strict'?")
    expect("no verb of shards", bench.run("shard"), USAGE, "a verb of shards is missing")
    expect("a verb unlike any of them", bench.run("shard", "reticulate"), USAGE, "no verb 'reticulate'; `vlgtr shard --help`")
    expect("a sample without a picture", bench.run("shard", "inspect", "nowhere", "--sample", "3"), USAGE, "--png")


# --- data sets ---


def write_set(bench, name, refs=None, change=None):
    """A copy of the made-up set with other refs, or changed instances."""
    root = bench.path(name)
    shutil.copytree(bench.path("data"), root)
    if refs is not None:
        pathlib.Path(root, "synth", "refs(vlgtr).p").write_bytes(refs)
    if change:
        path = pathlib.Path(root, "synth", "instances.json")
        instances = json.loads(path.read_text())
        change(instances)
        path.write_text(json.dumps(instances))
    return name


def import_set(bench, name, strict=True):
    words = ["shard", "import", "synth", name, f"out-{name}"] + (["--strict"] if strict else [])
    return bench.run(*words)


class Reduced:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def datasets(bench):
    refs = pathlib.Path(bench.path("data", "synth", "refs(vlgtr).p")).read_bytes()
    expect("pickle with REDUCE", import_set(bench, write_set(bench, "evil", pickle.dumps([Reduced()], 2))), DATA,
           "refs(vlgtr).p", "GLOBAL")
    check("the pickle's command was not run", not os.path.exists(bench.path("pwned")))
    expect("truncated pickle", import_set(bench, write_set(bench, "cut", refs[: len(refs) // 2])), DATA, "refs(vlgtr).p")
    listed = pickle.loads(refs)
    listed[0]["image_id"] = 999999
    expect("ref to an absent image", import_set(bench, write_set(bench, "absent", pickle.dumps(listed, 2))), DATA, "999999")

    expect("boxes of no known kind", bench.run("shard", "import", "synth", "data", "out-boxes", "--boxes", "most"), USAGE, "--boxes",
           "all or merged")
    target = pickle.loads(refs)[0]["ann_id"]

    def leave(instances):
        next(a for a in instances["annotations"] if a["id"] == target)["bbox"][0] = 1000

    expect("box outside its image", import_set(bench, write_set(bench, "outside", change=leave)), DATA, "box")
    name = write_set(bench, "jpeg")
    image = sorted(pathlib.Path(bench.path(name, "images")).iterdir())[0]
    image.write_bytes(image.read_bytes()[:300])
    expect("broken JPEG", import_set(bench, name), DATA, image.name)
    done = bench.run("shard", "import", "synth", name, "out-set-aside")
    check("without --strict more than 1 % of bad records is refused, or they are set aside by id",
          (done.returncode == 0 and image.stem.lstrip("0") in done.stdout) or done.returncode == DATA)
    (pathlib.Path(bench.path(name, "synth", "instances.json"))).write_text("{\"images\": [")
    expect("a split of a set that has one", bench.run("shard", "import", "jsonl", name, "out-split", "--split-by", "unc"), USAGE, "--split-by")
    expect("broken JSON", import_set(bench, name), DATA, "instances.json")


def mixes(bench):
    bench.must("shard", "filter", "hollow", "shards", "--where", "split!=train")
    mixed = harness.CONFIG.replace("shards: [shards],", "shards: [shards], sets: {full: shards, none: hollow},")
    bench.write("mix.yaml", mixed.replace("steps: 14,", "steps: 14, mix: {full: 1, none: 2},"))
    expect("a mix with an empty set", bench.run("train", "mix.yaml", "--set", "run.folder=never"), DATA, "schedule.1.mix",
           "set none=hollow", "split train")


def shards(bench):
    shard = sorted(pathlib.Path(bench.path("shards")).iterdir())[0]
    expect("missing shard", bench.run("train", "run.yaml", "--set", "data.shards=nowhere"), DATA, "nowhere")
    os.mkdir(bench.path("short"))
    pathlib.Path(bench.path("short", shard.name)).write_bytes(shard.read_bytes()[:-5000])
    expect("truncated shard", bench.run("train", "run.yaml", "--set", "data.shards=short"), DATA, shard.name)
    os.mkdir(bench.path("junk"))
    pathlib.Path(bench.path("junk", shard.name)).write_bytes(os.urandom(4096))
    expect("no HDF5", bench.run("shard", "verify", "junk"), DATA, shard.name)
    expect("unknown split", bench.run("train", "run.yaml", "--set", "data.train_split=trian"), DATA, "data.train_split", "did you mean 'train'?")
    expect("no shards there", bench.run("train", "run.yaml", "--set", "data.shards=gone"), DATA, "data.eval_split of data.shards: gone: No such file")
    expect("no set there", bench.run("train", "run.yaml", "--set", "data.sets=a=gone"), DATA, "data.train_split of data.sets: gone: No such file")
    expect("no list to leave out", bench.run("train", "run.yaml", "--set", "data.without=gone"), DATA, "the list of records to leave out: gone: No such file")
    expect("no split to evaluate on", bench.run("train", "run.yaml", "--set", "data.eval_split=held"), DATA, "data.eval_split", "--shares held=0.1", "--to held")


# --- weights ---


def safetensors(tensors):
    header, data = {}, b""
    for name, shape in tensors.items():
        count = 1
        for n in shape:
            count *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += bytes(4 * count)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights(bench):
    bench.train(1, {"run.folder": "weights", "schedule.heads.steps": 1, "schedule.blocks.steps": 1})
    bench.must("checkpoint", "export", "weights/checkpoints/step-00000002", "vision.safetensors", "--tower", "vision")
    good = pathlib.Path(bench.path("vision.safetensors")).read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    shapes = {k: v["shape"] for k, v in json.loads(good[8 : 8 + length]).items() if k != "__metadata__"}

    def train_with(name, data):
        bench.write(name, data)
        return bench.run("train", "run.yaml", "--set", f"vision.weights={name}", "--set", "run.folder=never")

    wrong = dict(shapes, **{"norm.weight": [47]})
    expect("wrong tensor shape", train_with("shape.safetensors", safetensors(wrong)), DATA, "norm.weight", "[47]", "[48]")
    less = {k: v for k, v in shapes.items() if k != "norm.bias"}
    expect("missing tensor", train_with("less.safetensors", safetensors(less)), DATA, "norm.bias", "missing")
    more = dict(shapes, extra=[3])
    expect("extra tensor", train_with("more.safetensors", safetensors(more)), DATA, "extra", "its names are those of timm")
    expect("truncated weights", train_with("cut.safetensors", good[:-100]), DATA, "cut.safetensors")
    words = pathlib.Path(shutil.copytree(bench.path("data", "tokenizer"), bench.path("words")), "vocab.json")
    pieces = json.loads(words.read_text())
    picture = str(sorted(pathlib.Path(bench.path("data", "images")).iterdir())[0])
    words.write_text(json.dumps({**pieces, "zzz": max(pieces.values()) + 1}))
    done = bench.run("predict", "weights", picture, "zzz", "--set", "text.tokenizer=words")
    check("another tokenizer is warned of", done.returncode == 0 and "warning: words holds another tokenizer" in done.stderr, done.stderr)
    words.write_text(json.dumps({**pieces, "zzz": 1 << 19}))
    expect("a tokenizer beyond the table", bench.run("predict", "weights", picture, "zzz", "--set", "text.tokenizer=words"), CONFIG,
           "words has ids up to", "text.vocab")
    expect("answers that could not be written", bench.run("eval", "weights", "--out", "nowhere/answers.jsonl"), STORAGE, "nowhere")
    for verb in (["predict", "weights", picture, "a", "--png"], ["report", "weights", "--out"], ["plan", "run.yaml", "--plot"]):
        done = bench.run(*verb, "nowhere/picture")
        expect(f"{verb[0]} looks first where it shall write", done, STORAGE, f"{verb[-1]} nowhere/picture")
        check(f"{verb[0]} has told nothing then", not done.stdout)
    for option, name in (("vision.weights", "gone.safetensors"), ("text.weights", "gone"), ("text.tokenizer", "gone"), ("text.tokenizer", "shards")):
        done = bench.run("train", "run.yaml", "--set", f"{option}={name}", "--set", "run.folder=never")
        expect(f"{option}={name} is not there", done, DATA, f"{option}: {name}", "No such file", *(["; name the"] if name != "shards" else []))
    expect("header beyond the file", train_with("head.safetensors", struct.pack("<Q", 1 << 60) + b"{}"), DATA, "head.safetensors")


# --- checkpoints ---


def checkpoints(bench):
    options = {"run.folder": "flip", "run.checkpoint_every": 10}
    bench.train(2, options)
    want = bench.hashes("flip")[30]
    newest = pathlib.Path(bench.path("flip", "checkpoints", "step-00000030", "weights.safetensors"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(data)
    expect("flipped bit is found", bench.run("checkpoint", "verify", "flip/checkpoints/step-00000030"), STORAGE,
           "weights.safetensors")
    done = bench.run("train", "run.yaml", *bench.sets(options), ranks=2)
    check("a flipped bit: the run falls back to step 20 with a warning and reaches the same bits",
          done.returncode == 0 and "step-00000020" in done.stderr and "WARNING" in done.stderr
          and bench.hashes("flip")[30] == want)
    short = {"run.folder": "moved", "schedule.heads.steps": 1, "schedule.blocks.steps": 1, "data.shards": "twin"}
    shutil.copytree(bench.path("shards"), bench.path("twin"))
    bench.train(1, short)
    shutil.rmtree(bench.path("twin"))
    bench.must("shard", "split", "twin", "shards", "--to", "held", "--share", "0.2")
    expect("other data under the same name", bench.run("train", "run.yaml", *bench.sets(short)), CONFIG, "other content of data.train_split")
    bench.train(1, short, more=["--allow-new-bits"])
    expect("a folder without checkpoints", bench.run("checkpoint", "ls", "flip"), USAGE, "flip", "no checkpoint")
    expect("a file in place of a checkpoint", bench.run("eval", "run.yaml"), USAGE, "run.yaml", "no checkpoint")
    what_to_name(bench)
    another_model(bench)
    expect("an argument of another verb", bench.run("checkpoint", "ls", "flip/checkpoints", "--keep", "1"), USAGE, "prune")
    expect("another configuration", bench.run("train", "run.yaml", *bench.sets(dict(options, **{"train.beta1": 0.8}))), CONFIG,
           "configuration: train.beta1 was 0.9", "and is 0.8", "--allow-new-bits")
    expect("another word on leaked images", bench.run("train", "run.yaml", *bench.sets(dict(options, **{"data.leaked": "keep"}))), CONFIG,
           "configuration: data.leaked was \"exclude\" and is \"keep\"")
    expect("another stage", bench.run("train", "run.yaml", *bench.sets(dict(options, **{"schedule.blocks.crop": 0.25}))), CONFIG,
           "schedule.1.crop was 0.5 and is 0.25")
    another_schedule(bench)
    moved_data(bench)


def what_to_name(bench):
    """Where a checkpoint is wanted, what is none says which to name."""
    os.mkdir(bench.path("fresh"))
    os.mkdir(bench.path("fresh", "checkpoints"))
    for name, found in (("nope", "nope: there is no checkpoint: No such file"), ("fresh", "fresh: there is no checkpoint; name a folder")):
        expect(f"verify {name}", bench.run("checkpoint", "verify", name), USAGE, found, "manifest.json")
        expect(f"eval {name}", bench.run("eval", name), USAGE, f"{name}: there is no checkpoint", "name a run", "manifest.json")
    for name in ("flip", "flip/checkpoints"):
        expect(f"export {name}", bench.run("checkpoint", "export", name, "never.safetensors"), USAGE, f"{name}: there is no checkpoint",
               "the newest of 3 below it is flip/checkpoints/step-00000030-g2")
    newest = "flip/checkpoints/step-00000030"
    expect("an export of another kind", bench.run("checkpoint", "export", newest, "never.pt"), USAGE, "never.pt", ".safetensors")
    check("no file is left of it", not os.path.exists(bench.path("never.pt")))


def another_schedule(bench):
    """Where a stage begins in the stream is where those before it end."""
    stages = {"run.folder": "longer", "schedule.heads.steps": 4, "schedule.blocks.steps": 4}
    done = bench.run("train", "run.yaml", *bench.sets(stages), "--inject", "late@0,6")
    check("a run stops in its second stage", done.returncode == STOPPED, f"{done.returncode}")
    expect("a first stage that is longer by now", bench.run("train", "run.yaml", *bench.sets({**stages, "schedule.heads.steps": 9}), "--allow-new-bits"),
           CONFIG, "longer/checkpoints/step-00000006", "stage 'blocks' began after step 4, in this schedule after 9")
    bench.train(1, {**stages, "schedule.blocks.steps": 5}, more=["--allow-new-bits"])
    check("a last stage that is longer by now", max(bench.hashes("longer")) == 9, f"{sorted(bench.hashes('longer'))}")


def moved_data(bench):
    """Where shards and tokenizer lie does not matter to a run that goes on; what is in them does, and in which set."""
    for part, images in (("p", "image <= 10"), ("q", "image > 10 and image <= 20"), ("r", "image > 20")):
        bench.must("shard", "filter", part, "shards", "--name", part, "--where", images)
    for name, parts in (("few", "p"), ("many", "qr"), ("more", "pq"), ("less", "r")):
        os.mkdir(bench.path(name))
        for part in parts:
            shutil.copy(bench.path(part, f"{part}-00000.h5"), bench.path(name))
    options = {"run.folder": "sets", "data.sets": "a=few,b=many", "schedule.heads.steps": 1, "schedule.blocks.steps": 1,
               "schedule.heads.mix": "a=1,b=1", "schedule.blocks.mix": "a=1,b=1"}
    bench.train(1, options)
    for old in ("few", "many", "shards", "data/tokenizer"):
        os.rename(bench.path(old), bench.path(f"{old}-2"))
    moved = {**options, "data.sets": "a=few-2,b=many-2", "data.shards": "shards-2", "text.tokenizer": "data/tokenizer-2"}
    done = bench.run("train", "run.yaml", *bench.sets(moved))
    check("data and tokenizer may move", done.returncode == 0, f"{done.returncode}")
    expect("a shard that moved to another set", bench.run("train", "run.yaml", *bench.sets({**moved, "data.sets": "a=more,b=less"})),
           CONFIG, "other content of data.train_split")
    for old in ("shards", "data/tokenizer"):
        os.rename(bench.path(f"{old}-2"), bench.path(old))


def another_model(bench):
    """A checkpoint and a configuration that do not fit; and what is no checkpoint for want of a manifest."""
    picture = sorted(pathlib.Path(bench.path("data", "images")).iterdir())[0]
    wider = ["--set", "fusion.width=64"]
    answers = [json.loads(bench.must("predict", "flip", str(picture), phrase)) for phrase in ("the red cup", " the  red\tcup\n")]
    check("predict takes white space as import does", answers[0]["box"] == answers[1]["box"])
    shape = ("visual_proj.weight is [32,48]", "model has [64,48]")
    expect("eval, another width", bench.run("eval", "flip", *wider), CONFIG, *shape)
    expect("predict, another width", bench.run("predict", "flip", str(picture), "red", *wider), CONFIG, *shape)
    expect("weights of another width", bench.run("train", "run.yaml", "--set", "model.weights=flip", "--set", "run.folder=wide", *wider),
           CONFIG, "model.weights", *shape)
    expect("more layers", bench.run("eval", "flip", "--set", "fusion.encoder_layers=3"), CONFIG, "no parameter encoder.layers.0")
    stripped = shutil.copytree(bench.path("flip", "checkpoints", "step-00000020"), bench.path("stripped"))
    os.remove(os.path.join(stripped, "manifest.json"))
    for words in (["eval", "stripped"], ["predict", "stripped", str(picture), "red"], ["checkpoint", "verify", "stripped"],
                  ["checkpoint", "export", "stripped", "never.safetensors"], ["checkpoint", "average", "never", "stripped"],
                  ["checkpoint", "diff", "flip/checkpoints/step-00000020", "stripped"]):
        expect(f"no manifest, {' '.join(words[:2])}", bench.run(*words), USAGE, "stripped: there is no checkpoint", "manifest.json")


def full_disk(bench):
    """A limit on file sizes stands in for a full disk: the weights file cannot be written from the second save on."""
    options = {"run.folder": "full", "run.checkpoint_every": 10, "run.max_failed_saves": 100}
    bench.train(1, dict(options, **{"schedule.heads.steps": 16}))
    shutil.rmtree(bench.path("full", "checkpoints", "step-00000020"))
    shutil.rmtree(bench.path("full", "checkpoints", "step-00000030"))
    size = os.path.getsize(bench.path("full", "checkpoints", "step-00000016", "weights.safetensors"))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = bench.run("train", "run.yaml", *bench.sets(options), preexec_fn=limit)
    left = sorted(os.listdir(bench.path("full", "checkpoints")))
    check("disk full while saving: training goes on, each failure is a warning",
          done.returncode == STORAGE and done.stderr.count("is not saved") >= 2 and "step 30/30" in done.stderr)
    expect("disk full to the end", done, STORAGE, "trained to the end at step 30", "could not be saved")
    check(f"disk full while saving: older checkpoints are intact, nothing half-written is left: {left}",
          left[-1] == "step-00000016" and bench.run("checkpoint", "verify", "full/checkpoints/step-00000016").returncode == 0)
    done = bench.run("train", "run.yaml", *bench.sets(dict(options, **{"run.max_failed_saves": 1})), preexec_fn=limit)
    expect("disk full too often", done, STORAGE, "saves in a row failed")
    done = bench.run("train", "run.yaml", *bench.sets(dict(options, **{"run.folder": "full-until", "run.until": "heads"})), preexec_fn=limit)
    expect("disk full where run.until ends a run", done, STORAGE, "ended at step 16", "could not be saved")
    ends = {"run.folder": "full-nan", "run.checkpoint_every": 1, "train.max_skips": 1}
    done = bench.run("train", "run.yaml", *bench.sets(ends), "--inject", "full@0,5", "--inject", "nan@0,5")
    last = done.stderr.splitlines()[-1]
    check("disk full while a run ends for another reason, which it says", done.returncode == NUMERICS
          and "step 4 is not saved" in done.stderr and "steps in a row are not finite" in last, f"{done.returncode}  {last}")


def no_room_for_lines(bench):
    """Metrics that cannot be written do not end a run, but it says so."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "lines", "run.max_failed_saves": 100}), preexec_fn=limit)
    told = [line for line in done.stderr.splitlines() if "lines may be missing" in line]
    check("metrics without room are told once, and training goes on", len(told) == 1 and "lines/metrics.jsonl: File too large" in told[0]
          and "step 30/30" in done.stderr, told or done.stderr[-400:])
    left = {name: pathlib.Path(bench.path("lines", name)).read_text() for name in ("metrics.jsonl", "log.txt")}
    check("what is there are whole lines", all(text.endswith("\n") for text in left.values())
          and all("step" in json.loads(line) for line in left["metrics.jsonl"].splitlines()), {k: v[-40:] for k, v in left.items()})

    os.makedirs(bench.path("gauges", "metrics.prom.partial"))
    done = bench.run("train", "run.yaml", "--set", "run.folder=gauges", "--set", "train.max_skips=1", "--inject", "nan@0,5")
    last = done.stderr.splitlines()[-1]
    check("metrics that cannot be written at the end are not why it ends", done.returncode == NUMERICS and "steps in a row" in last
          and "metrics.prom.partial: Is a directory; whoever watches" in done.stderr, f"{done.returncode}  {last}")
    os.mkdir(bench.path("odd"))
    os.mkdir(bench.path("odd", "metrics.jsonl"))
    expect("metrics.jsonl is a folder", bench.run("train", "run.yaml", "--set", "run.folder=odd"), STORAGE, "odd/metrics.jsonl")
    expect("run.folder is a file", bench.run("train", "run.yaml", "--set", "run.folder=run.yaml"), STORAGE, "run.folder: run.yaml: ")


def full_output(bench):
    """What a command prints is what it is run for."""
    for words in (["version"], ["plan", "run.yaml"], ["train", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*bench.vlgtr, *words], cwd=bench.folder, stdout=full, stderr=subprocess.PIPE, text=True)
        expect(f"nobody takes what `vlgtr {' '.join(words)}` prints", done, STORAGE, "standard output: ")


def ranks_that_differ(bench):
    """Two ranks of which one runs another program, or finds other data under the same name."""
    other = pathlib.Path(bench.path("other"))
    other.mkdir()
    program = other / "vlgtr"
    program.write_bytes(pathlib.Path(bench.vlgtr[-1]).read_bytes() + b"another one")
    program.chmod(0o755)
    with harness.Bench(bench.vlgtr[-1]) as more:
        more.make_data(train=41)
        for what, second, word in (("program", [program], "the program differs"),
                                   ("data", ["-wdir", more.folder, bench.vlgtr[-1]], "data.train_split differs")):
            train = ["train", "run.yaml", "--set", f"run.folder={bench.path('parted')}"]
            words = ["mpirun", "--oversubscribe", "-n", "1", bench.vlgtr[-1], *train, ":", "-n", "1", *map(str, second), *train]
            done = subprocess.run(words, cwd=bench.folder, env=bench.environment(2), capture_output=True, text=True, timeout=60)
            expect(f"another {what} on one rank", done, COMMUNICATION, "rank 1 on", word, "all ranks need the same")
        for key, value in (("run.checkpoint_every", 5), ("train.device", "auto")):
            train = ["train", "run.yaml", "--set", f"run.folder={bench.path('parted')}"]
            words = ["mpirun", "--oversubscribe", "-n", "1", bench.vlgtr[-1], *train, ":", "-n", "1", bench.vlgtr[-1], *train, "--set", f"{key}={value}"]
            done = subprocess.run(words, cwd=bench.folder, env=bench.environment(2), capture_output=True, text=True, timeout=60)
            expect(f"another {key} on one rank", done, COMMUNICATION, "rank 1 on", "the configuration differs", "all ranks need the same")
    check("nothing was trained", not os.path.exists(bench.path("parted")))


def foreign_launcher(bench):
    """Each process of another MPI's mpiexec, or of an srun without MPI, takes itself for the only rank of a run."""
    for what, variables in (("another MPI's mpiexec", {"PMI_RANK": "0", "PMI_SIZE": "3"}),
                            ("srun without MPI", {"SLURM_STEP_NUM_TASKS": "3"}),
                            ("srun with another MPI's", {"SLURM_STEP_NUM_TASKS": "3", "PMI_RANK": "0", "PMI_SIZE": "3"})):
        done = subprocess.run(bench.command(0, "train", "run.yaml", "--set", "run.folder=alone"), cwd=bench.folder, capture_output=True,
                              text=True, env={**bench.environment(1), **variables})
        expect(what, done, CONFIG, "3 processes", "srun --mpi=pmix")
    check("nobody trained alone", not os.path.exists(bench.path("alone")))


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        for part in (configurations, helps, datasets, mixes, shards, weights, checkpoints, full_disk, no_room_for_lines, full_output, ranks_that_differ, foreign_launcher):
            part(bench)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
