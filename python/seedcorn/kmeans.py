"""k-means with the same bytes in every run, for any number of threads."""
import copy
import ctypes

import numpy as np

from . import _library as lib


class KMeans:
    """k-means++ or given centres, then Lloyd's iterations, on mean-centred rows.

    Parameters
    ----------
    n_clusters, max_iter : how many clusters; iterations at most.
    tol : stop when the centres' squared shift is at most this times the mean variance of a column; 0: no change.
    init : "k-means++", or centres [n_clusters][dim] to start from (fit_many: one such array, or one for every problem).
    dtype : "bf16": uint16 rows are bf16, exact data (the upper half of a float32); "float32". None: as the array says.
    device, threads, seed : "auto", "cpu", "cuda" or "cuda:N"; 0 threads are as many as there are cores; the key of random numbers.

    Attributes, after fit
    ---------------------
    cluster_centers_ [k][dim], labels_ [n], inertia_, n_iter_, converged_; k is smaller than n_clusters where there are
    fewer distinct rows.
    """

    def __init__(self, n_clusters=64, *, max_iter=100, tol=1e-4, init="k-means++", dtype=None, device="auto", threads=0,
                 seed=0):
        self.n_clusters = n_clusters
        self.max_iter = max_iter
        self.tol = tol
        self.init = init
        self.dtype = dtype
        self.device = device
        self.threads = threads
        self.seed = seed

    def _options(self, clusters, centres, x):
        options = lib.LIBRARY.sc_kmeans_default()
        lib.common(options, self.device, self.threads, self.seed)
        options.clusters = clusters
        options.max_iterations = self.max_iter
        options.tolerance = self.tol
        options.centres = lib.address(centres)
        options.bf16_rows = int(x.dtype == np.uint16)
        return options

    def _start(self, dim):
        """The given centres, or None."""
        if isinstance(self.init, str):
            if self.init != "k-means++":
                raise ValueError(f'init is "{self.init}"; it may be "k-means++" or an array of centres')
            return None
        start = lib.as_rows(self.init, "init")
        if start.shape != (self.n_clusters, dim):
            raise ValueError(f"init is {start.shape}, not ({self.n_clusters}, {dim})")
        return start

    def _keep(self, centres, labels, result):
        self.cluster_centers_ = centres[:result.clusters]
        self.labels_ = labels
        self.inertia_ = result.inertia
        self.n_iter_ = result.iterations
        self.converged_ = bool(result.converged)
        return self

    def fit(self, X):
        """Clusters the rows of X [n][dim]."""
        x = lib.as_rows_or_bf16(X, self.dtype)
        start = self._start(x.shape[1])
        options = self._options(self.n_clusters, start, x)
        centres = np.zeros((max(int(self.n_clusters), 0), x.shape[1]), np.float32)
        labels = np.zeros(len(x), np.int32)
        result = lib.KMeansResult()
        lib.call(lib.LIBRARY.sc_kmeans_fit, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 lib.address(centres), lib.address(labels), None, ctypes.byref(result))
        return self._keep(centres, labels, result)

    def fit_many(self, X, offsets):
        """Clusters rows offsets[p] .. offsets[p + 1] - 1 of X for every p, in one call. A list of KMeans, each as
        fit() on these rows alone leaves it."""
        x = lib.as_rows_or_bf16(X, self.dtype)
        offsets = np.ascontiguousarray(offsets)
        if offsets.ndim != 1 or len(offsets) < 2 or offsets.dtype.kind not in "iu":
            raise ValueError("offsets must be a list of whole numbers, one more than there are problems")
        if offsets[-1] != len(x):
            raise ValueError(f"the last of the offsets is {offsets[-1]}, but there are {len(x)} rows")
        offsets = offsets.astype(np.int64)
        n = len(offsets) - 1
        clusters = max(int(self.n_clusters), 0)
        if np.ndim(self.init) == 3:
            start = np.ascontiguousarray(self.init, np.float32)
            if start.shape != (n, clusters, x.shape[1]):
                raise ValueError(f"init is {start.shape}, not ({n}, {clusters}, {x.shape[1]})")
        else:
            one = self._start(x.shape[1])
            start = None if one is None else np.ascontiguousarray(np.broadcast_to(one, (n, *one.shape)))
        options = self._options(self.n_clusters, start, x)
        centres = np.zeros((n, clusters, x.shape[1]), np.float32)
        labels = np.zeros(len(x), np.int32)
        results = (lib.KMeansResult * n)()
        lib.call(lib.LIBRARY.sc_kmeans_fit_many, ctypes.byref(options), lib.address(x),
                 offsets.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)), n, x.shape[1], lib.address(centres),
                 lib.address(labels), None, results)
        return [copy.copy(self)._keep(centres[p], labels[offsets[p]:offsets[p + 1]], results[p]) for p in range(n)]

    def predict(self, X):
        """The nearest of cluster_centers_ for every row of X."""
        if not hasattr(self, "cluster_centers_"):
            raise ValueError("this KMeans has no centres yet; call fit first")
        x = lib.as_rows_or_bf16(X, self.dtype)
        centres = lib.as_rows(self.cluster_centers_, "cluster_centers_")
        if centres.shape[1] != x.shape[1]:
            raise ValueError(f"the centres are {centres.shape[1]} wide, the rows {x.shape[1]}")
        options = self._options(len(centres), centres, x)
        labels = np.zeros(len(x), np.int32)
        lib.call(lib.LIBRARY.sc_kmeans_predict, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 lib.address(labels), None)
        return labels

    def fit_predict(self, X):
        return self.fit(X).labels_
