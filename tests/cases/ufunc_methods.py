"""reduce, accumulate, reduceat, outer and at of ufuncs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case, floats, integers, mask, positive


def named(name: str) -> Any:
    return getattr(np, name)


def folded(name: str) -> Callable[..., Any]:
    """What ``reduce`` means. NumPy's own arctan2 and power give f(first, last) where they run vectorised (SVML)."""
    return lambda x: np.asarray(functools.reduce(named(name), np.moveaxis(x, 0, 0)))


def folds(name: str) -> Callable[..., Any]:
    def running(x: Any) -> Any:
        rows = [x[0]]
        for row in x[1:]:
            rows.append(named(name)(rows[-1], row))
        return np.stack(rows)

    return running


def changed(name: str, index: Any, *values: Any) -> Callable[..., Any]:
    """A copy of x after ``ufunc.at``."""

    def change(x: Any) -> Any:
        y = x.copy()
        named(name).at(y, index, *values)
        return y

    return change


def changed_by(name: str, index: Any) -> Callable[..., Any]:
    def change(x: Any, v: Any) -> Any:
        y = x.copy()
        named(name).at(y, index, v)
        return y

    return change


def traced_at(name: str) -> Callable[..., Any]:
    """Indices and values are arguments."""

    def change(x: Any, index: Any, v: Any) -> Any:
        y = x.copy()
        named(name).at(y, index, v)
        return y

    return change


BOXES = positive(3, 4, 2)
SUMS = ("add", "multiply", "maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2", "hypot")
LOGIC = ("logical_and", "logical_or", "logical_xor")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm")
LEFT = ("subtract", "divide", "floor_divide", "remainder", "fmod", "copysign", "heaviside")
LONG = positive(12, 2, seed=3)
NAN = np.array([[1.0, np.nan, -np.inf], [np.nan, np.nan, 2.0], [3.0, -0.0, np.inf]])
SPIKED = np.array([0.0, 2.0, 0.0, 3.0])
WHERE = mask(3, 4, 2, seed=4)
WHOLE = integers(3, 4, low=-9, high=9)
TWICE = np.array([1, 2, 1, -1, 1])
FIVE = positive(5, seed=2)

CASES = [
    # ------------------------------------------------------------------------------------------ reduce
    *[case(f"np.{n}.reduce", named(n).reduce, BOXES, kinds="biuf") for n in SUMS],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=(0, -1), keepdims=True), BOXES) for n in SUMS],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=None), BOXES) for n in SUMS],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=1, where=WHERE, initial=0.5), BOXES, kinds="f")
      for n in [*SUMS, "subtract", "divide"]],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=1), NAN, grad=0) for n in [*SUMS, *LOGIC]],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=1), floats(3, 5), grad=0) for n in LOGIC],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=-1), WHOLE, grad=0) for n in BITS],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=-1), mask(3, 4), grad=0)
      for n in [*BITS[:3], "equal", "not_equal", "less", "greater_equal", "maximum", "add"]],
    *[case(f"np.{n}.reduce", named(n).reduce, BOXES) for n in LEFT],
    *[case(f"np.{n}.reduce", named(n).reduce, LONG) for n in LEFT],
    *[case(f"np.{n}.reduce", named(n).reduce, x, expect=folded(n), kinds="f") for n in ("arctan2", "power")
      for x in (positive(3, 4), positive(10, 2) / 2)],
    *[case(f"np.{n}.reduce", named(n).reduce, floats(4, 0), grad=0) for n in ("add", "maximum", "subtract", "hypot")],
    *[case(f"np.{n}.reduce", lambda x, n=n: named(n).reduce(x, axis=1), floats(4, 0), grad=0)
      for n in ("add", "multiply", "hypot", "logaddexp", "logical_and")],
    case("np.add.reduce", lambda x: np.add.reduce(x, axis=()), floats(2, 3)),
    case("np.add.reduce", lambda x: np.add.reduce(x, dtype=np.float32), floats(5), grad=0),
    case("np.add.reduce", lambda x: np.add.reduce(x, 1), floats(2, 3)),
    case("np.multiply.reduce", np.multiply.reduce, SPIKED, grad=0),
    case("np.multiply.reduce", lambda x: np.multiply.reduce(x, initial=2.0), floats(4), kinds="f"),
    case("np.add.reduce", lambda x, s: np.add.reduce(x, initial=s), floats(4), floats(), expect=lambda x, s: s + x.sum(),
         kinds="f"),
    case("np.add.reduce", lambda x: np.add.reduce(x, axis=0, out=np.zeros_like(x[0])), floats(3, 4), kinds="f"),
    case("np.maximum.reduce", lambda x: np.maximum.reduce(x, initial=1.0, axis=1), floats(3, 4), kinds="f"),
    case("np.maximum.reduce", lambda x: np.maximum.reduce(x, initial=-1.0, axis=1), floats(3, 0), grad=0, kinds="f"),
    # ------------------------------------------------------------------------------------------ accumulate
    *[case(f"np.{n}.accumulate", named(n).accumulate, BOXES, kinds="biuf") for n in SUMS],
    *[case(f"np.{n}.accumulate", lambda x, n=n: named(n).accumulate(x, axis=1), BOXES) for n in [*SUMS, *LEFT]],
    *[case(f"np.{n}.accumulate", named(n).accumulate, LONG) for n in LEFT],
    *[case(f"np.{n}.accumulate", lambda x, n=n: named(n).accumulate(x, axis=1), NAN, grad=0) for n in [*SUMS, *LOGIC]],
    *[case(f"np.{n}.accumulate", lambda x, n=n: named(n).accumulate(x, axis=-1), WHOLE, grad=0) for n in BITS],
    *[case(f"np.{n}.accumulate", lambda x, n=n: named(n).accumulate(x, axis=-1), mask(3, 4), grad=0)
      for n in [*BITS[:3], *LOGIC, "add", "maximum"]],
    *[case(f"np.{n}.accumulate", named(n).accumulate, x, expect=folds(n), kinds="f") for n in ("arctan2", "power")
      for x in (positive(3, 4), positive(10, 2) / 2)],
    case("np.hypot.accumulate", np.hypot.accumulate, floats(0, 3), grad=0),
    case("np.multiply.accumulate", np.multiply.accumulate, SPIKED, grad=0),
    case("np.add.accumulate", lambda x: np.add.accumulate(x, dtype=np.float32), floats(5), grad=0),
    case("np.add.accumulate", lambda x: np.add.accumulate(x, out=np.zeros_like(x)), floats(5), kinds="f"),
    # ------------------------------------------------------------------------------------------ reduceat
    *[case(f"np.{n}.reduceat", lambda x, n=n: named(n).reduceat(x, [0, 5, 3, 3, 9]), LONG) for n in [*SUMS, *LEFT]],
    *[case(f"np.{n}.reduceat", lambda x, n=n: named(n).reduceat(x, [0, 2, 1], axis=1), BOXES) for n in [*SUMS, *LEFT]],
    *[case(f"np.{n}.reduceat", lambda x, n=n: named(n).reduceat(x, [0, 1, 2, 3, 4]), positive(40), kinds="biuf")
      for n in SUMS[:4]],
    *[case(f"np.{n}.reduceat", lambda x, n=n: named(n).reduceat(x, [0, 2, 3], axis=1), WHOLE, grad=0) for n in BITS],
    *[case(f"np.{n}.{m}", lambda x, n=n, m=m: getattr(named(n), m)(x, *([[0, 0]] if m == "reduceat" else [])), -positive(1, 2),
           grad=1) for n in (*SUMS, "subtract") for m in ("reduce", "accumulate", "reduceat")],
    *[case(f"np.{n}.{m}", lambda x, n=n, m=m: getattr(named(n), m)(x, *([[0, 0]] if m == "reduceat" else [])),
           np.array([-3]), grad=0) for n in BITS for m in ("reduce", "accumulate", "reduceat")],
    case("np.add.reduceat", lambda x: np.add.reduceat(x, [0, 4], dtype=np.float32), floats(6), grad=0),
    case("np.add.reduceat", lambda x: np.add.reduceat(x, []), floats(6), grad=0, batch=False),
    # ------------------------------------------------------------------------------------------ outer
    *[case(f"np.{n}.outer", named(n).outer, positive(2, 3), positive(4, seed=1)) for n in (*SUMS, "subtract", "power",
                                                                                         "divide", "arctan2", "divmod")],
    *[case(f"np.{n}.outer", named(n).outer, WHOLE, np.arange(1, 4), grad=0) for n in [*BITS, "less", "left_shift"]],
    case("np.add.outer", lambda x: np.add.outer(x, 2), floats(3), kinds="biu"),
    case("np.add.outer", lambda x: np.add.outer([1, 2], x), floats(3), kinds="biu"),
    case("np.multiply.outer", lambda x: np.multiply.outer(x, x, dtype=np.float64), floats(3)),
    case("np.multiply.outer", lambda x: np.multiply.outer(x, x, out=np.zeros_like(x, shape=(3, 3))), floats(3), kinds="f"),
    # ------------------------------------------------------------------------------------------ at
    *[case(f"np.{n}.at", changed_by(n, TWICE), positive(4), FIVE, kinds="f")
      for n in [*SUMS, "subtract", "divide", "power", "remainder", "copysign"]],
    *[case(f"np.{n}.at", changed_by(n, (slice(None), TWICE)), positive(3, 4), positive(3, 5, seed=2), kinds="f")
      for n in ("add", "divide", "hypot")],
    *[case(f"np.{n}.at", changed_by(n, (TWICE % 3, TWICE)), positive(3, 4), FIVE, kinds="f") for n in ("add", "power")],
    *[case(f"np.{n}.at", changed_by(n, TWICE), positive(4, 2), 0.5 + FIVE[:, None], kinds="f") for n in ("multiply", "divide")],
    *[case(f"np.{n}.at", changed(n, TWICE), floats(4), kinds="iuf") for n in ("negative", "square", "sin", "absolute")],
    *[case(f"np.{n}.at", changed(n, slice(1, None, 2)), floats(5), kinds="f") for n in ("negative", "exp")],
    *[case(f"np.{n}.at", changed(n, mask(4), 2.0), positive(4), kinds="f") for n in ("add", "divide", "power")],
    *[case(f"np.{n}.at", changed(n, TWICE, np.array([3, 5, 6, 1, 2])), np.arange(4), grad=0)
      for n in [*BITS, "left_shift", "add", "floor_divide"]],
    *[case(f"np.{n}.at", traced_at(n), positive(4), TWICE, FIVE, kinds="f") for n in (*SUMS, "divide", "power")],
    *[case(f"np.{n}.at", traced_at(n), positive(4, 2), TWICE, positive(2, seed=2), kinds="f") for n in ("add", "divide")],
    case("np.negative.at", lambda x, i: changed("negative", i)(x), floats(4), TWICE),
    case("np.add.at", changed("add", [0, 0, 1], np.array([0.6, 0.6, 2.5])), np.arange(3), grad=0),
    case("np.bitwise_or.at", lambda x, i: changed("bitwise_or", i, np.array([1, 2, 4, 8, 16]))(x), np.arange(4), TWICE, grad=0),
    case("np.logical_or.at", changed("logical_or", TWICE, np.array([True, False, True, True, False])), mask(4), grad=0),
]  # fmt: skip
