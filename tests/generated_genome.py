"""Writes annotations in the layout of Visual Genome, of any size, without images.

usage: generated_genome.py FOLDER REGIONS"""

import json
import os
import sys

REGIONS_OF_IMAGE = 50
WORDS = [w.split() for w in ("a the one another that", "small red wooden tall old shiny green round dark striped",
                             "dog cup window man tree bench car sign plate horse wheel lamp", "near on behind under beside",
                             "a the some", "street table wall water grass building shelf")]


def draw(n):
    """Numbers that look drawn by lot, the same on every machine (xorshift, 64 bits)."""
    n = (n + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    n ^= n >> 31
    return n * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF


def phrase(bits):
    words = []
    for choice in WORDS:
        words.append(choice[bits % len(choice)])
        bits //= len(choice)
    return " ".join(words)


def region(number, image):
    bits = draw(number)
    width, height = 10 + bits % 300, 10 + (bits >> 12) % 200
    x, y = (bits >> 24) % (800 - width), (bits >> 36) % (600 - height)
    text = phrase(draw(number ^ 0x5555555555))
    return (f'{{"region_id": {number}, "width": {width}, "height": {height}, "image_id": {image}, '
            f'"phrase": "{text}", "y": {y}, "x": {x}}}')


def write(folder, n_regions):
    os.makedirs(folder, exist_ok=True)
    n_images = (n_regions + REGIONS_OF_IMAGE - 1) // REGIONS_OF_IMAGE
    images = [(draw(i) >> 40) * n_images + i for i in range(n_images)]  # distinct, in no order
    with open(os.path.join(folder, "region_descriptions.json"), "w") as f:
        for i, image in enumerate(images):
            regions = range(i * REGIONS_OF_IMAGE, min((i + 1) * REGIONS_OF_IMAGE, n_regions))
            f.write(("[" if i == 0 else ", ") + '{"regions": [')
            f.write(", ".join(region(number + 1, image) for number in regions))
            f.write(f'], "id": {image}}}')
        f.write("]")
    with open(os.path.join(folder, "image_data.json"), "w") as f:
        json.dump([dict(image_id=i, width=800, height=600, coco_id=None, flickr_id=None,
                        url=f"https://example.invalid/VG_100K/{i}.jpg") for i in images], f)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]))
