"""The VL-GTR model in PyTorch: what the C program is compared with.

The towers are timm's VisionTransformer and transformers' RobertaModel themselves; fusion, decoder, heads, matcher and
losses are plain PyTorch, written from the model's definition and not from the C code. All parameters live in one
dictionary of leaf tensors under the names of a checkpoint, made by Philox (README.md). Everything runs in the type of
the parameters: fp64 gives the recorded truth, fp32 shows how far PyTorch itself is from it.

Shapes: m images, P phrases each, B = m * P slots; slot b belongs to image b // P.
"""

import itertools
import math

import numpy as np
import scipy.optimize
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from transformers import RobertaConfig, RobertaModel

import philox

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# --- the towers -------------------------------------------------------------------------------------------------------


def vision_tower(c):
    """timm's model for side x side images; its table of positions already has the grid's size."""
    v = c["vision"]
    return VisionTransformer(
        img_size=c["side"], patch_size=v["patch"], embed_dim=v["width"], depth=v["depth"], num_heads=v["heads"],
        mlp_ratio=v["mlp"] / v["width"], init_values=1e-5, reg_tokens=v["registers"], no_embed_class=True,
        num_classes=0, global_pool="",
    ).eval()


def text_tower(c):
    t = c["text"]
    config = RobertaConfig(
        vocab_size=t["vocab"], hidden_size=t["width"], num_hidden_layers=t["depth"], num_attention_heads=t["heads"],
        intermediate_size=t["mlp"], max_position_embeddings=t["positions"], type_vocab_size=1, layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    return RobertaModel(config, add_pooling_layer=False).eval()


# --- parameters -------------------------------------------------------------------------------------------------------


def attention_shapes(prefix, d):
    yield prefix + "in_proj_weight", (3 * d, d)
    yield prefix + "in_proj_bias", (3 * d,)
    yield from linear_shapes(prefix + "out_proj", d, d)


def linear_shapes(name, n_out, n_in):
    yield name + ".weight", (n_out, n_in)
    yield name + ".bias", (n_out,)


def norm_shapes(name, d):
    yield name + ".weight", (d,)
    yield name + ".bias", (d,)


def fusion_shapes(c):
    """Names and shapes of all that is neither tower."""
    f, d = c["fusion"], c["fusion"]["d"]
    for kind, width in (("visual", c["vision"]["width"]), ("text", c["text"]["width"])):
        yield from linear_shapes(f"{kind}_proj", d, width)
        if f["proj_norm"]:
            yield from norm_shapes(f"{kind}_norm", d)
    if f["modality"]:
        yield "modality_embed.weight", (2, d)
    if f["text_pos"]:
        yield "text_pos.weight", (text_rows(c), d)
    for i in range(f["encoder_layers"]):
        layer = f"encoder.layers.{i}."
        yield from attention_shapes(layer + "self_attn.", d)
        yield from linear_shapes(layer + "linear1", f["ffn"], d)
        yield from linear_shapes(layer + "linear2", d, f["ffn"])
        yield from itertools.chain(*(norm_shapes(f"{layer}norm{k}", d) for k in (1, 2)))
    if f["encoder_layers"] and f["pre_norm"]:
        yield from norm_shapes("encoder.norm", d)
    yield "query_embed.weight", (f["queries"], d)
    for i in range(f["decoder_layers"]):
        layer = f"decoder.layers.{i}."
        yield from attention_shapes(layer + "self_attn.", d)
        yield from attention_shapes(layer + "multihead_attn.", d)
        yield from linear_shapes(layer + "linear1", f["ffn"], d)
        yield from linear_shapes(layer + "linear2", d, f["ffn"])
        yield from itertools.chain(*(norm_shapes(f"{layer}norm{k}", d) for k in (1, 2, 3)))
    yield from norm_shapes("decoder.norm", d)
    yield from linear_shapes("class_embed", 2, d)
    for i, n_out in enumerate((d, d, 4)):
        yield from linear_shapes(f"bbox_embed.layers.{i}", n_out, d)
    if c["loss"]["align"]:
        yield from linear_shapes("align_proj", d, d)
        yield from (("align_scale", (1,)), ("align_bias", (1,)))


def shapes(c):
    """Names and shapes of a checkpoint: pos_embed has the size of the stored table."""
    out = {}
    for prefix, tower in (("vision.", vision_tower(c)), ("text.", text_tower(c))):
        out.update({prefix + name: tuple(p.shape) for name, p in tower.named_parameters()})
    out["vision.pos_embed"] = (1, c["vision"]["table"] ** 2, c["vision"]["width"])
    out.update(fusion_shapes(c))
    return out


def fill(name, shape, seed):
    """A parameter's values: the table of README.md, first row that fits."""
    n, key = math.prod(shape), philox.key_of(seed, name)
    last = name.rsplit(".", 1)[-1]
    if name == "align_scale":
        x = philox.fill_uniform(n, key, 1.5, 2.5)
    elif name == "align_bias":
        x = philox.fill_uniform(n, key, -2.5, -1.5)
    elif last == "gamma" or (last == "weight" and "norm" in name.split(".")[-2].lower()):
        x = philox.fill_uniform(n, key, 0.5, 1.5)
    elif last in ("bias", "in_proj_bias"):
        x = philox.fill_uniform(n, key, -0.2, 0.2)
    elif name == "query_embed.weight":
        x = philox.fill_normal(n, key, 0.0, 3.0)
    elif last in ("pos_embed", "cls_token", "reg_token") or "embeddings." in name or (
        name in ("modality_embed.weight", "text_pos.weight")
    ):
        x = philox.fill_normal(n, key, 0.0, 0.5)
    else:
        bound = np.float32(1.5 / math.sqrt(n // shape[0]))
        x = philox.fill_uniform(n, key, -bound, bound)
    return torch.from_numpy(x.reshape(shape))


def resample(table, side):
    """The table of positions at a grid of side x side: bicubic with antialias, in fp64, rounded once."""
    old = math.isqrt(table.shape[1])
    if old == side:
        return table
    x = table.double().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
    return x.permute(0, 2, 3, 1).reshape(1, side * side, -1).float()


def weights(c, dtype):
    """Leaf tensors by name; pos_embed has been resampled to the grid, as it is trained."""
    out = {name: fill(name, shape, c["seed"]) for name, shape in shapes(c).items()}
    out["vision.pos_embed"] = resample(out["vision.pos_embed"], c["side"] // c["vision"]["patch"])
    return {name: w.to(dtype).requires_grad_() for name, w in out.items()}


# --- inputs -----------------------------------------------------------------------------------------------------------


def text_rows(c):
    """Text rows of the memory of a slot."""
    return c["text_tokens"] if c["fusion"]["text_tokens"] == "all" else 1


def inputs(c, seed=None):
    """A micro-batch, by Philox; see README.md for the pixels, the rest is stored in the fixture."""
    m, P, L, T = c["images"], c["phrases"], c["text_tokens"], c["max_targets"]
    B, seed = m * P, c["seed"] if seed is None else seed

    def u(name, *shape):
        return philox.uniform(philox.stream(philox.key_of(seed, "input." + name), math.prod(shape))).reshape(shape)

    pixels = philox.stream(philox.key_of(seed, "input.pixels"), m * c["side"] ** 2 * 3) >> 24
    filled = np.array([b not in c["empty"] for b in range(B)], np.int32)
    counts = 3 + (u("counts", B) * (L - 2)).astype(np.int32)
    n_targets = np.array(c["n_targets"] if c["n_targets"] else [1] * B, np.int32) * filled
    counts[filled == 0] = 2
    ids = 4 + (u("ids", B, L) * (c["text"]["vocab"] - 4)).astype(np.int32)
    ids[:, 0] = 0
    t = np.arange(L)
    ids = np.where(t == counts[:, None] - 1, 2, np.where(t < counts[:, None], ids, 1)).astype(np.int32)
    centre, size = 0.3 + 0.4 * u("centres", B, T, 2), 0.1 + 0.4 * u("sizes", B, T, 2)
    targets = np.concatenate([centre, size], -1).astype(np.float32)
    targets[np.arange(T) >= n_targets[:, None]] = 0
    keys = np.zeros((B, 4), np.uint32)
    keys[:, 1], keys[:, 2] = np.arange(B) % P, 1000 + np.arange(B) // P
    pixels = pixels.astype(np.uint8).reshape(m, c["side"], c["side"], 3)
    pixels[[i for i in range(m) if not filled[i * P : (i + 1) * P].any()]] = 0
    return {
        "pixels": pixels, "token_ids": ids, "token_counts": counts, "image_index": (np.arange(B) // P).astype(np.int32),
        "targets": targets, "n_targets": n_targets, "filled": filled, "keys": keys,
    }


# --- forward ----------------------------------------------------------------------------------------------------------


def linear(W, name, x):
    return F.linear(x, W[name + ".weight"], W[name + ".bias"])


def norm(W, name, x):
    return F.layer_norm(x, x.shape[-1:], W[name + ".weight"], W[name + ".bias"], 1e-5)


class Dropout:
    """Masks by Philox: element e of slot b is kept when uniform(word e of the slot's stream) >= p. The key of a place is
    key_of(seed, its name), e.g. decoder.layers.0.dropout1."""

    def __init__(self, c, keys):
        self.p, self.seed, self.keys = np.float32(c["fusion"]["dropout"]), c["seed"], keys

    def __call__(self, place, x):
        return self.rows(place, x, x[0].numel())

    def probabilities(self, place, x):
        """Of attention [B,H,Nq,Nk]: a row of keys takes a multiple of 4 elements."""
        pad = -x.shape[-1] % 4
        return self.rows(place, F.pad(x, (0, pad)), x[0, ..., 0].numel() * (x.shape[-1] + pad))[..., : x.shape[-1]]

    def rows(self, place, x, n):
        if self.p == 0:
            return x
        key = philox.key_of(self.seed, place)
        words = [philox.stream(key, n, int(k[2]) | int(k[3]) << 32, int(k[1])) for k in self.keys]
        keep = torch.from_numpy(philox.uniform(np.stack(words)) >= self.p).reshape(x.shape)
        return torch.where(keep, x / (1 - self.p), torch.zeros((), dtype=x.dtype))


def attend(W, name, q, k, v, heads, masked, drop):
    """Multi-head attention with one packed projection; masked [B,Nk] marks keys that nobody sees."""
    d = q.shape[-1]
    w, b = W[name + ".in_proj_weight"].split(d), W[name + ".in_proj_bias"].split(d)
    q, k, v = (F.linear(x, w[i], b[i]).unflatten(-1, (heads, -1)).transpose(1, 2) for i, x in enumerate((q, k, v)))
    scores = q * (d // heads) ** -0.5 @ k.transpose(-1, -2)
    if masked is not None:
        scores = scores.masked_fill(masked[:, None, None, :], -torch.inf)
    o = drop.probabilities(name, scores.softmax(-1)) @ v
    return linear(W, name + ".out_proj", o.transpose(1, 2).flatten(-2))


def feed_forward(W, layer, x, drop):
    return linear(W, layer + ".linear2", drop(layer + ".dropout", linear(W, layer + ".linear1", x).relu()))


def encoder_layer(W, layer, M, pos, f, masked, drop):
    heads = f["heads"]
    if f["pre_norm"]:
        n = norm(W, layer + ".norm1", M)
        M = M + drop(layer + ".dropout1", attend(W, layer + ".self_attn", n + pos, n + pos, n, heads, masked, drop))
        return M + drop(layer + ".dropout2", feed_forward(W, layer, norm(W, layer + ".norm2", M), drop))
    a = attend(W, layer + ".self_attn", M + pos, M + pos, M, heads, masked, drop)
    M = norm(W, layer + ".norm1", M + drop(layer + ".dropout1", a))
    return norm(W, layer + ".norm2", M + drop(layer + ".dropout2", feed_forward(W, layer, M, drop)))


def decoder_layer(W, layer, t, Q, M, pos, f, masked, drop):
    heads = f["heads"]
    K, V = M + pos, M + pos if f["pos_in_values"] else M

    def self_attention(x):
        return drop(layer + ".dropout1", attend(W, layer + ".self_attn", x + Q, x + Q, x, heads, None, drop))

    def cross_attention(x):
        return drop(layer + ".dropout2", attend(W, layer + ".multihead_attn", x + Q, K, V, heads, masked, drop))

    def ffn(x):
        return drop(layer + ".dropout3", feed_forward(W, layer, x, drop))

    for i, part in enumerate((self_attention, cross_attention, ffn), 1):
        name = f"{layer}.norm{i}"
        t = t + part(norm(W, name, t)) if f["pre_norm"] else norm(W, name, t + part(t))
    return t


def sine_positions(side, d, dtype):
    """[side*side, d]: first half from the row, second from the column; rounded to fp32."""
    u = 2 * math.pi * torch.arange(1, side + 1, dtype=torch.float64) / (side + 1e-6)
    angle = u[:, None] / 10000 ** (torch.arange(0, d // 2, 2, dtype=torch.float64) / (d // 2))
    row = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
    table = torch.cat([row[:, None].expand(-1, side, -1), row[None].expand(side, -1, -1)], -1)
    return table.reshape(side * side, d).float().to(dtype)


def towers(c, W, x, modules=None):
    """Image features [m,P,C] and all text rows [B,L,C]."""
    dtype = W["visual_proj.weight"].dtype
    vision, text = modules or (vision_tower(c), text_tower(c))
    pixels = torch.from_numpy(x["pixels"]).to(dtype).permute(0, 3, 1, 2) / 255
    pixels = (pixels - torch.tensor(MEAN, dtype=dtype).view(3, 1, 1)) / torch.tensor(STD, dtype=dtype).view(3, 1, 1)
    own = {name[7:]: w for name, w in W.items() if name.startswith("vision.")}
    image = torch.func.functional_call(vision, own, (pixels,))[:, 1 + c["vision"]["registers"] :]
    own = {name[5:]: w for name, w in W.items() if name.startswith("text.")}
    ids = torch.from_numpy(x["token_ids"]).long()
    rows = torch.func.functional_call(text, own, (ids,), {"attention_mask": (ids != 1).long()}).last_hidden_state
    return image, rows


def forward(c, W, x, image, rows):
    """From tower outputs to logits [L,B,Q,2] and boxes [L,B,Q,4] (of the last layer alone when aux is off)."""
    f, out = c["fusion"], {"image": image}
    index = torch.from_numpy(x["image_index"]).long()
    counts = torch.from_numpy(x["token_counts"])
    B, Lt, d, dtype = len(index), text_rows(c), f["d"], image.dtype
    real = torch.arange(Lt) < counts[:, None]
    out["text"] = text = rows[:, :Lt] * real[..., None]  # rows past the count are never read: recorded as 0

    I, T = linear(W, "visual_proj", image), linear(W, "text_proj", text)
    if f["proj_norm"]:
        I, T = norm(W, "visual_norm", I), norm(W, "text_norm", T)
    if f["modality"]:
        I, T = I + W["modality_embed.weight"][0], T + W["modality_embed.weight"][1]
    if c["loss"]["align"]:
        out["align_a"], out["align_u"] = linear(W, "align_proj", I), T[:, 0]

    side = c["side"] // c["vision"]["patch"]
    pos = sine_positions(side, d, dtype) if f["image_pos"] else torch.zeros(side**2, d, dtype=dtype)
    pos = torch.cat([pos, W["text_pos.weight"] if f["text_pos"] else torch.zeros(Lt, d, dtype=dtype)])
    M = torch.cat([I[index], T], 1)
    masked = torch.cat([torch.zeros(B, I.shape[1], dtype=torch.bool), ~real], 1)
    drop = Dropout(c, x["keys"])
    for i in range(f["encoder_layers"]):
        M = encoder_layer(W, f"encoder.layers.{i}", M, pos, f, masked, drop)
    if f["encoder_layers"] and f["pre_norm"]:
        M = norm(W, "encoder.norm", M)
    # Rows past the count take part in nothing: recorded as 0.
    out["memory"] = torch.where(masked[..., None], torch.zeros((), dtype=dtype), M)

    Q = W["query_embed.weight"].expand(B, -1, -1)
    t, Q = (Q, torch.zeros_like(Q)) if f["query_input"] else (torch.zeros_like(Q), Q)
    hidden = []
    for i in range(f["decoder_layers"]):
        t = decoder_layer(W, f"decoder.layers.{i}", t, Q, M, pos, f, masked, drop)
        hidden.append(t)
    out["hidden"] = h = norm(W, "decoder.norm", torch.stack(hidden if f["aux"] else hidden[-1:]))
    out["logits"] = linear(W, "class_embed", h)
    for i in range(3):
        h = linear(W, f"bbox_embed.layers.{i}", h)
        h = h.relu() if i < 2 else h.sigmoid()
    out["boxes"] = h
    return out


# --- matching and losses ----------------------------------------------------------------------------------------------


def corners(b):
    return torch.cat([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], -1)


def giou(a, b):
    """Of boxes cxcywh that broadcast. Areas are products of columns: the gradient of torch.prod looks for zeros on the host."""
    a, b = torch.broadcast_tensors(corners(a), corners(b))
    area = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    inner = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0)
    outer = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).clamp(min=0)
    intersection, hull = inner[..., 0] * inner[..., 1], outer[..., 0] * outer[..., 1]
    union = area[0] + area[1] - intersection
    return intersection / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def assign(cost):
    """Queries and targets of a cheapest assignment, and how much dearer the next best one is."""
    rows, cols = scipy.optimize.linear_sum_assignment(cost)
    best, margin = cost[rows, cols].sum(), np.inf
    for i, j in zip(rows, cols):
        other = cost.copy()
        other[i, j] = 1e6
        other = other[scipy.optimize.linear_sum_assignment(other)].sum()
        if other < 1e5:  # else there is no other way
            margin = min(margin, other - best)
    return rows, cols, margin


@torch.no_grad()
def match(logits, boxes, targets):
    """[Q] target of each query or -1, and the margin, for one slot of one layer."""
    out = np.full(len(boxes), -1, np.int32)
    if not len(targets):
        return out, np.inf
    l1 = (boxes[:, None] - targets).abs().sum(-1)
    cost = 5 * l1 - logits.softmax(-1)[:, :1] - 2 * giou(boxes[:, None], targets)
    rows, cols, margin = assign(cost.double().numpy())
    out[rows] = cols
    return out, margin


def scales(c, x):
    """The eight factors of a step, fp32: no-object and object class weight, L1, GIoU, alignment."""
    queries, loss = c["fusion"]["queries"], c["loss"]
    s, n = int(x["filled"].sum()), int(np.minimum(x["n_targets"], queries).sum())
    eos = float(np.float32(loss["eos"]))
    d_box, d_cls = np.float32(max(1, n)), np.float32(n + eos * (s * queries - n))
    out = np.zeros(8, np.float32)
    out[:4] = np.float32(1) / d_cls, np.float32(eos) / d_cls, np.float32(5) / d_box, np.float32(2) / d_box
    out[4] = np.float32(loss["align"]) / np.float32(s)
    return out


def align_parts(c, W, x, out):
    """[B] mean over cells of the cross-entropy of 4.4."""
    side = c["side"] // c["vision"]["patch"]
    a = F.normalize(out["align_a"], dim=-1)[torch.from_numpy(x["image_index"]).long()]
    score = W["align_scale"].exp() * (a @ F.normalize(out["align_u"], dim=-1)[..., None]).squeeze(-1) + W["align_bias"]
    cell = torch.arange(side, dtype=score.dtype)
    box = corners(torch.from_numpy(x["targets"]).to(score.dtype)) * side  # [B,T,4], in cells
    low, high = box[..., :2, None], box[..., 2:, None]
    cover = (torch.min(high, cell + 1) - torch.max(low, cell)).clamp(min=0)  # [B,T,(x,y),side]
    share = cover[..., 1, :, None] * cover[..., 0, None, :]
    share = share * (torch.arange(share.shape[1]) < torch.from_numpy(x["n_targets"])[:, None])[..., None, None]
    target = share.sum(1).clamp(max=1).flatten(1)
    return F.binary_cross_entropy_with_logits(score, target, reduction="none").mean(-1)


def criterion(c, W, x, out):
    """Adds parts [B,L,3], match [B,L,Q], margin and total to out. The total is what is differentiated."""
    logits, boxes = out["logits"], out["boxes"]
    L, B, queries = logits.shape[:3]
    targets = torch.from_numpy(x["targets"]).to(boxes.dtype)
    n_targets, filled, s = x["n_targets"], x["filled"], scales(c, x)
    parts, matches, margin = [], np.full((B, L, queries), -1, np.int32), np.inf
    total = torch.zeros((), dtype=boxes.dtype)
    for b, l in itertools.product(range(B), range(L)):
        if not filled[b]:
            parts.append(torch.zeros(3, dtype=boxes.dtype))
            continue
        own = targets[b, : n_targets[b]]
        matches[b, l], gap = match(logits[l, b], boxes[l, b], own)
        margin = min(margin, gap)
        of = torch.from_numpy(matches[b, l]).long()
        hit = of >= 0
        nll = F.cross_entropy(logits[l, b], (~hit).long(), reduction="none")
        p, t = boxes[l, b][hit], own[of[hit]]
        l1, gious = (p - t).abs().sum(), (1 - giou(p, t)).sum()
        eos = float(np.float32(c["loss"]["eos"]))
        parts.append(torch.stack([(nll * torch.where(hit, 1.0, eos)).sum(), l1, gious]))
        weight = torch.where(hit, float(s[0]), float(s[1])).to(boxes.dtype)
        total = total + (weight * nll).sum() + float(s[2]) * l1 + float(s[3]) * gious
    out["parts"] = torch.stack(parts).reshape(B, L, 3)
    if c["loss"]["align"]:
        out["align_parts"] = align_parts(c, W, x, out) * torch.from_numpy(filled)
        total = total + float(s[4]) * out["align_parts"].sum()
    out.update(match=matches, margin=float(margin), scales=s, total=total)
    return out
