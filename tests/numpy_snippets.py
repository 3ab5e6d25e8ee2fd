"""What sceptical users of NumPy try: pieces of numerical code, methods and operators, and calls that NumPy refuses.

One a line. The names stand for arrays, which are traced where a line reads them: see ``tests/test_numpy_docs.py``.
"""

from __future__ import annotations

#: Pieces of programs: an expression, or statements and a return.
SNIPPETS = r"""
np.diff(x) / 0.1
(x[2:] - 2 * x[1:-1] + x[:-2]) / 0.01
(a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] - 4 * a[1:-1, 1:-1])
u = np.zeros_like(a); u[1:-1, 1:-1] = a[1:-1, 1:-1] * 2; u[0] = u[-1] = a[0]; return u
g = np.empty_like(x); g[1:-1] = (x[2:] - x[:-2]) / 2; g[0] = x[1] - x[0]; g[-1] = x[-1] - x[-2]; return g
np.roll(x, 1) + np.roll(x, -1) - 2 * x
np.roll(a, (1, -2), axis=(0, 1))
np.where(x > 0, x, 0)
np.where(x > 0, x, 0.01 * x)
np.where(k, x, -x)
np.where(a > 0, 1, 0)
np.where(x > 0, 1.0, -1)
np.maximum(x, 0)
np.clip(x, -1, 1)
np.clip(i, 1, 2)
np.clip(x, np.float32(-0.5), None)
x * (x > 0)
(x > 0).astype(x.dtype) * x
(x > 0) & (x < 1) | ~k
k.sum(), k.mean(), k.any(), k.all()
x[k].sum()
x[x > 0].mean()
y = x.copy(); y[k] = 0; return y
y = x.copy(); y[y < 0] = 0; return y
y = x.copy(); y[k] += 1; return y
y = x.copy(); y[k] *= -2; return y
y = a.copy(); y[a > 0] = -1; return y
y = a.copy(); y[:, 0] = y[:, 1]; return y
y = a.copy(); y[::2] *= 3; return y
y = a.copy(); v = y[1]; v += 1; return y
y = a.copy(); v = y[1:3, ::2]; v[...] = 0; return y
y = a.copy(); y.T[0] = 5; return y
y = a.copy(); y[[0, 2]] = y[[2, 0]]; return y
y = a.copy(); y[0], y[1] = y[1].copy(), y[0].copy(); return y
y = a.copy(); y[i] += 1; return y
y = a.copy(); np.add.at(y, i, 1.0); return y
y = a.copy(); row = y.reshape(-1); return row[::3]
y = x.copy(); y[1:] += y[:-1]; return y
y = x.copy(); y[::-1] = x; return y
y = x.copy(); y[:] = y[::-1]; return y
y = x.copy(); y.sort(); return y
y = a.copy(); y.flat[::3] = 0; return y
y = a.copy(); y[np.arange(4), i] = 9; return y
y = a.copy(); np.fill_diagonal(y, 0); return y
y = a.copy(); y -= y.mean(axis=0); y /= y.std(axis=0); return y
a[:, np.newaxis] - a[np.newaxis]
((a[:, None] - b[None]) ** 2).sum(-1)
np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
np.sum(a ** 2, 1)[:, None] + np.sum(b ** 2, 1)[None] - 2 * a @ b.T
x[:, None] * x
x[None, :, None].shape
x[..., None] + np.zeros(3)
np.expand_dims(x, (0, 2)).squeeze()
a[np.ix_([0, 2], [1, 3])]
a[np.ix_(i, [0, 1])]
a[[0, 1, 2], [2, 1, 0]]
a[[0, 1]][:, [1, 2]]
a[i]
a[i, 1:3]
a[:, i]
a[i[:, None], i]
a[-1], a[-1, -1], a[..., -1]
a[::-1, ::-1]
a[1:100], a[5:2]
a[i - 4]
t[..., 0], t[0, ..., 1], t[:, None, 1]
t[:, [0, 1], 1:3]
t[[0, 1], :, [1, 2]]
t[0, :, [1, 2]]
t[[[0], [1]], [0, 2]]
a[np.arange(4), i]
a[np.arange(len(i)), np.argmax(a, axis=1)]
np.take_along_axis(a, np.argsort(a, axis=1), axis=1)
np.take_along_axis(a, a.argmax(axis=1)[:, None], 1)[:, 0]
np.take(a, i, axis=0)
np.take(x, [[0, 1], [2, -1]])
a[a.argmin(0), np.arange(5)]
np.unravel_index(a.argmax(), a.shape)
a[np.unravel_index(a.argmax(), a.shape)]
np.sort(x)[::-1]
np.sort(x)[-3:]
np.argsort(-x)[:3]
x[np.argsort(x)]
x[np.argsort(-x)][:3]
np.partition(x, -3)[-3:].sum()
np.argsort(np.argsort(x))
np.searchsorted(np.sort(x), x)
np.lexsort((i, i % 2))
(i[:, None] == np.arange(4)).astype(x.dtype) * x[:4]
np.identity(5) - a.T @ a
np.eye(5) * a[0]
np.diag(x[:4]) @ a
np.diag(m), np.trace(m), np.tril(m, -1), np.triu(m, 1)
x[:4, None] * np.tri(4)
np.cumsum(x)[3:] - np.concatenate([[0], np.cumsum(x)])[:-4]
c = np.cumsum(np.insert(x, 0, 0)); return (c[3:] - c[:-3]) / 3
c = np.cumsum(a, axis=1); return c / np.arange(1, 6)
np.cumprod(1 + x / 10)
np.cumsum(a), np.cumsum(i), np.cumsum(k)
np.maximum.accumulate(x)
np.minimum.accumulate(a, axis=1)
np.add.reduce(a), np.multiply.reduce(a, axis=1), np.logical_or.reduce(a > 0)
np.add.outer(x, x), np.subtract.outer(x, i)
np.add.reduceat(x, [0, 3, 5])
np.convolve(x, np.ones(3) / 3, mode='valid')
np.convolve(x, [1, 2, 3], 'same')
np.correlate(x, x[:3], mode='full')
np.lib.stride_tricks.sliding_window_view(x, 3).mean(-1)
e = np.exp(a - a.max(axis=-1, keepdims=True)); return e / e.sum(axis=-1, keepdims=True)
a - np.log(np.sum(np.exp(a), axis=1, keepdims=True))
mx = np.max(a, axis=1); return mx + np.log(np.sum(np.exp(a - mx[:, None]), axis=1))
np.logaddexp(x, 0)
np.logaddexp.reduce(a, axis=1)
np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
1 / (1 + np.exp(-x))
np.exp(-0.5 * ((x - x.mean()) / x.std()) ** 2) / np.sqrt(2 * np.pi)
-np.mean(np.log(np.exp(a)[np.arange(4), i]))
(a - a.mean(0)) / (a.std(0) + 1e-8)
a / np.linalg.norm(a, axis=1, keepdims=True)
a / np.sqrt((a ** 2).sum(1))[:, None]
(x - x.min()) / (x.max() - x.min())
np.ptp(a, axis=0), np.percentile(x, [25, 50, 75]), np.median(a, axis=1)
np.quantile(x, 0.3, method='lower'), np.quantile(a, [0.1, 0.9], axis=1)
np.average(a, axis=0, weights=[1, 2, 3, 4])
np.average(a, weights=np.abs(b))
np.cov(a), np.corrcoef(a), np.cov(x, x ** 2)
np.var(a, axis=0, ddof=1), np.std(x), np.nanmean(a), np.nansum(x / x)
np.histogram(x, bins=[-2, -1, 0, 1, 2])[0]
np.histogram(x, bins=4, range=(-2, 2))[0]
np.histogram(x, bins=4, range=(-2, 2), density=True)[0]
np.digitize(x, [-1, 0, 1])
np.bincount(i, minlength=4)
np.bincount(i, weights=x[:4], minlength=6)
h = np.bincount(i, minlength=6); cdf = h.cumsum() / h.sum(); return cdf[i]
np.interp(x, [-2, 0, 2], [0, 1, 4])
np.interp(0.5, np.sort(x), np.arange(8))
np.polyfit(np.arange(8), x, 2)
np.polyval([1, 2, 3], x), np.polyval(x[:3], 2.0)
np.polyval(np.polyfit(np.linspace(0, 1, 8), x, 1), 0.5)
np.polyder(x), np.polyint(x), np.polymul(x, [1, 1]), np.polyadd(x, [1, 2])
np.vander(x, 3) @ np.ones(3)
np.trapezoid(x), np.trapezoid(x, dx=0.1), np.trapezoid(a, np.arange(5), axis=1)
np.gradient(x), np.gradient(a, axis=0), np.gradient(x, 0.1, edge_order=2)
np.linspace(0, 1, 8) * x
np.arange(8) * x, np.arange(0, 0.8, 0.1) + x
np.linspace(x[0], x[1], 5)
np.meshgrid(x, x[:3])[0] + 1
X, Y = np.meshgrid(x[:3], x[:2], indexing='ij'); return X ** 2 + Y ** 2
np.hypot(*np.meshgrid(x, x))
np.indices((4, 5))[0] * a
np.einsum('ij,kj->ik', a, b)
np.einsum('ij,ij->i', a, b)
np.einsum('ij->j', a), np.einsum('ij->', a), np.einsum('ij->ji', a)
np.einsum('ii', m), np.einsum('ii->i', m), np.einsum('i,j->ij', x, x)
np.einsum('...j,j->...', t, t[0, 0])
np.einsum('bij,bjk->bik', t, t.transpose(0, 2, 1))
np.einsum('bij,jk', t, np.ones((4, 2)))
np.einsum('i,ij,j', a[:, 0], a, a[0], optimize=True)
np.einsum('ij,jk,kl->il', a, b.T, a, optimize='greedy')
np.einsum('i...->...', t), np.einsum(a, [0, 1], b, [2, 1], [0, 2])
np.tensordot(t, t, axes=([1, 2], [1, 2])), np.tensordot(a, b, ([1], [1]))
np.dot(a, b.T), a.dot(b[0]), np.inner(a, b), np.outer(x, x), np.vdot(a, b), np.kron(x[:2], a)
t @ t.swapaxes(1, 2), t @ np.ones(4), np.ones(3) @ t, np.matmul(t, np.ones((4, 2)))
np.linalg.solve(m, x[:4]), np.linalg.solve(m, np.eye(4)), np.linalg.inv(m), np.linalg.det(m)
np.linalg.slogdet(m)[1], np.linalg.cholesky(m), np.linalg.eigvalsh(m), np.linalg.norm(m)
np.linalg.norm(m, 2)
g = m + np.arange(3)[:, None, None] * np.eye(4); return np.linalg.solve(g, np.ones((3, 4, 1))), np.linalg.inv(g)
L = np.linalg.cholesky(m); z = np.linalg.solve(L, x[:4]); return z @ z + 2 * np.log(np.diag(L)).sum()
q, r = np.linalg.qr(a.T); return q @ r
u, s_, vt = np.linalg.svd(a, full_matrices=False); return (u * s_) @ vt
w_, v_ = np.linalg.eigh(m); return v_ @ np.diag(w_) @ v_.T
np.linalg.lstsq(a.T, np.ones(5), rcond=None)[0], np.linalg.pinv(a) @ a
np.linalg.matrix_power(m, 3), np.linalg.multi_dot([a, b.T, a]), np.linalg.matrix_rank(m)
np.linalg.cond(m)
np.cross(x[:3], x[1:4]), np.cross(a[:, :3], a[:, 2:])
np.stack([x, x ** 2]), np.stack([x, x], axis=1), np.vstack([x, x]), np.hstack([x, [1, 2]])
np.column_stack([x, x])
np.concatenate([a, b]), np.concatenate([a, np.ones((4, 1))], axis=1), np.concatenate((x, [0.0]))
np.append(x, 1)
np.hstack([np.ones((4, 1)), a]) @ np.ones(6)
np.split(x, 2), np.array_split(x, 3), np.split(a, [1, 3], axis=1), np.hsplit(a[:, :4], 2)
first, *rest = x; return first, rest[0]
r0, r1, r2, r3 = a; return r0 * r1 + r2 * r3
sum(row @ row for row in a)
np.stack([f(row) for f, row in zip([np.sin, np.cos, np.exp, np.tanh], a)])
np.array([1.0, 2.0]) * x[0]
acc = 0.0; return [acc := acc * 0.5 + v for v in x][-1]
p = np.zeros_like(x[0]); return [p := p * x[0] + c for c in [3, 2, 1]][-1]
h = np.zeros(3); h = np.tanh(h @ np.ones((3, 3)) + x[0]); h = np.tanh(h * x[1]); return h
np.tile(x, 2), np.tile(a, (2, 1)), np.repeat(x, 2), np.repeat(a, 2, axis=1), np.repeat(x[:3], [1, 0, 2])
np.pad(a, 1), np.pad(x, (1, 2), mode='edge'), np.pad(a, ((0, 0), (1, 1)), mode='wrap')
np.pad(x, 2, mode='reflect')
np.flip(a), np.fliplr(a), np.flipud(a), np.rot90(a), np.rot90(a, -1)
np.broadcast_to(x, (3, 8)), np.broadcast_arrays(a, a[0])[1]
np.moveaxis(t, 0, -1), np.transpose(t, (2, 0, 1)), np.swapaxes(t, 0, 1), t.T, np.rollaxis(t, 2)
a.reshape(2, 2, 5).mean(axis=1), a[:, :4].reshape(2, 2, 2, 2).max(axis=(1, 3)), a.ravel()[::2]
a.reshape(-1, 1, 5)
np.select([x < -1, x < 1], [x, x ** 2], default=0), np.piecewise(x, [x < 0, x >= 0], [-1, 1])
np.choose(i % 2, [x[:4], -x[:4]])
np.sign(x) * np.sqrt(np.abs(x)), np.copysign(1, x), np.heaviside(x, 0.5), np.fmod(x, 0.3), np.mod(x, 0.3)
np.floor(x), np.trunc(x), np.rint(x)
np.round(x, 2), np.around(x), x.round(1), np.fix(x), np.ceil(x)
np.arctan2(x, x[::-1]), np.hypot(x, 1), np.degrees(x), np.deg2rad(x), np.sinc(x), np.unwrap(x * 3)
np.angle(x)
np.nan_to_num(x / 0), np.isnan(x / 0), np.isfinite(np.log(x)), np.isinf(x / 0)
np.nanmax(np.where(k, x, np.nan)), np.nanmean(np.where(a > 0, a, np.nan), axis=0)
np.nanstd(np.where(k, x, np.nan)), np.nanargmax(np.where(k, x, np.nan))
np.all(x == x), np.any(x > 1), np.allclose(x, x), np.isclose(x, x + 1e-9), np.array_equal(x, x)
np.count_nonzero(k), np.count_nonzero(a > 0, axis=1)
np.logical_and(x > 0, x < 1), np.logical_not(k), np.logical_xor(k, x > 0), k ^ (x > 0)
np.isin(i, [1, 2])
x.astype(int), x.astype(np.int32) // 2, i.astype(x.dtype) / 3, (x * 10).astype(np.int8), i.astype(bool)
k.astype(int).sum()
i / 2, i // 2, i % 2, i ** 2, -i, abs(i - 2), i * 0.5, i * x[:4], np.sqrt(i), np.exp(i), i.mean()
i + True
np.uint8(200) + i.astype(np.uint8), i.astype(np.int8) * 100, i.astype(np.uint8) - 3
i.astype(np.int16) + 1000, i.astype(np.int32) * 2.0
x ** 2, x ** 0.5, x ** -1, np.abs(x) ** 1.5, 2 ** x, x ** 3, np.power(np.abs(x), x), np.square(x)
np.cbrt(x), np.reciprocal(x), np.float_power(np.abs(x), 2)
x @ x, x.dot(x), (x * x).sum(), np.sum(x * x), np.inner(x, x), np.linalg.norm(x) ** 2
s * x, s + 1, s ** 2, np.exp(s), s * np.eye(2), np.sin(s) * i, s > 0, np.maximum(s, 0)
x.sum() * 2, x.mean() + 1.0, x.max() - x.min(), x.argmax(), x.argmin() + i
float(x.shape[0]) * x, x / x.size, x / len(x), x * x.ndim, x + x.nbytes, x * np.prod(x.shape)
np.float32(0.1) * x, np.float64(0.1) * x, 0.1 * x, np.pi * x, x * np.sqrt(2), x / np.sqrt(x.shape[0])
x * np.array(0.5), x * np.array([0.5]), x + 1, x + np.int32(1), x * True
(x + 1j).real, np.abs(x + 1j * x), (x * 1j).imag, np.exp(1j * x).real, np.conj(x + 2j), np.angle(x + 1j)
y = x[:]; y = y + 1; return x, y
y = np.zeros((3, 8), x.dtype); y = y + x; y[1, 2:5] = 7; y[:, -1] = x[0]; return y
y = np.zeros_like(a); y[:, 1:] = np.diff(a, axis=1); y[:, 0] = a[:, 0]; return y.cumsum(axis=1)
y = a.copy(); y[1:-1] = 0.5 * (y[:-2] + y[2:]); return y
y = a.copy(); y[y > y.mean()] -= 1; return y
y = a.copy(); y[:, [0, 2]] *= [10, 20]; return y
y = a.copy(); y[..., 0] = i; return y
y = i.copy(); y[0] = 2.9; y += 1; y *= 2; y //= 3; return y
y = i.copy(); y[1] = s; return y
y = a.copy(); z = y.ravel(); return z + 1
y = t.copy(); y[0] += y[1]; y[:, 0] -= 1; y[..., -1] = 0; return y
y = np.outer(x, x); y[np.diag_indices(8)] = 1; y[np.triu_indices(8, 1)] = 0; return y
m[np.triu_indices(4)], m[np.tril_indices(4, -1)], m[np.diag_indices(4)]
y = np.zeros((8, 8)); y[np.arange(7), np.arange(1, 8)] = 1; return y @ x
y = x.copy(); y[[0, 0, 1]] = [1, 2, 3]; return y
y = x.copy(); y[[0, 0, 1]] += 1; return y
y = x.copy(); y.put([0, 1], [9, 8]); np.put(y, [2], 7); return y
y = x.copy(); np.putmask(y, k, 0); np.place(y, k, [1, 2]); np.copyto(y, -1, where=~k); return y
y = np.array(x.shape); return y * x[0]
np.ones(x.shape) * x, np.full(x.shape, 2) * x, np.zeros(x.shape, dtype=x.dtype) + x
np.ones_like(x, dtype=int) + i[0], np.full_like(x, np.pi), np.full_like(i, 2.7)
np.apply_along_axis(np.sum, 1, a), np.apply_along_axis(lambda r: r / r.sum(), 0, a)
np.apply_over_axes(np.sum, t, [0, 2])
np.linalg.norm(x, 1), np.linalg.norm(x, np.inf), np.linalg.norm(a, 'fro'), np.linalg.norm(a, axis=0)
np.linalg.norm(t, axis=(1, 2)), np.linalg.norm(a, 1), np.linalg.norm(x, 3), np.linalg.norm(x, 0)
np.diff(a, axis=0), np.diff(x, n=2), np.diff(x, prepend=0), np.diff(a, append=a[:, :1]), np.ediff1d(x)
np.diff(i), np.diff(k)
np.triu(np.ones((4, 4))) * m, np.where(np.tri(4, dtype=bool), m, -np.inf)
np.exp(np.where(np.tri(4, dtype=bool), m, -np.inf)).sum(1)
np.max(a, axis=1, keepdims=True), np.amax(a), np.min(t, axis=(0, 2)), np.argmax(t, axis=2), np.argmin(a)
np.max(x, initial=10)
np.fmax(x, np.nan), np.fmin(x, np.where(k, np.nan, x)), np.maximum(x, np.nan)
np.max(np.where(k, x, np.nan))
np.log(np.clip(x, 1e-7, None)), np.log2(np.abs(x)), np.log10(np.abs(x)), np.exp2(x), np.expm1(x)
np.ldexp(x, 2), np.frexp(x)[0], np.modf(x)[1], np.divmod(x, 0.7)[0], np.nextafter(x, 0), np.spacing(x)
np.signbit(x), np.gcd(i, 2), np.lcm(i, 3)
np.asarray([1, 2, 3]) + x[:3], np.float32([1, 2, 3]) * x[:3], [1, 2, 3] * x[:3], (1, 2, 3) - x[:3]
np.shape(x), np.ndim(a), np.size(a, 0), a.shape[1], len(a), x.dtype.name
(lambda z: z @ z.T)(a), list(map(np.sum, a)), [v * 2 for v in x][3]
np.array_equal(x, x[::-1]), np.dot([1, 2], a[:2])
np.sum(a, axis=(0, 1)), np.sum(a, axis=()), np.prod(a, axis=-1), np.mean(a, axis=None), np.sum(k)
np.prod(i), np.sum(i.astype(np.int8)), np.mean(i.astype(np.float32))
np.float16(1) * np.float16(2) + x, np.sum(x, dtype=np.float64), np.mean(x, dtype=np.float64)
np.add(x, 1, dtype=np.float64), np.cumsum(x, dtype=np.float64)
np.add(x, x, where=k, out=np.zeros_like(x))
np.divide(x, x - x, where=(x - x) != 0, out=np.zeros_like(x)), np.sum(x, where=k)
np.max(x, where=k, initial=-9), np.mean(x, where=k)
y = np.empty_like(x); np.multiply(x, 2, out=y); np.add(y, 1, y); return y
y = np.zeros_like(a); np.dot(a, np.eye(5, dtype=a.dtype), out=y); return y
y = np.zeros_like(x); np.cumsum(x, out=y); return y
y = x.copy(); y += 1; y -= 0.5; y *= 2; y /= 3; y **= 2; y %= 1; return y
y = i.copy(); y += 1; y -= 2; y *= 3; y //= 2; y %= 4; y **= 2; y <<= 1; y |= 1; y &= 7; y ^= 2; return y
y = k.copy(); y |= x > 0; y &= x < 1; y ^= True; return y
y = a[0]; y = y * 1; z = a[0]; return y - z
t.sum(axis=0)[None].repeat(2, axis=0), t.mean((1, 2), keepdims=True) * t, t.max(-1).argmax(1)
t.reshape(6, 4).T @ t.reshape(6, 4)
np.nanmedian(np.where(k, x, np.nan)), np.nanpercentile(np.where(k, x, np.nan), 50), np.nancumsum(x)
np.nanprod(x), np.nanvar(a, axis=1)
np.sort(a, axis=0), np.sort(a, axis=None), np.argsort(a, axis=0), np.sort(i)[::-1]
np.argpartition(x, 2)[:1].shape, np.sort(k)
np.atleast_2d(x).T @ np.atleast_2d(x), np.squeeze(x[None]), x.reshape(-1, 1) + x.reshape(1, -1)
np.ravel(a, 'F'), a.flatten('F')
np.block([[m, a], [a.T, np.eye(5)]]), np.vstack((a, x[:5])), np.dstack((x, x)), np.insert(x, [1, 3], 0)
np.delete(x, 2), np.delete(a, [0, 1], axis=1)
np.isreal(x), np.iscomplexobj(x), np.real(x), np.imag(x), np.real_if_close(x), np.fabs(x), np.positive(x)
np.array_split(a, 3)[1], np.vsplit(a, 2)[0], np.roll(x, -20), np.roll(a, 3), np.resize(x, (3, 4))
np.swapaxes(a, 0, -1)
np.i0(x), np.kaiser(5, 2) * x[:5], np.hanning(8) * x, np.hamming(8) * x, np.blackman(8)[0] + x
np.bitwise_and(i, 1), np.bitwise_count(i), np.invert(i), np.left_shift(1, i), np.right_shift(i, 1)
i & 1 == 0, (i & 1).astype(bool)
"""

#: Methods, attributes and operators of arrays.
METHODS = r"""
a.all()
a.all(axis=0, keepdims=True)
a.all(0, where=a > 1)
a.any(1)
b.any()
a.argmax()
a.argmax(1)
a.argmax(axis=1, keepdims=True)
a.argmin(0)
v.argpartition(2)
v.argsort()
a.argsort(0, kind='stable')
a.argsort(axis=None)
a.astype(np.float32)
a.astype('i4')
a.astype(float, copy=False)
a.astype(np.float64, order='C', casting='safe', subok=False, copy=True)
a.astype(bool)
a.astype(complex)
i.astype(np.uint8)
i.choose([10, 20, 30, 40, 50, 60])
b.choose(v[:3], -v[:3])
i.choose([1, 2], mode='wrap')
a.clip(1, 2)
a.clip(min=1)
a.clip(max=2.5)
a.clip(None, 2)
a.clip(1, 2, out=a)
a.compress([True, False], axis=0)
a.compress([0, 1, 1, 0, 1])
c.conj()
c.conjugate()
a.conj()
a.copy()
a.copy(order='F')
a.cumprod()
a.cumprod(1)
a.cumsum(axis=0)
a.cumsum(0, dtype=np.float32)
i.cumsum(dtype=float)
a.diagonal()
a.diagonal(1)
i.diagonal(offset=-1, axis1=1, axis2=0)
a.dot(np.ones(3))
m.dot(m)
m.dot(2)
a.dtype
a.fill(3)
a.fill(v[0])
i.fill(2.7)
a.flatten()
a.flatten('F')
a.flat[3]
a.flat[[1, 2]]
list(a.flat)
a.imag
c.imag
c.real
a.itemsize
len(a)
a.max()
a.max(1)
a.max(axis=(0, 1))
a.max(0, keepdims=True)
a.max(initial=7.)
a.max(where=a > 1, initial=0.)
i.max(initial=9)
a.mean()
a.mean(0)
a.mean(axis=1, dtype=np.float32, keepdims=True)
i.mean()
i.mean(dtype=int)
b.mean()
a.mean(where=a > 1)
a.min(1, initial=0)
a.nbytes
a.ndim
v.partition(2)
a.prod()
a.prod(1, keepdims=True)
i.prod(dtype=np.int32)
b.prod()
a.put([0, 7 - 3], [9., 8.])
a.put([0, -1, 2], 9.)
a.put([0, 8], 9., mode='wrap')
a.ravel()
a.ravel('F')
a.T.ravel()
a.real
a.repeat(2)
a.repeat([1, 2], axis=0)
a.repeat(2, 1)
a.reshape(3, 2)
a.reshape((3, 2))
a.reshape([3, 2])
a.reshape(-1)
a.reshape(3, -1)
a.reshape((3, 2), order='F')
a.reshape(shape=(3, 2))
a.reshape(3, 2, copy=True)
a.reshape(())
v[:1].reshape(())
a.round()
a.round(1)
a.round(decimals=-1)
i.round(-1)
v.searchsorted(1.5)
np.sort(v).searchsorted([1.5, 2], 'right')
v.searchsorted(2., sorter=np.array([3, 1, 2, 0]))
a.shape
a.size
v.sort()
a.sort(axis=0)
a.sort(-1, kind='stable')
a.squeeze()
a[:1].squeeze()
a[:1].squeeze(0)
a[:1].squeeze(axis=(0,))
a.std()
a.std(0)
a.std(axis=1, ddof=1)
i.std()
a.std(mean=a.mean())
a.std(where=a > 1)
a.sum()
a.sum(1)
a.sum(axis=-1, keepdims=True)
a.sum((0, 1))
a.sum(dtype=np.float32)
a.sum(initial=3)
a.sum(where=a > 1)
b.sum()
b.sum(dtype=bool)
i.astype(np.int8).sum()
i.astype(np.uint8).sum()
i.astype(np.int32).prod()
a.swapaxes(0, 1)
a.swapaxes(-1, 0)
a.take([0, 2])
a.take([0, 2], axis=1)
a.take(1, 0)
a.take([7, -8], mode='wrap')
a.take([7, -8], mode='clip')
a.take([[0], [1]], axis=0)
m.trace()
m.trace(1)
a.trace(offset=-1, dtype=np.float32)
i.trace()
b[None, :].trace()
a.transpose()
a.transpose(1, 0)
a.transpose((1, 0))
a.transpose([1, 0])
a.transpose(None)
a.T
a.mT
a.var()
a.var(1, ddof=1)
a.var(axis=0, dtype=np.float32)
i.var()
b.var()
a.view()
i.view(np.uint64)
c.view(c.real.dtype)
a.to_device('cpu')
a.device
a + 1
1 - a
a * a.T.T
a / 0
0 / a
a // 0.7
-a // 0.7
a % 0.7
-a % -0.7
divmod(a, 0.7)
divmod(7, a)
a ** 2
a ** -1
a ** 0.5
a ** -0.5
2 ** a
a ** a
i ** 2
2 ** i
i ** 0.5
i ** 2.0
i / 2
i // 2
-i // 2
i % 3
-i % 3
i % -3
i // 0
i % 0
7 // i
divmod(-i, 3)
i << 2
1 << i
i >> 1
i & 3
3 | i
i ^ i
~i
~b
b & b
b | False
b ^ True
b + b
b * b
b + 1
b * 2.5
b / b
b // b
b % b
b ** 2
b < b
-a
+a
abs(-a)
abs(i - 3)
abs(c)
a == a
a != 1
a < 2
2 <= a
a >= i
a == None
a != None
a == 'x'
a @ a.T
a @ v[:3]
v[:2] @ a
np.ones(2) @ a
[1., 2.] @ a
a @ [1, 2, 3]
[1, 2, 3] + a
a * (1, 2, 3)
[[1], [2]] - i
a < [1, 2, 3]
a == [[.5, 1, 2], [2, 3, 4]]
round(v[0], 1)
round(a, 1)
divmod(v[0], 0.4)
pow(a, 2)
pow(2, v[0])
pow(v, 2, 3)
a.__array_namespace__().sum(a)
a.__len__()
a.__copy__()
a.__deepcopy__({})
a.__divmod__(2)
a.__rdivmod__(7)
next(iter(a))
[r.sum() for r in a]
max(r.shape[0] for r in a)
list(map(np.sum, a))
sum(a)
sum([r for r in a], start=np.zeros(3))
sum(v)
list(reversed(a))
[*a]
list(zip(a, i))
[k * r for k, r in enumerate(a)]
dict(zip('ab', a))['b']
a.__getitem__((0, 1))
a.__delitem__(0)
isinstance(a, np.ndarray)
np.isscalar(a)
np.iterable(a)
np.ndim(v[0])
callable(a)
a.dtype == float
a.dtype.kind
a.dtype.type(3)
np.issubdtype(a.dtype, np.floating)
np.finfo(a.dtype).eps * a
np.iinfo(i.dtype).max - i
np.dtype(a.dtype).itemsize
np.result_type(a, i)
np.promote_types(a.dtype, i.dtype)
np.can_cast(a, np.float32)
a.dtype.type(2) * a
np.float32(2) * a
np.int64(2) * i
np.float64(2) * i.astype(np.float32)
np.float64(2) - a
np.array(2.) * a
np.array([1, 2, 3]) - a
np.arange(3) * v[0]
np.float32(1) / v[0]
np.int8(3) + i
np.bool_(True) & b
2j * a
a * np.complex64(1j)
"""

#: What asks a traced array for its numbers or its memory.
REFUSED = r"""
i.byteswap()
a.item(0)
a.item()
a.nonzero()
a.tolist()
a.view(np.int64)
a.tobytes()
a.dump('x')
a.tofile('x')
a.setflags(write=False)
a.getfield(np.float32)
a.resize((3, 2))
round(a)
round(v[0])
complex(v[0])
a.__contains__(2.)
i.__index__()
bool(a[:1, :1])
float(a)
"""

#: Calls that NumPy refuses.
BAD = r"""
x + np.ones(4)
x @ x
x @ 3.0
v @ np.ones(4)
np.dot(x, x)
np.dot(v, np.ones(2))
np.inner(x, np.ones(2))
np.vdot(v, np.ones(4))
np.outer(v, v, foo=1)
np.tensordot(x, x, axes=1)
np.tensordot(x, x, axes=([0],[0,1]))
np.tensordot(x, x, axes=3)
np.einsum('ij,jk', x, x)
np.einsum('ijk', x)
np.einsum('ij->k', x)
np.einsum('ij->ii', x)
np.einsum('ii', x)
np.einsum('ij,jk->ik', x)
np.einsum('ij$', x)
np.einsum('i-j', x)
np.sum(x, axis=2)
np.sum(x, axis=(0,0))
np.sum(x, axis=1.5)
np.sum(x, axis='a')
np.mean(x, axis=-3)
np.max(e)
np.max(e, axis=0)
np.argmax(e)
np.argmax(x, axis=5)
np.min(np.zeros((2,0))+v[0], axis=1)
x.reshape(4)
x.reshape(-1, -1)
x.reshape(-1, 4)
x.reshape(2.0, 3)
np.reshape(x, (2, 3, 0))
np.transpose(x, (0, 0))
np.transpose(x, (0, 1, 2))
np.transpose(x, (0,))
np.swapaxes(x, 0, 2)
np.moveaxis(x, 0, 5)
np.moveaxis(x, [0, 1], [0])
np.rollaxis(x, 3)
np.expand_dims(x, 4)
np.expand_dims(x, (0, 0))
np.squeeze(x, 0)
np.squeeze(x, 3)
np.broadcast_to(x, (4, 3))
np.broadcast_to(x, (3,))
np.broadcast_arrays(x, np.ones(4))
np.concatenate([x, v])
np.concatenate([x, np.ones((2, 2))], axis=0)
np.concatenate([x, x], axis=2)
np.concatenate([s, s])
np.stack([x, v])
np.stack([x, x], axis=4)
np.vstack([x, np.ones(4)])
np.hstack([x, v])
np.dstack([x, v])
np.column_stack([x, v])
np.block([[x, v], [v]])
np.split(v, 2)
np.split(v, [1], axis=1)
np.hsplit(s, 1)
np.vsplit(v, 3)
np.dsplit(x, 1)
np.array_split(v, 0)
x[2]
x[0, 0, 0]
x[0, 3]
x[-3]
x[1.0]
x['a']
x[[0, 5]]
x[[0, 1], [0, 1, 2]]
x[b]
x[..., ...]
x[None, 0, 0, 0]
x[[0.5]]
x[::0]
x[0:1.5]
v[np.array([0, 9])]
x.__setitem__(0, np.ones(4))
x.__setitem__((0, 5), 1.0)
x.__setitem__(slice(None), np.ones((3, 3)))
i.__setitem__(0, 1j)
v.__setitem__(0, np.ones(2))
np.take(v, [0, 5])
np.take(x, [0], axis=2)
np.take_along_axis(x, np.zeros(3, int), 0)
np.take_along_axis(x, np.zeros((1, 3)), 0)
np.put_along_axis(x, np.zeros((1, 3)), 0, 0)
np.choose(i, [v, np.ones(4)])
np.select([b], [v, v])
np.select([v], [v])
np.where(b, v)
np.where(b, v, np.ones(4))
np.repeat(v, [1, 2])
np.repeat(v, -1)
np.tile(v, -1)
np.roll(v, 1, axis=1)
np.roll(x, (1, 2), axis=(0, 1, 1))
np.flip(v, 1)
np.rot90(v)
np.rot90(x, axes=(0, 0))
np.pad(v, (1, 2, 3))
np.pad(v, -1)
np.pad(v, 1, mode='nonsense')
np.pad(v, 1, mode='edge', constant_values=3)
np.diff(v, n=-1)
np.diff(s)
np.diff(x, axis=2)
np.cumsum(x, axis=2)
np.gradient(v[:1])
np.gradient(v, 1, 2)
np.gradient(v, np.ones(4))
np.gradient(x, axis=3)
np.trapezoid(v, np.ones(4))
np.interp(v, v, np.ones(4))
np.interp(v, np.ones(0), np.ones(0))
np.cross(v, np.ones(4))
np.cross(np.ones(4)*v[0], np.ones(4))
np.convolve(v, np.ones(0))
np.convolve(v, v, mode='bad')
np.convolve(x, v)
np.correlate(x, v)
np.trace(v)
np.trace(x, axis1=0, axis2=0)
np.diag(t)
np.diag(s)
np.diagonal(v)
np.diagonal(x, 0, 1, 1)
np.tril(s)
np.triu(s)
np.vander(x)
np.sort(x, axis=2)
np.sort(s)
np.argsort(x, axis=2)
np.partition(v, 5)
np.argpartition(v, 5)
np.searchsorted(x, v)
np.searchsorted(v, v, side='middle')
np.searchsorted(v, v, sorter=np.arange(2))
np.digitize(v, x)
np.bincount(i, weights=np.ones(2), minlength=3)
np.bincount(v, minlength=3)
np.bincount(i, minlength=-1)
np.histogram(v, bins=-1)
np.histogram(v, bins=0, range=(0, 1))
np.histogram(v, bins=3, range=(1, 0))
np.histogram(v, bins=[3, 2, 1])
np.percentile(v, 101)
np.percentile(v, -1)
np.quantile(v, 1.5)
np.quantile(v, 0.5, method='bad')
np.quantile(c, 0.5)
np.median(x, axis=3)
np.average(x, weights=np.ones(2))
np.average(x, axis=0, weights=np.ones(3))
np.average(x, axis=1, weights=np.ones(2))
np.cov(t)
np.linalg.solve(x, v)
np.linalg.solve(m, np.ones(4))
np.linalg.inv(x)
np.linalg.inv(v)
np.linalg.det(x)
np.linalg.slogdet(v)
np.linalg.cholesky(x)
np.linalg.qr(v)
np.linalg.qr(x, mode='bad')
np.linalg.eigh(x)
np.linalg.eigh(m, UPLO='X')
np.linalg.eigvalsh(v)
np.linalg.svd(v)
np.linalg.matrix_power(x, 2)
np.linalg.matrix_power(m, 1.5)
np.linalg.multi_dot([x])
np.linalg.multi_dot([x, x])
np.linalg.norm(x, 'bad')
np.linalg.norm(v, 'fro')
np.linalg.norm(t, 2)
np.linalg.norm(x, axis=2)
np.linalg.norm(t, axis=(0, 1, 2))
np.linalg.norm(x, 3, axis=(0, 1))
np.linalg.lstsq(x, np.ones(3))
np.linalg.pinv(v)
np.linalg.tensorinv(x)
np.linalg.matrix_rank(x, tol=1, rtol=1)
np.linalg.cond(v)
np.linalg.cross(v, np.ones(4))
np.linalg.trace(v)
np.linalg.diagonal(v)
np.kron(v, 'a')
np.polyfit(v, np.ones(4), 1)
np.polyfit(v, v, -1)
np.polyval(v)
np.polydiv(v, [])
np.apply_along_axis(lambda r: r, 3, x)
np.add(v)
np.add(v, v, v, v)
np.sin(v, v, v)
np.sin('a', v)
np.add(v, 'a')
np.add(v, None)
np.bitwise_and(v, v)
v & v
v << 1
~v
i << 1.5
np.sqrt(v, dtype=int)
np.add(v, v, dtype='bool')
np.add.reduce(v, axis=1)
np.add.reduce(x, axis=(0, 2))
np.add.accumulate(x, axis=2)
np.add.reduceat(v, [5])
np.add.at(v, 9, 1.)
np.add.at(v, [0, 1], np.ones(3))
np.maximum.reduce(np.zeros(0)*v[0])
i ** -1
np.power(i, -2)
b - b
-b
np.subtract(b, b)
np.negative(b)
np.ldexp(v, v)
np.floor(c)
c % 2
c // 2
np.floor_divide(c, c)
np.maximum(v, np.ones(4))
np.arctan2(c, c)
np.mod(c, 2)
np.less(v, 'a')
v.sum(axis=1)
v.sum(2)
v.mean(axis=(0, 1))
v.foo
v.sum(foo=1)
v.transpose(1)
v.swapaxes(0, 1)
v.squeeze(0)
v.astype('nonsense')
v.astype(int, casting='safe')
v.astype(np.int32, casting='bad')
v.view('nonsense')
v.repeat([1, 2])
v.take(7)
v.dot(np.ones(4))
v.argsort(axis=1)
v.sort(axis=1)
v.partition(7)
v.round(1.5)
v.ravel('Z')
v.flatten('Z')
v.reshape(3, order='Z')
v.diagonal()
v.trace()
v.cumsum(1)
v.searchsorted(x, side='z')
v.std(ddof='a')
v.put([9], 1.)
v.choose([v, v])
v.compress([True]*5)
v.ptp()
v.itemset(0, 1)
v.newbyteorder()
v.fill(np.ones(2))
np.compress([True] * 5, v)
np.extract([True] * 5, v)
np.place(v, [True, False], [1.])
np.putmask(v, np.ones(4, bool), 1.)
np.copyto(v, np.ones(4))
np.copyto(i, v)
np.fill_diagonal(v, 1.)
np.ravel_multi_index((i, i), (2,))
np.unravel_index(i, (2, -1))
np.ix_(x)
np.meshgrid(v, v, indexing='zz')
np.meshgrid(x, s)[0].reshape(5)
np.zeros_like(x, shape=(-1,))
np.full_like(v, np.ones(4))
np.insert(v, 9, 1.)
np.delete(v, 9)
np.append(x, v, axis=0)
np.nanmax(np.zeros(0)*v[0])
np.ptp(np.zeros(0)*v[0])
np.argmin(np.zeros(0)*v[0])
np.einsum(x)
np.nan_to_num(v, foo=1)
np.isclose(v, np.ones(4))
np.allclose(v, np.ones(4))
np.array_equal(v)
np.unwrap(v, axis=2)
np.apply_over_axes(np.sum, x, [3])
len(s + v[0])
iter(v[0] * s)
np.matvec(x, np.ones(4))
np.vecmat(v, x)
np.vecdot(v, np.ones(4))
np.matrix_transpose(v)
v.mT
np.linalg.matrix_norm(v)
np.linalg.vector_norm(x, axis=4)
np.linalg.outer(x, v)
np.split(v, 2.5)
np.round(v, 'a')
x.T.reshape(7)
np.piecewise(v, [b, b], [1])
np.piecewise(v, [b, np.ones(4, bool)], [1, 2])
np.convolve(v, [])
np.linspace(v, np.ones(4))
np.linspace(v, v, -1)
np.linspace(v, v, 2.5)
np.logspace(v, np.ones(4))
np.geomspace(v, v, axis=5)
"""

#: Awkward numbers, element types and views.
AWKWARD = r"""
y = a.copy(); y[0], y[1] = y[1], y[0]; return y
y = a; y += 1; return a
y = a.copy(); z = y; z *= 2; return y
y = a.copy(); np.einsum('ii->i', y[:, :4])[:] = 5; return y
y = a.copy(); y.T[1:] -= 1; y[:, ::-1][0] = 7; return y
y = a.copy(); v = y[0]; y[0] = 3; return v
y = a.copy(); v = y[0].copy(); y[0] = 3; return v
y = a.copy(); v = y[[0]]; y[0] = 3; return v
y = a.copy(); np.add(y[0], 1, out=y[1]); return y
y = a.copy(); np.exp(y, out=y); np.cumsum(y[0], out=y[1]); return y
y = a.copy(); np.add.at(y[1], [0, 0, 1], 1); return y
y = a.copy(); y[1].sort(); y.T[0].sort(); return y
y = a.copy(); y[:2, :2] @= np.ones((2, 2)); return y
y = a.copy(); y[1:] = y[:-1]; return y
y = a.copy(); y[:-1] = y[1:]; return y
y = a.copy(); y[1:] += y[:-1]; return y
y = a.copy(); y[:, 1:] -= y[:, :-1].copy(); return y
y = a.copy(); y[::-1] += y; return y
y = a.copy(); y += y.T[:, :1].T; return y
y = a.copy(); y[...] = y.mean(); return y
y = a.copy(); y[None, 0, None, :2] = 1; return y
y = a.copy(); y[1, :] = [1, 2, 3, 4, 5]; y[:, 1] = y[0, 0]; return y
y = a.copy(); y[:, :] = [[1], [2], [3], [4]]; return y
y = a.copy(); y[np.array([True, False, True, False])] = 0; return y
y = a.copy(); y[[True, False, True, False], 1] = 0; return y
y = a.copy(); y[a > 0] *= -1; y[~(a > 0)] = np.nan; return y
y = a.copy(); y[np.isnan(y)] = 0; y[y == y.max()] = 0; return y
y = a.copy(); y[0][1] = 9; y[0][2:][0] = 8; return y
y = a.copy(); y.flat[7] = 1; y.flat[[0, 2]] = [5, 6]; return y
y = a.copy(); y.real = 2; return y
y = a.copy(); y.fill(2); y[0].fill(3); return y
y = a.copy(); y[2:2] = 1; y[[]] = 3; return y
y = a.copy(); y.swapaxes(0, 1)[0, :] = 1; np.moveaxis(y, 0, 1)[1] = 2; return y
y = a.copy(); np.squeeze(y[None])[0] = 1; y[:, None][1] = 2; np.expand_dims(y, 0)[0, 2] = 3; return y
y = a.copy(); p, q = np.split(y, 2); p += 1; q[...] = 0; return y
y = a.copy(); r = [row for row in y]; r[0] += 1; return y
y = a.copy(); [row.__iadd__(1) for row in y]; return y
y = a.copy(); np.flip(y, 0)[0] = 1; np.fliplr(y)[:, 0] = 2; np.rot90(y)[0] = 3; return y
y = a.copy(); np.atleast_2d(y)[0] = 1; np.atleast_3d(y)[1] = 4; return y
y = a.copy(); y.diagonal()[0] = 1; return y
y = a.copy(); y -= y[0]; return y
y = a.copy(); y /= y[:, :1]; return y
y = a.copy(); y -= y[0, 0]; return y
y = i.copy(); y[y > 1] -= 1; y[:2] //= 2; return y
y = i.copy(); y += 1.5; return y
y = i.copy(); y[:] = [1.7, -1.7, 2.5, 3.9]; return y
y = i.copy(); np.add(y, 0.5, out=y, casting='unsafe'); return y
y = k.copy(); y[0] = 2; y[1] = 0.0; y[2:4] = [0, 7]; return y
y = k.copy(); y += k; return y
y = k.copy(); y -= k; return y
y = u.copy(); y += 250; y -= 3; y *= 3; return y
y = u.copy(); y[0] = 255; return y
y = u.copy(); y[0] = 256; return y
y = u.copy(); y[0] = -1; return y
y = u.copy(); y = y + 300; return y
u + u, u - u[::-1], u * u, u // 3, u % 3, -u, ~u, u << 7, u >> 1, u ** 2, u / 2
u + j, u * j, j - u, j // u, u / j, j ** 2, np.maximum(u, j)
j * 100, j + 127, abs(j - 128), -(j - 127), j // -1, j // 0, j % 0, j << 9, j >> 9, j ** 7
u + k, k + k, k * u, k & k, k - u, k / k, k // k, k % k, k ** k, -k.astype(int)
g + 1, g - g[::-1], g * 1.0, g + i, g < i, g == i, np.maximum(g, i), g // 2, g / 3, g ** 2, g & 1
g + np.int64(1)
i == 2.0, i < 1.5, i == k[:4], u < 300, u > -1, u == 256, 300 > u, u != -1, u < np.int64(300)
z + 0.0, -z, abs(z), np.sign(z), np.sqrt(z), np.maximum(z, 0.0), np.minimum(z, 0.0), 1 / z, z * -1
np.rint(z), z == 0, np.copysign(1, z), np.signbit(z)
np.sort(n), np.argsort(n), n.max(), n.min(), np.argmax(n), np.argmin(n), np.nanmax(n), np.median(n)
np.maximum(n, 1), np.fmax(n, 1), np.clip(n, 0, 1), np.sign(n), n == n, n != n, n < 1
np.percentile(n, 50), np.cumsum(n), np.maximum.accumulate(n), np.searchsorted(np.sort(n), [0, np.nan])
np.isclose(n, n), np.allclose(n, n, equal_nan=True), np.nan_to_num(n), np.mean(n), np.ptp(n)
np.nanargmin(n), np.nanmedian(n), np.nanpercentile(n, 30), np.array_equal(n, n)
np.array_equal(n, n, equal_nan=True), np.sum(n, where=n == n), n > np.nan, np.unwrap(n)
np.interp(0.5, [0, 1], n[:2]), np.where(np.isnan(n), 0, n).sum(), np.logaddexp(n, 0), np.hypot(n, np.inf)
n ** 0, 1 ** n, np.floor_divide(n, 0), np.fmod(n, 0), np.round(n), np.trunc(n), np.heaviside(n, 1)
o.sum(), o.prod(), o.sum(0), np.sort(o), np.cumsum(o), np.concatenate([o, o]), o @ np.ones((3, 2))
np.ones((2, 0)) @ o, o.T.shape, np.any(o), np.all(o), np.argsort(o, axis=0), o.reshape(3, 0)
np.linalg.norm(o), np.dot(o.T, o), np.einsum('ij,ik->jk', o, o), np.where(o > 0, o, 0), np.outer(o, o)
np.diff(o, axis=0), np.stack([o, o]), o.max(initial=0), np.tile(o, 2), np.pad(o, 1), o[:, 0], o[[]]
np.mean(o, axis=1), np.median(o, axis=1), np.std(o, axis=1), np.histogram(o, bins=3)[0]
np.bincount(o.astype(int).ravel(), minlength=3), np.unwrap(o), np.flip(o)
np.cov(np.ones((2, 3))) + o.sum(), np.count_nonzero(o), o.astype(int).sum()
np.linalg.det(np.zeros((0, 3, 3)) + o.sum()), np.digitize(o, [1, 2])
s[()], s[...], s[None], s.reshape(1)[0], s.reshape(()), s + 1, s.T, s.sum(), s.ravel(), s.flatten()
s.copy(), s.astype(int), s.max(), np.atleast_1d(s), np.stack([s, s]), s * x, np.clip(s, 0, 1), s ** 2, -s
s // 1, s % 1, s.round(1), np.squeeze(s), s.transpose(), s.repeat(2), np.tile(s, 2), np.full(3, 1.0) * s
np.sort(np.array([3, 1])) * s, s.dtype, s.shape, s.ndim, s.size, np.where(s > 0, s, 0), s.cumsum()
np.append(s, s), s.argmax(), np.broadcast_to(s, (2, 2)), s == s, s.any(), s.conj(), s.squeeze(), s.nbytes
P + 1, P * x, P * w, P / 2, P ** 2, P // 2, P % 2, np.sin(P), np.maximum(P, w), w + P, np.stack([P, 1.0])
P * i, P > 0, np.where(w > 0, P, w), np.full_like(w, P), np.clip(w, -P, P), np.power(w, P)
np.arctan2(w, P), P * np.float32(2), P + np.int8(1), [P, 1.0] * w[:2], np.add(P, P), np.sqrt(P), -P
abs(P), P * True, P + 1j
Q + 1, Q * x, Q * w, Q / 2, Q ** 2, Q ** -1, Q // 2, Q % 2, Q & 1, Q << 1, np.sin(Q), np.maximum(Q, w)
Q * i, Q * u, Q + j, x[Q], a[Q, 1:], a[:, Q], Q > 0, np.where(w > 0, Q, w), i ** Q, w ** Q, 2 ** Q
np.power(i, Q), np.roll(w, 1) * Q, np.take(x, Q), ~Q, Q == 2, Q < u, np.full_like(i, Q), divmod(Q, 2)
Q * 1.5, Q + True
R & True, R + 1, R * w, R * i, R | k, ~R, R == True, np.where(R, w, 0), R ^ k, R + R, R * u, w * R
np.logical_not(R), R < 1
x.astype(np.float32) + i, x.astype(np.float32) * np.float64(2)
x.astype(np.float32) * i.astype(np.int32)[:1], x.astype(np.float32) * u[:1], x.astype(np.float32) ** 2
x.astype(np.float32) * k, i.astype(np.int32) * 2, i.astype(np.int32) / 2, i.astype(np.int32) * 2.5
i.astype(np.int16) * np.float32(2), u * np.float32(1), i.astype(np.uint32) + np.int32(1), u.sum().dtype
j.mean(), u.prod(), j.cumsum(), u.std(), np.dot(u, u), u @ u, np.inner(j, j), np.trace(np.outer(j, j))
j.max() - j.min()
np.add(u, 1, dtype=np.int16), np.multiply(j, j, dtype='i4'), np.sqrt(u), np.sqrt(j.astype(np.int32))
np.exp(i.astype(np.int32)), np.sin(k), np.arctan2(u, j), np.hypot(i, 1), np.log1p(u)
np.mean(u, dtype=np.float32), np.true_divide(u, u + 1), np.floor(i), np.ceil(u), np.rint(i)
np.sign(j - 2), np.sign(u), np.square(u), np.reciprocal(i + 1), np.positive(u), np.isnan(i)
np.isfinite(u), np.float_power(u, 2), np.gcd(u, 6), np.logical_and(u, j), np.spacing(x)
np.signbit(j - 3), np.fabs(i), np.deg2rad(i), np.trunc(u), np.cbrt(u), np.exp2(i), np.logaddexp(i, i)
np.ldexp(1.0, i), np.heaviside(i, 0.5), np.copysign(i, -1), np.abs(j - 3), np.conj(u), np.divmod(u, 3)
np.fmod(j, 3), np.left_shift(u, 1), np.bitwise_count(j - 3), np.invert(k), np.maximum(k, k)
np.minimum(u, 3), np.power(u, u), np.angle(i), np.nextafter(x, 1), np.clip(u, 2, 300)
np.clip(j, -200, 3), np.round(u, -1), np.interp(u, [0, 5], [1, 2]), np.convolve(u, [1, 1]), np.diff(u)
np.ediff1d(u), np.gradient(i), np.trapezoid(u), np.average(u), np.average(u, weights=u), np.median(u)
np.percentile(u, 40), np.var(k), np.cov(u), np.ptp(u), np.cross(u[:3], u[1:]), np.kron(u, j)
np.outer(u, j), np.einsum('i,i', u, u), np.einsum('i,j', u, j), np.tensordot(u, u, 1), np.vander(u, 3)
np.polyval([1, 2], u), np.cumprod(u), np.nansum(u), np.nanmean(u), np.linalg.norm(u), np.sort(u)[::-1]
np.searchsorted(np.sort(u), 3), np.histogram(u, bins=[0, 2, 9])[0], np.digitize(u, [1, 2])
np.repeat(u, 2), np.pad(u, 1), np.roll(u, 1), np.tri(3, dtype=np.uint8) * u[:3]
np.linspace(u[0], u[1], 3), np.full(2, 3, u.dtype) + u[:2], np.concatenate([u, j])
np.concatenate([u, x]), np.concatenate([u, [1.5]]), np.stack([k[:4], u]), np.where(k[:4], u, j)
np.where(k[:4], u, 1), np.where(k[:4], u, -1), np.where(k[:4], u, 1.5), np.select([k[:4]], [u], 300)
np.choose(u % 2, [u, j]), np.append(u, 1), np.hstack([u, 1])
np.ravel_multi_index((u % 2, u % 3), (2, 3)), np.argsort(u), np.count_nonzero(u), np.isin(u, [1, 2])
np.array_equal(u, j), np.linalg.matrix_power(np.outer(u, j)[:2, :2], 2), np.linalg.solve(m, u)
np.linalg.det(np.outer(u, j)), np.fix(u), np.nan_to_num(u), np.sinc(u), np.unwrap(i), np.i0(u)
np.real(u), np.imag(u), np.prod(u, dtype=np.uint8), np.sum(u, dtype=np.uint8), np.add.reduce(u)
np.add.accumulate(u), np.multiply.reduce(j), np.bitwise_or.reduce(u), np.add.reduce(k)
np.logical_and.reduce(u), np.subtract.reduce(j), np.true_divide.reduce(i + 1), np.maximum.reduce(u)
np.add.outer(u, j), np.add.reduceat(u, [0, 2])
np.sum(a, axis=-1, keepdims=True, dtype='f4'), np.max(a, (0, -1)), np.mean(a, -2), np.argmax(a, -1)
np.sort(a, -2), np.cumsum(a, -1), np.concatenate([a, a], -1), np.stack([a, a], -1), np.flip(a, -1)
np.roll(a, 1, -1), np.take(a, [0], -1), np.repeat(a, 2, -1), np.diff(a, axis=-2), np.moveaxis(a, -1, 0)
np.expand_dims(a, -1), np.split(a, 5, -1), np.linalg.norm(a, axis=-1), np.median(a, -1)
np.delete(a, 0, -1), np.insert(a, 0, 1, -1), np.append(a, a, -1), np.gradient(a, axis=-1)
np.trapezoid(a, axis=-2), np.unwrap(a, axis=-2), np.squeeze(a[None], -3), np.swapaxes(a, -1, -2)
np.rot90(a, 1, (-1, -2)), np.percentile(a, 30, -1), np.average(a, -1, weights=[1, 2, 3, 4, 5])
np.apply_along_axis(np.cumsum, -1, a), np.take_along_axis(a, np.zeros((4, 1), int), -1), np.nanmax(a, -1)
np.std(a, -1, ddof=1), np.count_nonzero(a, -1), np.all(a, -1), np.partition(a, 2, -1)[:, 2]
np.argpartition(a, 0, -1)[:, 0], np.array_split(a, 2, -1), np.trace(t, axis1=-1, axis2=-2)
np.diagonal(t, axis1=-2, axis2=-1), np.cross(a[:, :3], a[:, 1:4], axis=-1)
np.tensordot(a, a, ((-1,), (-1,))), np.linalg.cond(m, 1), np.linalg.norm(m, -2), np.linalg.norm(a, 'nuc')
np.linalg.norm(x, -np.inf), np.linalg.vector_norm(a, ord=3), np.linalg.matrix_norm(a, ord=1)
np.vecdot(a, a), np.matvec(a, a[0]), np.vecmat(a[:, 0], a), np.linalg.cross(a[:, :3], a[:, 1:4])
np.linalg.outer(x, x), np.linalg.tensorsolve(m.reshape(2, 2, 4), np.ones((2, 2)))
np.linalg.tensorinv(m.reshape(2, 2, 4), ind=2), np.linalg.eigh(m)[0], np.linalg.svdvals(a)
np.linalg.diagonal(m), np.linalg.trace(m), np.matrix_transpose(t), np.permute_dims(t, (2, 0, 1))
np.concat([x, x]), np.unstack(a)[0], np.cumulative_sum(x), np.cumulative_sum(x, include_initial=True)
np.astype(x, np.float32), np.bitwise_invert(i), np.pow(x, 2), np.acos(np.tanh(x))
np.bitwise_left_shift(i, 1)
"""
