"""Writes the seeds that are made rather than found: pickles, the two files of the RefCOCO layout, a shard's tables.
data_shard/two.h5 was written by vg_shard_writer (two images, four sentences)."""

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

text = b"a.jpg\0dog\0left man\0"
name = lambda s: s.ljust(64, b"\0")
image = lambda i, offset: struct.pack("<qiiQQQQIxxxxQ", i, 40, 30, offset, 100, 1, 0, 5, 0)
sentence = lambda i, image, at, n, box, boxes, kind: struct.pack("<qqqQIxxxxqiiixxxxQ", i, i, image, at, n, box, boxes, 0, kind, 0)
put("data_shard/tables",
    bytes([2, 3, 2, 1, 2, 0, 200, 255]) + image(7, 0) + image(8, 100) + sentence(1, 0, 6, 3, 0, 1, 0)
    + sentence(2, 0, 10, 8, 0, 2, 1) + sentence(3, 1, 6, 3, 2, 0, 0) + struct.pack("<8f", 1, 2, 11, 12, 0, 0, 40, 30)
    + name(b"train") + name(b"") + name(b"plural") + text)
