#!/usr/bin/env python3
"""Makes the two tiny backbones of the quick start: vision.safetensors (timm's names) and text.safetensors (Hugging
Face's RoBERTa names). They are trained together on made-up scenes that the quick start never sees: the cell that a
phrase means has the largest dot product with the phrase vector, and every cell knows what it shows and the box of it.

    vlgtr synth FOLDER --seed 1001 --train 40000 --val 500 --test 1
    python make.py FOLDER            (needs torch, numpy, pillow, safetensors; README.md says how long it takes)
"""
import argparse
import json
import math
import os
import pickle
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

SIDE, PATCH, GRID = 64, 8, 8
VISION = dict(dim=96, depth=4, heads=3, registers=4)
TEXT = dict(dim=96, depth=2, heads=3, positions=34)
MAX_TOKENS = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINDS = ("attribute", "size", "position", "relation")


# ---- data ----

class Scenes:
    """A split of a made-up data set in memory: pictures, and for each its objects and its phrases."""

    def __init__(self, folder, split, limit=None):
        with open(f"{folder}/synth/refs(vlgtr).p", "rb") as f:
            refs = [r for r in pickle.load(f) if r["split"] == split]
        with open(f"{folder}/synth/instances.json") as f:
            instances = json.load(f)
        with open(f"{folder}/tokenizer/vocab.json") as f:
            self.vocabulary = json.load(f)
        ids = sorted({r["image_id"] for r in refs})[:limit]
        place = {image_id: i for i, image_id in enumerate(ids)}
        names = {i["id"]: i for i in instances["images"]}
        self.pixels = torch.empty(len(ids), 3, SIDE, SIDE, dtype=torch.uint8)
        for i, image_id in enumerate(ids):
            picture = Image.open(f"{folder}/images/{names[image_id]['file_name']}").convert("RGB")
            if picture.size != (SIDE, SIDE):
                picture = picture.resize((SIDE, SIDE), Image.BICUBIC)
            self.pixels[i] = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
        scale = 1.0 / names[ids[0]]["width"]
        boxes = {a["id"]: [v * scale for v in a["bbox"]] for a in instances["annotations"]}
        self.objects = [[] for _ in ids]
        for a in instances["annotations"]:
            if a["image_id"] in place:
                self.objects[place[a["image_id"]]].append((a["category_id"] - 1, boxes[a["id"]]))
        refs = [r for r in refs if r["image_id"] in place and len(r["ann_ids"]) == 1]
        refs.sort(key=lambda r: r["image_id"])
        self.image = torch.tensor([place[r["image_id"]] for r in refs])
        self.tokens = torch.tensor([self.encode(r["sentences"][0]["sent"]) for r in refs])
        xywh = torch.tensor([boxes[r["ann_id"]] for r in refs])
        self.boxes = torch.cat([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], 1)
        self.kind = torch.tensor([KINDS.index(r["kind"]) for r in refs])
        self.first = torch.searchsorted(self.image, torch.arange(len(ids) + 1)).tolist()

    def encode(self, text):
        """Every word of the grammar is one piece, so byte-level BPE is a look-up here."""
        words = text.split(" ")
        ids = [self.vocabulary[w if i == 0 else "\u0120" + w] for i, w in enumerate(words)]
        ids = [0] + ids[:MAX_TOKENS - 2] + [2]
        return ids + [1] * (MAX_TOKENS - len(ids))

    def cell_targets(self):
        """Per cell the shape (0 is ground) and the box of the object that covers it most, if it covers a quarter."""
        n = len(self.objects)
        shape = torch.zeros(n, GRID * GRID, dtype=torch.long)
        box = torch.zeros(n, GRID * GRID, 4)
        edge = np.arange(GRID + 1) / GRID
        for i, objects in enumerate(self.objects):
            best = np.full((GRID, GRID), 0.25)
            for category, (x, y, w, h) in objects:
                share_x = np.clip(np.minimum(edge[1:], x + w) - np.maximum(edge[:-1], x), 0, None) * GRID
                share_y = np.clip(np.minimum(edge[1:], y + h) - np.maximum(edge[:-1], y), 0, None) * GRID
                share = share_y[:, None] * share_x[None, :]
                mine = torch.from_numpy((share > best).reshape(-1))
                best = np.maximum(best, share)
                shape[i][mine] = category + 1
                box[i][mine] = torch.tensor([x + w / 2, y + h / 2, w, h])
        return shape, box


def normalise(pixels):
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


# ---- towers ----

class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.gamma


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads), LayerScale(dim)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(dim, eps=1e-6), Mlp(dim), LayerScale(dim)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x):
        b = x.shape[0]
        x = x.view(b, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, GRID * GRID, -1)
        return F.linear(x, self.proj.weight.flatten(1), self.proj.bias)


class Vision(nn.Module):
    """A ViT as timm builds vit_*_reg4_dinov2: register tokens, LayerScale, positions on patches only."""

    def __init__(self, dim, depth, heads, registers):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.reg_token = nn.Parameter(torch.randn(1, registers, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, GRID * GRID, dim) * 0.02)
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, pixels):
        x = self.patch_embed(pixels) + self.pos_embed
        prefix = torch.cat([self.cls_token, self.reg_token], 1)
        x = torch.cat([prefix.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, prefix.shape[1]:]


class Text(nn.Module):
    """RoBERTa's encoder, post-norm; parameters are named on export."""

    def __init__(self, dim, depth, heads, positions, vocabulary):
        super().__init__()
        self.word = nn.Parameter(torch.randn(vocabulary, dim) * 0.02)
        self.position = nn.Parameter(torch.randn(positions, dim) * 0.02)
        self.kind = nn.Parameter(torch.zeros(1, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.heads = heads
        self.layers = nn.ModuleList(nn.ModuleDict(dict(
            query=nn.Linear(dim, dim), key=nn.Linear(dim, dim), value=nn.Linear(dim, dim), output=nn.Linear(dim, dim),
            norm1=nn.LayerNorm(dim, eps=1e-5), up=nn.Linear(dim, 4 * dim), down=nn.Linear(4 * dim, dim),
            norm2=nn.LayerNorm(dim, eps=1e-5))) for _ in range(depth))

    def forward(self, ids):
        real = ids != 1
        position = real * real.cumsum(1) + 1
        x = self.norm(self.word[ids] + self.kind[0] + self.position[position])
        b, n, c = x.shape
        mask = real[:, None, None, :]
        for layer in self.layers:
            q, k, v = (layer[m](x).view(b, n, self.heads, -1).transpose(1, 2) for m in ("query", "key", "value"))
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, n, c)
            x = layer["norm1"](x + layer["output"](a))
            x = layer["norm2"](x + layer["down"](F.gelu(layer["up"](x))))
        return x, real

    def named(self):
        names = {"embeddings.word_embeddings.weight": self.word, "embeddings.position_embeddings.weight": self.position,
                 "embeddings.token_type_embeddings.weight": self.kind, "embeddings.LayerNorm.weight": self.norm.weight,
                 "embeddings.LayerNorm.bias": self.norm.bias}
        modules = dict(query="attention.self.query", key="attention.self.key", value="attention.self.value",
                       output="attention.output.dense", norm1="attention.output.LayerNorm", up="intermediate.dense",
                       down="output.dense", norm2="output.LayerNorm")
        for i, layer in enumerate(self.layers):
            for ours, theirs in modules.items():
                names[f"encoder.layer.{i}.{theirs}.weight"] = layer[ours].weight
                names[f"encoder.layer.{i}.{theirs}.bias"] = layer[ours].bias
        return names


# ---- training ----

def corners(b):
    return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)


def iou(a, b):
    a, b = corners(a), corners(b)
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return inner / (area - inner + 1e-7)


def cell_cover(target):
    """The share of every cell that a box covers."""
    edge = torch.arange(GRID + 1) / GRID
    c = corners(target)
    share = [(torch.minimum(edge[1:], c[:, k + 2:k + 3]) - torch.maximum(edge[:-1], c[:, k:k + 1])).clamp(min=0) * GRID
             for k in (0, 1)]
    return (share[1][:, :, None] * share[0][:, None, :]).flatten(1)


class Towers(nn.Module):
    """Both towers and what teaches them. Only the towers are kept."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vision, self.text = Vision(**VISION), Text(vocabulary=vocabulary, **TEXT)
        self.cell_shape, self.cell_box = nn.Linear(VISION["dim"], 7), nn.Linear(VISION["dim"], 4)

    def scores(self, features, tokens, index):
        return torch.einsum("bpd,bd->bp", features[index], self.text(tokens)[0][:, 0]) / VISION["dim"] ** 0.5

    @torch.no_grad()
    def accuracy(self, scenes, batch=250):
        """Acc@0.5 in all and by kind, of the box that the best cell claims."""
        hits = []
        for at in range(0, len(scenes.objects), batch):
            end = min(at + batch, len(scenes.objects))
            rows = slice(scenes.first[at], scenes.first[end])
            index = scenes.image[rows] - at
            features = self.vision(normalise(scenes.pixels[at:end]))
            cell = self.scores(features, scenes.tokens[rows], index).argmax(1)
            hits.append(iou(self.cell_box(features)[index, cell], scenes.boxes[rows]) >= 0.5)
        hits = torch.cat(hits).float()
        return hits.mean().item(), {k: round(hits[scenes.kind == i].mean().item(), 3) for i, k in enumerate(KINDS)}


def mirror(pixels, tokens, boxes, shape, box, swaps):
    """Every other batch is seen in a mirror, with left and right swapped in the phrases."""
    boxes, box = boxes.clone(), box.clone()
    boxes[:, 0] = 1 - boxes[:, 0]
    box[..., 0] = 1 - box[..., 0]
    flip = lambda x: x.unflatten(1, (GRID, GRID)).flip(2).flatten(1, 2)
    return pixels.flip(3), swaps[tokens], boxes, flip(shape), flip(box)


def schedule(step, steps, warm, lr):
    return lr * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))


def swap_table(vocabulary):
    table = torch.arange(len(vocabulary))
    for mark in ("", "\u0120"):
        for a, b in (("left", "right"), ("leftmost", "rightmost")):
            i, j = vocabulary[mark + a], vocabulary[mark + b]
            table[i], table[j] = j, i
    return table


def losses(model, pixels, tokens, boxes, shape, box, index):
    features = model.vision(normalise(pixels))
    cover = cell_cover(boxes)
    align = F.cross_entropy(model.scores(features, tokens, index), cover / cover.sum(1, keepdim=True))
    held = shape > 0
    dense = F.cross_entropy(model.cell_shape(features).flatten(0, 1), shape.flatten())
    return align, dense, 10 * (model.cell_box(features)[held] - box[held]).abs().mean()


def train(args):
    torch.manual_seed(args.seed)
    scenes, val = Scenes(args.folder, "train", args.images), Scenes(args.folder, "val")
    shapes, cell_boxes = scenes.cell_targets()
    swaps = swap_table(scenes.vocabulary)
    model = Towers(len(scenes.vocabulary))
    first = torch.tensor(scenes.first)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.98))
    n, started, sums = len(scenes.objects), time.time(), torch.zeros(3)
    for step in range(args.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step, args.steps, 500, args.lr)
        if step % (n // args.batch) == 0:
            order = torch.randperm(n)
        at = step % (n // args.batch) * args.batch
        images = order[at:at + args.batch]
        rows = torch.cat([torch.arange(first[i], first[i + 1]) for i in images])
        index = torch.repeat_interleave(torch.arange(args.batch), first[images + 1] - first[images])
        batch = scenes.pixels[images], scenes.tokens[rows], scenes.boxes[rows], shapes[images], cell_boxes[images]
        parts = losses(model, *(mirror(*batch, swaps) if step % 2 else batch), index)
        optimiser.zero_grad()
        sum(parts).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        sums += torch.tensor([p.item() for p in parts])
        if (step + 1) % args.every == 0:
            total, kinds = model.accuracy(val)
            print(f"step {step + 1}  {(step + 1) * args.batch} images  {time.time() - started:.0f} s  losses",
                  [round(v, 3) for v in (sums / args.every).tolist()], f"acc {total:.3f}", kinds, flush=True)
            sums.zero_()
            save(model, args.out)


def save(model, folder):
    vision = {k: v.detach().contiguous().clone() for k, v in model.vision.state_dict().items()}
    text = {k: v.detach().contiguous().clone() for k, v in model.text.named().items()}
    save_file(vision, f"{folder}/vision.safetensors", metadata={"format": "pt", "heads": str(VISION["heads"])})
    save_file(text, f"{folder}/text.safetensors", metadata={"format": "pt", "heads": str(TEXT["heads"])})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help="written by vlgtr synth")
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--images", type=int, help="use the first so many")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args)


if __name__ == "__main__":
    main()
