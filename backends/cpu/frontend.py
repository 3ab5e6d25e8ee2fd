"""From the source of a kernel to Numba's IR, by the syntax tree.

Numba reads bytecode, instruction by instruction: half of the time that its front end takes. The language of kernels is
so small that its syntax tree says everything: assignments, calls, arithmetic, ``if``, ``while``, ``for … in range(…)``,
``break``, ``continue``, ``return``. What comes out is the IR that Numba infers types on, with one block per branch of
the control flow. Whatever else the source holds is refused with its line.

A name that the function assigns is a variable, every other one a function or constant of the namespace. ``and``, ``or``
and ``not`` in a condition become branches.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from numba.core import errors, ir

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip


def numba_ir(source: str, name: str, namespace: Mapping[str, Any], filename: str) -> ir.FunctionIR:
    """The IR of the function ``name`` that ``source`` defines. Raises NumbaError for what is not in the language."""
    for statement in ast.parse(source, filename).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return _Translator(statement, namespace, filename).run()
    raise errors.UnsupportedError(f"the source defines no function {name}")


class _Translator:
    """Writes one function. ``block`` is the block that statements go to; None where none can be reached."""

    def __init__(self, function: ast.FunctionDef, namespace: Mapping[str, Any], filename: str) -> None:
        self.function = function
        self.namespace = namespace
        self.locs: dict[int, ir.Loc] = {}
        self.filename = filename
        self.scope = ir.Scope(None, self.loc(function))
        self.parameters = [a.arg for a in function.args.args]
        self.variables = {*self.parameters, *assigned_names(function.body)}
        self.blocks: list[ir.Block] = []  # in the order of the text
        self.block: ir.Block | None = None
        self.loops: list[tuple[ir.Block, ir.Block]] = []  # where `continue` and `break` go to
        self.reached: set[int] = set()  # id of every block that a jump leads to
        self.globals: dict[str, ir.Var] = {}
        self.count = 0

    def run(self) -> ir.FunctionIR:
        start = self.loc(self.function)
        entry = self.open(self.new_block(self.function), always=True)
        first: list[ir.Assign] = []  # parameters and globals are read once, at the top
        for k, parameter in enumerate(self.parameters):
            first.append(ir.Assign(ir.Arg(parameter, k, start), self.variable(parameter, start), start))
        self.suite(self.function.body)
        if self.block is not None:
            raise errors.UnsupportedError("a kernel ends with return", loc=self.loc(self.function.body[-1]))
        for name, variable in self.globals.items():
            first.append(ir.Assign(ir.Global(name, self.value_of(name), variable.loc), variable, variable.loc))
        entry.body[:0] = first
        labels = {id(block): k for k, block in enumerate(self.blocks)}
        for block in self.blocks:
            end = block.body[-1]
            if isinstance(end, ir.Jump):
                end.target = labels[id(end.target)]
            elif isinstance(end, ir.Branch):
                end.truebr, end.falsebr = labels[id(end.truebr)], labels[id(end.falsebr)]
        identity = SimpleNamespace(
            func_name=self.function.name,
            func=SimpleNamespace(__globals__=self.namespace),
            code=SimpleNamespace(co_freevars=()),
        )
        blocks = dict(enumerate(self.blocks))
        count = len(self.parameters)
        return ir.FunctionIR(blocks, False, identity, start, defaultdict(list), count, tuple(self.parameters))

    # ------------------------------------------------------------------------------------------ helpers

    def loc(self, node: ast.AST) -> ir.Loc:
        line: int = node.lineno  # type: ignore[attr-defined]
        found = self.locs.get(line)
        if found is None:
            found = self.locs[line] = ir.Loc(self.filename, line)
        return found

    def refuse(self, node: ast.AST) -> errors.UnsupportedError:
        return errors.UnsupportedError(f"{ast.unparse(node)} is not in the language of kernels", loc=self.loc(node))

    def value_of(self, name: str) -> Any:
        return self.namespace[name] if name in self.namespace else getattr(builtins, name)

    def new_block(self, node: ast.AST) -> ir.Block:
        return ir.Block(self.scope, self.loc(node))

    def open(self, block: ir.Block, always: bool = False) -> ir.Block:
        """Statements go to ``block`` from here on; to none where nothing jumps to it."""
        self.block = block if always or id(block) in self.reached else None
        if self.block is not None:
            self.blocks.append(block)
        return block

    def jump(self, target: ir.Block, loc: ir.Loc) -> None:
        if self.block is not None:
            self.block.body.append(ir.Jump(target, loc))
            self.reached.add(id(target))
        self.block = None

    def variable(self, name: str, loc: ir.Loc) -> ir.Var:
        return ir.Var(self.scope, name, loc)

    def temporary(self, loc: ir.Loc) -> ir.Var:
        self.count += 1
        return ir.Var(self.scope, f"${self.count}", loc)

    def assign(self, value: Any, loc: ir.Loc, target: ir.Var | None = None) -> ir.Var:
        target = self.temporary(loc) if target is None else target
        assert self.block is not None
        self.block.body.append(ir.Assign(value, target, loc))
        return target

    def use(self, name: str, loc: ir.Loc) -> ir.Var:
        """The variable of a name of the namespace."""
        found = self.globals.get(name)
        if found is None:
            if name not in self.namespace and not hasattr(builtins, name):
                raise errors.TypingError(f"{name} is no name of the language of kernels", loc=loc)
            found = self.globals[name] = ir.Var(self.scope, f"${name}", loc)
        return found

    # ------------------------------------------------------------------------------------------ expressions

    def expression(self, node: ast.expr, target: ir.Var | None = None) -> ir.Var:
        """The value of ``node``, in ``target`` where one is given."""
        loc = self.loc(node)
        match node:
            case ast.Name(id=name):
                found = self.variable(name, loc) if name in self.variables else self.use(name, loc)
                return found if target is None else self.assign(found, loc, target)
            case ast.BoolOp() | ast.IfExp():
                return self.choice(node, target)
        constant = folded(node)
        if constant is not None:
            return self.assign(ir.Const(constant, loc), loc, target)
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                x, y = self.expression(left), self.expression(right)
                return self.assign(ir.Expr.binop(BINARY[type(op)], x, y, loc), loc, target)
            case ast.UnaryOp(op=op, operand=operand):
                return self.assign(ir.Expr.unary(UNARY[type(op)], self.expression(operand), loc), loc, target)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARE:
                x, y = self.expression(left), self.expression(right)
                return self.assign(ir.Expr.binop(COMPARE[type(op)], x, y, loc), loc, target)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name not in self.variables:
                if any(k.arg is None for k in keywords) or any(isinstance(a, ast.Starred) for a in args):
                    raise self.refuse(node)
                function = self.use(name, loc)
                values = tuple(map(self.expression, args))
                named = tuple((k.arg, self.expression(k.value)) for k in keywords)
                return self.assign(ir.Expr.call(function, values, named, loc), loc, target)
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))):
                item = ir.Expr.static_getitem(self.expression(value), index, None, loc)
                return self.assign(item, loc, target)
        raise self.refuse(node)

    def choice(self, node: ast.BoolOp | ast.IfExp, target: ir.Var | None) -> ir.Var:
        """``a and b``, ``a or b``, ``x if c else y`` as values: the last one assigned."""
        loc = self.loc(node)
        result = self.temporary(loc) if target is None else target
        end = self.new_block(node)
        if isinstance(node, ast.IfExp):
            yes, no = self.new_block(node.body), self.new_block(node.orelse)
            self.test(node.test, yes, no)
            for block, value in ((yes, node.body), (no, node.orelse)):
                self.open(block)
                self.expression(value, result)
                self.jump(end, loc)
        else:
            for value in node.values[:-1]:
                self.expression(value, result)
                more = self.new_block(value)
                self.branch(result, *((more, end) if isinstance(node.op, ast.And) else (end, more)), loc)
                self.open(more)
            self.expression(node.values[-1], result)
            self.jump(end, loc)
        self.open(end)
        return result

    def test(self, node: ast.expr, yes: ir.Block, no: ir.Block) -> None:
        """Go to ``yes`` or ``no``."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.test(operand, no, yes)
            case ast.BoolOp(op=op, values=values):
                for value in values[:-1]:
                    more = self.new_block(value)
                    self.test(value, *((more, no) if isinstance(op, ast.And) else (yes, more)))
                    self.open(more)
                self.test(values[-1], yes, no)
            case _:
                self.branch(self.expression(node), yes, no, self.loc(node))

    def branch(self, value: ir.Var, yes: ir.Block, no: ir.Block, loc: ir.Loc) -> None:
        condition = self.assign(ir.Expr.call(self.use("bool", loc), (value,), (), loc), loc)
        assert self.block is not None
        self.block.body.append(ir.Branch(condition, yes, no, loc))
        self.reached |= {id(yes), id(no)}
        self.block = None

    # ------------------------------------------------------------------------------------------ statements

    def suite(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.block is None:
                return  # after return, break, continue
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        loc = self.loc(node)
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.expression(value, self.variable(name, loc))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                if len(targets) != len(values):
                    raise self.refuse(node)
                made = [self.assign(self.expression(value), loc) for value in values]
                for target, variable in zip(targets, made, strict=True):
                    self.assign(variable, loc, self.target(target))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                items = ir.Expr.exhaust_iter(self.expression(value), len(targets), loc)
                several = self.assign(items, loc)
                for k, target in enumerate(targets):
                    self.assign(ir.Expr.static_getitem(several, k, None, loc), loc, self.target(target))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value) if type(op) in BINARY:
                x, y = self.variable(name, loc), self.expression(value)
                self.assign(ir.Expr.binop(BINARY[type(op)], x, y, loc), loc, self.variable(name, loc))
            case ast.Expr(value=value):
                if not isinstance(value, ast.Constant):
                    self.expression(value)
            case ast.Pass():
                pass
            case ast.Return(value=ast.expr() as value):
                result = self.assign(ir.Expr.cast(self.expression(value), loc), loc)
                assert self.block is not None
                self.block.body.append(ir.Return(result, loc))
                self.block = None
            case ast.If(test=test, body=body, orelse=orelse):
                yes, end = self.new_block(body[0]), self.new_block(node)
                no = self.new_block(orelse[0]) if orelse else end
                self.test(test, yes, no)
                self.open(yes)
                self.suite(body)
                self.jump(end, loc)
                if orelse:
                    self.open(no)
                    self.suite(orelse)
                    self.jump(end, loc)
                self.open(end)
            case ast.While(test=test, body=body, orelse=[]):
                head, inside, end = self.new_block(node), self.new_block(body[0]), self.new_block(node)
                self.jump(head, loc)
                self.open(head)
                if folded(test):
                    self.jump(inside, loc)
                else:
                    self.test(test, inside, end)
                self.loop(inside, body, head, end, loc)
            case ast.For(target=ast.Name(id=name), iter=iterable, body=body, orelse=[]):
                head, inside, end = self.new_block(node), self.new_block(body[0]), self.new_block(node)
                iterator = self.assign(ir.Expr.getiter(self.expression(iterable), loc), loc)
                self.jump(head, loc)
                self.open(head)
                pair = self.assign(ir.Expr.iternext(iterator, loc), loc)
                item = self.assign(ir.Expr.pair_first(pair, loc), loc)
                self.branch(self.assign(ir.Expr.pair_second(pair, loc), loc), inside, end, loc)
                self.open(inside)
                self.assign(item, loc, self.variable(name, loc))
                self.loop(None, body, head, end, loc)
            case ast.Continue():
                self.jump(self.loops[-1][0], loc)
            case ast.Break():
                self.jump(self.loops[-1][1], loc)
            case _:
                raise self.refuse(node)

    def loop(self, inside: ir.Block | None, body: list[ast.stmt], head: ir.Block, end: ir.Block, loc: ir.Loc) -> None:
        """The body of a loop, which begins in ``inside`` or has begun."""
        if inside is not None:
            self.open(inside)
        self.loops.append((head, end))
        self.suite(body)
        self.loops.pop()
        self.jump(head, loc)
        self.open(end)

    def target(self, node: ast.expr) -> ir.Var:
        if not isinstance(node, ast.Name):
            raise self.refuse(node)
        return self.variable(node.id, self.loc(node))


def assigned_names(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that statements assign, those inside them included."""
    for statement in statements:
        match statement:
            case ast.Assign(targets=targets):
                pass
            case ast.AugAssign(target=target) | ast.For(target=target):
                targets = [target]
            case _:
                targets = []
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else (target,):
                if isinstance(one, ast.Name):
                    yield one.id
        if isinstance(statement, (ast.If, ast.For, ast.While)):
            yield from assigned_names(statement.body)
            yield from assigned_names(statement.orelse)


def folded(node: ast.expr) -> Any:
    """The number that an expression of literals is, as Python folds it; None for any other one."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.UnaryOp(op=op, operand=operand):
            value = folded(operand)
            return None if value is None else UNARY[type(op)](value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            x = folded(left)
            y = None if x is None else folded(right)
            if x is None or y is None:
                return None
            try:
                return BINARY[type(op)](x, y)
            except (ArithmeticError, ValueError, TypeError):
                return None
    return None
