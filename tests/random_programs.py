"""Random programs: functions in plain NumPy, written statement by statement, and held against NumPy, both backends.

A program is grown by running it: a statement is drawn as text, executed by NumPy on real arrays, and kept if NumPy takes
it and its numbers stay moderate. So every program is right NumPy by construction, shapes and all, and NumPy's result is
known. Statements index (all kinds of indices), assign into slices, masks and views, reduce, sort, contract, solve, loop over
rows, ranges and pairs, branch on shapes, call helper functions, and change element types.

``check(seed)`` holds one program against NumPy. ``python tests/random_programs.py FIRST COUNT [--cpu]`` runs many.
"""

from __future__ import annotations

import argparse
import itertools
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MODERATE = 1e4  # largest magnitude of a value that a program keeps
LARGEST = 400  # elements


# ------------------------------------------------------------------------------------------------ writing programs


class Writer:
    """Grows one program: ``lines`` are its text, ``values`` what NumPy found for its variables."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, Any] = {}
        self.lines: list[str] = []
        self.fresh = (f"v{k}" for k in itertools.count())
        self.single = self.chance(0.15)  # a float32 program

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, *items: Any) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    # -- variables
    def variable(self, wanted: Callable[[np.ndarray], bool]) -> str:
        """A variable whose value is wanted, later ones more often. Raises LookupError."""
        found = [name for name, value in self.values.items() if isinstance(value, np.ndarray) and wanted(value)]
        if not found:
            raise LookupError
        return found[min(int(len(found) * (1 - self.rng.random() ** 2)), len(found) - 1)]

    def floats(self, *ndims: int) -> str:
        return self.variable(lambda v: v.dtype.kind == "f" and (not ndims or v.ndim in ndims))

    def integers(self, *ndims: int) -> str:
        return self.variable(lambda v: v.dtype.kind in "iu" and (not ndims or v.ndim in ndims))

    def any(self, *ndims: int) -> str:
        return self.variable(lambda v: not ndims or v.ndim in ndims)

    def like(self, name: str) -> str:
        """A float variable that broadcasts with ``name`` to its shape, or a number."""
        shape = self.values[name].shape
        if self.chance(0.25):
            return self.number()

        def fits(v: np.ndarray) -> bool:
            try:
                return v.dtype.kind == "f" and np.broadcast_shapes(v.shape, shape) == shape
            except ValueError:
                return False

        return self.variable(fits)

    def meeting(self, name: str) -> str:
        """A variable that broadcasts with ``name``."""
        shape = self.values[name].shape

        def fits(v: np.ndarray) -> bool:
            try:
                np.broadcast_shapes(v.shape, shape)
            except ValueError:
                return False
            return v.dtype.kind == self.values[name].dtype.kind

        return self.variable(fits)

    def number(self) -> str:
        return str(self.pick(2, 3, 0.5, 1.5, -0.75, 0.1, 1, -2))

    def axis(self, name: str, *, none: bool = True) -> Any:
        ndim = self.values[name].ndim
        if not ndim or (none and self.chance(0.3)):
            return None
        if none and ndim > 1 and self.chance(0.15):
            return tuple(sorted(self.rng.permutation(ndim)[:2].tolist()))
        return self.whole(-ndim, ndim)

    def condition(self, name: str) -> str:
        """A mask of the shape of ``name``."""
        found = [n for n, v in self.values.items() if isinstance(v, np.ndarray) and v.dtype == bool]
        fits = [n for n in found if self.values[n].shape == self.values[name].shape]
        if fits and self.chance(0.5):
            return self.pick(*fits)
        comparison = f"{name} {self.pick('>', '<', '>=', '<=', '!=')} {self.pick('0.1', '0', '0.37', '-0.55')}"
        return self.pick(comparison, f"({comparison}) & ({name} < 1.03)", f"~({comparison})", f"np.abs({name}) > 0.31")

    # -- indices
    def index(self, name: str, *, basic: bool = False) -> str:
        """An index expression that fits ``name``."""
        parts: list[str] = []
        shape = self.values[name].shape
        kept = len(shape) if self.chance(0.5) else self.whole(0, len(shape) + 1)
        arrays = 0
        for n in shape[:kept]:
            kind = self.rng.random()
            if n and kind < 0.3:
                parts.append(str(self.whole(-n, n)))
            elif kind < 0.65 or basic or not n:
                parts.append(self.slice(n))
            elif kind < 0.8:
                parts.append(str(self.rng.integers(-n, n, self.pick(1, 2, 3) if not arrays else arrays).tolist()))
                arrays = arrays or self.values_of_list(parts[-1])
            elif kind < 0.9:
                try:
                    source = self.integers(0, 1)
                    if arrays and self.values[source].shape not in ((), (arrays,)):
                        raise LookupError
                    parts.append(f"{source} % {n}")
                except LookupError:
                    parts.append(":")
            else:
                parts.append(f"np.arange({n}){self.pick('', '[::-1]')}" if not arrays else ":")
                arrays = arrays or n
        if self.chance(0.15):
            parts.insert(self.whole(0, len(parts) + 1), "None")
        if self.chance(0.15):
            parts.insert(self.whole(0, len(parts) + 1), "...")
        return ", ".join(parts) or "..."

    @staticmethod
    def values_of_list(text: str) -> int:
        return text.count(",") + 1

    def slice(self, n: int) -> str:
        return self.pick(":", "::-1", "1:", ":-1", "::2", f":{max(n - 1, 1)}", "-2:", "1:3", "::-2")

    # -- statements
    def statement(self) -> str:
        weights = [w for _, w in STATEMENTS]
        at = int(np.searchsorted(np.cumsum(weights), self.rng.random() * sum(weights), side="right"))
        return STATEMENTS[min(at, len(STATEMENTS) - 1)][0](self, next(self.fresh))

    def grow(self, steps: int) -> None:
        tries = 0
        while steps and tries < 400:
            tries += 1
            try:
                text = self.statement()
            except LookupError:
                continue
            values = dict(self.values)
            if accepted(text, values):
                self.values = {k: v for k, v in values.items() if k.isidentifier()}
                self.lines += text.splitlines()
                steps -= 1


def accepted(text: str, values: dict[str, Any]) -> bool:
    """Run a statement on copies of ``values``; False where NumPy refuses it or the numbers grow out of hand."""
    known = {id(v): v.copy() for v in values.values() if isinstance(v, np.ndarray)}
    scope: dict[str, Any] = {"np": np, **values}
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(text, scope)
    except Exception:
        restore(values, known)
        return False
    scope.pop("__builtins__", None)
    scope.pop("np")
    for name, value in scope.items():
        if isinstance(value, (np.generic, float, int)) and not isinstance(value, bool):
            scope[name] = value
        if isinstance(value, (np.ndarray, np.generic)) and not moderate(np.asarray(value)):
            restore(values, known)
            return False
    values.clear()
    values.update({k: np.asarray(v) if isinstance(v, np.generic) else v for k, v in scope.items()})
    return True


def restore(values: dict[str, Any], known: dict[int, np.ndarray]) -> None:
    for value in values.values():
        if id(value) in known and value.flags.writeable:
            value[...] = known[id(value)]


def moderate(value: np.ndarray) -> bool:
    if value.size > LARGEST or value.dtype.kind not in "biuf":
        return False
    if value.dtype.kind == "b" or not value.size:
        return True
    return bool(np.isfinite(value).all() and np.abs(value.astype(np.float64)).max() < MODERATE)


Statement = Callable[[Writer, str], str]
STATEMENTS: list[tuple[Statement, float]] = []


def draws(weight: float) -> Callable[[Statement], Statement]:
    def enter(function: Statement) -> Statement:
        STATEMENTS.append((function, weight))
        return function

    return enter


UNARY = [
    "np.sin({})", "np.cos({})", "np.tanh({})", "np.exp({})", "np.exp(-np.abs({}))", "np.log({})", "np.log1p(np.abs({}))",
    "np.sqrt({})", "np.sqrt({} ** 2 + 1)", "np.square({})", "-{}", "np.abs({})", "np.arctan({})", "np.sinh({})",
    "np.cosh({})", "np.expm1({})", "np.cbrt({})", "1 / (1 + {} ** 2)", "np.reciprocal({})", "{} ** 3", "{} ** 2",
    "np.sign({}) * {}", "np.floor({})", "np.rint({} * 3)", "np.maximum({}, 0)", "np.clip({}, -0.7, 0.9)", "np.log2({})",
    "np.logaddexp({}, 0)", "np.tan({})", "np.arcsinh({})", "np.exp2({})", "np.deg2rad({})", "np.where({} > 0, {}, 0.01 * {})",
    "np.nan_to_num({})", "{}.copy()", "{} ** 0.5", "np.abs({}) ** 1.5", "np.sinc({})", "np.heaviside({}, 0.5)", "+{}",
    "np.trunc({})", "np.round({}, 2)", "np.positive({})", "np.fabs({})", "abs({})", "np.arcsin(0.9 * np.tanh({}))", "np.i0({})",
    "np.log10({})", "np.arccos({} / (1 + np.abs({})))", "np.arctanh(0.9 * np.sin({}))", "np.array_equal({}, {}) * {}",
]  # fmt: skip


@draws(6)
def unary(w: Writer, name: str) -> str:
    text, x = w.pick(*UNARY), w.floats()
    if any(part in text for part in SINGULAR) and np.abs(w.values[x]).min(initial=1) < 1e-3:
        raise LookupError  # at 0 these have no derivative
    return f"{name} = " + text.replace("{}", x)


SINGULAR = ("sqrt", "log", "0.5", "1.5", "np.cbrt", "reciprocal")

BINARY = [
    "{} + {}", "{} - {}", "{} * {}", "{} / {}", "np.maximum({}, {})", "np.minimum({}, {})", "np.arctan2({}, {})",
    "np.hypot({}, {})", "np.logaddexp({}, {})", "{} * {} + {}", "np.where({} > {}, {}, {})", "np.fmax({}, {})",
    "np.copysign({}, {})", "{} % {}", "{} // {}", "np.fmod({}, {})", "np.abs({}) ** {}", "np.add({}, {})",
    "np.true_divide({}, {})", "np.float_power(np.abs({}) + 0.1, {})", "np.subtract({}, {})", "np.divmod({}, {})[1]",
    "np.heaviside({}, {})",
]  # fmt: skip


@draws(6)
def binary(w: Writer, name: str) -> str:
    x = w.floats()
    y = w.meeting(x) if w.chance(0.75) else w.number()
    first = True
    text = w.pick(*BINARY)
    if any(part in text for part in ("**", "hypot", "arctan2", "power")) and np.abs(w.values[x]).min(initial=1) < 1e-3:
        raise LookupError
    while "{}" in text:
        text = text.replace("{}", x if first else y, 1)
        first = not first
    return f"{name} = {text}"


@draws(2)
def integer(w: Writer, name: str) -> str:
    x = w.integers()
    y = w.meeting(x) if w.chance(0.6) else str(w.pick(2, 3, 5, 1))
    text = w.pick(
        "{} + {}", "{} * {}", "{} - {}", "{} % {}", "{} // {}", "np.minimum({}, {})", "{} & {}", "{} | {}", "{} ^ {}",
        "{} << ({} & 3)", "{} >> ({} & 3)", "{} / {}", "{} == {}", "{} < {}", "np.gcd({}, {})", "np.abs({}) ** ({} % 3)",
    )  # fmt: skip
    return f"{name} = " + text.replace("{}", x, 1).replace("{}", y, 1)


@draws(1.5)
def comparison(w: Writer, name: str) -> str:
    return f"{name} = {w.condition(w.floats())}"


@draws(1)
def cast(w: Writer, name: str) -> str:
    if w.chance(0.5):
        return f"{name} = {w.floats()}.astype({w.pick('int', 'np.int32', 'bool', 'np.float32', 'np.int8')})"
    return f"{name} = {w.any()}.astype({w.pick('float', 'np.float32', 'int')})"


REDUCTIONS = ["sum", "mean", "max", "min", "prod", "std", "var", "median", "ptp", "any", "all", "argmax", "argmin"]


@draws(5)
def reduction(w: Writer, name: str) -> str:
    x, function = w.any() if w.chance(0.2) else w.floats(), w.pick(*REDUCTIONS)
    axis = w.axis(x)
    if function in ("argmax", "argmin") and isinstance(axis, tuple):
        axis = None
    options = [] if axis is None and w.chance(0.5) else [f"axis={axis}"]
    if w.chance(0.25):
        options.append("keepdims=True")
    if function in ("std", "var") and w.chance(0.3):
        options.append("ddof=1")
    if function in ("sum", "mean", "prod", "any") and w.chance(0.2):
        options.append(f"where={w.condition(x)}")
    if function in ("max", "min", "sum") and w.chance(0.1):
        options.append("initial=0.25")
    if function not in ("median", "ptp") and w.chance(0.4):
        return f"{name} = {x}.{function}({', '.join(options)})"
    return f"{name} = np.{function}({', '.join([x, *options])})"


@draws(2)
def along(w: Writer, name: str) -> str:
    """Functions along one axis that keep the array."""
    x = w.floats(1, 2, 3)
    axis = w.axis(x, none=False)
    text = w.pick(
        "np.cumsum({}, axis={a})", "np.cumprod({}, axis={a})", "np.sort({}, axis={a})", "np.diff({}, axis={a})",
        "np.flip({}, {a})", "np.roll({}, 1, axis={a})", "np.roll({}, -2, axis={a})", "np.argsort({}, axis={a}, kind='stable')",
        "np.gradient({}, axis={a})", "np.maximum.accumulate({}, axis={a})", "np.add.reduce({}, axis={a})",
        "np.take({}, [0, -1, 0], axis={a})", "np.repeat({}, 2, axis={a})", "np.percentile({}, 30, axis={a})",
        "np.quantile({}, 0.6, axis={a})", "np.linalg.norm({}, axis={a})", "np.trapezoid({}, axis={a})",
        "np.take_along_axis({}, np.argsort({}, axis={a}, kind='stable'), axis={a})", "np.insert({}, 1, 0.5, axis={a})",
        "np.delete({}, 0, axis={a})", "np.expand_dims({}, {a})", "np.nanmean({}, axis={a})", "np.nancumsum({}, axis={a})",
        "np.cumsum({}[::-1], axis={a})[::-1]", "np.average({}, axis={a})", "np.logaddexp.reduce({}, axis={a})",
        "np.unwrap({}, axis={a})", "np.partition({}, 0, axis={a}).sum({a})", "np.subtract.accumulate({}, axis={a})",
        "np.apply_along_axis(lambda r: r - r.mean(), {a}, {})", "np.nanmax({}, axis={a})",
    )  # fmt: skip
    return f"{name} = " + text.replace("{}", x).replace("{a}", str(axis))


@draws(5)
def indexing(w: Writer, name: str) -> str:
    x = w.any(1, 2, 3) if w.chance(0.15) else w.floats(1, 2, 3)
    return f"{name} = {x}[{w.index(x)}]"


@draws(2)
def masked(w: Writer, name: str) -> str:
    x = w.floats(1, 2)
    return f"{name} = " + w.pick(
        f"np.where({w.condition(x)}, {x}, {w.like(x)})",
        f"np.where({w.condition(x)}, {w.like(x)}, {x})",
        f"np.select([{w.condition(x)}, {x} > 0.9], [{w.like(x)}, {x} * 2], {w.number()})",
        f"np.sum({x}, where={w.condition(x)})",
        f"np.piecewise({x}, [{x} < 0, {x} >= 0], [lambda t: t * 0.3, lambda t: t ** 2])",
        f"np.choose(({x} > 0).astype(int), [{x}, {x} * 2])",
        f"np.where({w.condition(x)}, np.log(np.abs({x}) + 1e-3), -np.inf).max()",
        f"np.count_nonzero({w.condition(x)})",
        f"np.digitize({x}, [-0.5, 0.1, 0.8])",
        f"np.searchsorted([-1.0, -0.2, 0.4, 1.2], {x})",
        f"np.interp({x}, [-1.0, 0.0, 0.7, 2.0], [0.3, -1.0, 2.0, 0.5])",
        f"np.isin(np.floor({x}), [0, 1])",
        f"np.sum({x} * ({w.condition(x)}))",
    )


ASSIGN = ["=", "=", "+=", "*=", "-="]


@draws(5)
def assign(w: Writer, name: str) -> str:
    """Assignment into a copy: slices, integer arrays, masks, views."""
    x = w.floats(1, 2, 3)
    lines = [f"{name} = {x}.copy()" if w.chance(0.6) else f"{name} = {w.pick('np.zeros_like', 'np.ones_like')}({x})"]
    for _ in range(w.whole(1, 4)):
        kind, by = w.rng.random(), w.pick(*ASSIGN)
        value = w.pick(w.number(), w.like(x), f"np.sin({w.like(x)})")
        if kind < 0.35:
            lines.append(f"{name}[{w.index(x)}] {by} {w.pick(w.number(), w.like_index(x))}")
        elif kind < 0.5:
            lines.append(f"{name}[{w.condition(x)}] {by} {w.number()}")
        elif kind < 0.6:
            lines.append(f"{name} {by.replace('=', '') or '+'}= {value}")
        elif kind < 0.7:
            lines += [f"row = {name}[{w.index(x, basic=True)}]", f"row {w.pick('+=', '*=')} {w.number()}"]
        elif kind < 0.8:
            lines.append(f"{name}.T[{w.pick('0', '-1', '...')}] {by} {w.number()}")
        elif kind < 0.9:
            n = w.values[x].shape[0]
            lines.append(f"np.{w.pick('add', 'multiply', 'maximum')}.at({name}, {w.integers(1)} % {max(n, 1)}, {w.number()})")
        else:
            lines.append(w.pick(f"np.maximum({name}, {value}, out={name})", f"np.copyto({name}, {value})",
                                f"{name}[...] = np.flip({name})", f"{name}.fill({w.number()})",
                                f"np.multiply({name}, 2, out={name}, where={w.condition(x)})"))  # fmt: skip
    return "\n".join(lines)


def like_index(self: Writer, name: str) -> str:
    return f"{self.floats(0)}" if self.chance(0.4) else self.number()


Writer.like_index = like_index  # type: ignore[attr-defined]


@draws(4)
def shape(w: Writer, name: str) -> str:
    x = w.floats(1, 2, 3) if w.chance(0.85) else w.any(1, 2)
    return f"{name} = " + w.pick(
        f"{x}.reshape(-1)", f"{x}.T", f"{x}.ravel()", f"np.transpose({x})", f"{x}[None]", f"{x}[..., None]",
        f"np.concatenate([{x}, {x}])", f"np.stack([{x}, {x} * 2], axis=-1)", f"np.hstack([{x}, {x}])", f"np.tile({x}, 2)",
        f"np.vstack([{x}, {x}])", f"np.pad({x}, 1)", f"np.pad({x}, 1, mode='{w.pick('edge', 'reflect', 'wrap', 'symmetric')}')",
        f"np.broadcast_to({x}, (2, *{x}.shape))", f"np.atleast_2d({x})", f"np.squeeze({x}[None])", f"np.moveaxis({x}, 0, -1)",
        f"np.swapaxes({x}, 0, -1)", f"np.repeat({x}, 2)", f"np.append({x}, [0.5])", f"np.outer({x}, {x})",
        f"np.split({x}, [1])[1]", f"np.array_split({x}, 2)[0]", f"np.roll({x}, 1)", f"np.rot90(np.atleast_2d({x}))",
        f"np.meshgrid({x}, [1.0, 2.0])[0]", f"np.diag({x})", f"np.tril(np.atleast_2d({x}))", f"np.triu({x}, 1)",
        f"np.trace(np.atleast_2d({x}))", f"np.column_stack([{x}, {x}])", f"np.vander({x}, 3)", f"np.flip({x})",
        f"{x}.reshape({x}.shape[0], -1)", f"np.ravel({x}, order='F')", f"np.resize({x}, (2, 3))", f"np.block([[{x}, {x}]])",
        f"np.diagonal(np.atleast_2d({x}))", f"np.fliplr(np.atleast_2d({x}))", f"np.dstack([{x}, {x}])",
    )  # fmt: skip


@draws(3)
def contraction(w: Writer, name: str) -> str:
    x = w.floats(1, 2)
    other = w.floats(1, 2)
    return f"{name} = " + w.pick(
        f"{x} @ {other}", f"{x} @ {other}.T", f"np.dot({x}, {other})", f"{x}.T @ {x}", f"np.inner({x}, {other})",
        f"np.tensordot({x}, {other}, 1)", f"np.einsum('i,i->', {x}, {other})", f"np.einsum('ij,ij->i', {x}, {other})",
        f"np.einsum('ij,kj->ik', {x}, {other})", f"np.einsum('...i,...i', {x}, {other})", f"np.vdot({x}, {x})",
        f"np.outer({x}, {other})", f"np.kron({x}, [1.0, -1.0])", f"np.convolve({x}, {other})", f"np.matmul({x}, {other})",
        f"np.correlate({x}, [0.5, 1.0], 'same')", f"np.einsum('ij->j', {x})", f"np.einsum('ii', {x})", f"np.cross({x}, {other})",
        f"np.multiply.outer({x}, {other})", f"np.polyval([1.0, -0.5, 0.25], {x})", f"np.cov(np.atleast_2d({x}))",
    )  # fmt: skip


@draws(1)
def linear_algebra(w: Writer, name: str) -> str:
    x = w.floats(2)
    square = f"({x} @ {x}.T + 2 * np.eye({x}.shape[0], dtype={x}.dtype))"
    return f"{name} = " + w.pick(
        f"np.linalg.solve({square}, {x})", f"np.linalg.inv({square})", f"np.linalg.det({square})",
        f"np.linalg.slogdet({square})[1]", f"np.linalg.cholesky({square})", f"np.linalg.norm({x})",
        f"np.linalg.matrix_power({square}, 2)", f"np.linalg.eigvalsh({square})", f"np.linalg.svd({x})[1]",
        f"np.trace({square})", f"np.linalg.norm({x}, axis=0)", f"np.linalg.multi_dot([{x}.T, {x}, {x}.T])",
        f"np.abs(np.linalg.qr({square})[1])", f"np.linalg.pinv({square})",
    )  # fmt: skip


@draws(4)
def loop(w: Writer, name: str) -> str:
    """Loops of Python: over ranges, rows, pairs; comprehensions; branches on what is known."""
    x = w.floats(1, 2, 3)
    n = w.values[x].shape[0]
    y = w.floats(1, 2, 3)
    c = w.number()
    s = w.floats(0) if w.chance(0.5) else c
    return w.pick(
        f"{name} = {c}\nfor k in range({n}):\n    {name} = {name} * 0.5 + {x}[k]",
        f"{name} = np.zeros_like({x})\nfor k in range({n}):\n    {name}[k] = {x}[k] * {s} + ({x}[k - 1] if k else 0)",
        f"rows = []\nfor row in {x}:\n    rows.append(np.tanh(row) + {s})\n{name} = np.stack(rows)",
        f"{name} = 0\nfor p, q in zip({x}, {y}):\n    {name} = {name} + (p * q).sum()",
        f"{name} = sum([np.sum(row) * (k + 1) for k, row in enumerate({x})])",
        f"{name} = {x}.copy()\nfor k in range(1, {n}):\n    if k % 2:\n        {name}[k] += {name}[k - 1] * 0.5\n"
        f"    else:\n        {name}[k] = {s}",
        f"{name} = {x}\nk = 0\nwhile k < 3:\n    {name} = np.sin({name}) + {x} * {c}\n    k += 1",
        f"{name} = np.stack([np.roll({x}, k, axis=0) for k in range(3)]).{w.pick('sum', 'max', 'mean')}(0)",
        f"{name} = {x}\nfor _ in range(4):\n    {name} = {name} - 0.1 * ({name} ** 3 - {x})",
        f"state, seen = np.zeros({x}.shape[1:]), []\nfor row in {x}:\n    state = np.tanh(state * 0.5 + row)\n"
        f"    seen.append(state)\n{name} = np.array(seen)[-1:] if False else np.stack(seen)",
        f"first, *rest = {x}\n{name} = first\nfor row in rest:\n    {name} = np.maximum({name}, row * {s})",
        f"{name} = {x}.copy()\nfor k in reversed(range({n} - 1)):\n    {name}[k] = {name}[k] + {name}[k + 1] / 2",
        f"{name} = np.concatenate([np.atleast_1d({x}[k] * k) for k in range({n})])",
        f"{name} = np.zeros(({n}, {n}))\n{name} = {name} + {x}.sum()\n{name}[range({n}), range({n})] += {s}",
        f"{name} = np.zeros_like({x})\n{name}[1:] = {x}[1:] - {x}[:-1]\n{name}[0] = {s}",
        f"grid = {x}.copy()\nfor _ in range(2):\n    grid[1:-1] = grid[1:-1] + 0.2 * (grid[2:] - 2 * grid[1:-1] + grid[:-2])\n"
        f"{name} = grid",
        f"best, {name} = {c}, 0\nfor k, row in enumerate({x}):\n    best = np.maximum(best, row)\n    {name} = {name} + best * k",
        f"parts = {{'p': {x}, 'q': {s}}}\n{name} = parts['p'] * parts['q']\nparts['p'] = {name}\n"
        f"{name} = sum(np.sum(v) for v in parts.values())",
    )  # fmt: skip


@draws(1.5)
def helper(w: Writer, name: str) -> str:
    x, s = w.floats(), w.like_index(w.floats())  # type: ignore[attr-defined]
    return w.pick(
        f"def g(t, scale={s}):\n    u = t * scale\n    return u, np.sum(u)\n{name}, _ = g({x})",
        f"def g(t):\n    if t.ndim == 0:\n        return t * 2\n    return t[..., 0] + t.mean()\n{name} = g({x})",
        f"g = lambda t, *more: t + sum(more)\n{name} = g({x}, *[{s}, {w.number()}])",
        f"def g(t, depth):\n    return t if depth == 0 else g(np.cos(t) * {s}, depth - 1)\n{name} = g({x}, 3)",
        f"{name} = np.asarray({x}) if {x}.ndim > 5 else {x} * {x}.size",
        f"{name} = {x} / ({x}.max() - {x}.min() + 1)\nassert {name}.shape == {x}.shape",
        f"{name} = np.exp({x} - np.max({x}))\n{name} /= np.sum({name})" if w.values[x].ndim else f"{name} = {x} * 2",
    )


@draws(1.5)
def selected(w: Writer, name: str) -> str:
    """Reductions of what a mask selects, in all ways of writing them."""
    x = w.floats(1, 2)
    m = w.condition(x)
    return f"{name} = " + w.pick(
        f"{x}[{m}].sum()", f"np.mean({x}[{m}])", f"({x}[{m}] ** 2).sum()", f"np.sum(np.exp({x}[{m}]))", f"{x}[{m}].max()",
        f"np.prod({x}[{m}] * 0.5)", f"np.nansum(np.where({m}, {x}, np.nan))", f"np.max({x}, where={m}, initial=-3.0)",
        f"np.nanmean(np.where({m}, {x}, np.nan))", f"np.size({x}) * {x}", f"np.extract([True, False], {x}[:2])",
        f"np.var({x}[{m}])", f"({m}).mean()", f"np.any({m})", f"np.flatnonzero(np.ones(3))[0] + {x}",
    )  # fmt: skip


@draws(2)
def ufunc_methods(w: Writer, name: str) -> str:
    x = w.floats(1, 2)
    y = w.floats(1)
    axis = w.axis(x, none=False)
    return f"{name} = " + w.pick(
        f"np.add.reduceat({x}, [0, 1])", f"np.multiply.accumulate({x}, axis={axis})", f"np.minimum.reduce({x}, axis={axis})",
        f"np.subtract.outer({x}, {y})", f"np.hypot.outer({x} ** 2 + 1, {y})", f"np.logical_or.reduce({x} > 0.3, axis={axis})",
        f"np.maximum.reduceat({x}, [0, 1, 0])", f"np.add.accumulate({x}, axis={axis})", f"np.add.reduce({x}, None)",
        f"np.true_divide.outer({x}, {y} ** 2 + 1)", f"np.add.reduce({x}, axis={axis}, where={w.condition(x)})",
        f"np.logaddexp.accumulate({x}, axis={axis})", f"np.frexp({x})[0]", f"np.modf({x})[0]", f"np.ldexp({x}, 2)",
        f"np.multiply({x}, 3, where={w.condition(x)}, out=np.zeros_like({x}))", f"np.add({x}, 1, dtype=np.float64)",
        f"np.fmax.reduce({x}, axis={axis})", f"np.clip({x}, None, 0.5)", f"np.bitwise_count(np.abs({x}).astype(int))",
    )  # fmt: skip


@draws(2)
def tables(w: Writer, name: str) -> str:
    """Functions of several arrays, and those that make tables."""
    x, y = w.floats(1), w.floats(1)
    return f"{name} = " + w.pick(
        f"np.histogram({x}, bins=[-2.0, -0.5, 0.5, 2.0])[0]", f"np.histogram({x}, 3, range=(-1, 1), weights={x})[0]",
        f"np.interp({x} * 0.93 + 0.017, np.sort({y}), {y})", f"np.searchsorted(np.sort({y}), {x})",
        f"np.polyfit(np.arange(6.0), np.resize({x}, 6), 2)",
        f"np.stack(np.meshgrid({x}, {y}, indexing='ij')).sum(0)", f"np.einsum('i,j->ij', {x}, {y})", f"np.cov({x}, {x} ** 2)",
        f"np.linspace({x}[0], {x}[-1], 4)", f"np.cross({x}[:3], {x}[:3][::-1])", f"np.polyval({x}, 0.3)", f"np.ediff1d({x})",
        f"np.convolve({x}, {y}, 'same')", f"np.corrcoef({x}, np.sin({x}))", f"np.trapezoid({x}, np.sort({x}))",
        f"np.put_along_axis(t := {x}.copy(), np.array([0, -1]), 5.0, 0) or t", f"np.block([[{x}], [{x} * 2]])",
        f"np.lexsort(({x}, {x} > 0))", f"np.argpartition({x}, 0)[:0]", f"np.bincount(np.abs({x}).astype(int) % 9, minlength=9)",
        f"np.tensordot({x}, {y}, 0)", f"np.average({x}, weights={x} ** 2 + 0.1)", f"np.gradient({x}, 0.5)",
        f"np.fill_diagonal(t := np.outer({x}, {y}), 0) or t", f"np.pad({x}, (1, 2), mode='linear_ramp', end_values=0.5)",
        f"np.apply_along_axis(np.cumsum, 0, np.outer({x}, {y}))", f"np.unwrap({x} * 4)", f"np.kron({x}, {y})",
        f"np.take({x}, [5, -7], mode='{w.pick('wrap', 'clip')}')", f"np.nanmedian({x})", f"np.roll({x}, {len(x)})",
        f"np.pad({x}, 2, mode='{w.pick('reflect', 'symmetric', 'wrap', 'mean', 'maximum', 'median')}')",
        f"np.delete({x}, [0])", f"np.insert({x}, [0, 1], 0.5)", f"np.quantile({x}, [0.2, 0.7], method='hazen')",
    )  # fmt: skip


@draws(2)
def nested(w: Writer, name: str) -> str:
    """Loops in loops, and loops that assign."""
    x = w.floats(2)
    s = w.like_index(x)  # type: ignore[attr-defined]
    m, n = w.values[x].shape
    return w.pick(
        f"{name} = np.zeros_like({x})\nfor p in range({m}):\n    for q in range({n}):\n        {name}[p, q] = {x}[p, q] * "
        f"(p + 1) + ({name}[p, q - 1] if q else {s})",
        f"{name} = {x}.copy()\nfor p in range({m}):\n    {name}[p] -= {name}[p].mean()\n    {name}[p, ::2] *= {s}",
        f"{name} = 0.0\nfor p, row in enumerate({x}):\n    for v in row[: p + 1]:\n        {name} += v * v",
        f"{name} = np.eye({n})\nfor row in {x}:\n    {name} = {name} @ np.diag(np.cos(row)) + 0.1 * np.outer(row, row)",
        f"chart = np.full(({m}, {n}), -1.0) + 0 * {x}\nchart[0] = {x}[0]\nfor p in range(1, {m}):\n"
        f"    chart[p] = np.logaddexp(chart[p - 1], {x}[p]) + np.roll(chart[p - 1], 1) * {s}\n{name} = chart[-1]",
        f"{name} = [[{x}[p, q] * (p - q) for q in range({n})] for p in range({m})]\n"
        f"{name} = np.stack([np.stack(r) for r in {name}])",
        f"table = np.zeros(({m}, 3)) + 0 * {x}[:, :1]\ntable[:, 1] = {x}[:, 0]\ntable[:, [0, 2]] += {x}[:, -1:] * {s}\n"
        f"{name} = table.sum(0)",
        f"{name} = {x}.copy()\nleft, right = {name}[:, :1], {name}[:, 1:]\nleft += 1\nright *= {s}",
    )


@dataclass(frozen=True)
class Sample:
    """A program: its text (a function ``f``), its arguments, and the lines of its body."""

    seed: int
    source: str
    arguments: tuple[Any, ...]

    def function(self) -> Callable[..., Any]:
        name = f"<program {self.seed}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(True), name)
        scope: dict[str, Any] = {"np": np}
        exec(compile(self.source, name, "exec"), scope)
        return scope["f"]


def random_program(seed: int, steps: int | None = None) -> Sample:
    w = Writer(seed)
    element = np.float32 if w.single else np.float64
    n, m = w.whole(2, 6), w.whole(1, 5)
    arguments = {
        "a": w.rng.normal(size=n).astype(element),
        "b": w.rng.normal(size=(m, n)).astype(element),
        "c": w.rng.normal(size=w.pick((n, n), (2, m, n), (n, 1), (m,))).astype(element),
        "s": np.asarray(w.rng.normal(), element),
        "i": w.rng.integers(0, 9, w.pick(2, 3)),
    }
    w.values = {k: v.copy() for k, v in arguments.items()}
    w.grow(w.pick(2, 3, 4, 5, 6, 7, 8, 9, 14, 20) if steps is None else steps)
    made = [k for k in w.values if k not in arguments and isinstance(w.values[k], np.ndarray)] or ["a"]
    kept = list(dict.fromkeys([made[-1], *w.rng.permutation(made)[:2].tolist()]))
    body = "".join(f"    {line}\n" for line in w.lines)
    source = f"def f({', '.join(arguments)}):\n{body}    return {', '.join(kept)},\n"
    return Sample(seed, source, tuple(arguments.values()))


# ------------------------------------------------------------------------------------------------ holding them to NumPy


class Mismatch(AssertionError):
    """A program and what differs."""


def call(function: Callable[..., Any], arguments: Sequence[Any]) -> list[np.ndarray]:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.asarray(v) for v in function(*[np.array(a) for a in arguments])]


#: Lines whose results are rounded in an order that nobody promises: sums and products of many terms.
SUMMED = re.compile(r"^    (v\d+) = .*(sum|mean|var|std|prod|norm|cov|corrcoef|average|linalg|dot|einsum|@|inner|convolve|vdot)")


def shaken(program: Sample, size: float, rng: np.random.Generator) -> Callable[..., Any]:
    """The program with what it sums moved by ``size`` relative to it: numbers that tie by luck do not any more."""

    def shake(value: Any) -> Any:
        value = np.asarray(value)
        moved = value.dtype.kind == "f"
        return (value * (1 + size * rng.uniform(-1, 1, value.shape))).astype(value.dtype) if moved else value

    lines = []
    for line in program.source.splitlines():
        lines.append(line)
        if found := SUMMED.match(line):
            lines.append(f"    {found[1]} = shake({found[1]})")
    scope: dict[str, Any] = {"np": np, "shake": shake}
    exec("\n".join(lines), scope)
    return scope["f"]


def sensitivity(
    function: Callable[..., Any], arguments: Sequence[Any], size: float, program: Sample | None = None, tries: int = 6
) -> list[np.ndarray]:
    """How far NumPy's own results move when the float arguments (and sums) do, by ``size`` relative to them."""
    base = call(function, arguments)
    moved = [np.zeros(v.shape) for v in base]
    for k in range(tries):
        rng = np.random.default_rng(k)
        other = [
            np.asarray(a * (1 + size * rng.uniform(-1, 1, a.shape))).astype(a.dtype) if a.dtype.kind == "f" else a
            for a in arguments
        ]
        variant = function if program is None else shaken(program, size, rng)
        for spread, one, two in zip(moved, base, call(variant, other), strict=True):
            if one.shape == two.shape:
                gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
                np.maximum(spread, gap, out=spread)
    return moved


def compare(
    label: str, have: Sequence[np.ndarray], want: Sequence[np.ndarray], unit: float, moved: Callable[[], list[np.ndarray]]
) -> bool:
    """Raise Mismatch where results differ by more than rounding explains; False where the program is ill-conditioned."""
    clear = True
    for k, (mine, theirs) in enumerate(zip(have, want, strict=True)):
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            raise Mismatch(f"{label}, result {k}: {mine.dtype}{mine.shape}, wanted {theirs.dtype}{theirs.shape}")
        x, y = mine.astype(np.float64), theirs.astype(np.float64)
        scale = max(1.0, float(np.abs(y[np.isfinite(y)]).max(initial=0)))
        wrong = ~(np.isclose(x, y, rtol=unit, atol=unit * scale, equal_nan=True))
        if wrong.any():
            spread = moved()[k]
            if (np.abs(x - y)[wrong] > 1e3 * spread[wrong] + 1e-30).any():
                raise Mismatch(f"{label}, result {k}: {mine!r}\nwanted {theirs!r}")
            clear = False
    return clear


def check(seed: int, cpu: bool = True) -> dict[str, int]:
    """Hold program ``seed`` against NumPy: values and gradients. Returns what was checked. Raises Mismatch."""
    import graphc
    from graphc.interpreter import evaluate

    program = random_program(seed)
    function, arguments = program.function(), program.arguments
    done = {"programs": 1, "ill-conditioned": 0, "gradients": 0, "not smooth": 0}
    single = arguments[0].dtype == np.float32
    narrow = single or "float32" in program.source
    unit, small = (2e-4, 1e-6) if narrow else (1e-10, 1e-14)

    def values_moved() -> list[np.ndarray]:
        return sensitivity(function, arguments, small, program)

    want = call(function, arguments)
    reference = evaluate(graphc.trace(function, *arguments), list(arguments))
    if not compare("reference", reference, want, unit, values_moved):
        done["ill-conditioned"] = 1
    floats = [k for k, v in enumerate(want) if v.dtype.kind == "f"]
    if not floats or single:
        if cpu:
            compare("cpu", list(map(np.asarray, graphc.compile(function)(*arguments))), reference, unit, values_moved)
        return done

    def loss(*xs: Any) -> Any:
        found = function(*xs)
        return sum(np.sum(np.sin(found[k]) * np.cos(np.arange(want[k].size)).reshape(want[k].shape)) for k in floats)

    wrt = [k for k, a in enumerate(arguments) if a.dtype.kind == "f"]
    derivative = graphc.grad(loss, argnums=wrt)
    traced = graphc.trace(lambda *xs: tuple(derivative(*xs)), *arguments)
    found = evaluate(traced, list(arguments))
    direction = [np.random.default_rng(k).normal(size=arguments[k].shape) for k in wrt]
    estimates = [difference(loss, arguments, wrt, direction, h) for h in (1e-4, 5e-5, 1e-6)]
    if narrow or not smooth(estimates):
        done["not smooth"] = 1
    else:
        check_slope(found, direction, estimates)
        done["gradients"] = 1
    if cpu:
        both = graphc.compile(lambda *xs: (*function(*xs), *derivative(*xs)))
        compiled = list(map(np.asarray, both(*arguments)))

        def gradient_moved() -> list[np.ndarray]:
            return sensitivity(lambda *xs: evaluate(traced, list(map(np.asarray, xs))), arguments, small)

        compare("cpu", compiled[: len(want)], reference, unit, values_moved)
        compare("cpu gradient", compiled[len(want) :], found, unit, gradient_moved)
    return done


def smooth(estimates: Sequence[float]) -> bool:
    """Whether differences of several widths agree: they straddle no kink."""
    spread = max(estimates) - min(estimates)
    return bool(np.isfinite(estimates).all() and spread <= 1e-5 * max(1.0, *map(abs, estimates)))


def check_slope(found: Sequence[np.ndarray], direction: Sequence[np.ndarray], estimates: Sequence[float]) -> None:
    """Raise Mismatch where a gradient does not give the slope that differences give."""
    products = [g * d for g, d in zip(found, direction, strict=True)]
    slope, size = (sum(float(part.sum()) for part in parts) for parts in (products, map(np.abs, products)))
    room = 1e-4 * max(1.0, *map(abs, estimates), 1e-6 * size) + 10 * (max(estimates) - min(estimates))
    if not abs(slope - estimates[0]) <= room:
        raise Mismatch(f"gradient: {slope} along a direction, differences give {estimates}")


def difference(loss: Any, arguments: Sequence[Any], wrt: Sequence[int], direction: Sequence[np.ndarray], h: float) -> float:
    def at(sign: float) -> float:
        moved = [np.array(a) for a in arguments]
        for k, d in zip(wrt, direction, strict=True):
            moved[k] = moved[k] + sign * h * d
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(loss(*moved))

    return (at(1) - at(-1)) / (2 * h)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--cpu", action="store_true", help="also compile every program and its gradient")
    options = parser.parse_args()
    total: dict[str, int] = {}
    failures = 0
    for seed in range(options.first, options.first + options.count):
        try:
            for key, number in check(seed, cpu=options.cpu).items():
                total[key] = total.get(key, 0) + number
        except Exception as error:
            failures += 1
            print(f"seed {seed}: {type(error).__name__}: {error}\n{random_program(seed).source}", flush=True)
            if not isinstance(error, Mismatch):
                traceback.print_exc(limit=-3, file=sys.stdout)
        if total.get("programs", 0) % 500 == 0:
            print(total, f"failures: {failures}", flush=True)
    print(total, f"failures: {failures}", flush=True)


if __name__ == "__main__":
    main()
