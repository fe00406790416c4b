"""Eight numbers at a time, in functions that numba compiles.

A loop that a compiler vectorises by itself adds up in an order that depends on what stands around
it. Sums in lanes are added in the order that is written: the same bits wherever they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 8

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_PLACE = ir.IntType(32)
_EXP = (  # of (e^r - 1 - r) / r^2
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1,
)  # fmt: skip
# What an intrinsic is: its type, and what writes its instructions.
Written = tuple[Any, Callable[[Any, Any, Any, Any], Any]]


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="lanes")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


_lanes = _Lanes()


@intrinsic
def zeros(typing: Any) -> Written:
    """zeros() -> eight zeros."""
    return _lanes(), lambda context, builder, signature, args: ir.Constant(_VECTOR, [0.0] * LANES)


@intrinsic
def load(typing: Any, rows: Any, row: Any, first: Any) -> Written:
    """load(rows, row, first) -> rows[row, first : first + 8] of a matrix of float32 or int8."""
    is_whole = rows.dtype == types.int8
    numbers = ir.VectorType(ir.IntType(8), LANES) if is_whole else _VECTOR

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_pointer(context, builder, signature, args, numbers))
        loaded.align = 1 if is_whole else 4
        if not is_whole:
            return loaded
        return builder.sitofp(builder.sext(loaded, ir.VectorType(_PLACE, LANES)), _VECTOR)

    return _lanes(rows, types.intp, types.intp), write


@intrinsic
def store(typing: Any, rows: Any, row: Any, first: Any, lanes: Any) -> Written:
    """store(rows, row, first, lanes): rows[row, first : first + 8] = lanes."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], _pointer(context, builder, signature, args), align=4)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, _lanes), write


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Written:
    """fma(a, b, c) -> a b + c, rounded once."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "fma", *args)

    return _lanes(_lanes, _lanes, _lanes), write


@intrinsic
def spread(typing: Any, value: Any) -> Written:
    """spread(value) -> the value in all lanes."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, args[0], ir.Constant(_PLACE, 0))
        return builder.shuffle_vector(first, nothing, _places([0] * LANES))

    return _lanes(types.float32), write


@intrinsic
def total(typing: Any, lanes: Any) -> Written:
    """total(lanes) -> their sum, by halves."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (lanes,), nothing = args, ir.Constant(_VECTOR, ir.Undefined)
        for half in (4, 2, 1):
            upper = _places([half + i if i < half else 0 for i in range(LANES)])
            lanes = builder.fadd(lanes, builder.shuffle_vector(lanes, nothing, upper))
        return builder.extract_element(lanes, ir.Constant(_PLACE, 0))

    return types.float32(_lanes), write


@intrinsic
def add_totals(typing: Any, y: Any, place: Any, scale: Any, lanes: Any) -> Written:
    """add_totals(y, (r, o), scale, (a, b, c, d)): y[r, o : o + 4] += their four sums, each added up
    as `total` does, times scale[o : o + 4]."""
    numbers = ir.VectorType(_FLOAT, 4)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def halves(a: Any, b: Any, lower: list[int], upper: list[int]) -> Any:
            parts = (builder.shuffle_vector(a, b, _places(each)) for each in (lower, upper))
            return builder.fadd(*parts)

        (r, o), four = (cgutils.unpack_tuple(builder, args[i]) for i in (1, 3))
        a, b, c, d = (halves(each, each, [0, 1, 2, 3], [4, 5, 6, 7]) for each in four)
        ab, cd = (halves(*pair, [0, 1, 4, 5], [2, 3, 6, 7]) for pair in ((a, b), (c, d)))
        sums = halves(ab, cd, [0, 2, 4, 6], [1, 3, 5, 7])
        at = _pointer(context, builder, signature, [args[0], r, o], numbers)
        scales = context.make_array(scale)(context, builder, args[2])
        factor = builder.bitcast(builder.gep(scales.data, [o]), numbers.as_pointer())
        scaled = builder.fmul(sums, builder.load(factor, align=4))
        builder.store(builder.fadd(builder.load(at, align=4), scaled), at, align=4)
        return context.get_dummy_value()

    return types.void(y, place, scale, types.UniTuple(_lanes, 4)), write


@intrinsic
def table_at(typing: Any, address: Any) -> Written:
    """table_at(address) -> a pointer to the numbers that lie there, for `numba.carray`."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], _FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.intp), write


def _arithmetic(name: str) -> Any:
    @intrinsic
    def combine(typing: Any, a: Any, b: Any) -> Written:
        """combine(a, b), lane by lane."""

        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return _lanes(_lanes, _lanes), write

    return combine


add, multiply, divide = _arithmetic("fadd"), _arithmetic("fmul"), _arithmetic("fdiv")


@intrinsic
def exp(typing: Any, lanes: Any) -> Written:
    """exp(lanes), to 2e-7 of it, between e^-87 and e^88: 2^n e^r, by the polynomial of Cephes."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = partial(_call, builder)

        def all_(value: float) -> Any:
            return ir.Constant(_VECTOR, [value] * LANES)

        x = call("minnum", call("maxnum", args[0], all_(-87.0)), all_(88.0))
        n = call("rint", builder.fmul(x, all_(1 / math.log(2))))
        for part in (-0.693359375, 2.12194440e-4):  # of -log 2, the first exact in few bits
            x = call("fma", n, all_(part), x)
        result = all_(_EXP[0])
        for factor in _EXP[1:]:
            result = call("fma", result, x, all_(factor))
        result = call("fma", builder.fmul(x, x), result, builder.fadd(x, all_(1.0)))
        whole = ir.VectorType(_PLACE, LANES)
        power = builder.add(builder.fptosi(n, whole), ir.Constant(whole, [127] * LANES))
        power = builder.shl(power, ir.Constant(whole, [23] * LANES))  # 2^n, by its exponent
        return builder.fmul(result, builder.bitcast(power, _VECTOR))

    return _lanes(_lanes), write


def _call(builder: Any, name: str, *args: Any) -> Any:
    """A function of LLVM's own, lane by lane."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    name = f"llvm.{name}.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _places(places: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_PLACE, len(places)), places)


def _pointer(context: Any, builder: Any, signature: Any, args: Any, numbers: Any = _VECTOR) -> Any:
    """Where rows[row, first] lies."""
    rows = context.make_array(signature.args[0])(context, builder, args[0])
    shape, strides = (cgutils.unpack_tuple(builder, part) for part in (rows.shape, rows.strides))
    place = cgutils.get_item_pointer2(
        context, builder, rows.data, shape, strides, signature.args[0].layout, list(args[1:3])
    )
    return builder.bitcast(place, numbers.as_pointer())
