"""Choosing the most informative rows under a budget."""
import ctypes

import numpy as np

from . import _library as lib

PICK = np.dtype([("row", "<i8"), ("score", "<f8"), ("gain", "<f8"), ("entropy", "<f8"), ("divergence", "<f8"),
                 ("objective", "<f8"), ("cluster", "<i8")])


def _numbers(rows, what):
    numbers = np.ascontiguousarray([] if rows is None else rows)
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise ValueError(f"{what} must be a list of row numbers, not {numbers.dtype} of shape {numbers.shape}")
    if len(numbers) and numbers.min() < 0:
        raise ValueError(f"{what} has the row {numbers.min()}; rows are numbered from 0")
    return numbers.astype(np.int64)


def _cap(groups, most, n):
    """The struct, and the arrays that it points at."""
    if len(groups) != n:
        raise ValueError(f"a cap's groups must be one entry a row, {n}, not {len(groups)}")
    if n and np.ndim(groups[0]) > 0:
        offsets = np.zeros(n + 1, np.int64)
        flat = np.array([group for of_row in groups for group in sorted(set(of_row))], np.int32)
        np.cumsum([len(set(of_row)) for of_row in groups], out=offsets[1:])
    else:
        offsets, flat = None, np.ascontiguousarray(groups, np.int32)
    n_groups = int(flat.max(initial=-1)) + 1
    return lib.Cap(offsets=lib.address(offsets), groups=lib.address(flat), n_groups=n_groups, most=most), (offsets, flat)


class Selector:
    """Chooses `budget` rows of a matrix; docs/selection.md describes the strategies.

    Parameters
    ----------
    strategy : "fisher", "js", "bait", "facility", "kcenter", "kmeans", "entropy", "nll",
        "popularity" or "random".
    budget : how many rows; None: 100, or no limit but budget_cost where that is given.
    clusters, temperature, alpha, js_form, centres : of the strategies over clusters; centres [k][dim] replace k-means.
    lambda_ : of fisher and bait, S_0 = lambda I.
    neighbours : of facility, how many rows may stand for one.
    items : [n] whole numbers from 0, the item of every row, for "popularity".
    surprise : [n] numbers, for "nll": the highest are chosen first.
    given : numbers of rows chosen earlier: they are not chosen again, and the choice goes on from them.
    include : numbers of rows that come first, whatever their score, within the budget.
    exclude : numbers of rows never to be chosen.
    costs : [n] numbers above 0, what each row costs.
    budget_cost : what the chosen rows may cost together; 0: no limit. A row that costs more than what is left is passed
        over.
    caps : a list of (groups, most): at most so many rows of one group. groups is one whole number a row (-1: none), or a
        list of such numbers a row.
    device, threads, seed : "auto", "cpu", "cuda" or "cuda:N"; 0 threads are as many as there are cores; the key of random numbers.

    Attributes, after fit
    ---------------------
    rows_ : int64 [chosen], in order of choice.
    picks_ : structured array [chosen] with row, score, gain, entropy, divergence, objective, cluster.
    cost_ : what the chosen rows cost together; None without costs.
    """

    def __init__(self, strategy="fisher", budget=None, *, clusters=64, temperature=1.0, alpha=0.5, js_form="mix",
                 lambda_=1.0, neighbours=64, centres=None, items=None, surprise=None, given=None, include=None, exclude=None,
                 costs=None, budget_cost=0, caps=(), device="auto", threads=0, seed=0):
        self.strategy = strategy
        self.budget = budget
        self.clusters = clusters
        self.temperature = temperature
        self.alpha = alpha
        self.js_form = js_form
        self.lambda_ = lambda_
        self.neighbours = neighbours
        self.centres = centres
        self.items = items
        self.surprise = surprise
        self.given = given
        self.include = include
        self.exclude = exclude
        self.costs = costs
        self.budget_cost = budget_cost
        self.caps = caps
        self.device = device
        self.threads = threads
        self.seed = seed

    def fit(self, X):
        """Chooses rows of X [n][dim]. A float32 array in row order, mapped from a file or not, is not copied."""
        x = lib.as_rows(X)
        options = lib.LIBRARY.sc_selector_default()
        lib.common(options, self.device, self.threads, self.seed)
        options.strategy = self.strategy.encode()
        options.budget = (0 if self.budget_cost else 100) if self.budget is None else self.budget
        options.budget_cost = self.budget_cost
        options.clusters = self.clusters
        options.temperature = self.temperature
        options.alpha = self.alpha
        options.js_form = self.js_form.encode()
        setattr(options, "lambda", self.lambda_)
        options.neighbours = self.neighbours
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
        surprise = None if self.surprise is None else np.ascontiguousarray(self.surprise, dtype=np.float64)
        if surprise is not None:
            if surprise.shape != (len(x),):
                raise ValueError(f"surprise must be one number a row, {len(x)}, not {surprise.shape}")
            options.surprise = lib.address(surprise)
        costs = None if self.costs is None else np.ascontiguousarray(self.costs, dtype=np.float64)
        if costs is not None:
            if costs.shape != (len(x),):
                raise ValueError(f"costs must be one number a row, {len(x)}, not {costs.shape}")
            options.costs = lib.address(costs)
        given, include = _numbers(self.given, "given"), _numbers(self.include, "include")
        options.given, options.n_given = lib.address(given), len(given)
        options.include, options.n_include = lib.address(include), len(include)
        exclude = np.zeros(len(x), np.uint8)
        exclude[_numbers(self.exclude, "exclude")] = 1
        options.exclude = lib.address(exclude)
        kept = [_cap(groups, most, len(x)) for groups, most in self.caps]
        caps = (lib.Cap * len(kept))(*[cap for cap, _ in kept])
        options.caps, options.n_caps = caps, len(kept)
        picks = np.zeros(options.budget if options.budget > 0 else len(x), PICK)
        found = ctypes.c_int64()
        lib.call(lib.LIBRARY.sc_selector_fit, ctypes.byref(options), lib.address(x), x.shape[0], x.shape[1],
                 picks.ctypes.data_as(ctypes.POINTER(lib.Pick)), ctypes.byref(found))
        picks = picks[:found.value]
        self.picks_ = picks
        self.cost_ = None if costs is None else float(costs[picks["row"]].sum())
        self.rows_ = picks["row"].copy()
        return self
