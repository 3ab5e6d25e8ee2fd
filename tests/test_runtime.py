"""The CPU runtime in one thread: programs, tapes, loading, binding, donation, errors."""

from __future__ import annotations

import ast
import ctypes
import gc
import itertools
import json
import random
import sys
import tracemalloc
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from runtime_kernels import executable, kernel_object, objects, run_python

from graphc.backends.cpu.runtime import (
    Advance,
    Call,
    CodeError,
    Executable,
    Output,
    Program,
    Spec,
    TapeBuilder,
    Word,
    load_objects,
    register_symbols,
    undefined_symbols,
)
from graphc.backends.cpu.runtime import binder as binder_module
from graphc.backends.cpu.runtime import tape as isa

ROOT = Path(__file__).parent.parent
I64 = "int64"


def vector(n: int, name: str = "x") -> Spec:
    return Spec(I64, (n,), name)


def add_table(b: TapeBuilder, x: Word, out: Word, n: int, c: int) -> int:
    return b.table([x, out, Word.value(n), Word.value(c)])


def adding(n: int = 4, c: int = 10, **description) -> Executable:
    """out = x + c"""
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), n, c)))
    return executable(b, inputs=(vector(n),), outputs=(Output(I64, (n,)),), **description)


def accumulating(b: TapeBuilder, x: Word, n: int, out: Word | None = None) -> int:
    """A table for `accumulate` into output 0."""
    return b.table([x, out or Word.output(0), Word.value(n)])


# Words, tables, regions


def test_words_reach_every_region():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(1, 8), Word.arena(64), 2, 1)))
    b.stage(Call("add", add_table(b, Word.arena(72), Word.scratch(8), 1, 1)))
    b.stage(Call("add", add_table(b, Word.scratch(8), Word.output(1), 1, 1)))
    b.stage(Call("add", add_table(b, Word.constant(1, 8), Word.output(0), 2, 0)))
    counter = b.table([Word.value(41)])
    b.stage(Call("add", add_table(b, Word.frame(counter), Word.output(2, 8), 1, 1)))
    b.stage(Call("add", add_table(b, Word.owned(0), Word.owned(0), 2, 5)))
    b.stage(Call("add", add_table(b, Word.owned(0), Word.output(2), 1, 0)))
    owned = np.array([100, 200])
    exe = executable(
        b,
        arena_bytes=128,
        scratch_bytes=64,
        constants=(b"", np.array([7, 8, 9]).tobytes()),
        inputs=(vector(1), vector(3, "y")),
        outputs=(Output(I64, (2,)), Output(I64, ()), Output(I64, (2,))),
        owned=(Spec(I64, (2,), "w"),),
        owned_arrays=[owned],
    )
    first, second, third = exe.call([np.array([0]), np.array([1, 2, 3])])
    assert first.tolist() == [8, 9] and second == 6 and second.shape == () and third.tolist() == [105, 42]
    assert owned.tolist() == [105, 205]
    exe.call([np.array([0]), np.array([1, 2, 3])])
    assert owned.tolist() == [110, 210]


def test_values_hold_all_64_bits():
    assert Word.value(2**64 - 1) == Word.value(-1)
    assert Word.value(-(2**63)).offset == -(2**63)
    with pytest.raises(ValueError, match="64 bits"):
        Word.value(2**64)


def test_outputs_are_fresh_and_zero_sizes_work():
    exe = adding()
    x = np.arange(4)
    first, second = exe.call([x])[0], exe.call([x])[0]
    assert first is not second and not np.may_share_memory(first, second)
    assert first.flags.owndata and first.tolist() == [10, 11, 12, 13]
    assert adding(n=0).call([np.zeros(0, np.int64)])[0].shape == (0,)


# Control flow


def test_a_loop_advances_restores_and_can_be_called_again():
    b = TapeBuilder()
    table = add_table(b, Word.input(0), Word.output(0), 3, 100)
    with b.loop(4, advance=[Advance(table, 24), Advance(table + 1, 24), Advance(table + 3, 1)]):
        b.stage(Call("add", table))
    exe = executable(b, inputs=(Spec(I64, (4, 3)),), outputs=(Output(I64, (4, 3)),))
    x = np.arange(12).reshape(4, 3)
    for _ in range(3):
        np.testing.assert_array_equal(exe.call([x])[0], x + 100 + np.arange(4)[:, None])


def test_a_reversed_loop():
    b = TapeBuilder()
    table = add_table(b, Word.input(0, 3 * 16), Word.output(0), 2, 0)
    with b.loop(4, advance=[Advance(table, -16), Advance(table + 1, 16)]):
        b.stage(Call("add", table))
    exe = executable(b, inputs=(Spec(I64, (4, 2)),), outputs=(Output(I64, (4, 2)),))
    x = np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(exe.call([x])[0], x[::-1])


@pytest.mark.parametrize("cap", [1, 2])
def test_nested_loops(cap):
    b = TapeBuilder()
    table = add_table(b, Word.input(0), Word.output(0), 2, 1)
    with b.loop(3, advance=[Advance(table, 64), Advance(table + 1, 64)]):
        with b.loop(4, advance=[Advance(table, 16), Advance(table + 1, 16), Advance(table + 3, 1)]):
            b.stage(Call("add", table, cap))
    exe = executable(b, inputs=(Spec(I64, (3, 4, 2)),), outputs=(Output(I64, (3, 4, 2)),))
    x = np.arange(24).reshape(3, 4, 2)
    for _ in range(3):
        np.testing.assert_array_equal(exe.call([x])[0], x + 1 + np.arange(4)[:, None])


@pytest.mark.parametrize("cap", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_toggled_words_carry_a_value(cap, count):
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.arena(0), 2, 0)))
    step = add_table(b, Word.arena(0), Word.arena(64), 2, 1)
    with b.loop(count, advance=[Advance(step, 64, odd=-64), Advance(step + 1, -64, odd=64), Advance(step + 3, 1)]):
        b.stage(Call("add", step, cap))
    b.stage(Call("add", add_table(b, Word.arena(64 * (count % 2)), Word.output(0), 2, 0)))
    exe = executable(b, arena_bytes=128, inputs=(vector(2),), outputs=(Output(I64, (2,)),))
    for _ in range(2):
        assert exe.call([np.array([5, 6])])[0].tolist() == [5 + sum(range(1, count + 1)), 6 + sum(range(1, count + 1))]


@pytest.mark.parametrize(
    "kind,dtype", [("i1", "i1"), ("i2", "i2"), ("i4", "i4"), ("i8", "i8"), ("u1", "u1"), ("u4", "u4"), ("b1", "?")]
)
@pytest.mark.parametrize("cap", [1, 2])
def test_a_loop_reads_its_count_from_memory(kind, dtype, cap):
    b = TapeBuilder()
    count = b.scalar(Word.input(0), kind)
    b.stage(Call("add", add_table(b, Word.constant(0), Word.output(0), 1, 0)))
    table = add_table(b, Word.output(0), Word.output(0), 1, 2)
    with b.loop(count):
        b.stage(Call("add", table, cap))
    exe = executable(b, constants=(bytes(8),), inputs=(Spec(np.dtype(dtype).name, ()),), outputs=(Output(I64, ()),))
    for n in (1, 0) if kind == "b1" else (3, 0, 100) if kind[0] == "u" else (3, 0, -1, 100):
        assert exe.call([np.array(n, dtype)])[0] == 2 * max(n, 0)


@pytest.mark.parametrize("cap", [1, 2])
def test_a_switch_clamps_like_lax(cap):
    b = TapeBuilder()
    with b.switch(b.scalar(Word.input(0), "i4")) as s:
        for c in (10, 20, 30):
            with s.case():
                b.stage(Call("add", add_table(b, Word.input(1), Word.output(0), 1, c), cap))
    exe = executable(b, inputs=(Spec("int32", ()), vector(1, "y")), outputs=(Output(I64, (1,)),))
    for index, expected in ((0, 10), (1, 20), (2, 30), (3, 30), (2**31 - 1, 30), (-1, 10), (-(2**31), 10)):
        assert exe.call([np.array(index, np.int32), np.array([0])])[0] == expected


def test_an_unsigned_selector_has_no_negative_values():
    b = TapeBuilder()
    with b.switch(b.scalar(Word.input(0), "u8")) as s:
        for c in (10, 20):
            with s.case():
                b.stage(Call("add", add_table(b, Word.input(1), Word.output(0), 1, c)))
    exe = executable(b, inputs=(Spec("uint64", ()), vector(1, "y")), outputs=(Output(I64, (1,)),))
    assert exe.call([np.array(2**64 - 1, np.uint64), np.array([0])])[0] == 20


def test_an_empty_case_does_nothing():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(1), Word.output(0), 1, 0)))
    with b.switch(b.scalar(Word.input(0), "b1")) as s:
        with s.case():
            pass
        with s.case():
            b.stage(Call("add", add_table(b, Word.input(1), Word.output(0), 1, 1)))
    exe = executable(b, inputs=(Spec("bool", ()), vector(1, "y")), outputs=(Output(I64, (1,)),))
    assert exe.call([np.array(False), np.array([5])])[0] == 5
    assert exe.call([np.array(True), np.array([5])])[0] == 6


@pytest.mark.parametrize("cap", [1, 2])
def test_a_while_loop(cap):
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 0)))
    with b.while_loop() as w:
        b.stage(Call("below", b.table([Word.output(0), Word.arena(0), Word.value(50)])))
        w.exit_unless(b.scalar(Word.arena(0), "b1"))
        b.stage(Call("add", add_table(b, Word.output(0), Word.output(0), 1, 7), cap))
    exe = executable(b, arena_bytes=64, inputs=(vector(1),), outputs=(Output(I64, (1,)),))
    for start in (0, 49, 50, 1000):
        expected = start
        while expected < 50:
            expected += 7
        assert exe.call([np.array([start])])[0] == expected


@pytest.mark.parametrize("cap", [1, 2])
def test_control_flow_nests(cap):
    """while inside switch inside loop; the selector is itself a sliced operand."""
    b = TapeBuilder()
    choose = b.scalar(Word.input(0), "b1")
    table = add_table(b, Word.input(1), Word.output(0), 1, 0)
    again = add_table(b, Word.output(0), Word.output(0), 1, 10)
    test = b.table([Word.output(0), Word.arena(0), Word.value(100)])
    moving = [Advance(choose.word, 1), *(Advance(word, 8) for word in (table, table + 1, again, again + 1, test))]
    with b.loop(5, advance=moving):
        b.stage(Call("add", table, cap))
        with b.switch(choose) as s:
            with s.case():
                pass
            with s.case():
                with b.while_loop() as w:
                    b.stage(Call("below", test))
                    w.exit_unless(b.scalar(Word.arena(0), "i8"))
                    b.stage(Call("add", again, cap))
    exe = executable(b, arena_bytes=64, inputs=(Spec("bool", (5,)), vector(5)), outputs=(Output(I64, (5,)),))
    for _ in range(2):
        out = exe.call([np.array([1, 0, 1, 0, 1], bool), np.array([3, 4, 95, 6, 200])])[0]
        assert out.tolist() == [103, 4, 105, 6, 200]


def test_solo_regions_have_no_barriers():
    b = TapeBuilder()
    table = add_table(b, Word.input(0), Word.output(0), 1, 1)
    with b.loop(3):
        b.stage(Call("add", table))
        b.stage(Call("add", table), Call("add", table), serial=True)
    program = b.program(inputs=(vector(1),), outputs=(Output(I64, (1,)),), threads=8)
    assert program.threads == 1
    assert "sync" not in program.listing()
    assert [line.split(maxsplit=1)[1] for line in program.listing().splitlines()] == [
        "solo until 35",
        "loop 3 times, state w4, exit 35",
        "run add(w0)",
        "run add(w0)",
        "run add(w0)",
        "next 7",
        "stop",
    ]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kernel_of_a_serial_stage_does_all_its_work_whatever_its_cap(calls):
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 5, 0), 2))
    table = add_table(b, Word.output(0), Word.output(0), 5, 10)
    b.stage(*[Call("add", table, 2)] * calls, serial=True)
    exe = executable(b, inputs=(vector(5),), outputs=(Output(I64, (5,)),))
    assert exe.call([np.arange(5)])[0].tolist() == [10 * calls + k for k in range(5)]


def test_barriers_between_parallel_and_serial_parts():
    b = TapeBuilder()
    table = add_table(b, Word.input(0), Word.output(0), 1, 1)
    b.stage(Call("add", table, 4))
    b.stage(Call("add", table))
    b.stage(Call("add", table))
    b.stage(Call("add", table, 2), Call("add", table))
    b.stage(Call("add", table))
    program = b.program(inputs=(vector(1),), outputs=(Output(I64, (1,)),), threads=8)
    assert program.threads == 4
    assert [line.split(maxsplit=1)[1] for line in program.listing().splitlines()] == [
        "run add(w0) x4 sync",
        "solo until 25",
        "run add(w0)",
        "run add(w0)",
        "sync",
        "run add(w0) x2, add(w0) sync",
        "run add(w0)",
        "stop",
    ]


def test_builder_refuses_what_makes_no_sense():
    b = TapeBuilder()
    with pytest.raises(ValueError, match="no scalar kind 'f4'"):
        b.scalar(Word.input(0), "f4")
    with pytest.raises(ValueError, match="at least one case"), b.switch(b.scalar(Word.input(0), "b1")):
        pass
    with pytest.raises(ValueError, match="needs an exit_unless"), b.while_loop():
        pass
    p = b.scalar(Word.input(0), "b1")
    with pytest.raises(ValueError, match="directly"), b.while_loop() as w, b.loop(3):
        w.exit_unless(p)


# Program: round trip, damage


def rich_program() -> Program:
    b = TapeBuilder()
    p = b.scalar(Word.arena(0), "b1")
    table = add_table(b, Word.input(0), Word.output(0), 4, 1)
    with b.loop(3, advance=[Advance(table, 8, odd=-8)]):
        with b.switch(p) as s:
            with s.case():
                b.stage(Call("add", table, 2), Call("below", table))
            with s.case():
                with b.while_loop() as w:
                    w.exit_unless(p)
                    b.stage(Call("add", table))
    return b.program(
        arena_bytes=64,
        scratch_bytes=128,
        constants=(b"abc", b""),
        inputs=(vector(4), vector(4, "y")),
        outputs=(Output(I64, (4,), "out", donated=1), Output("bfloat16", ())),
        owned=(vector(2, "w"),),
        threads=3,
        errors={7: "index out of range, model.py:3"},
    )


def test_program_round_trips_through_json():
    program = rich_program()
    again = Program.from_json(json.loads(json.dumps(program.to_json())), program.constants)
    assert again == program
    assert again.listing() == program.listing()


def test_program_refuses_other_constants():
    program = rich_program()
    with pytest.raises(ValueError, match="constants of"):
        Program.from_json(program.to_json(), (b"ab", b""))


def test_a_damaged_program_is_refused_or_harmless():
    """No change of one number makes anything but a ValueError or another valid program."""
    program = rich_program()
    rng = random.Random(0)
    data = program.to_json()
    paths = list(leaves(data))
    for _ in range(3000):
        damaged = json.loads(json.dumps(data))
        *path, last = rng.choice(paths)
        holder = damaged
        for key in path:
            holder = holder[key]
        holder[last] = rng.choice([-1, 0, 1, 2, 3, 7, 10**6, 2**62, 2**64, 1.5, None, "x", [], {}, True])
        try:
            Program.from_json(damaged, program.constants)
        except ValueError:
            pass


def leaves(data, path=()):
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        yield (*path, key)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"tape": [0, 0, 1, 5, 0, 1, 4]}, "no such call"),
        ({"tape": [0, 0, 1, 0]}, "ends inside"),
        ({"tape": [9]}, "not an instruction"),
        ({"tape": []}, "end with STOP"),
        ({"tape": [3, 0, 0, 0, 1, 2, 4]}, "not all of"),
        ({"tape": [2, 3, 0, 4]}, "no loop starts"),
        ({"words": [[2, 0, 65]]}, "lies outside arena"),
        ({"words": [[5, 2, 0]]}, "no input 2"),
        ({"threads": 0}, "threads"),
        ({"scratch_bytes": 60}, "multiple"),
        ({"inputs": [["float31", [], ""]]}, "not the name of a dtype"),
        ({"inputs": [["object", [], ""]]}, "plain dtype"),
        ({"outputs": [["int64", [4], "", 0], ["int64", [4], "", 0]]}, "donated twice"),
        ({"outputs": [["int64", [3], "", 0]]}, "cannot take the memory"),
    ],
)
def test_programs_that_are_wrong(change, message):
    data = {
        "tape": [4],
        "kernels": [],
        "words": [],
        "arena_bytes": 64,
        "scratch_bytes": 0,
        "constants": [],
        "inputs": [["int64", [4], "x"]],
        "outputs": [],
        "owned": [],
        "threads": 1,
        "errors": [],
    }
    Program.from_json(data)
    with pytest.raises(ValueError, match=message):
        Program.from_json(data | change)


# Arguments


def test_what_is_not_an_exact_array_is_converted():
    exe = adding(n=3)
    expected = [10, 11, 12]
    x = np.arange(3)
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.int64)
    assert not unaligned.flags.aligned
    for value in (
        x,
        read_only,
        np.arange(0, 6)[::2] // 2,
        x.astype(">i8"),
        unaligned,
        x.view(Subclass),
        np.array([0, 1, 2], np.longlong),
        memoryview(x),
    ):
        assert exe.call([value])[0].tolist() == expected
    fortran = np.asfortranarray(np.arange(6).reshape(2, 3))
    two = TapeBuilder()
    two.stage(Call("add", add_table(two, Word.input(0), Word.output(0), 6, 0)))
    out = executable(two, inputs=(Spec(I64, (2, 3)),), outputs=(Output(I64, (2, 3)),)).call([fortran])[0]
    np.testing.assert_array_equal(out, fortran)


class Subclass(np.ndarray):
    pass


def test_scalars():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 1)))
    exe = executable(b, inputs=(Spec(I64, (), "n"),), outputs=(Output(I64, ()),))
    for value in (41, np.int64(41), np.array(41)):
        assert exe.call([value])[0] == 42
    assert exe.call([True])[0] == 2
    with pytest.raises(TypeError, match=r"'n' is 1.5, a Python float, expected int64\[\]"):
        exe.call([1.5])
    with pytest.raises(OverflowError):
        exe.call([2**63])


PYTHON_NUMBERS = [
    True,
    False,
    0,
    1,
    -1,
    127,
    128,
    -128,
    -129,
    255,
    256,
    2**15,
    2**16 - 1,
    2**24 + 1,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**400,
    0.0,
    -0.0,
    0.1,
    1e-45,
    1e300,
    -1e39,
    float("inf"),
    float("-inf"),
    float("nan"),
    3.0,
    1j,
]


@pytest.mark.parametrize(
    "name",
    [
        "bool",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
    ],
)
def test_python_numbers_become_what_numpy_makes_of_them(name):
    """Natively where that is possible: the same bits as the careful path, or the same refusal."""
    spec = Spec(name, (), "n")
    b = TapeBuilder()
    b.stage(Call("bits", b.table([Word.input(0), Word.output(0), Word.value(spec.nbytes)])))
    exe = executable(b, inputs=(spec,), outputs=(Output(I64, ()),))
    exe.call([np.zeros((), spec.numpy)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow to inf
        for value in PYTHON_NUMBERS:
            results = []
            for careful in (False, True):
                try:
                    out = exe._core.call_with_care([value], -1) if careful else exe.call([value])
                    results.append(out[0].tobytes()[: spec.nbytes])
                except (TypeError, OverflowError) as error:
                    results.append(str(error))
            assert results[0] == results[1], value
            if isinstance(results[0], bytes) and value == value:
                assert results[0] == np.array(value, spec.numpy).tobytes()


def test_donated_scalars_are_arrays():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 1)))
    exe = executable(b, inputs=(Spec(I64, (), "n"),), outputs=(Output(I64, (), donated=0),))
    with pytest.warns(UserWarning, match="'n': it is a int, not an ndarray"):
        assert exe.call([41])[0] == 42
    n = np.array(1)
    assert exe.call([n])[0] is n and n == 2


@pytest.mark.parametrize(
    "value,shown",
    [
        (np.arange(4.0), r"float64\[4\]"),
        (np.arange(4, dtype=np.int32), r"int32\[4\]"),
        (np.arange(5), r"int64\[5\]"),
        (np.arange(4)[None], r"int64\[1, 4\]"),
        (np.int64(3), r"int64\[\]"),
        (3, "3, a Python int"),
        (None, "None, a Python NoneType"),
        ("text", "'text', a Python str"),
        ([[1], [2, 3]], r"a Python list"),
    ],
)
def test_wrong_arguments_are_type_errors_that_name_them(value, shown):
    exe = adding()
    for _ in range(2):  # before and after the pool has a frame
        with pytest.raises(
            TypeError, match=rf"'x' is {shown}.*, expected int64\[4\]" if "list" not in shown else shown
        ):
            exe.call([value])
        exe.call([np.arange(4)])


def test_wrong_number_of_arguments():
    exe = adding()
    for arguments in ([], [np.arange(4)] * 2):
        with pytest.raises(TypeError, match=f"{len(arguments)} arguments, expected 1: 'x'"):
            exe.call(arguments)


def test_unnamed_arguments_are_numbered():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(1), Word.output(0), 1, 0)))
    exe = executable(b, inputs=(Spec(I64, (1,)), Spec(I64, (1,))), outputs=(Output(I64, (1,)),))
    with pytest.raises(TypeError, match="argument 1 is"):
        exe.call([np.arange(1), np.arange(2)])


@pytest.mark.parametrize("name", ["float16", "bfloat16", "bool", "uint8", "complex64", "float32"])
def test_other_dtypes(name):
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 0)))
    spec = Spec(name, (4 if Spec(name, ()).nbytes == 2 else 8 // Spec(name, ()).nbytes,), "x")
    exe = executable(b, inputs=(spec,), outputs=(Output(name, spec.shape),))
    x = np.ones(spec.shape, spec.numpy)
    for _ in range(2):
        out = exe.call([x])[0]
        assert out.dtype == spec.numpy and (out == x).all()


def test_the_same_without_reading_array_headers(monkeypatch):
    """Where NumPy's arrays look otherwise, checks run in Python, with the same results."""
    monkeypatch.setattr(binder_module, "native_runner", binder_module.python_runner)
    exe = adding()
    assert exe.call([np.arange(4)])[0].tolist() == [10, 11, 12, 13]
    assert exe.call([np.arange(8)[::2]])[0].tolist() == [10, 12, 14, 16]
    with pytest.raises(TypeError, match="'x' is"):
        exe.call([np.arange(5)])
    with pytest.raises(TypeError, match="2 arguments"):
        exe.call([np.arange(4)] * 2)


# Donation


def updating(n: int = 3) -> Executable:
    """(w donated, g) -> (w + 1 in place, g + 2)"""
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(1), Word.output(1), n, 2)))
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), n, 1)))
    return executable(
        b, inputs=(vector(n, "w"), vector(n, "g")), outputs=(Output(I64, (n,), donated=0), Output(I64, (n,)))
    )


def test_a_donated_argument_is_the_result():
    exe = updating()
    w, g = np.array([1, 2, 3]), np.array([5, 5, 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(1, 4):
            new, h = exe.call([w, g])
            assert new is w and w.tolist() == [1 + k, 2 + k, 3 + k] and h.tolist() == [7, 7, 7]


def make_donated(how: str) -> object:
    x = np.array([1, 2, 3])
    match how:
        case "read-only":
            x.flags.writeable = False
            return x
        case "strided":
            return np.array([1, 0, 2, 0, 3, 0])[::2]
        case "byte order":
            return x.astype(">i8")
        case "subclass":
            return x.view(Subclass)
        case "buffer":
            return memoryview(x)
    raise AssertionError(how)


@pytest.mark.parametrize(
    "how,reason",
    [
        ("read-only", "read-only"),
        ("strided", "not a C-contiguous"),
        ("byte order", "native byte order"),
        ("subclass", "a Subclass, not an ndarray"),
        ("buffer", "a memoryview, not an ndarray"),
    ],
)
def test_donated_arguments_that_cannot_be_reused_are_copied_with_one_warning(how, reason):
    exe = updating()
    w = make_donated(how)
    g = np.array([5, 5, 5])
    with pytest.warns(UserWarning, match=f"'w': it is .*{reason}") as record:
        new, _ = exe.call([w, g])
    assert len(record) == 1
    assert new is not w and new.tolist() == [2, 3, 4] and np.asarray(w).tolist() == [1, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, _ = exe.call([w, g])
    assert again.tolist() == [2, 3, 4] and again is not new


def test_a_donated_argument_that_another_one_overlaps_is_copied():
    exe = updating()
    base = np.arange(10)
    with pytest.warns(UserWarning, match="'w': it shares memory with 'g'"):
        new, h = exe.call([base[2:5], base[4:7]])
    assert new.tolist() == [3, 4, 5] and h.tolist() == [6, 7, 8] and base.tolist() == list(range(10))
    exe.call([base[2:5], base[5:8]])  # neighbours share nothing
    assert base.tolist() == [0, 1, 3, 4, 5, 5, 6, 7, 8, 9]
    same = np.array([1, 2, 3])
    new, h = exe.call([same, same])
    assert new is not same and new.tolist() == [2, 3, 4] and h.tolist() == [3, 4, 5]
    new, h = exe.call([same, base[::3][:3]])  # another argument that is converted
    assert new is same


def test_overlap_is_noticed_whatever_the_last_call_was():
    """The native check looks at pairs with a new pointer only: go through many sequences of pointers."""
    b = TapeBuilder()
    for k in range(3):
        b.stage(Call("add", add_table(b, Word.input(k), Word.output(k), 2, 1)))
    exe = executable(
        b,
        inputs=tuple(vector(2, name) for name in "abc"),
        outputs=(Output(I64, (2,), donated=0), Output(I64, (2,)), Output(I64, (2,))),
    )
    rng = random.Random(1)
    base = np.zeros(8, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(500):
            base[:] = np.arange(8)
            a, b_, c = (base[i : i + 2] for i in (rng.randrange(7) for _ in range(3)))
            expected = [x + 1 for x in (a, b_, c)]
            overlap = np.shares_memory(a, b_) or np.shares_memory(a, c)
            results = exe.call([a, b_, c])
            assert [r.tolist() for r in results] == [e.tolist() for e in expected]
            assert (results[0] is a) == (not overlap)


def test_overlapping_donated_arguments_are_an_error():
    b = TapeBuilder()
    for k in range(2):
        b.stage(Call("add", add_table(b, Word.input(k), Word.output(k), 2, 1)))
    exe = executable(
        b, inputs=(vector(2, "a"), vector(2, "b")), outputs=(Output(I64, (2,), donated=0), Output(I64, (2,), donated=1))
    )
    base = np.arange(6)
    with pytest.raises(ValueError, match="'a' and 'b' share memory"):
        exe.call([base[0:2], base[1:3]])
    with pytest.raises(ValueError, match="'a' and 'b' share memory"):
        exe.call([base[0:2], base[0:2]])
    assert base.tolist() == list(range(6))
    a, b_ = exe.call([base[0:2], base[2:4]])
    assert base.tolist() == [1, 2, 3, 4, 4, 5] and a.base is base


def test_empty_donated_arguments_overlap_with_nothing():
    exe = updating(0)
    w = np.zeros(0, np.int64)
    assert exe.call([w, w])[0] is w


# Owned memory


def test_owned_arrays_can_be_bound_again():
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.owned(0), Word.owned(0), 2, 1)))
    first, second = np.zeros(2, np.int64), np.array([10, 20])
    exe = executable(b, owned=(vector(2, "w"),), owned_arrays=[first])
    exe.call([])
    exe.bind_owned([second])
    exe.call([])
    assert first.tolist() == [1, 1] and second.tolist() == [11, 21] and exe.owned[0] is second


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: np.zeros(3, np.int64), r"'w' is int64\[3\], expected int64\[2\]"),
        (lambda: np.zeros(2), r"'w' is float64\[2\]"),
        (lambda: np.zeros(4, np.int64)[::2], "cannot be used in place"),
        (lambda: np.frombuffer(bytes(16), np.int64), "cannot be used in place"),
        (lambda: [0, 0], "'w' is"),
    ],
)
def test_owned_arrays_must_fit(make, message):
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.owned(0), Word.owned(0), 2, 1)))
    with pytest.raises(TypeError, match=message):
        executable(b, owned=(vector(2, "w"),), owned_arrays=[make()])


# Errors


def failing(cap: int = 1, **description) -> Executable:
    b = TapeBuilder()
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 0)))
    b.stage(Call("fail", b.table([Word.input(0), Word.value(7), Word.value(0)]), cap))
    b.stage(Call("add", add_table(b, Word.input(0), Word.output(0), 1, 50)))
    return executable(b, inputs=(vector(1),), outputs=(Output(I64, (1,)),), **description)


def test_error_words_raise_python_errors():
    exe = failing(errors={7: "index 9 is out of bounds, model.py:3"})
    for _ in range(2):
        assert exe.call([np.array([0])])[0] == 50
        with pytest.raises(IndexError, match="model.py:3"):
            exe.call([np.array([1])])
        with pytest.raises(np.linalg.LinAlgError):
            exe.call([np.array([2])])
        with pytest.raises(FloatingPointError):
            exe.call([np.array([3])])
        with pytest.raises(RuntimeError):
            exe.call([np.array([4])])


def test_the_caller_makes_the_exception():
    exe = failing(on_error=lambda code, node: KeyError((code, node)))
    for _ in range(2):
        with pytest.raises(KeyError, match=r"\(5, 7\)"):
            exe.call([np.array([5])])


def test_a_failed_loop_leaves_nothing_behind():
    """The error comes in the third iteration; the next call starts with fresh pointers and counters."""
    b = TapeBuilder()
    check = b.table([Word.input(0), Word.value(7), Word.value(0)])
    table = add_table(b, Word.input(0), Word.output(0), 1, 1)
    with b.loop(5, advance=[Advance(table, 8), Advance(table + 1, 8), Advance(table + 3, 1), Advance(check, 8)]):
        b.stage(Call("add", table))
        b.stage(Call("fail", check))
    exe = executable(b, inputs=(vector(5),), outputs=(Output(I64, (5,)),))
    good, bad = np.zeros(5, np.int64), np.array([0, 0, 1, 0, 0])
    for x in (good, bad, good, bad, bad, good):
        if x is bad:
            with pytest.raises(IndexError):
                exe.call([x])
        else:
            assert exe.call([x])[0].tolist() == [1, 2, 3, 4, 5]


# Loading


def test_symbols_are_checked_by_name():
    def calls(symbol: str):
        from llvmlite import ir

        def body(code, table, thread, threads):
            kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
            function = ir.Function(code.builder.module, kind, symbol)
            code.builder.call(function, [ir.Constant(ir.DoubleType(), 1.0)])

        return kernel_object(f"calls_{symbol}", body)

    assert undefined_symbols(calls("exp")) == ()
    assert undefined_symbols(calls("PyErr_Clear")) == ("PyErr_Clear",)
    with pytest.raises(CodeError, match="object file 1 needs PyErr_Clear"):
        load_objects([calls("exp"), calls("PyErr_Clear")])
    assert load_objects([calls("exp"), calls("tanh")]).address("calls_exp")
    with pytest.raises(CodeError, match="graphc_test_lapack"):
        load_objects([calls("graphc_test_lapack")])
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    register_symbols({"graphc_test_lapack": address})
    register_symbols({"graphc_test_lapack": address})
    assert load_objects([calls("graphc_test_lapack")]).address("calls_graphc_test_lapack")
    with pytest.raises(ValueError, match="another address"):
        register_symbols({"graphc_test_lapack": address + 1})


def test_objects_that_are_linked_together_may_call_each_other():
    def body(code, table, thread, threads):
        code.give(code.call(declared(code, "add"), table, thread, threads))

    caller = kernel_object("calls_add", body)
    assert undefined_symbols(caller) == ("add",)
    with pytest.raises(CodeError, match="needs add"):
        load_objects([caller])
    code = load_objects([caller, *objects("add")])
    x, out = np.array([4]), np.zeros(1, np.int64)
    table = np.array([x.ctypes.data, out.ctypes.data, 1, 3])
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code.address("calls_add"))
    assert call(table.ctypes.data, 0, 1) == 0 and out[0] == 7


def declared(code, name: str):
    from llvmlite import ir

    return ir.Function(code.builder.module, ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * 3), name)


def test_unknown_and_repeated_symbols():
    code = load_objects(objects("add"))
    with pytest.raises(CodeError, match="no object file defines 'sub'"):
        code.address("sub")
    with pytest.raises(CodeError, match="defines add, which another"):
        load_objects([*objects("add"), *objects("add")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"not an object file, but long enough for a header to be read" * 4,
        b"\xcf\xfa\xed\xfe" + bytes(100),
        bytes(1000),
    ],
)
def test_what_is_no_object_file(data):
    with pytest.raises(CodeError):
        load_objects([data])


@pytest.mark.skipif(objects("add")[0][:4] != b"\x7fELF", reason="ELF is checked in full")
def test_damaged_objects_are_refused_or_load():
    """In a process of its own: no truncation or changed byte outside the machine code itself brings LLVM down."""
    script = """
        import random, sys
        from runtime_kernels import objects
        from graphc.backends.cpu.runtime import CodeError, load_objects
        data = objects("accumulate")[0]
        rng = random.Random(2)
        refused = 0
        for trial in range(600):
            damaged = bytearray(data)
            if trial % 3 == 0:
                del damaged[rng.randrange(len(data)):]
            else:
                for _ in range(rng.choice([1, 1, 2, 8])):
                    damaged[rng.randrange(len(data))] = rng.randrange(256)
            try:
                load_objects([bytes(damaged)])
            except CodeError:
                refused += 1
        assert refused >= 250, refused
        print("fine")
    """
    assert run_python(script) == "fine\n"


def test_the_runtime_needs_neither_numba_nor_the_compiler():
    """It imports the standard library, NumPy, llvmlite, itself, and how graphc warns; ml_dtypes where a dtype needs it."""
    allowed = {*sys.stdlib_module_names, "numpy", "llvmlite", "ml_dtypes"}
    package = "graphc.backends.cpu.runtime"
    for path in (ROOT / "backends/cpu/runtime").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                fine = name.startswith(package) or name == "graphc.remarks" or name.split(".")[0] in allowed
                assert fine, f"{path.name} imports {name}"
    assert (
        run_python("""
        import sys
        import graphc.backends.cpu.runtime
        print("numba" in sys.modules)
    """)
        == "False\n"
    )


# Memory


def test_memory_is_freed_with_the_executable():
    exe = adding()
    exe.call([np.arange(4)])
    watched = [weakref.ref(exe._core), weakref.ref(exe._core._code), weakref.ref(exe._core._frames[0])]
    call = exe.call
    del exe
    gc.collect()
    assert call([np.arange(4)])[0].tolist() == [10, 11, 12, 13]  # the function keeps what it needs
    del call
    gc.collect()
    assert [w() for w in watched] == [None] * 3


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def malloc_bytes() -> int:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = Mallinfo2
    info = library.mallinfo2()
    return info.uordblks + info.hblkhd


def test_calls_do_not_grow_memory():
    exe = updating()
    failing_exe = failing()
    w, g, bad = np.array([1, 2, 3]), np.array([5, 5, 5]), np.array([1])

    def work(times: int) -> None:
        for i in range(times):
            exe.call([w, g])
            if i % 100 == 0:
                with pytest.raises(IndexError):
                    failing_exe.call([bad])

    work(1000)
    gc.collect()
    tracemalloc.start()
    try:
        work(1000)
        gc.collect()
        python, native = tracemalloc.get_traced_memory()[0], malloc_bytes()
        work(100_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - python < 4096
        assert malloc_bytes() - native < 16384
    finally:
        tracemalloc.stop()


def test_programs_decode_to_what_they_encode():
    program = rich_program()
    instructions = list(isa.decode(program.tape))
    assert list(itertools.chain(*(i.encode() for _, i in instructions))) == list(program.tape)
    assert isinstance(instructions[-1][1], isa.Stop)
