"""Shapes, joining, splitting, repeating, padding, diagonals, making arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc.numpy as gnp
from cases import Case, case, floats, integers, mask, positive


def moved(name: str, call: Any, *args: Any, **options: Any) -> Case:
    """A case that moves elements: the same bits, and linear, so that the first derivative says all."""
    return case(name, call, *args, **({"exact": True, "kinds": "biufc", "grad": 2} | options))


M = floats(3, 4)
T = floats(2, 3, 4)


def filled(x: Any, value: Any, **options: Any) -> Any:
    y = np.array(x) if type(x) is np.ndarray else x.copy()
    np.fill_diagonal(y, value, **options)
    return y


CASES = [
    moved("np.reshape", lambda x: np.reshape(x, (4, -1), order="F"), M),
    moved("np.reshape", lambda x: (x.reshape(2, 6, order="F"), x.reshape(-1, copy=True)), M),
    moved("np.ravel", lambda x: (np.ravel(x, order="F"), x.ravel("C")), T),
    moved("np.ndarray.flatten", lambda x: (x.flatten("F"), x.flatten()), M),
    moved("np.transpose", lambda x: (np.transpose(x, (1, 0, 2)), x.T), T),
    moved("np.matrix_transpose", lambda x: (np.matrix_transpose(x), x.mT), T),
    moved("np.swapaxes", lambda x: np.swapaxes(x, 0, -1), T),
    moved("np.moveaxis", lambda x: np.moveaxis(x, [0, 1], [-1, 0]), T),
    moved(
        "np.rollaxis",
        lambda x: (np.rollaxis(x, 2), np.rollaxis(x, 0, 3), np.rollaxis(x, -1, 1), np.rollaxis(x, 1, -1)),
        T,
    ),
    moved("np.expand_dims", lambda x: np.expand_dims(x, (0, -1)), M),
    moved("np.squeeze", lambda x: (np.squeeze(x), np.squeeze(x, axis=-1)), floats(1, 3, 1)),
    moved("np.broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 4)), floats(3, 1)),
    moved("np.broadcast_arrays", lambda x, y: np.broadcast_arrays(x, y), floats(3, 1), floats(4)),
    moved("np.atleast_1d", lambda x: np.atleast_1d(x), floats()),
    moved("np.atleast_2d", lambda x, y: np.atleast_2d(x, y), floats(3), floats()),
    moved("np.atleast_3d", lambda x, y, z: np.atleast_3d(x, y, z, z[None]), floats(), floats(3), floats(2, 3)),
    moved("np.flip", lambda x: (np.flip(x), np.flip(x, (0, -1))), T),
    moved("np.fliplr", lambda x: np.fliplr(x), M),
    moved("np.flipud", lambda x: np.flipud(x), M),
    moved("np.rot90", lambda x: [np.rot90(x, k) for k in (-1, 0, 1, 2, 3)], M),
    moved("np.rot90", lambda x: [np.rot90(x, k, axes=(2, 0)) for k in (1, 2, 3)], T),
    moved("np.roll", lambda x: (np.roll(x, 2), np.roll(x, (1, -1), (0, 1)), np.roll(x, 5, axis=-1)), M),
    moved("np.roll", lambda x: (np.roll(x, 1, axis=(0, 1)), np.roll(x, (1, 2), axis=1)), M),
    moved(
        "np.roll", lambda x, k: (np.roll(x, k), np.roll(x, k, axis=1), np.roll(x, (k, 1), axis=(0, 1))), M, np.array(-3)
    ),
    moved("np.roll", lambda x: np.roll(x, 1, axis=0), floats(0, 3), grad=0),
    # joining
    moved("np.concatenate", lambda x, y: np.concatenate([x, y[None], x], axis=0), M, floats(4, seed=1)),
    moved("np.concatenate", lambda x, y: (np.concatenate([x, y], axis=None), np.concat([x, x], axis=-1)), M, floats(2)),
    case("np.concatenate", lambda x: np.concatenate([x, x], dtype=np.float32, casting="unsafe"), M, grad=0),
    moved("np.concatenate", lambda x: np.concatenate([x, x[:0]], axis=0), M),
    moved("np.stack", lambda x, y: (np.stack([x, y], axis=-1), np.stack((x, y))), M, floats(3, 4, seed=1)),
    moved("np.vstack", lambda x, y: np.vstack([x, y]), M, floats(4)),
    moved("np.hstack", lambda x, y: (np.hstack([x, y]), np.hstack([x[0], y[0], 1.0])), M, floats(3, 2), kinds="fc"),
    moved("np.dstack", lambda x, y: (np.dstack([x, y]), np.dstack([x[0], y[0]])), M, floats(3, 4, seed=2)),
    moved("np.column_stack", lambda x, y: np.column_stack([x, y]), floats(3), floats(3, 2)),
    moved("np.block", lambda x, y: np.block([[x, y], [y, x]]), floats(2, 2), floats(2, 2, seed=1)),
    moved(
        "np.block", lambda x, y: (np.block([x[0], y]), np.block(x), np.block([[[x]], [[x]]])), floats(2, 2), floats()
    ),
    moved("np.append", lambda x, y: (np.append(x, y), np.append(x, y[None], axis=0)), M, floats(4)),
    case(
        "np.insert",
        lambda x, v: (np.insert(x, 1, v), np.insert(x, 1, v, axis=1), np.insert(x, -1, v, axis=0)),
        M,
        floats(),
    ),
    case(
        "np.insert",
        lambda x, v: (np.insert(x, [2, 0, 2], v, axis=1), np.insert(x, slice(0, 2), v[:2, None], axis=0)),
        M,
        floats(3),
    ),
    case("np.insert", lambda x, v: (np.insert(x, 1, v, axis=1), np.insert(x, [1], v[:, None], axis=1)), M, floats(3)),
    moved(
        "np.delete", lambda x: (np.delete(x, 1, axis=0), np.delete(x, [0, -1], axis=1), np.delete(x, slice(1, 9, 2))), M
    ),
    moved("np.delete", lambda x: np.delete(x, np.array([True, False, True, False]), axis=1), M),
    moved("np.delete", lambda x: (np.delete(x, [], axis=0), np.delete(x, range(0, 40, 2))), floats(40)),
    # splitting and repeating
    moved("np.split", lambda x: (np.split(x, 2, axis=1), np.split(x, [1, 2, 7])), M),
    moved("np.array_split", lambda x: (np.array_split(x, 3, axis=1), np.array_split(x, 5)), M),
    moved("np.hsplit", lambda x: (np.hsplit(x, 2), np.hsplit(x[0], [1])), M),
    moved("np.vsplit", lambda x: np.vsplit(x, 3), M),
    moved("np.dsplit", lambda x: np.dsplit(x, [1, 3]), T),
    moved("np.unstack", lambda x: (np.unstack(x), np.unstack(x, axis=-1)), M),
    moved("np.tile", lambda x: (np.tile(x, 2), np.tile(x, (2, 1, 3)), np.tile(x, 0)), M),
    moved("np.repeat", lambda x: (np.repeat(x, 3), np.repeat(x, [0, 2, 1], axis=0), x.repeat(2, axis=-1)), M),
    moved("np.repeat", lambda x: np.repeat(x, np.arange(20) % 3), floats(20)),
    moved(
        "np.resize", lambda x: (np.resize(x, (2, 7)), np.resize(x, 30), np.resize(x, (0, 2)), np.resize(x[:0], 3)), M
    ),
    # padding
    moved("np.pad", lambda x: (np.pad(x, 1), np.pad(x, ((0, 2), (1, 0)), constant_values=3)), M, kinds="iufc"),
    moved("np.pad", lambda x, v: np.pad(x, ((1, 2), (0, 1)), constant_values=v), M, floats(2, 2)),
    moved("np.pad", lambda x: (np.pad(x, {0: (1, 2)}), np.pad(x, {-1: 2}, mode="edge")), M),
    moved("np.pad", lambda x: np.pad(x, ((0, 2), (3, 0)), mode="edge"), M),
    moved("np.pad", lambda x: (np.pad(x, 2, mode="reflect"), np.pad(x, ((7, 0), (1, 9)), mode="reflect")), M),
    moved("np.pad", lambda x: (np.pad(x, 2, mode="symmetric"), np.pad(x, ((7, 0), (1, 9)), mode="symmetric")), M),
    case(
        "np.pad",
        lambda x: [np.pad(x, w, mode="reflect", reflect_type="odd") for w in (2, ((7, 0), (1, 9)))],
        M,
        kinds="ifc",
    ),
    case(
        "np.pad",
        lambda x: [np.pad(x, w, mode="symmetric", reflect_type="odd") for w in (2, ((7, 0), (1, 9)))],
        M,
        kinds="ifc",
    ),
    moved("np.pad", lambda x: [np.pad(x, 3, mode=m) for m in ("reflect", "symmetric", "wrap", "edge")], floats(1, 2)),
    moved("np.pad", lambda x: (np.pad(x, 2, mode="wrap"), np.pad(x, ((7, 0), (1, 9)), mode="wrap")), M),
    case(
        "np.pad", lambda x: np.pad(x, ((3, 2), (0, 4)), mode="linear_ramp", end_values=((1, -1), (0, 3))), M, kinds="if"
    ),
    case("np.pad", lambda x, v: np.pad(x, 2, mode="linear_ramp", end_values=v), floats(4), floats(2), kinds="f"),
    case("np.pad", lambda x: (np.pad(x, 2, mode="maximum"), np.pad(x, (1, 3), mode="minimum", stat_length=2)), M),
    case(
        "np.pad",
        lambda x: (np.pad(x, 2, mode="mean"), np.pad(x, 1, mode="mean", stat_length=((1, 2), (3, 9)))),
        M,
        kinds="if",
    ),
    case("np.pad", lambda x: (np.pad(x, 2, mode="median"), np.pad(x, 1, mode="median", stat_length=2)), M, kinds="if"),
    case("np.pad", lambda x: np.pad(x, 1, mode="empty")[1:-1, 1:-1], M),
    case("np.pad", lambda x: np.pad(x, ((0, 0), (2, 1))), floats(2, 0), grad=0),
    # diagonals
    moved("np.diag", lambda x: (np.diag(x), np.diag(x, 1), np.diag(x, -2), np.diag(x[0], 2), np.diag(x[0], -1)), M),
    moved("np.diag", lambda x: (np.diag(x[0]), np.diag(x, 9)), M),
    moved("np.diagonal", lambda x: (np.diagonal(x), x.diagonal(1, 1, 2), np.diagonal(x, -1, 2, 0)), T),
    moved("np.diagflat", lambda x: (np.diagflat(x), np.diagflat(x, 1), np.diagflat(x[0, 0])), floats(2, 2)),
    case(
        "np.trace",
        lambda x: (np.trace(x), x.trace(1, 1, 2), np.trace(x, offset=-1, axis1=2, axis2=0)),
        T,
        kinds="biufc",
    ),
    case("np.fill_diagonal", lambda x, v: (filled(x, v), filled(x, 0)), M, floats(2)),
    case("np.fill_diagonal", lambda x, v: (filled(x, v), filled(x, v[0], wrap=True)), floats(7, 3), floats(2)),
    case("np.fill_diagonal", lambda x: filled(x, 5), floats(3, 3, 3)),
    moved("np.tril", lambda x: (np.tril(x), np.tril(x, -1), np.tril(x[0, 0], 1)), T),
    moved("np.triu", lambda x: (np.triu(x), np.triu(x, 1), np.triu(x[0, 0], -1)), T),
    case("np.tril_indices_from", lambda x: (np.tril_indices_from(x, -1), x[np.tril_indices_from(x)]), M),
    case("np.triu_indices_from", lambda x: (np.triu_indices_from(x), x[np.triu_indices_from(x, 1)]), M),
    case("np.diag_indices_from", lambda x: x[np.diag_indices_from(x)], floats(3, 3)),
    # making arrays
    case("np.meshgrid", lambda x, y: np.meshgrid(x, y), floats(3), floats(2), exact=True),
    case(
        "np.meshgrid", lambda x, y: np.meshgrid(x, y, x, indexing="ij", sparse=True, copy=False), floats(3), floats(2)
    ),
    case("np.ix_", lambda x, i: x[np.ix_(i, [0, 3])], M, integers(2, high=3)),
    case(
        "np.linspace", lambda a, b: (np.linspace(a, b, 5), np.linspace(a, b, 4, endpoint=False)), floats(), positive()
    ),
    case(
        "np.linspace",
        lambda a, b: (np.linspace(a, b, 5, axis=1), np.linspace(a, 1, 3)),
        floats(3),
        positive(3),
        kinds="if",
    ),
    case(
        "np.linspace",
        lambda a: (np.linspace(a, 2.5, 4, retstep=True), np.linspace(a, 2.0, 1), np.linspace(a, 2, 0)),
        floats(2),
    ),
    case("np.linspace", lambda a: np.linspace(a, 9, 4, dtype=int), floats(2), grad=0),
    case(
        "np.logspace",
        lambda a, b: (np.logspace(a, b, 5), np.logspace(a, b, 4, endpoint=False, base=2.0)),
        floats(),
        positive(),
        kinds="f",
    ),
    case("np.logspace", lambda a, b: np.logspace(a, 2.0, 3, base=b, axis=-1), floats(2), positive(2), kinds="f"),
    case(
        "np.geomspace",
        lambda a, b: (np.geomspace(a, b, 5), np.geomspace(-a, -b, 4, endpoint=False)),
        positive(3),
        positive(3, seed=1),
        kinds="f",
    ),
    case(
        "np.fromfunction",
        lambda x: np.fromfunction(lambda i, j: i + 2 * j, (2, 3), like=x) + x[:2, :3],
        M,
        expect=lambda x: np.fromfunction(lambda i, j: i + 2 * j, (2, 3)) + x[:2, :3],
        kinds="f",
    ),
    case("np.full", lambda v: np.full((2, 3), v, like=v), floats(3), expect=lambda v: np.full((2, 3), v)),
    case("np.full", lambda v: gnp.full((2, 3), v), floats(), expect=lambda v: np.full((2, 3), v)),
    case("np.array", lambda x: np.array([x, 2 * x], like=x), M, expect=lambda x: np.array([x, 2 * x]), kinds="iuf"),
    case(
        "np.asarray",
        lambda x: np.asarray([x[0], x[1]], dtype=float, like=x),
        M,
        expect=lambda x: np.asarray([x[0], x[1]], dtype=float),
    ),
    case(
        "np.asanyarray",
        lambda x: np.asanyarray(x, like=x) + np.zeros(4, x.dtype, like=x),
        M,
        expect=lambda x: x + np.zeros(4, x.dtype),
    ),
    case("np.ascontiguousarray", lambda x: gnp.ascontiguousarray(x.T), M, expect=lambda x: x.T.copy()),
    case(
        "np.asfortranarray",
        lambda x: gnp.asfortranarray(x) + np.eye(3, 4, like=x),
        M,
        expect=lambda x: x + np.eye(3, 4),
    ),
    case("np.require", lambda x: gnp.require(x, np.float32, ["C"]), M, expect=lambda x: x.astype("f4"), grad=0),
    case(
        "np.zeros",
        lambda x: (np.zeros((2, 2), like=x), np.ones(3, like=x), np.arange(4, like=x), np.identity(2, like=x)),
        M,
        expect=lambda x: (np.zeros((2, 2)), np.ones(3), np.arange(4), np.identity(2)),
        grad=0,
    ),
    case("np.tri", lambda x: np.tri(3, 4, 1, like=x) * x, M, expect=lambda x: np.tri(3, 4, 1) * x, kinds="f"),
    # functions along axes, bits
    case("np.apply_along_axis", lambda x: np.apply_along_axis(lambda v: v.sum() * v, 1, x), T),
    case("np.apply_along_axis", lambda x: np.apply_along_axis(lambda v: np.sin(v).max(), 0, x), T, kinds="f"),
    case("np.apply_along_axis", lambda x: np.apply_along_axis(lambda v, k: np.outer(v, v[:k]), -1, x, 2), M, kinds="f"),
    case("np.apply_along_axis", lambda x: np.apply_along_axis(lambda v: [v[0], v[-1] * 2], 1, T[0] * x), M, kinds="f"),
    case("np.apply_over_axes", lambda x: np.apply_over_axes(np.sum, x, (0, -1)), T),
    case(
        "np.packbits",
        lambda x: (np.packbits(x), np.packbits(x, axis=0), np.packbits(x, axis=-1, bitorder="little")),
        mask(9, 10),
    ),
    case("np.packbits", lambda x: np.packbits(x, axis=1), integers(3, 5, high=3)),
    case(
        "np.unpackbits",
        lambda x: (
            np.unpackbits(x),
            np.unpackbits(x, axis=0, count=-3),
            np.unpackbits(x, axis=1, count=30, bitorder="little"),
        ),
        integers(2, 3, high=256).astype("u1"),
    ),
    case(
        "np.lib.stride_tricks.sliding_window_view",
        lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(0, -1)).sum(-1),
        floats(4, 5),
    ),
    case("np.lib.stride_tricks.sliding_window_view", lambda x: np.lib.stride_tricks.sliding_window_view(x, 17), floats(20)),
    case("np.einsum", lambda x: np.einsum(x, [0, 1], x, [2, 1], [2, 0]), floats(3, 4)),
]
