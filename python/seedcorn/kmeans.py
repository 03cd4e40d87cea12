"""k-means with the same bytes in every run, for any number of threads."""
import ctypes

import numpy as np

from . import _library as lib


class KMeans:
    """k-means++ or given centres, then Lloyd's iterations, on mean-centred rows.

    Parameters
    ----------
    n_clusters, max_iter : how many clusters; iterations at most.
    tol : stop when the centres' squared shift is at most this times the mean variance of a column; 0: no change.
    init : "k-means++", or centres [n_clusters][dim] to start from.
    device, threads, seed : "auto" or "cpu"; 0 threads are as many as there are cores; the key of random numbers.

    Attributes, after fit
    ---------------------
    cluster_centers_ [k][dim], labels_ [n], inertia_, n_iter_, converged_; k is smaller than n_clusters where there are
    fewer distinct rows.
    """

    def __init__(self, n_clusters=64, *, max_iter=100, tol=1e-4, init="k-means++", device="auto", threads=0, seed=0):
        self.n_clusters = n_clusters
        self.max_iter = max_iter
        self.tol = tol
        self.init = init
        self.device = device
        self.threads = threads
        self.seed = seed

    def _options(self, clusters, centres):
        options = lib.LIBRARY.sc_kmeans_default()
        lib.common(options, self.device, self.threads, self.seed)
        options.clusters = clusters
        options.max_iterations = self.max_iter
        options.tolerance = self.tol
        options.centres = lib.address(centres)
        return options

    def fit(self, X):
        """Clusters the rows of X [n][dim]."""
        x = lib.as_rows(X)
        start = None
        if not isinstance(self.init, str):
            start = lib.as_rows(self.init, "init")
            if start.shape != (self.n_clusters, x.shape[1]):
                raise ValueError(f"init is {start.shape}, not ({self.n_clusters}, {x.shape[1]})")
        elif self.init != "k-means++":
            raise ValueError(f'init is "{self.init}"; it may be "k-means++" or an array of centres')
        options = self._options(self.n_clusters, start)
        centres = np.zeros((max(int(self.n_clusters), 0), x.shape[1]), np.float32)
        labels = np.zeros(len(x), np.int32)
        result = lib.KMeansResult()
        lib.call(lib.LIBRARY.sc_kmeans_fit, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 lib.address(centres), lib.address(labels), None, ctypes.byref(result))
        self.cluster_centers_ = centres[:result.clusters]
        self.labels_ = labels
        self.inertia_ = result.inertia
        self.n_iter_ = result.iterations
        self.converged_ = bool(result.converged)
        return self

    def predict(self, X):
        """The nearest of cluster_centers_ for every row of X."""
        if not hasattr(self, "cluster_centers_"):
            raise ValueError("this KMeans has no centres yet; call fit first")
        x = lib.as_rows(X)
        centres = lib.as_rows(self.cluster_centers_, "cluster_centers_")
        if centres.shape[1] != x.shape[1]:
            raise ValueError(f"the centres are {centres.shape[1]} wide, the rows {x.shape[1]}")
        options = self._options(len(centres), centres)
        labels = np.zeros(len(x), np.int32)
        lib.call(lib.LIBRARY.sc_kmeans_predict, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 lib.address(labels), None)
        return labels

    def fit_predict(self, X):
        return self.fit(X).labels_
