#!/usr/bin/env python3
"""The page of `vlgtr report` is whole and has what the run told. With SCREENSHOT.png, headless Chromium (Debian's chromium)
opens it: the page loads nothing and the picture is not blank.

usage: page.py VLGTR [SCREENSHOT.png]"""

import base64
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

VOID = {"meta", "img", "line"}
DATA, USAGE = 65, 64
METRICS = re.findall(r"^VG_METRIC\((\w+),", (pathlib.Path(__file__).resolve().parents[2] / "trainer/metrics.def").read_text(), re.M)
check = harness.Check()


class Page(html.parser.HTMLParser):
    """Elements that are open, what they hold, and everything that would be fetched from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.points, self.images, self.fetched = [], {}, [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        have = dict(attributes)
        self.fetched += [v for k, v in attributes if k in ("src", "href") and not v.startswith("data:")]
        if tag == "img":
            self.images.append(base64.b64decode(have["src"].split(",")[1], validate=True))
        if tag == "polyline":
            self.points.append(len(have["points"].split()))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data


def png_is_whole(data):
    at, ends = 8, False
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        ends = data[at + 4 : at + 8] == b"IEND"
        if zlib.crc32(data[at + 4 : at + 8 + length]) != int.from_bytes(data[at + 8 + length : at + 12 + length], "big"):
            return False
        at += 12 + length
    return ends


def look(bench, screenshot):
    done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1220,2400",
                           f"--screenshot={screenshot}", bench.path("run.html")], capture_output=True, text=True, timeout=120)
    size = pathlib.Path(screenshot).stat().st_size if pathlib.Path(screenshot).exists() else 0
    check("Chromium draws it", done.returncode == 0 and size > 20000, f"{size} bytes, {screenshot}")


def main(vlgtr, screenshot=None):
    options = {"run.checkpoint_every": 7, "run.eval_every": 10, "train.max_skips": 5}
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.run("train", "run.yaml", *bench.sets(options), "--inject", "ask@0,12", "--inject", "nan@0,4")
        bench.train(2, options)
        with open(bench.path("run", "metrics.jsonl"), "a") as f:
            f.write('{"step":31,"lo')  # as after a crash
        bench.must("eval", "run", "--out", "answers.jsonl", "--gallery", "gallery.png", "--device", "cpu")
        with open(bench.path("answers.jsonl"), "a") as f:
            f.write('{"box":null,"iou":0.0,"unread":true}\n')
        made = ("--answers", "answers.jsonl", "--gallery", "gallery.png", "--out", "run.html")
        bench.must("report", "run", *made)
        page = Page(pathlib.Path(bench.path("run.html")).read_text())
        check("every element is closed, nothing is fetched", not page.open and not page.fetched)
        records = [json.loads(line) for line in open(bench.path("run", "metrics.jsonl")).read().splitlines()[:-1]]
        losses = sum("loss" in r for r in records)
        check("there are curves with a point for each record", page.points.count(losses) >= 8, page.points)
        check("and of the three evaluations", page.points.count(3) >= 1)
        newest = {key: r[key] for r in records for key in METRICS if isinstance(r.get(key), (int, float))}
        absent = [key for key in newest if f"{key}{newest[key]:.5g}" not in page.text["td"]]
        check("the newest of every number stands there", len(newest) > 15 and not absent, absent)
        answers = [json.loads(line) for line in open(bench.path("answers.jsonl"))]
        hits = sum(a["iou"] >= 0.5 for a in answers) / len(answers)
        check("the table counts the answers", f"all{len(answers)}" in page.text["td"] and f"{hits:.4f}" in page.text["td"])
        check("and says which are misses without an answer", "1 of the phrases have no answer" in page.text["p"], page.text["p"])
        check("the gallery is the picture", len(page.images) == 1 and png_is_whole(page.images[0])
              and page.images[0] == pathlib.Path(bench.path("gallery.png")).read_bytes())
        events = page.text["pre"]
        check("stop, resume and skipped step are told", all(re.search(w, events) for w in ("stopped at step 11", "resumed from", "step 3: .* is skipped")))
        check("the line that was cut off is counted", "Lines of metrics.jsonl that could not be read: 1." in page.text["p"])
        check("the configuration is there", "preset: \"tiny\"" in events)
        check("no such run", bench.run("report", "nowhere").returncode == DATA)
        check("not answers", bench.run("report", "run", "--answers", "run.yaml").returncode == DATA)
        check("not a picture", bench.run("report", "run", "--gallery", "run.yaml").returncode == DATA)
        check("no run named", bench.run("report").returncode == USAGE)
        if screenshot:
            look(bench, screenshot)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
