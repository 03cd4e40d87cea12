"""The ctypes driver: the same as the library, errors as sentences, nothing copied, Ctrl-C."""
import ctypes
import os
import signal
import threading
import time

import numpy as np
import pytest

import seedcorn
from seedcorn import _library


def rows(n=3000, dim=24, seed=0):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((12, dim))
    return (centres[random.integers(0, 12, n)] + 0.4 * random.standard_normal((n, dim))).astype(np.float32)


def fisher(x, picks, lam):
    """The textbook in float64: the quadratic form of every row at every pick."""
    x = x.astype(np.float64)
    s = lam * np.eye(x.shape[1])
    chosen, gains = [], []
    for _ in range(picks):
        g = np.einsum("ij,ij->i", x @ np.linalg.inv(s), x)
        g[chosen] = -1
        chosen.append(int(np.argmax(g)))
        gains.append(np.log1p(g[chosen[-1]]))
        s += np.outer(x[chosen[-1]], x[chosen[-1]])
    return chosen, np.cumsum(gains)


def test_fisher_is_the_textbooks():
    x = rows()
    chosen, objective = fisher(x, 60, 0.5)
    got = seedcorn.Selector("fisher", 60, lambda_=0.5).fit(x)
    assert got.rows_.tolist() == chosen
    np.testing.assert_allclose(got.picks_["objective"], objective, rtol=1e-9)


@pytest.mark.parametrize("strategy", ["fisher", "js", "bait", "facility", "kcenter", "kmeans", "entropy", "popularity", "random"])
def test_every_strategy_is_the_same_for_any_number_of_threads(strategy):
    x = rows(1500)
    items = np.arange(len(x)) % 37
    one, two = (seedcorn.Selector(strategy, 50, clusters=8, items=items, threads=t).fit(x) for t in (1, 2))
    assert one.picks_.tobytes() == two.picks_.tobytes()
    assert len(set(one.rows_.tolist())) == 50
    assert one.rows_.min() >= 0 and one.rows_.max() < len(x)


def test_the_callers_memory_is_used(tmp_path):
    x = rows(500)
    assert _library.as_rows(x) is x
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(_library.as_rows(mapped), mapped)
    same = seedcorn.Selector("fisher", 20).fit(x).rows_.tolist()
    assert seedcorn.Selector("fisher", 20).fit(mapped).rows_.tolist() == same
    assert seedcorn.Selector("fisher", 20).fit(x.astype(np.float64)).rows_.tolist() == same
    assert seedcorn.Selector("fisher", 20).fit(np.asfortranarray(x)).rows_.tolist() == same
    assert seedcorn.Selector("fisher", 20).fit(x.tolist()).rows_.tolist() == same


def test_given_centres():
    x = rows(600)
    got = seedcorn.Selector("js", 30, centres=x[:7]).fit(x)
    assert set(got.picks_["cluster"]) <= set(range(7))
    assert (got.picks_["entropy"] <= np.log(7) + 1e-12).all()


@pytest.mark.parametrize("change, words", [
    (dict(strategy="fischer"), "did you mean \"fisher\""),
    (dict(budget=0), "budget"),
    (dict(budget=601), "only 600 rows"),
    (dict(lambda_=0.0), "lambda"),
    (dict(strategy="js", alpha=1.5), "alpha"),
    (dict(strategy="js", js_form="both"), "mix, sum"),
    (dict(strategy="js", clusters=0), "clusters"),
    (dict(strategy="popularity"), "item"),
    (dict(strategy="popularity", items=np.full(600, -3)), "item -3"),
    (dict(device="gpu7"), "gpu7"),
])
def test_errors_are_the_librarys_sentences(change, words):
    with pytest.raises(seedcorn.Error, match=words) as caught:
        seedcorn.Selector(**{"budget": 5, **change}).fit(rows(600))
    assert caught.value.code in (2, 3, 5)


def test_rows_that_are_not_numbers_are_named():
    x = rows(100)
    x[63, 5] = np.nan
    with pytest.raises(seedcorn.Error, match="row 63.*NaN at position 5"):
        seedcorn.Selector("fisher", 5).fit(x)
    x[63, 5] = np.inf
    with pytest.raises(seedcorn.Error, match="row 63.*infinity"):
        seedcorn.KMeans(4).fit(x)


@pytest.mark.parametrize("x", [np.zeros(5), np.zeros((2, 2, 2)), np.array([["a", "b"]])])
def test_what_is_no_matrix_is_refused(x):
    with pytest.raises((ValueError, TypeError)):
        seedcorn.Selector("random", 1).fit(x)


def test_empty_rows():
    with pytest.raises(seedcorn.Error, match="nothing to select"):
        seedcorn.Selector("random", 1).fit(np.zeros((0, 4), np.float32))
    with pytest.raises(seedcorn.Error, match="nothing to select"):
        seedcorn.Selector("random", 1).fit(np.zeros((4, 0), np.float32))


def test_constraints():
    x = rows(400, 12)
    whole = seedcorn.Selector("fisher", 60).fit(x).rows_
    rest = seedcorn.Selector("fisher", 40, given=whole[:20]).fit(x).rows_
    assert rest.tolist() == whole[20:].tolist()
    chosen = seedcorn.Selector("fisher", 30, include=[5, 7], exclude=range(100, 400)).fit(x).rows_
    assert chosen[:2].tolist() == [5, 7] and chosen.max() < 100 and len(set(chosen)) == 30
    groups = np.arange(400) % 10
    chosen = seedcorn.Selector("kcenter", 60, caps=[(groups, 3)]).fit(x).rows_
    assert len(chosen) == 30 and np.bincount(groups[chosen]).tolist() == [3] * 10
    several = [[g, 10 + g % 2] for g in groups]
    chosen = seedcorn.Selector("fisher", 60, caps=[(groups, 3), (several, 8)]).fit(x).rows_
    assert len(chosen) == 16 and np.bincount(groups[chosen] % 2).tolist() == [8, 8]


@pytest.mark.parametrize("strategy", ["fisher", "js", "kcenter", "random"])
def test_a_budget_of_costs(strategy):
    x = rows(400, 12)
    costs = np.random.default_rng(3).integers(1, 90, 400)
    got = seedcorn.Selector(strategy, costs=costs, budget_cost=700, clusters=8).fit(x)
    left = 700 - costs[got.rows_].sum()
    assert got.cost_ == costs[got.rows_].sum() and left >= 0
    assert costs[np.setdiff1d(np.arange(400), got.rows_)].min() > left  # nothing else fits
    both = seedcorn.Selector(strategy, 5, costs=costs, budget_cost=700, clusters=8).fit(x)
    assert both.rows_.tolist() == got.rows_[:5].tolist()
    assert len(seedcorn.Selector(strategy, clusters=8).fit(x).rows_) == 100
    assert seedcorn.Selector(strategy, 7, costs=costs, clusters=8).fit(x).cost_ > 0


@pytest.mark.parametrize("change", [dict(budget_cost=5), dict(budget_cost=-1, costs=np.ones(400)), dict(costs=[1, 2]),
                                    dict(budget_cost=5, costs=np.zeros(400)), dict(budget_cost=np.nan, costs=np.ones(400)),
                                    dict(budget_cost=0.5, costs=np.ones(400)),
                                    dict(budget_cost=5, costs=np.full(400, np.nan))])
def test_costs_refused(change):
    with pytest.raises((seedcorn.Error, ValueError)):
        seedcorn.Selector("fisher", **change).fit(rows(400, 6))


@pytest.mark.parametrize("change", [dict(given=[400]), dict(include=[1, 1]), dict(include=[1], exclude=[1]),
                                    dict(exclude=[-1]), dict(given=[0.5]), dict(caps=[([1, 2], 3)]),
                                    dict(caps=[(np.zeros(400, int), 0)]), dict(include=range(30))])
def test_constraints_refused(change):
    with pytest.raises((seedcorn.Error, ValueError)):
        seedcorn.Selector("fisher", 10, **change).fit(rows(400, 6))


def test_kmeans():
    x = rows(2000)
    a = seedcorn.KMeans(12, tol=0, seed=3).fit(x)
    b = seedcorn.KMeans(12, tol=0, seed=3, threads=1).fit(x)
    assert a.converged_ and a.labels_.tobytes() == b.labels_.tobytes()
    assert a.cluster_centers_.tobytes() == b.cluster_centers_.tobytes()
    d2 = ((x[:, None, :].astype(np.float64) - a.cluster_centers_[None]) ** 2).sum(-1)
    assert (d2.argmin(1) == a.labels_).mean() > 0.999  # centres are rounded to float on their way out
    np.testing.assert_allclose(a.inertia_, d2.min(1).sum(), rtol=1e-6)
    assert a.predict(x).tolist() == a.fit_predict(x).tolist()
    again = seedcorn.KMeans(12, tol=0, init=a.cluster_centers_).fit(x)
    assert again.n_iter_ <= 2
    np.testing.assert_allclose(again.inertia_, a.inertia_, rtol=1e-6)


def test_kmeans_fit_many_is_fit_on_each():
    x = rows(900)
    offsets = [0, 100, 101, 650, 655, 900]
    many = seedcorn.KMeans(7, seed=2).fit_many(x, offsets)
    for p, got in enumerate(many):
        alone = seedcorn.KMeans(7, seed=2, threads=1).fit(x[offsets[p]:offsets[p + 1]])
        assert got.labels_.tobytes() == alone.labels_.tobytes()
        assert got.cluster_centers_.tobytes() == alone.cluster_centers_.tobytes()
        assert (got.inertia_, got.n_iter_, got.converged_) == (alone.inertia_, alone.n_iter_, alone.converged_)
    start = np.stack([x[:7], x[7:14]])
    for init in (start, x[:7]):
        got = seedcorn.KMeans(7, init=init).fit_many(x, [0, 400, 900])[1]
        alone = seedcorn.KMeans(7, init=init[1] if init.ndim == 3 else init).fit(x[400:])
        assert got.cluster_centers_.tobytes() == alone.cluster_centers_.tobytes()


@pytest.mark.parametrize("offsets", [[0, 5], [0, 3, 3, 10], [1, 10], [0], [0.0, 10.0], [0, 12, 10]])
def test_kmeans_fit_many_refuses(offsets):
    with pytest.raises((seedcorn.Error, ValueError)):
        seedcorn.KMeans(2).fit_many(rows(10, 3), offsets)


def test_kmeans_fit_many_names_the_row():
    x = rows(60, 3)
    x[41, 2] = np.nan
    with pytest.raises(seedcorn.Error, match="row 41"):
        seedcorn.KMeans(2).fit_many(x, [0, 30, 60])


def test_kmeans_bf16_rows_are_exact_data(tmp_path):
    bits = (rows(500).view(np.uint32) >> 16).astype(np.uint16)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    want = seedcorn.KMeans(9, seed=1).fit(wide)
    np.save(tmp_path / "u2.npy", bits)
    np.save(tmp_path / "v2.npy", bits.view("V2"))
    for x in (bits, np.load(tmp_path / "u2.npy", mmap_mode="r"), np.load(tmp_path / "v2.npy")):
        got = seedcorn.KMeans(9, seed=1, dtype="bf16").fit(x)
        assert got.labels_.tobytes() == want.labels_.tobytes() and got.inertia_ == want.inertia_
        assert got.predict(x).tolist() == want.predict(wide).tolist()
    assert seedcorn.KMeans(9, seed=1).fit(bits.view("V2")).inertia_ == want.inertia_  # says so of itself
    assert seedcorn.KMeans(9, seed=1).fit(bits).inertia_ != want.inertia_  # whole numbers
    with pytest.raises(TypeError, match="bf16"):
        seedcorn.KMeans(9, dtype="bf16").fit(wide)
    bits[37, 4] = 0x7fc0
    with pytest.raises(seedcorn.Error, match="row 37.*NaN at position 4"):
        seedcorn.KMeans(9, dtype="bf16").fit(bits)


def test_kmeans_far_from_the_origin():
    """Distances that lose their digits where the mean is large beside the spread are right on centred rows."""
    x = rows(2000, 16)
    a, b = seedcorn.KMeans(8, tol=0).fit(x), seedcorn.KMeans(8, tol=0).fit(x + np.float32(1000))
    np.testing.assert_allclose(a.inertia_, b.inertia_, rtol=1e-3)


@pytest.mark.parametrize("change", [dict(n_clusters=0), dict(max_iter=0), dict(tol=-1.0), dict(init=np.zeros((3, 3)))])
def test_kmeans_refuses(change):
    with pytest.raises((seedcorn.Error, ValueError)):
        seedcorn.KMeans(**{"n_clusters": 4, **change}).fit(rows(50))


def test_predict_needs_centres_of_the_same_width():
    with pytest.raises(ValueError, match="fit"):
        seedcorn.KMeans(2).predict(rows(10))
    with pytest.raises(ValueError, match="wide"):
        seedcorn.KMeans(2).fit(rows(10, 4)).predict(rows(10, 5))


def test_ctrl_c_stops_a_long_selection():
    x = rows(20000, 256)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            seedcorn.Selector("kmeans", 5000).fit(x)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 20
    assert len(seedcorn.Selector("random", 3).fit(x).rows_) == 3  # and the next call is not stopped


def members():
    n = ctypes.c_size_t()
    found = _library.LIBRARY.sc_abi_layout(ctypes.byref(n))
    return [(m.type.decode(), m.member.decode(), m.offset, m.size) for m in found[:n.value]]


def test_another_layout_is_refused():
    good = members()
    _library.check_layout(good, _library.STRUCTS)
    for i, (kind, member, offset, size) in enumerate(good):
        for bad in ((kind, member, offset + 8, size), (kind, member, offset, size + 1)):
            with pytest.raises(ImportError, match=kind):
                _library.check_layout(good[:i] + [bad] + good[i + 1:], _library.STRUCTS)
        if member:
            with pytest.raises(ImportError, match=kind):
                _library.check_layout(good[:i] + good[i + 1:], _library.STRUCTS)
    with pytest.raises(ImportError, match="sc_pick"):
        _library.check_layout(good + [("sc_pick", "more", 56, 8)], _library.STRUCTS)
