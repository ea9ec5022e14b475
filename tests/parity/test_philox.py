"""The numpy twin gives the published vectors and the C library's values. Run: python tests/parity/test_philox.py"""

import numpy as np

import philox


def published_vectors():
    # Random123's known answers for philox 4x32 10.
    zero, ones = np.zeros((1, 4), np.uint32), np.full((1, 4), 0xFFFFFFFF, np.uint32)
    assert philox.philox(zero, (0, 0))[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox.philox(ones, (0xFFFFFFFF,) * 2)[0].tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    assert philox.philox(pi, (0xA4093822, 0x299F31D0))[0].tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def names_hash_as_fnv1a():
    assert philox.purpose_of("") == 0xCBF29CE484222325
    assert philox.purpose_of("foobar") == 0x85944171F73967E8


def streams_do_not_depend_on_where_they_are_cut():
    key = philox.key_of(7, "cut")
    whole = philox.stream(key, 4 * philox.CHUNK + 9)
    assert (philox.stream(key, 5) == whole[:5]).all()
    beyond = np.array([[philox.CHUNK + 1, 0, 0, 0]], np.uint32)
    assert (philox.philox(beyond, key)[0] == whole[4 * (philox.CHUNK + 1) :][:4]).all()


def normals_are_normal():
    x = philox.fill_normal(100001, philox.key_of(1, "n"), 2.0, 0.5)
    assert abs(x.mean() - 2) < 0.01 and abs(x.std() - 0.5) < 0.01


if __name__ == "__main__":
    for test in (published_vectors, names_hash_as_fnv1a, streams_do_not_depend_on_where_they_are_cut, normals_are_normal):
        test()
    print("philox: 4 tests passed")
