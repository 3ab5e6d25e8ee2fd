"""Means, medians, quantiles, statistics that ignore NaN, covariance, counts and histograms."""

from __future__ import annotations

import numpy as np

from cases import case, floats, integers, mask, positive

METHODS = (
    "linear", "lower", "higher", "midpoint", "nearest", "inverted_cdf", "averaged_inverted_cdf", "closest_observation",
    "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased", "normal_unbiased",
)  # fmt: skip
#: Quantiles that hit elements, the middle between them, and both ends.
EXACT = np.array([0.0, 0.25, 0.5, 0.3, 0.7, 1.0])
NONE = np.zeros((0, 3))


def holed(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers with NaN among them, but no lane of them alone."""
    x = floats(*shape, seed=seed)
    x[np.arange(shape[0]), np.arange(shape[0]) % shape[-1]] = np.nan
    return x


def filled(x: np.ndarray) -> np.ndarray:
    """``x`` with NaN where the mask of :func:`holed` has it, differentiable: finite arguments stay finite."""
    hole = np.isnan(holed(*x.shape))
    return np.where(hole, np.nan, x)


ALL_NAN = np.array([[np.nan, np.nan], [1.0, np.nan], [3.0, 2.0]])
SOME = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]], bool)
TIES = np.array([[2.0, 1.0, 2.0, 1.0], [3.0, 3.0, 3.0, 0.0]])

# fmt: off
CASES = [
    # ------------------------------------------------------------------------------------ average, ptp, count
    case("np.average", lambda x: np.average(x, axis=(0, 2), keepdims=True), floats(2, 3, 4)),
    case("np.average", lambda x, w: np.average(x, axis=1, weights=w), floats(3, 4), positive(4)),
    case("np.average", lambda x, w: np.average(x, weights=w, returned=True), floats(3, 4), positive(3, 4), kinds="biufc"),
    case(
        "np.average", lambda x, w: np.average(x, axis=(2, 0), weights=w, returned=True),
        floats(2, 3, 4), positive(4, 2),
    ),
    case("np.average", lambda x: np.average(x, axis=0, returned=True), floats(3, 4)),
    case("np.ptp", lambda x: np.ptp(x, axis=-1), floats(3, 4), kinds="iuf"),
    case("np.ptp", lambda x: np.ptp(x, axis=(0, 2), keepdims=True), floats(2, 3, 4), kinds="iuf"),
    case("np.count_nonzero", lambda x: np.count_nonzero(x > 0, axis=(0, 1), keepdims=True), floats(3, 4), grad=0),
    case("np.count_nonzero", lambda x: np.count_nonzero(x, axis=0), TIES - 1, grad=0, kinds="biufc"),
    case("np.mean", lambda x: np.mean(x, axis=0), NONE, grad=0, batch=False),
    case("np.mean", lambda x, m: np.mean(x, axis=1, where=m), floats(3, 4), SOME),
    case("np.var", lambda x, m: np.var(x, axis=1, where=m, keepdims=True), floats(3, 4), SOME),
    case("np.var", lambda x: np.var(x, ddof=1.5), floats(3, 4)),
    case("np.std", lambda x: np.std(x, axis=(0, 2), correction=1), floats(2, 3, 4)),
    case("np.std", lambda x: x.std(), floats(3, 4)),
    case(
        "np.argmax", lambda x: np.argmax(x, axis=1, keepdims=True),
        np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 1.0]]), grad=0,
    ),
    case("np.argmin", lambda x: x.argmin(), np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, 1.0]]), grad=0),
    # ------------------------------------------------------------------------------------ median
    case("np.median", lambda x: np.median(x), floats(3, 3)),
    case("np.median", lambda x: np.median(x, axis=1), floats(3, 4)),
    case("np.median", lambda x: np.median(x, axis=(0, -1), keepdims=True), floats(2, 3, 4)),
    case("np.median", lambda x: np.median(x.T, axis=0), TIES, grad=0),
    case("np.median", lambda x: np.median(x, axis=0), holed(3, 4), kinds="f", grad=0),
    case("np.median", lambda x: np.median(x, axis=0), NONE, grad=0, batch=False),
    case("np.median", lambda x: np.median(x), np.float64(3.0) * np.ones(())),
    case("np.median", lambda x: np.median(x, axis=()), floats(2, 3)),
    # ------------------------------------------------------------------------------------ quantiles
    *[
        case(
            "np.quantile", lambda x, method=m: np.quantile(x, EXACT, axis=0, method=method), floats(5, 2),
            kinds="iuf",
        )
        for m in METHODS
    ],
    *[
        case(
            "np.quantile", lambda x, method=m: np.quantile(x, 0.4, axis=(0, 2), method=method),
            floats(2, 3, 4), kinds="iuf",
        )
        for m in METHODS
    ],
    *[
        case(
            "np.nanquantile", lambda x, method=m: np.nanquantile(filled(x), EXACT, axis=1, method=method),
            floats(3, 5), kinds="f",
        )
        for m in METHODS
    ],
    case("np.quantile", lambda x, q: np.quantile(x, q), floats(3, 4), np.array(0.37), kinds="f"),
    case(
        "np.quantile", lambda x, q: np.quantile(x, q, axis=0, keepdims=True),
        floats(4, 2), np.array([[0.1, 0.9]]), kinds="f",
    ),
    case("np.quantile", lambda x: np.quantile(x, 1, axis=0), floats(4, 2), kinds="iuf"),
    case("np.quantile", lambda x: np.quantile(x, np.float32(0.4), axis=0), floats(4, 2), kinds="iuf"),
    case("np.quantile", lambda x: np.quantile(x, 0.4, axis=1), holed(3, 4), kinds="f", grad=0),
    case("np.quantile", lambda x: np.quantile(x, [], axis=1), floats(3, 4), kinds="iuf", grad=0),
    case("np.quantile", lambda x: np.quantile(x, [0.5], axis=0), np.zeros((4, 0)), kinds="iuf", grad=0, batch=False),
    case(
        "np.quantile", lambda x, w: np.quantile(x, [0.0, 0.3, 0.5, 1.0], axis=1, method="inverted_cdf", weights=w),
        floats(3, 4), positive(4), kinds="f",
    ),
    case(
        "np.quantile", lambda x: np.quantile(x, 0.4, axis=(0, 1), method="inverted_cdf", weights=integers(3, 4)),
        floats(3, 4), kinds="iuf",
    ),
    case("np.percentile", lambda x: np.percentile(x, 30), floats(3, 4), kinds="iuf"),
    case(
        "np.percentile", lambda x: np.percentile(x, [10, 50, 75.5], axis=-1, keepdims=True),
        floats(3, 4), kinds="iuf",
    ),
    case(
        "np.percentile", lambda x, q: np.percentile(x, q, axis=0, method="hazen"),
        floats(4, 2), np.array([12.0, 60.0]), kinds="f",
    ),
    case("np.nanpercentile", lambda x: np.nanpercentile(filled(x), 30, axis=0), floats(3, 4), kinds="f"),
    case("np.nanpercentile", lambda x: np.nanpercentile(x, [30, 60]), ALL_NAN, kinds="f", grad=0),
    case(
        "np.nanquantile", lambda x: np.nanquantile(x, [0.3, 0.6], axis=1, keepdims=True),
        ALL_NAN[::-1].copy(), kinds="f", grad=0,
    ),
    case("np.nanquantile", lambda x: np.nanquantile(x, 0.3, axis=1), floats(3, 4), kinds="iu", grad=0, batch=False),
    case(
        "np.nanquantile", lambda x, q: np.nanquantile(filled(x), q, axis=0),
        floats(3, 4), np.array([0.3, 0.6]), kinds="f",
    ),
    case("np.nanquantile", lambda x: np.nanquantile(x, 0.5, axis=0), NONE, kinds="f", grad=0, batch=False),
    case(
        "np.nanquantile", lambda x: np.nanquantile(filled(x), [0.3, 1.0], axis=1, method="inverted_cdf", weights=positive(3, 4)),
        floats(3, 4), kinds="f",
    ),
    # ------------------------------------------------------------------------------------ ignoring NaN
    case("np.nansum", lambda x: np.nansum(filled(x), axis=1), floats(3, 4), kinds="f"),
    case("np.nansum", lambda x: np.nansum(x, axis=0, keepdims=True), ALL_NAN, grad=0, kinds="biufc"),
    case("np.nanprod", lambda x: np.nanprod(filled(x), axis=(0, 1)), floats(3, 4), kinds="f"),
    case("np.nanprod", lambda x: np.nanprod(x, axis=1, dtype="f4"), floats(3, 4), rtol=1e-5, grad=0),
    case("np.nanmean", lambda x: np.nanmean(filled(x), axis=0), floats(3, 4), kinds="f"),
    case("np.nanmean", lambda x: np.nanmean(x, axis=1, keepdims=True), ALL_NAN, grad=0, kinds="biufc"),
    case("np.nanmean", lambda x, m: np.nanmean(filled(x), axis=1, where=m), floats(3, 4), SOME, kinds="f"),
    case("np.nanmean", lambda x: np.nanmean(x), np.zeros(0), grad=0, batch=False),
    case("np.nanvar", lambda x: np.nanvar(filled(x), axis=0), floats(4, 5), kinds="f"),
    case("np.nanvar", lambda x: np.nanvar(x, axis=1, ddof=1), ALL_NAN, kinds="f", grad=0),
    case("np.nanvar", lambda x: np.nanvar(x, axis=1, keepdims=True), floats(3, 4)),
    case("np.nanstd", lambda x: np.nanstd(filled(x), axis=0, ddof=1, keepdims=True), floats(4, 5), kinds="f"),
    case("np.nanstd", lambda x: np.nanstd(filled(x), axis=(0, 1), correction=1), floats(4, 5), kinds="f"),
    case("np.nanmax", lambda x: np.nanmax(filled(x), axis=0), floats(3, 4)),
    case("np.nanmax", lambda x: np.nanmax(x, axis=1, keepdims=True), ALL_NAN, grad=0),
    case(
        "np.nanmax", lambda x, m: np.nanmax(x, axis=1, initial=-1.0, where=m),
        ALL_NAN, mask(3, 2), kinds="f", grad=0,
    ),
    case("np.nanmin", lambda x: np.nanmin(filled(x)), floats(3, 4)),
    case("np.nanmin", lambda x: np.nanmin(x, axis=0), ALL_NAN, grad=0),
    case("np.nanargmax", lambda x: np.nanargmax(x, axis=1, keepdims=True), holed(3, 4), grad=0),
    case("np.nanargmax", lambda x: np.nanargmax(x), ALL_NAN, grad=0),
    case("np.nanargmin", lambda x: np.nanargmin(x, axis=0), holed(3, 4), grad=0),
    case("np.nanmedian", lambda x: np.nanmedian(filled(x), axis=0), floats(4, 5)),
    case("np.nanmedian", lambda x: np.nanmedian(filled(x), axis=(0, 1), keepdims=True), floats(4, 5)),
    case("np.nanmedian", lambda x: np.nanmedian(x, axis=1), ALL_NAN, grad=0),
    case("np.nanmedian", lambda x: np.nanmedian(x, axis=0), NONE, grad=0, batch=False),
    # ------------------------------------------------------------------------------------ covariance
    case("np.cov", lambda x: np.cov(x), floats(3, 5), kinds="biufc"),
    case("np.cov", lambda x: np.cov(x), floats(5)),
    case("np.cov", lambda x, y: np.cov(x, y, rowvar=False, bias=True), floats(5, 2), floats(5, 1, seed=1)),
    case("np.cov", lambda x, w: np.cov(x, aweights=w), floats(2, 5), positive(5), rtol=1e-11),
    case("np.cov", lambda x: np.cov(x, fweights=integers(5, low=1), aweights=np.arange(1, 6), ddof=0), floats(2, 5)),
    case("np.cov", lambda x: np.cov(x, dtype="f4"), floats(2, 5), rtol=1e-5, grad=0),
    case("np.corrcoef", lambda x: np.corrcoef(x), floats(3, 5), rtol=1e-10, kinds="biufc"),
    case("np.corrcoef", lambda x, y: np.corrcoef(x, y, rowvar=False), floats(5), floats(5, seed=1), rtol=1e-10),
    case("np.corrcoef", lambda x: np.corrcoef(x), floats(5), grad=0),  # c / c: 1, its derivative rounding
    # ------------------------------------------------------------------------------------ counting
    case("np.bincount", lambda w: np.bincount(integers(6, high=5), w), floats(6)),
    case("np.bincount", lambda w: np.bincount(integers(6, high=5), weights=w, minlength=8), floats(6)),
    case("np.bincount", lambda i: np.bincount(i, minlength=4), np.array([0, 3, 3, 1])),
    case("np.bincount", lambda i, w: np.bincount(i, w, minlength=4), np.array([0, 3, 3, 1], np.int32), floats(4)),
    case("np.histogram", lambda x: np.histogram(x, bins=4, range=(-1, 1.5)), floats(20), grad=0),
    case("np.histogram", lambda x: np.histogram(x), floats(3, 5), kinds="biuf"),
    case("np.histogram", lambda x: np.histogram(x, bins=3, density=True), floats(11), rtol=2e-3),
    case("np.histogram", lambda x: np.histogram(x, [-2, 0, 0.5, 2], density=True), floats(11), grad=0),
    case("np.histogram", lambda x, w: np.histogram(x, [-1.5, -1, 0, 1.25], weights=w), floats(12), floats(12, seed=1)),
    case(
        "np.histogram", lambda x, w: np.histogram(x, 3, (-2, 2), weights=w, density=True),
        floats(12), positive(12), grad=1, rtol=2e-3,
    ),
    case(
        "np.histogram", lambda x: np.histogram(x, np.array([0, 1, 1, 2, 2])),
        np.array([0.0, 1, 1, 2, 2, 3, -1, np.nan]), grad=0,
    ),
    case("np.histogram", lambda x: np.histogram(x, bins=5), np.full(3, 2.0), grad=0),
    case("np.histogram", lambda x: np.histogram(x, bins=2), np.zeros(0), grad=0, batch=False),
    case(
        "np.histogram", lambda x, e: np.histogram(x, np.sort(e)),
        floats(12), np.array([-1.0, 0.0, 0.5, 2.0]), grad=0,
    ),
    case("np.histogram", lambda x: np.histogram(x, 10, (0, 1)), np.arange(11) / 10, grad=0),
    case("np.histogram_bin_edges", lambda x: np.histogram_bin_edges(x, 5), floats(9)),
    case("np.histogram_bin_edges", lambda x: np.histogram_bin_edges(x, 5, range=(0, 3)), floats(9)),
    case("np.histogram2d", lambda x, y: np.histogram2d(x, y, 3), floats(12), floats(12, seed=1)),
    case(
        "np.histogram2d", lambda x, y, w: np.histogram2d(x, y, [2, 3], [(-1, 1), (-2, 2)], weights=w),
        floats(12), floats(12, seed=1), floats(12, seed=2),
    ),
    case(
        "np.histogram2d", lambda x, y: np.histogram2d(x, y, [-2, -0.5, 0, 2], density=True),
        floats(12), floats(12, seed=1),
    ),
    case("np.histogramdd", lambda x: np.histogramdd(x, (2, [-2, 0, 2], 3)), floats(12, 3)),
    case(
        "np.histogramdd", lambda x, w: np.histogramdd(x, 2, weights=w, density=True),
        floats(12, 2), positive(12), rtol=1e-10,
    ),
]
# fmt: on
