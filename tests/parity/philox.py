"""The project's random numbers in numpy: the same values as kernels/base/random.c, bit for bit for uniforms.

Weights and inputs of the parity cases are made by these on both sides, so that fixtures hold no weights.
"""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)
CHUNK = 1 << 15  # blocks at a time: temporaries stay in the cache


def philox(counter, key):
    """Ten rounds of Philox4x32 for counters [n,4] u32 and one key of two words; words [n,4] u32."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = (int(k) for k in key)
    shift = np.uint64(32)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & MASK, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.uint32)


def key_of(seed, purpose):
    """vg_rng_key_of; the purpose may be a name."""
    if isinstance(purpose, str):
        purpose = purpose_of(purpose)
    counter = np.array([[purpose & 0xFFFFFFFF, purpose >> 32, 0, 0]], np.uint32)
    out = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[0]
    return int(out[0]), int(out[1])


def purpose_of(name):
    """vg_rng_purpose: 64-bit FNV-1a of the name's bytes."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def stream(key, n, position=0, phrase=0):
    """The first n words of the stream of (position, phrase): word e is word e % 4 of block e / 4."""
    blocks = (n + 3) // 4
    out = np.empty((blocks, 4), np.uint32)
    for first in range(0, blocks, CHUNK):
        last = min(first + CHUNK, blocks)
        counter = np.empty((last - first, 4), np.uint32)
        counter[:, 0] = np.arange(first, last, dtype=np.uint64) & MASK
        counter[:, 1] = phrase
        counter[:, 2] = position & 0xFFFFFFFF
        counter[:, 3] = position >> 32
        out[first:last] = philox(counter, key)
    return out.reshape(-1)[:n]


def uniform(words):
    """vg_uniform: [0, 1) in steps of 2^-24, fp32."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def fill_uniform(n, key, a, b):
    a, b = np.float32(a), np.float32(b)
    return a + (b - a) * uniform(stream(key, n))


def fill_normal(n, key, mean, sd):
    """Box-Muller in fp64, rounded once. The mathematical library may part from C's in the last bit of fp64."""
    words = stream(key, (n + 3) // 4 * 4).reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((words[:, 0] + 0.5) * 2.0**-32))
    angle = 6.283185307179586476925 * (words[:, 1] * 2.0**-32)
    pair = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    mean, sd = float(np.float32(mean)), float(np.float32(sd))
    return (mean + sd * pair).reshape(-1)[:n].astype(np.float32)
