"""Writes the seeds that are made rather than found: pickles, the two files of the RefCOCO layout, a shard's tables, a
tensor file, a vocabulary. Found are data_container/two.h5, written by vg_shard_writer (two images, four sentences), pictures
of tests/fixtures, and a manifest and an optimizer's piece that a test of checkpoints wrote."""

import json
import pickle
import struct
from pathlib import Path

here = Path(__file__).parent


def put(name, data):
    path = here / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


refs = [dict(ref_id=2, image_id=1, ann_id=5, split="train", category_id=1, sent_ids=[3, 4],
             sentences=[dict(sent_id=3, sent="left dog", raw="Left dog", tokens=["left", "dog"]),
                        dict(sent_id=4, sent="caf\u00e9 'n\" \U0001f600", raw="", tokens=[], kind="odd")]),
        dict(ref_id=3, image_id=1, ann_ids=[5, 6], split="testAB", sentences=[dict(sent_id=5, sent="both")], kind="plural")]
value = [None, True, False, -1, 2**40, 1.5, "text", (1,), (1, 2), (1, 2, 3), (), {"a": {}}, refs, refs]
for protocol in range(5):
    put(f"data_pickle/value{protocol}.p", pickle.dumps(value, protocol))
    put(f"data_instances/refs{protocol}.p", pickle.dumps(refs, protocol))
put("data_pickle/long.p", b"\x80\x02]q\x00(\x8a\x05\x00\x00\x00\x00\x80\x8b\x01\x00\x00\x00\xffL-123456789012L\nI01\nF-1e5\nN2\x860e.")
put("data_pickle/call.p", b"cos\nsystem\n(S'true'\ntR.")
put("data_pickle/python2.p", b"(lp0\n(dp1\nS'sent'\np2\nS'it\\'s \\xe9'\np3\nsVcaf\xe9 \\u6f22\np4\nI1\nsa.")

instances = dict(info={"year": 2014}, licenses=[],
                 images=[dict(id=1, file_name="a.jpg", width=40, height=30, license=1)],
                 annotations=[dict(id=5, image_id=1, bbox=[1, 2.5, 10, 11], segmentation=[[1.0, 2.0, 3.0]], area=1e2),
                              dict(id=6, image_id=1, bbox=[0, 0, 40.01, 30])],
                 categories=[dict(id=1, name="dog")])
put("data_instances/instances.json", json.dumps(instances).encode())

fixtures = here.parent.parent / "fixtures" / "import"
for letter, name in (("j", "jsonl/clean.jsonl"), ("j", "jsonl/broken.jsonl"), ("r", "vg/region_descriptions.json"),
                     ("r", "vg-rules/region_descriptions.json"), ("r", "vg-broken/region_descriptions.json"),
                     ("i", "vg-broken/image_data.json"), ("c", "coco-broken/instances.json"), ("x", "flickr30k/Annotations/1.xml"),
                     ("x", "flickr30k-broken/Annotations/3.xml"), ("s", "flickr30k/Sentences/1.txt"),
                     ("s", "flickr30k-broken/Sentences/4.txt"), ("t", "flickr30k/test.txt")):
    put(f"data_annotations/{letter}-{name.replace('/', '-')}", letter.encode() + (fixtures / name).read_bytes())

text = b"a.jpg\0dog\0left man\0"
name = lambda s: s.ljust(64, b"\0")
image = lambda i, offset: struct.pack("<qqqiiQQQQIxxxxQ", i, 0, 300 + i, 40, 30, offset, 100, 1, 0, 5, 0)
sentence = lambda i, image, at, n, box, boxes, kind: struct.pack("<qqqQIxxxxqiiixxxxQ", i, i, image, at, n, box, boxes, 0, kind, 0)
put("data_shard/tables",
    bytes([2, 3, 2, 1, 2, 0, 200, 255]) + image(7, 0) + image(8, 100) + sentence(1, 0, 6, 3, 0, 1, 0)
    + sentence(2, 0, 10, 8, 0, 2, 1) + sentence(3, 1, 6, 3, 2, 0, 0) + struct.pack("<8f", 1, 2, 11, 12, 0, 0, 40, 30)
    + name(b"train") + name(b"") + name(b"plural") + text)

tensors = {"__metadata__": {"format": "pt"}, "a.weight": dict(dtype="F32", shape=[2, 3], data_offsets=[0, 24]),
           "a.bias": dict(dtype="BF16", shape=[3], data_offsets=[24, 30]), "n": dict(dtype="I64", shape=[], data_offsets=[30, 38])}
head = json.dumps(tensors).encode()
head += b" " * (-len(head) % 8)
put("checkpoints_safetensors/three.safetensors",
    struct.pack("<Q", len(head)) + head + struct.pack("<6f", *range(6)) + bytes(6) + struct.pack("<q", 5))

fixture = here.parent.parent / "fixtures" / "tokenizer"
merges = (fixture / "merges.txt").read_bytes().splitlines(keepends=True)[:40]
put("data_tokenizer/files", (fixture / "vocab.json").read_bytes() + b"\0" + b"".join(merges))
put("data_tokenizer/phrase", "the left man's caf\u00e9 cup, 12 of them!  ".encode() + b"\xff")
