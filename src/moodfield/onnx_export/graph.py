"""A builder of ONNX graphs: nodes and constants with unique names, and networks of other files."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from jaxtyping import Shaped
from onnx import TensorProto, compose, helper, numpy_helper

Value = str | int | float | list[int] | Shaped[np.ndarray, "..."]
"""name of a value, or a constant: integers have shape (1,), as bounds of slices have, and floats are scalars"""

_TRUE = np.ones((), bool)


class Graph:
    """A graph that is built node by node; the body of a loop is a graph with names that its outer graph lacks."""

    def __init__(self, outer: "Graph | None" = None) -> None:
        self._numbers: count[int] = outer._numbers if outer else count()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node with one output; returns the name of the output."""
        [output] = self.ops(kind, *inputs, outputs=1, **attributes)
        return output

    def ops(self, kind: str, *inputs: Value, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their names."""
        names = [f"{kind.lower()}_{next(self._numbers)}" for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, [self._name(value) for value in inputs], names, **attributes))
        return names

    def slice(self, value: str, start: Value, end: Value, *, axis: int) -> str:
        """Add a slice of an axis."""
        return self.op("Slice", value, start, end, axis)

    def rename(self, value: str, name: str) -> None:
        """Give a value a name of its own, as an output has."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def network(self, model: onnx.ModelProto, array: str) -> dict[str, str]:
        """Add a network with one input; returns the names of its outputs, by their names in its own file."""
        prefix = f"network_{next(self._numbers)}/"
        graph = compose.add_prefix(model, prefix).graph
        self.rename(array, graph.input[0].name)
        self._nodes += graph.node
        self._constants += graph.initializer
        return {output.name.removeprefix(prefix): output.name for output in graph.output}

    def loop(
        self, times: str, carried: Sequence[Value], body: "Graph", results: Sequence[str], names: Sequence[str]
    ) -> list[str]:
        """Add a loop.

        Args:
            times: Number of iterations.
            carried: Initial values of what is carried from one iteration to the next, float32.
            body: Graph of one iteration; what it takes from this graph needs no mention.
            results: Names, in the body, of what it carries on.
            names: Names, in the body, of the number of the iteration, of shape (1,), and of what it is given.
        """
        going = body.op("Identity", _TRUE)
        inputs = [helper.make_tensor_value_info(names[0], TensorProto.INT64, [1])]
        inputs += [helper.make_tensor_value_info(f"{names[0]}_going", TensorProto.BOOL, [])]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names[1:]]
        outputs = [helper.make_tensor_value_info(going, TensorProto.BOOL, [])]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results]
        graph = helper.make_graph(body._nodes, names[0], inputs, outputs, body._constants)
        return self.ops("Loop", times, _TRUE, *carried, outputs=len(results), body=graph)

    def build(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        """The finished graph."""
        return helper.make_graph(self._nodes, name, inputs, outputs, self._constants)

    def _name(self, value: Value) -> str:
        """The name of a value; a constant is added first."""
        if isinstance(value, str):
            return value
        if isinstance(value, int | list):
            value = np.atleast_1d(np.array(value, np.int64))
        array = np.asarray(value, np.float32) if isinstance(value, float) else value
        name = f"constant_{next(self._numbers)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name
