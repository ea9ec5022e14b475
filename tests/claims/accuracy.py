#!/usr/bin/env python3
"""Accuracy of `vlgtr eval --out` files.

usage: accuracy.py FILE.jsonl LABEL [--least A] [--least-kind A] [--most A]"""

import argparse
import collections
import json
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("label")
    parser.add_argument("--least", type=float)
    parser.add_argument("--least-kind", type=float)
    parser.add_argument("--most", type=float)
    args = parser.parse_args()
    kinds = collections.defaultdict(list)
    with open(args.file) as f:
        for line in f:
            answer = json.loads(line)
            kinds[answer["kind"]].append(answer["iou"] >= 0.5)
    hits = [h for kind in kinds.values() for h in kind]
    accuracy = sum(hits) / len(hits)
    shares = {kind: sum(h) / len(h) for kind, h in sorted(kinds.items()) if kind}
    print(f"{args.label}: Acc@0.5 {accuracy:.4f} of {len(hits)} phrases", {k: round(v, 3) for k, v in shares.items()})
    good = (args.least is None or accuracy >= args.least) and (args.most is None or accuracy <= args.most)
    good &= args.least_kind is None or (len(shares) > 1 and min(shares.values()) >= args.least_kind)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
