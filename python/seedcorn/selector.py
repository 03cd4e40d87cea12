"""Choosing the most informative rows under a budget."""
import ctypes

import numpy as np

from . import _library as lib

PICK = np.dtype([("row", "<i8"), ("score", "<f8"), ("gain", "<f8"), ("entropy", "<f8"), ("divergence", "<f8"),
                 ("objective", "<f8"), ("cluster", "<i8")])


class Selector:
    """Chooses `budget` rows of a matrix; docs/selection.md describes the strategies.

    Parameters
    ----------
    strategy : "fisher", "js", "kcenter", "kmeans", "entropy", "popularity" or "random".
    budget : how many rows.
    clusters, temperature, alpha, js_form, centres : of the strategies over clusters; centres [k][dim] replace k-means.
    lambda_ : of fisher, S_0 = lambda I.
    items : [n] whole numbers from 0, the item of every row, for "popularity".
    device, threads, seed : "auto" or "cpu"; 0 threads are as many as there are cores; the key of random numbers.

    Attributes, after fit
    ---------------------
    rows_ : int64 [budget], in order of choice.
    picks_ : structured array [budget] with row, score, gain, entropy, divergence, objective, cluster.
    """

    def __init__(self, strategy="fisher", budget=100, *, clusters=64, temperature=1.0, alpha=0.5, js_form="mix",
                 lambda_=1.0, centres=None, items=None, device="auto", threads=0, seed=0):
        self.strategy = strategy
        self.budget = budget
        self.clusters = clusters
        self.temperature = temperature
        self.alpha = alpha
        self.js_form = js_form
        self.lambda_ = lambda_
        self.centres = centres
        self.items = items
        self.device = device
        self.threads = threads
        self.seed = seed

    def fit(self, X):
        """Chooses rows of X [n][dim]. A float32 array in row order, mapped from a file or not, is not copied."""
        x = lib.as_rows(X)
        options = lib.LIBRARY.sc_selector_default()
        lib.common(options, self.device, self.threads, self.seed)
        options.strategy = self.strategy.encode()
        options.budget = self.budget
        options.clusters = self.clusters
        options.temperature = self.temperature
        options.alpha = self.alpha
        options.js_form = self.js_form.encode()
        setattr(options, "lambda", self.lambda_)
        centres = None if self.centres is None else lib.as_rows(self.centres, "centres")
        if centres is not None:
            if centres.shape[1] != x.shape[1]:
                raise ValueError(f"centres are {centres.shape[1]} wide, the rows {x.shape[1]}")
            options.centres = lib.address(centres)
            options.n_centres = len(centres)
        items = None if self.items is None else np.ascontiguousarray(self.items, dtype=np.int32)
        if items is not None:
            if items.shape != (len(x),):
                raise ValueError(f"items must be one number a row, {len(x)}, not {items.shape}")
            options.items = lib.address(items)
        picks = np.zeros(max(int(self.budget), 0), PICK)
        lib.call(lib.LIBRARY.sc_selector_fit, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 picks.ctypes.data_as(ctypes.POINTER(lib.Pick)))
        self.picks_ = picks
        self.rows_ = picks["row"].copy()
        return self
