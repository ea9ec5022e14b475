"""Each operation of kernels/ops.def alone, on small inputs: what its row says, in PyTorch, gradients by autograd.

A case lists the operands of one node in the row's order, None for an absent one. `cases()` gives them all; the results
are computed twice, in fp64 (recorded) and fp32 (its error is recorded).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

import oracle
import philox

ACTS = {"none": lambda x: x, "relu": torch.relu, "gelu": F.gelu, "sigmoid": torch.sigmoid}


def values(name, *shape, low=-1.0, high=1.0):
    return philox.fill_uniform(math.prod(shape), philox.key_of(0, "op." + name), low, high).reshape(shape)


def ints(*rows):
    return np.array(rows, np.int32)


def slot_keys(B):
    keys = np.zeros((B, 4), np.uint32)
    keys[:, 1], keys[:, 2], keys[:, 3] = np.arange(B) % 2, 70 + np.arange(B) // 2, 3
    return keys


def gradients(out, wanted, dout):
    return torch.autograd.grad(out, wanted, dout)


# --- one function per row: attributes and operands as tensors (floats of one type), outputs in the row's order ----------


def patchify(a, pixels):
    m, S, p = pixels.shape[0], pixels.shape[1], a["patch"]
    dtype = torch.get_default_dtype()
    x = pixels.to(dtype).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor(oracle.MEAN, dtype=dtype).view(3, 1, 1)) / torch.tensor(oracle.STD, dtype=dtype).view(3, 1, 1)
    return (x.reshape(m, 3, S // p, p, S // p, p).permute(0, 2, 4, 1, 3, 5).reshape(m, -1, 3 * p * p),)


def linear(a, x, w, b, gamma, res, counts=None):
    z = F.linear(x, w, b)
    y = ACTS[a["act"]](z)
    y = y if gamma is None else gamma * y
    return y if res is None else res + y, z if a["act"] == "gelu" else None


def layernorm(a, x, gamma, beta, res):
    total = x if res is None else x + res
    mean, rstd = total.mean(-1), (total.var(-1, correction=0) + a["eps"]).rsqrt()
    y = F.layer_norm(total, total.shape[-1:], gamma, beta, a["eps"])
    return y, mean.flatten(), rstd.flatten(), None if res is None else total


def add(a, x, y):
    return (x + y,)


def repeat(a, p):
    return (p.expand(a["count"], *p.shape),)


def heads_of(x, col, a):
    return x[..., col : col + a["heads"] * a["head_size"]].unflatten(-1, (a["heads"], a["head_size"])).transpose(1, 2)


def attention(a, q, k, v, k2, v2, counts, bias, index, keys):
    B, n1 = q.shape[0], k.shape[1]
    rows = torch.arange(B) if index is None else index.long()
    q, k, v = heads_of(q, a["q_col"], a), heads_of(k, a["k_col"], a)[rows], heads_of(v, a["v_col"], a)[rows]
    if k2 is not None:
        k, v = torch.cat([k, heads_of(k2, a["k2_col"], a)], 2), torch.cat([v, heads_of(v2, a["v2_col"], a)], 2)
    scores = a["scale"] * (q @ k.transpose(-1, -2))
    scores = scores if bias is None else scores + bias
    if counts is not None:
        j = torch.arange(k.shape[2])
        seen = (j < n1) | (j - n1 < counts[:, None]) if a["mask_second"] else (j >= n1) | (j < counts[:, None])
        scores = scores.masked_fill(~seen[:, None, None, :], -torch.inf)
    p = scores.softmax(-1)
    if a["dropout"]:
        folded = p.unflatten(2, (-1, a["fold"])).transpose(2, 3)
        folded = drop(a["dropout"], a["key"], keys, folded, -p.shape[-1] % 4)
        p = folded.transpose(2, 3).flatten(2, 3)
    return (p @ v).transpose(1, 2).flatten(2), scores.logsumexp(-1), p.sum(-1) if a["sums"] else None


def drop(p, key, keys, x, pad=0):
    """x [B,..] with Philox masks; its last axis takes `pad` more elements."""
    last = x.shape[-1] + pad
    n = x[0].numel() // x.shape[-1] * last
    words = [philox.stream(tuple(key), n, int(k[2]) | int(k[3]) << 32, int(k[1])) for k in keys]
    keep = torch.from_numpy(philox.uniform(np.stack(words)) >= np.float32(p)).reshape(*x.shape[:-1], last)
    return torch.where(keep[..., : x.shape[-1]], x / (1 - float(np.float32(p))), torch.zeros((), dtype=x.dtype))


def heads_expand(a, x, w, b):
    x, w = x.unflatten(-1, (a["heads"], -1)), w.unflatten(0, (a["heads"], -1))
    y = torch.einsum("bqhd,hdc->bqhc", x, w).flatten(1, 2)
    return y, None if b is None else (x * b.view(a["heads"], -1)).sum(-1).flatten(1)[:, None]


def heads_contract(a, x, w, b, s):
    y = torch.einsum("bqhc,hdc->bqhd", x.unflatten(1, (-1, a["heads"])), w.unflatten(0, (a["heads"], -1)))
    if b is not None:
        s = torch.ones(len(x), x.shape[1], dtype=x.dtype) if s is None else s[:, 0]
        y = y + s.view(*y.shape[:3], 1) * b.view(a["heads"], -1)
    return (y.flatten(2),)


def vit_tokens(a, patches, pos, cls, reg):
    prefix = [x.expand(len(patches), -1, -1) for x in (cls, reg) if x is not None]
    return (torch.cat([*prefix, patches + pos], 1),)


def text_embed(a, ids, counts, word, pos, kind):
    t = torch.arange(ids.shape[1])
    return (word[ids.long()] + kind[0] + pos[torch.where(t < counts[:, None], 2 + t, a["pad"])],)


def slice_tokens(a, x):
    return (x[:, a["first"] : a["first"] + a["count"]],)


def concat_tokens(a, x, y, index):
    return (torch.cat([x if index is None else x[index.long()], y], 1),)


def stack(a, *x):
    return (torch.stack([v for v in x if v is not None]),)


def dropout(a, x, keys, res):
    y = drop(a["p"], a["key"], keys, x.flatten(1)).reshape(x.shape)
    return (y if res is None else res + y,)


def cast(a, x):
    return (x.clone(),)  # the file's numbers are fp32; those of bf16 are the C test's


def loss_config(a, boxes, weight=0.0):
    return {"fusion": {"queries": boxes}, "loss": {"eos": a.get("eos", 0.1), "align": weight}}


def detr_loss(a, logits, boxes, targets, n_targets, filled, scales):
    logits, boxes = logits.requires_grad_(), boxes.requires_grad_()
    x = {"targets": targets.numpy(), "n_targets": n_targets.numpy(), "filled": filled.numpy()}
    out = oracle.criterion(loss_config(a, logits.shape[2]), None, x, {"logits": logits, "boxes": boxes})
    assert np.array_equal(out["scales"], scales.float().numpy()) and out["margin"] > 1e-3, out["margin"]
    dlogits, dboxes = torch.autograd.grad(out["total"], (logits, boxes), allow_unused=True)
    dboxes = torch.zeros_like(boxes) if dboxes is None else dboxes
    return out["parts"].detach(), torch.from_numpy(out["match"]), dlogits, dboxes, torch.zeros(len(filled), dtype=torch.int32)


def align_loss(a, act, u, scale, shift, targets, n_targets, filled, index, scales):
    leaves = [x.requires_grad_() for x in (act, u, scale, shift)]
    c = {"side": a["gh"], "vision": {"patch": 1}}
    x = {"targets": targets.numpy(), "n_targets": n_targets.numpy(), "image_index": index.numpy()}
    parts = oracle.align_parts(c, {"align_scale": scale, "align_bias": shift}, x, {"align_a": act, "align_u": u}) * filled
    return parts.detach(), *torch.autograd.grad(float(scales[4]) * parts.sum(), leaves)


def act_grad(a, dy, y_or_z):
    # y holds where relu and sigmoid were; sigmoid' = y (1 - y).
    if a["act"] == "gelu":
        z = y_or_z.requires_grad_()
        return torch.autograd.grad(F.gelu(z), z, dy)
    return (dy * (y_or_z > 0) if a["act"] == "relu" else dy * y_or_z * (1 - y_or_z),)


def linear_dx(a, dz, w, gamma, acc, counts=None):
    dx = (dz if gamma is None else dz * gamma) @ w
    return (dx if acc is None else acc + dx,)


def linear_dw(a, dz, x, w, b, gamma, counts=None):
    w = torch.zeros(dz.shape[-1], x.shape[-1], dtype=x.dtype) if w is None else w
    b = torch.zeros(dz.shape[-1], dtype=x.dtype) if b is None else b
    leaves = [t.requires_grad_() for t in ((w, b) if gamma is None else (w, b, gamma))]
    y, _ = linear({"act": "none"}, x, w, b, gamma, None)
    return *torch.autograd.grad(y, leaves, dz), *([None] if gamma is None else [])


def layernorm_grad(a, dy, x, gamma, mean, rstd, acc):
    x, gamma, beta = x.requires_grad_(), gamma.requires_grad_(), torch.zeros_like(gamma).requires_grad_()
    dx, dgamma, dbeta = torch.autograd.grad(layernorm(a, x, gamma, beta, None)[0], (x, gamma, beta), dy)
    return dx if acc is None else acc + dx, dgamma, dbeta


def attention_grad(a, do, q, k, v, k2, v2, counts, bias, index, keys, o, lse, sums=None, dsums=None, acc_k=None, acc_v=None):
    # Operands that are one packed tensor get one packed gradient: the same leaf, hence the same sum.
    leaves = [x.requires_grad_() for x in (q, k, v, k2, v2, bias) if x is not None]
    o, _, sums = attention(a, q, k, v, k2, v2, counts, bias, index, keys)
    grads = iter(torch.autograd.grad(o if sums is None else (o, sums), leaves, do if sums is None else (do, dsums)))
    accs = (None, acc_k, acc_v, None, None, None)
    grads = [None if x is None else next(grads) for x in (q, k, v, k2, v2, bias)]
    return tuple(d if acc is None else d + acc for d, acc in zip(grads, accs))


def heads_dw(a, da, x, s):
    w = torch.zeros(da.shape[-1], x.shape[-1], dtype=x.dtype).requires_grad_()
    b = torch.zeros(da.shape[-1], dtype=x.dtype).requires_grad_()
    return torch.autograd.grad(heads_contract(a, x, w, b, s)[0], (w, b), da)


def sum_rows(a, dy):
    return (dy.flatten(0, -3).sum(0) if dy.dim() > 2 else dy,)


def vit_tokens_grad(a, dx):
    tail = a["patches"]
    return dx[:, -tail:], dx[:, -tail:].sum(0), dx[:, :1].sum(0, keepdim=True), dx[:, 1:-tail].sum(0, keepdim=True)


def text_embed_grad(a, dx, ids, counts):
    leaves = [torch.zeros(n, dx.shape[-1], dtype=dx.dtype, requires_grad=True) for n in (a["words"], a["positions"], 1)]
    return torch.autograd.grad(text_embed(a, ids, counts, *leaves)[0], leaves, dx)


def slice_tokens_grad(a, dy, acc):
    dx = torch.zeros(len(dy), a["tokens"], dy.shape[-1], dtype=dy.dtype) if acc is None else acc.clone()
    dx[:, a["first"] : a["first"] + a["count"]] += dy
    return (dx,)


def concat_tokens_grad(a, dy, index):
    P, B = a["rows"], len(dy)
    da = torch.zeros(a["images"], P, dy.shape[-1], dtype=dy.dtype)
    da.index_add_(0, torch.arange(B) if index is None else index.long(), dy[:, :P])
    return da, dy[:, P:]


def stack_grad(a, dy):
    return tuple(dy)


# --- the cases --------------------------------------------------------------------------------------------------------


def attention_cases():
    """(name, attributes, operands q..keys)"""

    def attr(heads, size, cols=(0, 0, 0, 0, 0), second=False, p=0.0, scale=None, sums=False, fold=1):
        names = dict(zip(("q_col", "k_col", "v_col", "k2_col", "v2_col"), cols))
        key = list(philox.key_of(5, "attention"))
        scale = scale or size**-0.5
        return {
            "heads": heads, "head_size": size, **names, "scale": scale, "mask_second": second, "dropout": p, "key": key,
            "sums": sums, "fold": fold,
        }  # fmt: skip

    packed = values("packed", 2, 9, 3 * 2 * 8, low=-2, high=2)
    cols = (0, 16, 32, 0, 0)
    yield "packed", attr(2, 8, cols), [packed] * 3 + [None] * 6
    yield "counts", attr(2, 8, cols), [packed] * 3 + [None, None, ints(4, 9), None, None, None]
    yield "bias", attr(2, 8, cols), [packed] * 3 + [None, None, ints(9, 1), values("bias", 2, 9, 9), None, None]
    yield "dropout", attr(2, 8, cols, p=0.3), [packed] * 3 + [None] * 5 + [slot_keys(2)]
    big = values("packed64", 1, 37, 3 * 64, low=-2, high=2)
    yield "head64", attr(1, 64, (0, 64, 128, 0, 0)), [big] * 3 + [None] * 6
    # Five slots on three images, the second without any; text keys of each slot behind the image's.
    q, kv, kv2 = values("q", 5, 3, 64), values("kv", 3, 6, 128), values("kv2", 5, 4, 128)
    index, counts, cross = ints(0, 0, 2, 2, 2), ints(4, 1, 2, 3, 4), (0, 0, 64, 0, 64)
    yield "image_and_text", attr(2, 32, cross, second=True), [q, kv, kv, kv2, kv2, counts, None, index, None]
    bias, keys = values("bias2", 2, 3, 10), slot_keys(5)
    everything = [q, kv, kv, kv2, kv2, counts, bias, index, keys]
    yield "everything", attr(2, 32, cross, second=True, p=0.1), everything
    yield "sums", attr(2, 32, cross, second=True, p=0.2, sums=True), everything
    yield "sums64", attr(1, 64, (0, 64, 128, 0, 0), p=0.2, sums=True), [big] * 3 + [None] * 5 + [slot_keys(1)]
    # One head as wide as the rows of keys, of which keys and values are no projections: scores are small for its width.
    q, k, v = (values("wide." + name, 1, n, 256) for name, n in (("q", 20), ("k", 11), ("v", 11)))
    yield "wide", attr(1, 256, scale=0.2), [q, k, v] + [None] * 6
    q, text = values("wide.q5", 5, 24, 96), values("wide.text", 5, 4, 96)
    k, v = values("wide.k3", 3, 37, 96), values("wide.v3", 3, 37, 96)
    everything = [q, k, v, text, text.copy(), counts, None, index, keys]
    yield "wide_sums", attr(1, 96, second=True, p=0.1, scale=0.3, sums=True, fold=8), everything


def loss_operands(name, L, B, Q, T, n_targets, empty=()):
    logits = values(name + ".logits", L, B, Q, 2, low=-3, high=3)
    boxes = np.concatenate([values(name + ".c", L, B, Q, 2, low=0.1, high=0.9), values(name + ".s", L, B, Q, 2, low=0.05, high=0.8)], -1)
    targets = np.concatenate([values(name + ".tc", B, T, 2, low=0.2, high=0.8), values(name + ".ts", B, T, 2, low=0.1, high=0.6)], -1)
    filled = ints(*(int(b not in empty) for b in range(B)))
    n_targets = ints(*n_targets) * filled
    targets[np.arange(T) >= n_targets[:, None]] = 0
    return [logits, boxes, targets, n_targets, filled]


def cases():
    """(operation, case, attributes, operands)"""
    yield "patchify", "two", {"patch": 8}, [(values("pixels", 2, 16, 16, 3, low=0, high=256)).astype(np.uint8)]

    x, w, b, gamma, res = values("x", 3, 7, 33), values("w", 19, 33), values("b", 19), values("gamma", 19), values("res", 3, 7, 19)
    for act in ACTS:
        yield "linear", act, {"act": act}, [x, w, b, None, None]
    yield "linear", "no_bias", {"act": "none"}, [x, w, None, None, None]
    yield "linear", "residual", {"act": "none"}, [x, w, b, None, res]
    yield "linear", "gamma_residual", {"act": "none"}, [x, w, b, gamma, res]
    dz, acc = values("dz", 3, 7, 19), values("acc", 3, 7, 33)
    yield "linear_dx", "plain", {}, [dz, w, None, None]
    yield "linear_dx", "gamma_acc", {}, [dz, w, gamma, acc]
    yield "linear_dw", "plain", {}, [dz, x, None, None, None]
    yield "linear_dw", "gamma", {}, [dz, x, w, b, gamma]
    # What is 0 stays 0, so that padding has one result, whether a backend leaves it out or not.
    counts = ints(4, 7, 0)
    padded_x, padded_dz, padded_acc = (np.where(np.arange(7)[:, None] < counts[:, None, None], v, np.float32(0)) for v in (x, dz, acc))
    yield "linear", "ragged", {"act": "gelu"}, [padded_x, w, None, None, None, counts]
    yield "linear_dx", "ragged", {}, [padded_dz, w, gamma, padded_acc, counts]
    yield "linear_dw", "ragged", {}, [padded_dz, x, None, None, None, counts]
    z = values("z", 3, 7, 19, low=-4, high=4)
    for act, y in (("relu", np.maximum(z, 0)), ("gelu", z), ("sigmoid", (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32))):
        yield "act_grad", act, {"act": act}, [dz, y]

    x, res = values("ln.x", 5, 48, low=-3, high=5), values("ln.res", 5, 48)
    gamma, beta = values("ln.gamma", 48, low=0.5, high=1.5), values("ln.beta", 48)
    yield "layernorm", "plain", {"eps": 1e-6}, [x, gamma, beta, None]
    yield "layernorm", "residual", {"eps": 1e-5}, [x, gamma, beta, res]
    mean = x.astype(np.float64).mean(-1)
    rstd = 1 / np.sqrt(x.astype(np.float64).var(-1) + 1e-5)
    stats = [mean.astype(np.float32), rstd.astype(np.float32)]
    dy = values("ln.dy", 5, 48)
    yield "layernorm_grad", "plain", {"eps": 1e-5}, [dy, x, gamma, *stats, None]
    yield "layernorm_grad", "acc", {"eps": 1e-5}, [dy, x, gamma, *stats, res]

    a, rows = values("a", 3, 5, 12), values("rows", 5, 12)
    yield "add", "plain", {}, [a, values("b2", 3, 5, 12)]
    yield "add_rows", "plain", {}, [a, rows]
    yield "repeat", "plain", {"count": 3}, [rows]
    yield "sum_rows", "plain", {}, [a]

    for name, attr, operands in attention_cases():
        yield "attention", name, attr, operands
        H, Nq = attr["heads"], operands[0].shape[1]
        do = values("do." + name, len(operands[0]), Nq, H * attr["head_size"])
        forward = [None if v is None else torch.from_numpy(v) for v in operands]
        o, lse, sums = attention(attr, *(v if v is None or not v.is_floating_point() else v.double() for v in forward))
        operands = [do, *operands, o.float().numpy(), lse.float().numpy()]
        if sums is not None:
            operands += [sums.float().numpy(), values("dsums." + name, *sums.shape)]
        if name.startswith("wide"):
            operands += [None, None] * (sums is None) + [values("acc." + name + part, *operands[2].shape) for part in "kv"]
        yield "attention_grad", name, attr, operands

    x, wide, w, b = values("he.x", 3, 5, 24), values("he.wide", 3, 15, 40), values("he.w", 24, 40), values("he.b", 24)
    s = values("he.s", 3, 1, 15)
    yield "heads_expand", "plain", {"heads": 3}, [x, w, None]
    yield "heads_expand", "bias", {"heads": 3}, [x, w, b]
    yield "heads_contract", "plain", {"heads": 3}, [wide, w, None, None]
    yield "heads_contract", "bias", {"heads": 3}, [wide, w, b, None]
    yield "heads_contract", "sums", {"heads": 3}, [wide, w, b, s]
    yield "heads_dw", "plain", {"heads": 3}, [x, wide, None]
    yield "heads_dw", "sums", {"heads": 3}, [x, wide, s]

    patches, pos, cls, reg = values("patches", 2, 6, 8), values("pos", 6, 8), values("cls", 1, 1, 8), values("reg", 1, 4, 8)
    yield "vit_tokens", "registers", {}, [patches, pos, cls, reg]
    yield "vit_tokens", "patches_alone", {}, [patches, pos, None, None]
    yield "vit_tokens_grad", "registers", {"patches": 6}, [values("vit.dx", 2, 11, 8)]
    ids, counts = ints([0, 7, 9, 2, 1, 1], [0, 9, 2, 1, 1, 1]), ints(4, 3)
    yield "text_embed", "plain", {"pad": 1}, [ids, counts, values("word", 12, 8), values("tpos", 10, 8), values("type", 1, 8)]
    yield "text_embed_grad", "plain", {"pad": 1, "words": 12, "positions": 10}, [values("te.dx", 2, 6, 8), ids, counts]
    yield "slice_tokens", "plain", {"first": 2, "count": 3}, [a]
    yield "slice_tokens_grad", "plain", {"first": 1, "count": 3, "tokens": 5}, [values("sl", 2, 3, 4), None]
    yield "slice_tokens_grad", "acc", {"first": 1, "count": 3, "tokens": 5}, [values("sl", 2, 3, 4), values("sla", 2, 5, 4)]
    index = ints(0, 0, 2, 2)
    yield "concat_tokens", "plain", {}, [a, values("cb", 3, 2, 12), None]
    yield "concat_tokens", "index", {}, [a, values("cb4", 4, 2, 12), index]
    yield "concat_tokens_grad", "plain", {"rows": 5, "images": 3}, [values("cdy", 3, 7, 4), None]
    yield "concat_tokens_grad", "index", {"rows": 5, "images": 3}, [values("cdy4", 4, 7, 4), index]
    yield "stack", "three", {}, [a, a + 1, a * 2] + [None] * 13
    yield "stack_grad", "three", {}, [values("sdy", 3, 5, 12)]
    key = list(philox.key_of(5, "dropout"))
    yield "dropout", "plain", {"p": 0.1, "key": key}, [values("d.x", 3, 5, 7), slot_keys(3), None]
    yield "cast", "plain", {}, [values("c.x", 3, 7, 9, low=-300, high=300)]
    yield "dropout", "residual", {"p": 0.5, "key": key}, [values("d.x", 3, 5, 7), slot_keys(3), values("d.res", 3, 5, 7)]

    attr = {"eos": 0.1, "cost_class": 1.0, "cost_l1": 5.0, "cost_giou": 2.0}
    for name, operands in (
        ("one_target", loss_operands("one", 2, 3, 10, 1, [1, 1, 1])),
        ("several_targets_and_an_empty_slot", loss_operands("several", 2, 5, 6, 4, [4, 0, 2, 3, 1], empty=[3])),
        ("more_targets_than_queries", loss_operands("more", 1, 2, 4, 7, [7, 5])),
    ):
        x = {"filled": operands[4], "n_targets": operands[3]}
        yield "detr_loss", name, attr, [*operands, oracle.scales(loss_config(attr, operands[0].shape[2]), x)]

    _, _, targets, n_targets, filled = loss_operands("align", 1, 4, 1, 3, [3, 1, 0, 2], empty=[1])
    scales = oracle.scales(loss_config(attr, 10, 10.0), {"filled": filled, "n_targets": n_targets})
    scalars = [np.array([2.1], np.float32), np.array([-1.9], np.float32)]
    a, u = values("al.a", 2, 16, 12), values("al.u", 4, 12)
    yield "align_loss", "plain", {"gh": 4, "gw": 4}, [a, u, *scalars, targets, n_targets, filled, ints(0, 0, 1, 1), scales]


def run(op, attr, operands, dtype):
    """Outputs of one case as numpy arrays; None where absent."""
    torch.set_default_dtype(dtype)
    made = {}

    def tensor(v):
        if v is None:
            return None
        if id(v) not in made:  # one array given twice is one tensor: packed operands
            t = torch.from_numpy(v.astype(np.int64) if v.dtype == np.uint32 else v)
            made[id(v)] = t.to(dtype).clone() if t.is_floating_point() else t
        return made[id(v)]

    try:
        out = globals()["add" if op == "add_rows" else op](attr, *map(tensor, operands))
    finally:
        torch.set_default_dtype(torch.float32)
    arrays = {None: None}  # a gradient shared by packed operands stays one array
    keys = [None if v is None else (v.data_ptr(), v.shape) for v in out]
    arrays.update({k: v.detach().numpy() for k, v in zip(keys, out) if k})
    return [arrays[k] for k in keys]
