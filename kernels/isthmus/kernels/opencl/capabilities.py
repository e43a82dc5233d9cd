"""What a device can do, as far as the kernels and the choice among them depend on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

_LIMITED = " (limited)"


class DeviceKind(StrEnum):
    """What a device is, best first."""

    GPU = "gpu"
    ACCELERATOR = "accelerator"
    CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One device, for people and for `Variant.misfit`."""

    platform: str
    """Name and version of the platform."""
    name: str
    vendor: str
    driver: str
    kind: DeviceKind
    architecture: str
    """What devices that want the same kernels share; the name where a driver does not tell."""
    compute_units: int
    fp16: bool
    """Whether kernels may compute in half precision (cl_khr_fp16)."""
    subgroups: tuple[int, ...]
    """Sizes of sub-groups that the device has; empty where it has none."""
    image_size: tuple[int, int]
    """Largest width and height of an image; (0, 0) where there are none."""
    image_texels: int
    """Most texels of an image over a buffer."""
    work_group: int
    """Most work-items of a group."""
    local_bytes: int
    allocation_bytes: int
    """The largest single buffer."""
    memory_bytes: int
    shares_memory: bool
    """Whether the device reads the host's memory in place."""
    extensions: tuple[str, ...] = ()

    def limited(self) -> Capabilities:
        """The same device as if it were a small one: the limits mode."""
        return replace(
            self,
            name=self.name + _LIMITED,
            fp16=False,
            subgroups=(),
            image_size=(min(self.image_size[0], 16_384), min(self.image_size[1], 16_384)),
            image_texels=min(self.image_texels, 65_536),
            work_group=min(self.work_group, 64),
            local_bytes=min(self.local_bytes, 16 << 10),
            allocation_bytes=min(self.allocation_bytes, 256 << 20),
        )

    @property
    def query(self) -> str:
        """What `open_device` finds this one by."""
        return f"{self.platform} {self.name.removesuffix(_LIMITED)}"

    @property
    def identity(self) -> str:
        """What a compiled program or a measured choice belongs to."""
        return f"{self.platform}|{self.name}|{self.driver}"

    def describe(self) -> str:
        """One line for `isthmus doctor`."""
        parts = [f"{self.name} ({self.platform})", f"{self.compute_units} compute units"]
        parts.append("fp16" if self.fp16 else "no fp16")
        sizes = "/".join(map(str, self.subgroups))
        parts.append(f"sub-groups of {sizes}" if sizes else "no sub-groups")
        parts.append(
            f"images up to {self.image_size[0]} wide" if self.image_size[0] else "no images"
        )
        parts.append(f"allocations up to {self.allocation_bytes >> 20} MB")
        return ", ".join(parts)
