"""What is tuned: the forms of a model's weights, and how the model uses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.kernels.base import QKV, Down, GatedMLP, Head, Op, Output
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layouts import PackedWeight, WeightForm
from isthmus.kernels.opencl.products import Epilogue
from isthmus.kernels.opencl.variants import shape_key


@dataclass(frozen=True, slots=True)
class Problem:
    """A product that a model asks for."""

    form: WeightForm
    epilogue: Epilogue = Epilogue.STORE
    normed: bool = False
    """Whether its input is the residual stream, to be normed on the way in."""
    count: int = 1
    """How many weights of the model are like that."""
    joined: bool = False
    """Whether one token passes it in a launch of whole layers, which no variant has a part in."""

    @property
    def key(self) -> str:
        """The form's name in a file of choices."""
        return shape_key(self.form)

    @property
    def paired(self) -> bool:
        """Whether two neighbouring rows meet at the end."""
        return self.epilogue is Epilogue.SWIGLU

    @property
    def nbytes(self) -> int:
        """Bytes of one weight: codes, scales and minimums."""
        kinds = 1 if self.form.symmetric else 2
        return self.form.rows * (4 * self.form.words + 2 * kinds * self.form.groups)

    def part(self, most_bytes: int) -> Problem:
        """The same with as few rows as fit `most_bytes`, in whole tiles of 128."""
        fits = most_bytes * self.form.rows // self.nbytes // 128 * 128
        rows = min(self.form.rows, max(128, fits))
        return replace(self, form=replace(self.form, rows=rows))


def problems(ops: Sequence[Op], kind: DeviceKind) -> tuple[Problem, ...]:
    """The products of a graph packed for OpenCL, those with most bytes first.

    A form that is used in several ways counts as the first of them, but as paired if it ever is,
    and as joined if it always is: a CPU joins layers, but not the head.
    """
    cpu = kind is DeviceKind.CPU
    found: dict[str, Problem] = {}
    for op in ops:
        match op:
            case QKV() | Head():
                joined = cpu and isinstance(op, QKV)
                new = Problem(_form(op.weight), normed=True, joined=joined)
            case Output() | Down():
                new = Problem(_form(op.weight), Epilogue.ADD, joined=cpu)
            case GatedMLP():
                new = Problem(_form(op.gate_up), Epilogue.SWIGLU, normed=True, joined=cpu)
            case _:
                continue
        known = found.get(new.key)
        if known is not None:
            kept = new if new.paired else known
            always = known.joined and new.joined
            new = replace(kept, count=known.count + 1, joined=always)
        found[new.key] = new
    return tuple(sorted(found.values(), key=lambda p: p.count * p.nbytes, reverse=True))


def _form(weight: object) -> WeightForm:
    if not isinstance(weight, PackedWeight):
        raise TypeError("an operator holds a weight packed by another backend")
    return weight.form
