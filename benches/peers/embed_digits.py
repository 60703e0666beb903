"""Writes crates/neuralef/data/digits.zlib, the digits embedded in the library.

Layout before compression: 1,797 × 64 bytes of pixel values 0..16, row by row, then 1,797 labels.
Run from the root of the repository with scikit-learn installed:

    python benches/peers/embed_digits.py
"""

import pathlib
import zlib

import numpy as np
from sklearn.datasets import load_digits

TARGET = pathlib.Path("crates/neuralef/data/digits.zlib")


def main():
    digits = load_digits()
    pixels, labels = digits.data, digits.target
    assert pixels.shape == (1797, 64) and labels.shape == (1797,)
    assert np.array_equal(pixels, pixels.astype(np.uint8)) and pixels.max() == 16
    raw = pixels.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    packed = zlib.compress(raw, 9)
    TARGET.write_bytes(packed)
    print(f"{TARGET}: {len(raw)} bytes in {len(packed)}; checksum {zlib.crc32(raw):#010x}")


if __name__ == "__main__":
    main()
