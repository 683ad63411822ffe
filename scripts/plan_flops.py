"""Floating-point operations of a traced program: those of matrix products and convolutions, as is customary.

Counted from JAX's own description (jaxpr) and not from the compiled program, where products hide in library calls. What
is computed again for the backward pass counts, zeros between the pixels of a strided gradient do not.
"""

from __future__ import annotations

import math
from typing import Any


def total(jaxpr: Any) -> float:
    """FLOPs of one run of a jaxpr over all devices; a product of [M, K] and [K, N] has 2 M K N."""
    return float(sum(_equation(equation) for equation in jaxpr.eqns))


def _equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        ((contracted, _), _), left = params["dimension_numbers"], equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "cond":
        return max(total(branch.jaxpr) for branch in _elsewhere(params))
    times = params["length"] if name == "scan" else 1
    return times * sum(total(inner) for inner in _inner(params))


def _elsewhere(params: Any) -> Any:
    """The branches of a condition; of `jax.lax.platform_dependent` the last, which is not a CPU's."""
    platforms = params.get("branches_platforms")
    return params["branches"] if platforms is None else params["branches"][-1:]


def _convolution(equation: Any) -> float:
    numbers, kernel = equation.params["dimension_numbers"], equation.invars[1].aval.shape
    _, features, *space = numbers.rhs_spec
    taps = math.prod(kernel[axis] for axis in space) * kernel[features]
    return 2 * math.prod(equation.outvars[0].aval.shape) * taps / math.prod(equation.params["lhs_dilation"])


def _inner(params: Any) -> list[Any]:
    """The jaxprs within an equation's parameters, each once."""
    values = [v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    found = [getattr(value, "jaxpr", value) for value in values]
    return [jaxpr for jaxpr in found if hasattr(jaxpr, "eqns")]
