"""TenSEAL CKKS as NVFlare provisions it: nvflare/lighter/impl/he.py, nvflare/app_opt/he/model_encryptor.py.

Polynomials of degree 8192, coefficients of [60, 40, 40] bits, scale 2^40, symmetric encryption under one key
that every client has. A client encrypts its whole vector with `ts.ckks_vector`, which cuts it into ciphertexts
of 4096 slots, and serialises it; the server loads each and adds it, without the key.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np
import tenseal
from numpy.typing import NDArray


class CkksSum:
    """Contexts of a client and of the server, one thread each."""

    def __init__(self) -> None:
        self._client = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            poly_modulus_degree=8192,
            coeff_mod_bit_sizes=[60, 40, 40],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        self._client.generate_relin_keys()
        self._client.global_scale = 2**40
        content = self._client.serialize(
            save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=True
        )
        self._server = tenseal.context_from(content, n_threads=1)

    def encrypt(self, values: NDArray[np.float64]) -> bytes:
        """A client's upload."""
        with _no_warnings():
            return bytes(tenseal.ckks_vector(self._client, values).serialize())

    def add(self, total: tenseal.CKKSVector | None, upload: bytes) -> tenseal.CKKSVector:
        """The server takes one upload into its sum."""
        with _no_warnings():
            part = tenseal.ckks_vector_from(self._server, upload)
        if total is None:
            return part
        total += part
        return total

    def decrypt(self, total: tenseal.CKKSVector) -> NDArray[np.float64]:
        """A client opens the sum."""
        content = total.serialize()
        with _no_warnings():
            return np.array(tenseal.ckks_vector_from(self._client, content).decrypt())


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """TenSEAL writes on standard output that some operations need a vector in one ciphertext; none is used here."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
