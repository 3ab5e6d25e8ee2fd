"""Kernel source to object code: what comes out, for which CPU, and what is refused."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kernels import Call, apply, bits
from numba.core.errors import NumbaError

import graphc
from graphc.backends.cpu import native
from graphc.backends.cpu.runtime.objectfile import read_symbols

SCALE_EXP = """
def scale_exp(table, thread, threads):
    x = pointer(table, 0)
    y = pointer(table, 1)
    n = word(table, 2)
    s = param(table, 3, f32)
    start, stop = share(n, 16, thread, threads)
    for i in range(start, stop - 15, 16):
        v1 = load(x, i, f32, 0)
        v2 = exp(v1) * s
        store(y, i, v2, f32, 1)
    rest = stop - start & 15
    if rest > 0:
        i = stop - rest
        v1 = load_masked(x, i, f32, 0, rest)
        v2 = exp(v1) * s
        store_masked(y, i, v2, f32, 1, rest)
    return 0
"""
X86 = native.target().triple.startswith("x86_64")
needs_x86 = pytest.mark.skipif(not X86, reason="names CPUs of x86-64")
HAS_V3 = X86 and "avx2" in native.target().enabled and "fma" in native.target().enabled


def kernel(*lines: str) -> str:
    return "\n".join(["def kernel(table, thread, threads):", *(f"    {line}" for line in lines), ""])


def test_an_object_exports_its_kernel_and_needs_nothing():
    symbols = read_symbols(native.compile_kernel(SCALE_EXP, "scale_exp"))
    assert symbols.defined == ("scale_exp",)
    assert symbols.weak == symbols.undefined == ()


def test_a_kernel_follows_the_abi():
    call = Call(SCALE_EXP, "scale_exp")
    for n in (0, 1, 15, 16, 17, 100):
        for threads in (1, 2, 7):
            x = np.linspace(-3, 3, n + 1, dtype=np.float32)
            y = np.full(n + 1, 7, np.float32)
            for thread in range(threads):
                assert call(x, y, n, bits(0.5, "f32"), thread=thread, threads=threads) == 0
            np.testing.assert_allclose(y[:n], np.exp(x[:n]) * np.float32(0.5), rtol=3e-7)
            assert y[n] == 7


def test_the_result_is_an_error_word():
    assert Call(kernel("return (3 << 32) | word(table, 0)"))(77) == (3 << 32) | 77


def test_the_same_source_gives_the_same_bytes_in_every_process():
    code = (
        "from graphc.backends.cpu import native; import hashlib, sys\n"
        f"print(hashlib.sha256(native.compile_kernel({SCALE_EXP!r}, 'scale_exp')).hexdigest())"
    )
    path = os.pathsep.join([str(Path(graphc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_target_keys_differ():
    assert native.target_key() == native.target_key("host")
    assert len(native.target_key().split()) >= 2
    if X86:
        keys = {native.target_key(cpu) for cpu in (None, "x86-64-v2", "x86-64-v3", "x86-64-v4")}
        assert len(keys) == 4
        with pytest.raises(ValueError, match="x86-64-v2"):
            native.target("x86-64")


@needs_x86
@pytest.mark.parametrize(
    ("cpu", "present", "absent"),
    [("x86-64-v2", "%xmm", ("%ymm", "vfmadd")), ("x86-64-v3", "%ymm", ("%zmm",)), ("x86-64-v4", "%zmm", ())],
)
def test_a_cpu_restricts_the_instructions(cpu: str, present: str, absent: tuple[str, ...]):
    asm = native.assembly(SCALE_EXP, "scale_exp", cpu)
    assert present in asm
    assert not [word for word in absent if word in asm]
    assert native.undefined_symbols(native.compile_kernel(SCALE_EXP, "scale_exp", cpu)) == set()
    assert native.vector_instruction_count(asm) > 20


@pytest.mark.skipif(not HAS_V3, reason="needs a host with AVX2 and FMA")
def test_hosts_with_fma_give_the_same_bits():
    names = "exp exp2 expm1 log log2 log10 log1p tanh sigmoid erf erfc sin cos tan sinh asinh cbrt".split()
    x = np.concatenate([np.linspace(-20, 90, 999), np.exp2(np.linspace(-148, 127, 600))])
    for dtype in ("f32", "f64"):
        expressions = {f"{name}(a)": dtype for name in names} | {"reduce_add(a)": dtype, "a * a + a": dtype}
        host, v3 = apply(expressions, dtype, x), apply(expressions, dtype, x, cpu="x86-64-v3")
        for expression in expressions:
            assert host[expression].tobytes() == v3[expression].tobytes(), expression


def test_vector_instructions_are_counted():
    asm = "k:\n\tvaddps\t%zmm1, %zmm2, %zmm3\n\taddps\t%xmm1, %xmm2\n\taddss\t%xmm1, %xmm2\n\t.long\t1\n\tret\n"
    assert native.vector_instruction_count(asm) == 2
    assert native.vector_instruction_count("\tfadd\tv0.4s, v1.4s, v2.4s\n\tfadd\ts0, s1, s2\n") == 1


def test_many_buffers_stay_vectors_and_loads_leave_loops():
    """With alias scopes a load of another buffer moves out of the loop past the stores in it."""
    buffers = 20

    def source(scope: str) -> str:
        lines = [f"p{k} = pointer(table, {k})" for k in range(buffers + 1)]
        lines += [f"for i in range(0, word(table, {buffers + 1}), 16):", f"    s = splat_load(p{buffers}, 0, f32, 99)"]
        for k in range(0, buffers, 2):
            lines += [f"    store(p{k}, i, load(p{k + 1}, i, f32, {scope.format(k + 1)}) * s, f32, {scope.format(k)})"]
        return kernel(*lines, "return 0")

    def loads_of_scalar_in_loop(asm: str) -> int:
        body = asm[asm.index(".p2align\t4\n.L") :] if ".p2align\t4\n.L" in asm else asm
        return body.count("broadcastss\t(") + body.count("movss\t(")

    if X86:
        asm = native.assembly(source("{}"), "kernel", "x86-64-v3")
        assert native.vector_instruction_count(asm) >= 2 * buffers
        assert loads_of_scalar_in_loop(asm) == 0
        assert loads_of_scalar_in_loop(native.assembly(source("-1"), "kernel", "x86-64-v3")) > 0
    else:
        assert native.vector_instruction_count(native.assembly(source("{}"), "kernel")) >= 2 * buffers


def test_loops_are_not_unrolled():
    asm = native.assembly(SCALE_EXP, "scale_exp")
    assert asm.count("\n") < 200


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x = frobnicate(1)", "return 0"], "frobnicate"),
        (["return len(table)"], "does not belong to the language"),
        (["x = load(pointer(table, 0), 0, f32)", "return 0"], "scope"),
        (["x = load(pointer(table, 0), 0, 3, 0)", "return 0"], "a dtype such as f32 is needed"),
        (["x = load(pointer(table, 0), 0, f32, word(table, 1))", "return 0"], "an integer literal is needed"),
        (["x = load(pointer(table, 0), i=0)", "return 0"], "positional arguments only"),
        (["x = splat(1.0, f32)", "store(pointer(table, 0), 0, x, f64, 0)", "return 0"], "cast first"),
        (["x = splat(1.0, f32) + splat(1.0, f64)", "return 0"], "vectors of one dtype"),
        (["x = splat(1, i32) + 1.5", "return 0"], "float scalar beside i32"),
        (["x = splat(1.0, f32) & splat(1.0, f32)", "return 0"], "f32 lanes"),
        (["x = splat(1, i32) / splat(1, i32)", "return 0"], "cast to a float first"),
        (["x = 1", "if word(table, 0) > 0:", "    x = splat(1.0, f32)", "return 0"], "unify"),
        (["if splat(1, i32) > 0:", "    return 1", "return 0"], "any_lane"),
        (["for i in range(0, 9, word(table, 0)):", "    pass", "return 0"], "integer literal"),
        (["raise ValueError", "return 0"], "ValueError"),
        (["return splat(1.0, f32)"], "Vec"),
    ],
)  # fmt: skip
def test_what_leaves_the_language_is_refused_with_the_line(lines: list[str], message: str):
    with pytest.raises(NumbaError) as caught:
        native.compile_kernel(kernel(*lines), "kernel")
    assert message in str(caught.value)


def test_errors_show_the_line_of_the_source():
    with pytest.raises(NumbaError) as caught:
        native.compile_kernel(kernel("a = word(table, 0)", "b = sqrt(a)", "return b"), "kernel")
    assert "b = sqrt(a)" in str(caught.value)
    assert linecache.getline("<graphc kernel kernel>", 3) == "    b = sqrt(a)\n"


def test_threads_may_compile_at_once():
    results: list[bytes] = []

    def work(k: int) -> None:
        results.append(native.compile_kernel(SCALE_EXP.replace("* s", f"* s + {k}.0"), "scale_exp"))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(results)) == 6


def test_several_kernels_are_compiled_side_by_side():
    sources = {f"k{n}": kernel(f"return {n}").replace("kernel", f"k{n}") for n in range(5)}
    interval = sys.getswitchinterval()
    compiled = native.compile_kernels(sources)
    assert list(compiled) == list(sources)
    for name, made in compiled.items():
        assert made.data == native.compile_kernel(sources[name], name)
        assert made.front > 0 and made.llvm > 0
    assert sys.getswitchinterval() == interval


@pytest.mark.parametrize("where", range(3))
def test_an_error_in_one_of_several_kernels_is_raised(where: int):
    lines = [["return 0"], ["return 1"], ["return 2"]]
    lines[where] = ["return frobnicate(1)"]
    sources = {f"k{n}": kernel(*body).replace("kernel", f"k{n}") for n, body in enumerate(lines)}
    interval, threads = sys.getswitchinterval(), threading.active_count()
    with pytest.raises(NumbaError, match="frobnicate"):
        native.compile_kernels(sources)
    assert (sys.getswitchinterval(), threading.active_count()) == (interval, threads)


def test_an_error_in_llvm_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(text: str, name: str, cpu: str | None) -> bytes:
        raise RuntimeError(f"no code for {name}")

    monkeypatch.setattr(native, "_object", fail)
    sources = {f"k{n}": kernel("return 0").replace("kernel", f"k{n}") for n in range(3)}
    with pytest.raises(RuntimeError, match="no code for k0"):
        native.compile_kernels(sources)


CONTROL = {
    "and": ["if a > 0 and b > 0:", "    return 1", "return 0"],
    "or": ["if a > 0 or b > 0:", "    return 1", "return 0"],
    "not": ["if not (a > 0 and not b > 0):", "    return 1", "return 0"],
    "values": ["x = a > 0 and b > 0", "y = a if x else b - 1", "return y"],
    "else": ["if a > 0:", "    x = 1", "elif b > 0:", "    x = 2", "else:", "    x = 3", "return x"],
    "while": ["x = 0", "while x < 9 and b > 0:", "    x += 2", "return x"],
    "break": ["x = 0", "while True:", "    x = x + 1", "    if x > a + 3:", "        break", "return x"],
    "continue": ["x = 0", "for i in range(6):", "    if i & 1 == a:", "        continue", "    x = x + i", "return x"],
    "after": ["i = -1", "for i in range(2, 9, 3):", "    pass", "return i"],
    "none": ["i = -1", "for i in range(a, 0):", "    pass", "return i"],
    "down": ["x = 0", "for i in range(5, a, -2):", "    x = x * 10 + i", "return x"],
    "swap": ["x, y = a, b", "x, y = y, x + 1", "return x * 100 + y"],
    "nested": ["x = 0", "for i in range(4):", "    for j in range(i):", "        if j == 2:", "            break",
               "        x = x + j + 1", "    else_ = x", "return else_"],
    "folded": ["return (1 << 3) + -2 * 3 + a"],
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow_is_pythons(name: str):
    lines = CONTROL[name]
    call = Call(kernel("a = word(table, 0)", "b = word(table, 1)", *lines))
    scope: dict[str, object] = {}
    exec("def meaning(a, b):\n    " + "\n    ".join(lines), scope)
    for a in (0, 1):
        for b in (0, 1):
            assert call(a, b) == scope["meaning"](a, b), (a, b)  # type: ignore[operator]


@pytest.mark.parametrize(
    "line",
    ["x = [1]", "x = lambda: 1", "with table: pass", "x = y = 1", "del table", "x = a < 1 < 2", "x: int = 1", "a.b(1)"],
)
def test_what_is_no_statement_of_the_language_is_quoted(line: str):
    with pytest.raises(NumbaError) as caught:
        native.compile_kernel(kernel("a = 1", line, "return 0"), "kernel")
    text = str(caught.value)
    assert "not in the language of kernels" in text and line.split(":")[0].split("(")[0] in text


def test_a_kernel_without_return_is_refused():
    with pytest.raises(NumbaError, match="ends with return"):
        native.compile_kernel(kernel("if word(table, 0) > 1:", "    return 0"), "kernel")


def test_compilation_is_quick():
    """A kernel of ten operations takes 15 ms on an idle machine; this asserts the order of magnitude."""
    lines = ["p = pointer(table, 0)", "q = pointer(table, 1)", "for i in range(0, word(table, 2), 16):"]
    lines += ["    v0 = load(p, i, f32, 0)"]
    lines += [f"    v{k + 1} = {'exp(v0)' if k == 4 else f'v{k} * v{k // 2} + {k}.5'}" for k in range(10)]
    best = min(_seconds(kernel(*lines, f"    store(q, i, v10 + {k}.0, f32, 1)", "return 0")) for k in range(6))
    assert best < 0.15


def _seconds(source: str) -> float:
    start = time.perf_counter()
    native.compile_kernel(source, "kernel")
    return time.perf_counter() - start
