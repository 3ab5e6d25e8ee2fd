"""A small language for native functions: Python that writes LLVM IR and reads like the function it writes.

Everything is a 64-bit word, addresses included, which is all that the driver needs:

    with module.function("sum", 2) as (code, (values, count)):
        total, i = code.variable(0), code.variable(0)
        with code.loop() as loop:
            loop.leave_when(i.get() >= count)
            total.set(total.get() + code.words(values)[i.get()])
            i.set(i.get() + 1)
        code.give(total.get())
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

WORD = ir.IntType(64)
INT32 = ir.IntType(32)


class Value:
    """A word computed by the function being written; operators write instructions. Comparisons are signed."""

    def __init__(self, code: Code, value: ir.Value) -> None:
        self.code = code
        self.ir = value

    def _binary(self, instruction: str, other: Value | int) -> Value:
        return Value(self.code, getattr(self.code.builder, instruction)(self.ir, self.code.lift(other)))

    def _compare(self, operator: str, other: Value | int, signed: bool = True) -> Condition:
        compare = self.code.builder.icmp_signed if signed else self.code.builder.icmp_unsigned
        return Condition(self.code, compare(operator, self.ir, self.code.lift(other)))

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and_", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or_", other)

    def __eq__(self, other: Value | int) -> Condition:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Value | int) -> Condition:  # type: ignore[override]
        return self._compare("!=", other)

    def __lt__(self, other: Value | int) -> Condition:
        return self._compare("<", other)

    def __ge__(self, other: Value | int) -> Condition:
        return self._compare(">=", other)

    __hash__ = None  # type: ignore[assignment]

    def below(self, other: Value | int) -> Condition:
        """Less than, both taken as unsigned."""
        return self._compare("<", other, signed=False)


class Condition:
    """A truth value; `&` and `|` evaluate both sides."""

    def __init__(self, code: Code, value: ir.Value) -> None:
        self.code = code
        self.ir = value

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.code, self.code.builder.and_(self.ir, other.ir))

    def __or__(self, other: Condition) -> Condition:
        return Condition(self.code, self.code.builder.or_(self.ir, other.ir))

    def choose(self, yes: Value | int, no: Value | int) -> Value:
        """`yes` where this holds, else `no`; both are evaluated."""
        return Value(self.code, self.code.builder.select(self.ir, self.code.lift(yes), self.code.lift(no)))


class Variable:
    """A word that changes."""

    def __init__(self, code: Code, slot: ir.Value) -> None:
        self._code = code
        self._slot = slot

    def get(self) -> Value:
        return Value(self._code, self._code.builder.load(self._slot))

    def set(self, value: Value | int) -> None:
        self._code.builder.store(self._code.lift(value), self._slot)


class Words:
    """Words in memory from an address on. The methods named after atomic operations are sequentially consistent."""

    def __init__(self, code: Code, address: Value) -> None:
        self._code = code
        self._base = code.builder.inttoptr(address.ir, WORD.as_pointer())

    def _at(self, index: Value | int) -> ir.Value:
        return self._code.builder.gep(self._base, [self._code.lift(index)])

    def __getitem__(self, index: Value | int) -> Value:
        return Value(self._code, self._code.builder.load(self._at(index)))

    def __setitem__(self, index: Value | int, value: Value | int) -> None:
        self._code.builder.store(self._code.lift(value), self._at(index))

    def address(self, index: Value | int) -> Value:
        return Value(self._code, self._code.builder.ptrtoint(self._at(index), WORD))

    def load(self, index: Value | int) -> Value:
        return Value(self._code, self._code.builder.load_atomic(self._at(index), "seq_cst", 8))

    def store(self, index: Value | int, value: Value | int) -> None:
        self._code.builder.store_atomic(self._code.lift(value), self._at(index), "seq_cst", 8)

    def add(self, index: Value | int, value: Value | int) -> Value:
        """Adds and returns the old value."""
        return self._rmw("add", index, value)

    def exchange(self, index: Value | int, value: Value | int) -> Value:
        """Stores and returns the old value."""
        return self._rmw("xchg", index, value)

    def _rmw(self, operation: str, index: Value | int, value: Value | int) -> Value:
        old = self._code.builder.atomic_rmw(operation, self._at(index), self._code.lift(value), "seq_cst")
        return Value(self._code, old)


class Loop:
    """A loop that runs until it is left."""

    def __init__(self, code: Code, end: ir.Block) -> None:
        self._code = code
        self._end = end

    def leave(self) -> None:
        self._code.builder.branch(self._end)

    def leave_when(self, condition: Condition) -> None:
        rest = self._code.builder.append_basic_block()
        self._code.builder.cbranch(condition.ir, self._end, rest)
        self._code.builder.position_at_end(rest)


class Cases:
    """The cases of a switch over a word; a value without a case goes past the switch."""

    def __init__(self, code: Code, switch: ir.SwitchInstr, end: ir.Block) -> None:
        self._code = code
        self._switch = switch
        self._end = end

    @contextmanager
    def case(self, *values: int) -> Iterator[None]:
        block = self._code.builder.append_basic_block()
        for value in values:
            self._switch.add_case(ir.Constant(WORD, value), block)
        self._code.builder.position_at_end(block)
        yield
        if not self._code.builder.block.is_terminated:
            self._code.builder.branch(self._end)


class Code:
    """The body of a function being written."""

    def __init__(self, function: ir.Function) -> None:
        self.entry = ir.IRBuilder(function.append_basic_block("entry"))
        self.builder = ir.IRBuilder(function.append_basic_block("body"))

    def finish(self) -> None:
        if not self.builder.block.is_terminated:
            self.give(0)
        self.entry.branch(self.builder.function.blocks[1])

    def lift(self, value: Value | int) -> ir.Value:
        return value.ir if isinstance(value, Value) else ir.Constant(WORD, value)

    def constant(self, value: int) -> Value:
        return Value(self, ir.Constant(WORD, value))

    def variable(self, value: Value | int) -> Variable:
        variable = Variable(self, self.entry.alloca(WORD))
        variable.set(value)
        return variable

    def array(self, count: Value) -> Value:
        """The address of `count` words on the stack."""
        return Value(self, self.builder.ptrtoint(self.builder.alloca(WORD, count.ir), WORD))

    def words(self, address: Value | int) -> Words:
        return Words(self, Value(self, self.lift(address)))

    def load(self, address: Value, bits: int, signed: bool) -> Value:
        """An integer of another width in memory."""
        kind = ir.IntType(bits)
        value = self.builder.load(self.builder.inttoptr(address.ir, kind.as_pointer()), align=1)
        if bits == WORD.width:
            return Value(self, value)
        return Value(self, (self.builder.sext if signed else self.builder.zext)(value, WORD))

    def float64_bits(self, value: Value) -> Value:
        """The bits of the float64 nearest to an integer."""
        return Value(self, self.builder.bitcast(self.builder.sitofp(value.ir, ir.DoubleType()), WORD))

    def float32_bits(self, bits: Value) -> Value:
        """The bits of the float32 nearest to a float64, given by its bits."""
        number = self.builder.fptrunc(self.builder.bitcast(bits.ir, ir.DoubleType()), ir.FloatType())
        return Value(self, self.builder.zext(self.builder.bitcast(number, INT32), WORD))

    def call(self, function: ir.Function, *arguments: Value | int) -> Value:
        """Calls a function of the same module."""
        return Value(self, self.builder.call(function, [self.lift(argument) for argument in arguments]))

    def call_address(
        self, address: Value | int, *arguments: Value | int, result: Any = WORD, types: Sequence[Any] | None = None
    ) -> Value:
        """Calls a C function; `types` where a parameter is not a word, `result` where the result is not."""
        kinds = list(types or [WORD] * len(arguments))
        kind = ir.FunctionType(result, kinds).as_pointer()
        lowered = [ir.Constant(kinds[i], a) if isinstance(a, int) else a.ir for i, a in enumerate(arguments)]
        returned = self.builder.call(self.builder.inttoptr(self.lift(address), kind), lowered)
        if result == INT32:
            returned = self.builder.sext(returned, WORD)
        return Value(self, returned)

    def intrinsic(self, name: str, *arguments: int) -> None:
        """Calls an LLVM intrinsic that takes 32-bit constants and returns nothing."""
        kind = ir.FunctionType(ir.VoidType(), [INT32] * len(arguments))
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)
        self.builder.call(function, [ir.Constant(INT32, argument) for argument in arguments])

    def give(self, value: Value | int) -> None:
        """Returns from the function."""
        self.builder.ret(self.lift(value))

    @contextmanager
    def when(self, condition: Condition) -> Iterator[None]:
        with self.builder.if_then(condition.ir):
            yield

    @contextmanager
    def either(self, condition: Condition) -> Iterator[tuple[Any, Any]]:
        """`with code.either(c) as (then, otherwise)`: two blocks to enter with `with`."""
        with self.builder.if_else(condition.ir) as blocks:
            yield blocks

    @contextmanager
    def loop(self) -> Iterator[Loop]:
        head = self.builder.append_basic_block()
        end = self.builder.append_basic_block()
        self.builder.branch(head)
        self.builder.position_at_end(head)
        yield Loop(self, end)
        if not self.builder.block.is_terminated:
            self.builder.branch(head)
        self.builder.position_at_end(end)

    @contextmanager
    def repeat(self, count: Value | int) -> Iterator[Value]:
        """Runs the block for 0, 1, ... count - 1."""
        index = self.variable(0)
        with self.loop() as loop:
            current = index.get()
            loop.leave_when(current >= count)
            yield current
            index.set(current + 1)

    @contextmanager
    def switch(self, value: Value) -> Iterator[Cases]:
        end = self.builder.append_basic_block()
        yield Cases(self, self.builder.switch(value.ir, end), end)
        self.builder.position_at_end(end)


class Module:
    """Native functions of words that call each other."""

    def __init__(self, name: str) -> None:
        self.ir = ir.Module(name)

    @contextmanager
    def function(self, name: str, parameters: int, *, exported: bool = False) -> Iterator[tuple[Any, Any, Any]]:
        """Writes a function of `parameters` words that returns a word; yields (function, code, parameters)."""
        function = ir.Function(self.ir, ir.FunctionType(WORD, [WORD] * parameters), name)
        function.linkage = "external" if exported else "internal"
        code = Code(function)
        yield function, code, [Value(code, argument) for argument in function.args]
        code.finish()
