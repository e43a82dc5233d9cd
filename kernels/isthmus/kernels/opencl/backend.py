"""The OpenCL backend, behind `kernels.base.Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from isthmus.kernels.base import U8, KVShape, KVType, Op, QuantizedWeight
from isthmus.kernels.opencl import layouts
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.layouts import PackedWeight
from isthmus.kernels.opencl.plan import OpenCLPlan
from isthmus.kernels.opencl.programs import ProgramCache
from isthmus.kernels.opencl.refusals import Refusals
from isthmus.kernels.opencl.runtime import open_device
from isthmus.kernels.opencl.tuned import TunedFiles
from isthmus.kernels.opencl.variants import Choices, default_choices

_LAYOUT_VERSION = 1


class OpenCLBackend:
    """Packs and plans for one OpenCL device.

    `device` is a part of the platform's or the device's name; None takes the best. `limited` plays
    a small device. `cache_dir` keeps compiled programs, `tuned_dir` what `isthmus tune` has chosen;
    `choices` stands for that. Raises OSError when there is no device.
    """

    name = "opencl"
    may_hang = True
    kv_types = tuple(KVType)

    def __init__(
        self,
        *,
        device: str | None = None,
        limited: bool = False,
        cache_dir: Path | None = None,
        tuned_dir: Path | None = None,
        choices: Choices | None = None,
    ) -> None:
        folder = None if cache_dir is None else cache_dir / "opencl"
        self._device = open_device(device, limited=limited, programs=ProgramCache(folder))
        self._tuned_dir = tuned_dir
        self.choices = choices or TunedFiles(tuned_dir).choices(self._device.capabilities)

    @property
    def capabilities(self) -> Capabilities:
        """What the device can do."""
        return self._device.capabilities

    @property
    def driver(self) -> str:
        """The OpenCL driver's own version."""
        return self._device.capabilities.driver

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the CPU: PoCL's is."""
        return self._device.capabilities.kind is DeviceKind.CPU

    @property
    def device(self) -> str:
        """The device and its limits."""
        return self._device.capabilities.describe()

    @property
    def layout(self) -> str:
        """Changes when a choice brings another layout."""
        chosen = sha256(self.choices.identity.encode()).hexdigest()[:8]
        return f"opencl.{_LAYOUT_VERSION}.{chosen}"

    def pack(self, weight: QuantizedWeight) -> PackedWeight:
        """Bring one weight into the order that its variants read, or the default ones can."""
        form, limits = layouts.form_of(weight), self._device.capabilities
        chosen = self.choices.variant(form, 1)
        if chosen.misfit(form, limits, paired=False) is not None:
            chosen = default_choices(limits).variant(form, 1)
        return layouts.pack(weight, chosen.layout)

    def restore(self, state: dict[str, int], data: U8) -> PackedWeight:
        """A weight from its state."""
        return layouts.restore(state, data)

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> OpenCLPlan:
        """Put weights on the device and prepare every launch."""
        refusals = Refusals(self._tuned_dir, self._device.capabilities)
        return OpenCLPlan(ops, kv, max_tokens, self._device, self.choices, refusals)
