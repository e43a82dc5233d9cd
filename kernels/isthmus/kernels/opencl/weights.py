"""The weights of a plan on its device, and for each the variants that the device runs."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.kernels.base import Packed
from isthmus.kernels.errors import BackendLost
from isthmus.kernels.opencl.layouts import PackedWeight
from isthmus.kernels.opencl.products import Operand, Part, place_somehow, prepare
from isthmus.kernels.opencl.refusals import Refusal, Refusals
from isthmus.kernels.opencl.runtime import Device, Launch
from isthmus.kernels.opencl.variants import Choices, Variant, shape_key, substitutes


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A weight on the device."""

    weight: PackedWeight
    """As it lies there: in buffers where the device refuses the image that was chosen."""
    parts: tuple[Part, ...]
    refused: str | None
    """Why it lies otherwise than chosen."""


class Weights:
    """Puts each weight on the device once, and prepares its products.

    What a device refuses of the choices is noted in `refusals`, and something near runs instead.
    """

    def __init__(self, device: Device, choices: Choices, refusals: Refusals) -> None:
        self._device = device
        self._choices = choices
        self._refusals = refusals
        self._placed: dict[int, tuple[Placed, PackedWeight]] = {}

    def placed(self, packed: Packed) -> Placed:
        """A weight on the device, once however many operators use it.

        Raises `BackendLost` where there is no room for it.
        """
        weight = own(packed)
        if id(weight) not in self._placed:
            # The given one is held, since the device may read it in place.
            self._placed[id(weight)] = (Placed(*place_somehow(weight, self._device)), weight)
        return self._placed[id(weight)][0]

    def norms(self, placed: Placed) -> bool:
        """Whether its product norms the residual stream of one token on the way in.

        It does where every variant can that may come to run.
        """
        form, limits = placed.weight.form, self._device.capabilities
        return all(variant.norms(form, limits) for variant in self._substitutes(placed, 1))

    def _substitutes(self, placed: Placed, tile: int) -> list[Variant]:
        weight = placed.weight
        chosen = self._choices.variant(weight.form, tile)
        return list(substitutes(chosen, weight.layout, tile))

    def product(
        self, placed: Placed, operand: Operand, tile: int
    ) -> tuple[Variant, list[tuple[Launch, int]]]:
        """The launches of a product, and the variant that they are of.

        Raises `BackendLost` where the device runs none.
        """
        weight, chosen = placed.weight, self._choices.variant(placed.weight.form, tile)
        reason = placed.refused or f"its weights lie in the order {weight.layout}"
        if chosen.layout == weight.layout:
            reason = ""
        failure: Exception = BackendLost(f"no variant fits {shape_key(weight.form)}")
        for variant in self._substitutes(placed, tile):
            try:
                launches = prepare(self._device, weight, placed.parts, variant, operand)
            except (ValueError, BackendLost) as error:
                failure = error
                reason = reason or str(error)
                continue
            refusal = Refusal(str(chosen), str(variant), reason) if variant != chosen else None
            self._refusals.note(f"{shape_key(weight.form)}@{tile}", refusal)
            return variant, launches
        raise failure

    def clear(self) -> None:
        """Let the weights go."""
        self._placed.clear()


def own(packed: Packed) -> PackedWeight:
    """A weight that this backend packed. Raises TypeError for another's."""
    if not isinstance(packed, PackedWeight):
        raise TypeError("an operator holds a weight packed by another backend")
    return packed
