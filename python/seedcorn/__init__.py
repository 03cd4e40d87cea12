"""Seedcorn from Python: active selection and k-means on numpy arrays, without a copy.

    >>> import numpy as np, seedcorn
    >>> x = np.load("embeddings.npy", mmap_mode="r")
    >>> chosen = seedcorn.Selector(strategy="fisher", budget=200).fit(x).rows_

A thin layer of ctypes over libseedcorn: errors are the library's sentences, Ctrl-C stops at the next safe point.
"""
from ._library import Error, library_path, version
from .kmeans import KMeans
from .selector import Selector

__all__ = ["Error", "KMeans", "Selector", "library_path", "version"]
__version__ = version()
