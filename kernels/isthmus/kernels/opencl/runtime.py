"""The only module that knows pyopencl: devices, buffers, programs, prepared launches, errors.

Import it lazily: it loads every OpenCL driver of the machine.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from isthmus.kernels.errors import BackendLost, DeviceLost, OutOfDeviceMemory
from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind
from isthmus.kernels.opencl.programs import ProgramCache, Source

Size = tuple[int, int, int]

_REFUSED = {"MEM_OBJECT_ALLOCATION_FAILURE", "OUT_OF_HOST_MEMORY", "INVALID_BUFFER_SIZE"}
_KINDS = {
    cl.device_type.GPU: DeviceKind.GPU,
    cl.device_type.ACCELERATOR: DeviceKind.ACCELERATOR,
    cl.device_type.CPU: DeviceKind.CPU,
}
_GENERATIONS = (
    re.compile(r"(Adreno\(TM\) \d)\d\d"),
    re.compile(r"(Mali-[A-Z]\d+)"),
    re.compile(r"\b(gfx\d+)"),
    re.compile(r"^pthread-([a-z][a-z0-9-]*)-(?=[A-Z])"),  # PoCL on a CPU, as LLVM calls it
)


@contextmanager
def _mapped(doing: str, *, image: bool = False) -> Iterator[None]:
    """Turn pyopencl's errors into ours. OpenCL's `OUT_OF_RESOURCES` is a crash on most drivers.

    An `image` that is not made is refused, whatever the driver says: buffers do as well.
    """
    try:
        yield
    except cl.Error as error:
        status = cl.status_code.to_string(error.code, "status %d")
        kind = OutOfDeviceMemory if image or status in _REFUSED else DeviceLost
        raise kind(f"{doing} failed on the OpenCL device: {status}") from error


def devices() -> list[tuple[Capabilities, Any]]:
    """Every device of every platform, GPUs first, with pyopencl's handle.

    Raises OSError where no driver is installed.
    """
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise OSError(
            "no OpenCL driver is installed; a GPU's own driver brings one, and "
            "pip install 'isthmus[pocl]' makes the CPU one"
        ) from error
    found = []
    for platform in platforms:
        # A platform without a device says so by an error.
        with suppress(cl.Error):
            handles = platform.get_devices()
            found += [(_capabilities(platform, handle), handle) for handle in handles]
    order = list(DeviceKind)
    return sorted(found, key=lambda pair: order.index(pair[0].kind))


def _capabilities(platform: Any, device: Any) -> Capabilities:
    extensions = set(device.extensions.split())
    images = bool(device.image_support)
    return Capabilities(
        platform=platform.version.strip().partition("  ")[0],
        name=device.name.strip(),
        vendor=device.vendor.strip(),
        driver=device.driver_version.strip(),
        kind=next((kind for bit, kind in _KINDS.items() if device.type & bit), DeviceKind.GPU),
        architecture=_architecture(device),
        compute_units=device.max_compute_units,
        fp16="cl_khr_fp16" in extensions,
        subgroups=_subgroups(device, extensions),
        image_size=(device.image2d_max_width, device.image2d_max_height) if images else (0, 0),
        image_texels=device.image_max_buffer_size if images else 0,
        work_group=device.max_work_group_size,
        local_bytes=device.local_mem_size,
        allocation_bytes=device.max_mem_alloc_size,
        memory_bytes=device.global_mem_size,
        shares_memory=bool(device.host_unified_memory),
        extensions=tuple(sorted(extensions)),
    )


def _architecture(device: Any) -> str:
    """NVIDIA's compute capability, or the part of a name that says which generation it is."""
    try:
        return f"sm_{device.compute_capability_major_nv}{device.compute_capability_minor_nv}"
    except (cl.Error, AttributeError):
        pass
    name = f"{device.name} {device.version}"
    found = next((match for form in _GENERATIONS if (match := form.search(name))), None)
    return found[1].lower() if found else str(device.name).strip()


def _subgroups(device: Any, extensions: set[str]) -> tuple[int, ...]:
    """The sizes, by Intel's query or a vendor's single one; empty without sub-groups."""
    if not extensions & {"cl_khr_subgroups", "cl_intel_subgroups"}:
        return ()
    if "cl_qcom_reqd_sub_group_size" in extensions:
        return (64, 128)  # what Qualcomm calls half and full
    for query in ("sub_group_sizes_intel", "warp_size_nv", "wavefront_width_amd"):
        try:
            sizes = getattr(device, query)
        except (cl.Error, AttributeError):
            continue
        return tuple(int(size) for size in np.atleast_1d(sizes))
    return (64,)


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel with its arguments set, ready to be sent again and again.

    A kernel argument does not keep its buffer alive: `holds` does.
    """

    kernel: Any
    local: Size
    holds: tuple[Any, ...]


Sized = tuple[Launch, Size]
"""A launch and how many work-items it is sent with."""


class Device:
    """A device opened: its memory, its compiler, its one queue (in order, without profiling)."""

    def __init__(self, capabilities: Capabilities, handle: Any, programs: ProgramCache) -> None:
        self.capabilities = capabilities
        self._handle = handle
        self._programs = programs
        self._built: dict[str, Any] = {}
        with _mapped("opening a context"):
            self._context = cl.Context([handle])
            self._queue = cl.CommandQueue(self._context)

    def zeros(self, count: int) -> Any:
        """A buffer of `count` 32-bit zeros. Raises `OutOfDeviceMemory`."""
        size = 4 * max(count, 1)
        self._check(size)
        with _mapped(f"an allocation of {size} bytes"):
            buffer = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, size)
            cl.enqueue_fill_buffer(self._queue, buffer, np.int32(0), 0, size)
        return buffer

    def room(self, size: int) -> Any:
        """A buffer of `size` bytes, not written. Raises `OutOfDeviceMemory`."""
        self._check(size)
        with _mapped(f"an allocation of {size} bytes"):
            return cl.Buffer(self._context, cl.mem_flags.READ_WRITE, max(size, 4))

    def constant(self, data: NDArray[Any]) -> Any:
        """A buffer to read `data` from: in place where the device shares the host's memory."""
        self._check(data.nbytes)
        flags = cl.mem_flags.READ_ONLY
        with _mapped(f"an allocation of {data.nbytes} bytes"):
            if data.nbytes == 0:
                return cl.Buffer(self._context, flags, 4)
            if self.capabilities.shares_memory and data.ctypes.data % 64 == 0:
                flags |= cl.mem_flags.USE_HOST_PTR
            else:
                flags |= cl.mem_flags.COPY_HOST_PTR
            return cl.Buffer(self._context, flags, hostbuf=data)

    def image(self, texels: NDArray[np.uint32]) -> Any:
        """An image to read weights from. texels: [height, width, 4]"""
        height, width = texels.shape[:2]
        limit = self.capabilities.image_size
        if width > limit[0] or height > limit[1]:
            raise OutOfDeviceMemory(f"an image of {width} by {height} is beyond the limit {limit}")
        form = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.UNSIGNED_INT32)
        with _mapped(f"an image of {width} by {height}", image=True):
            return cl.create_image(
                self._context,
                cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR,
                form,
                shape=(width, height),
                hostbuf=np.ascontiguousarray(texels),
            )

    def texels(self, buffer: Any) -> Any:
        """A buffer of floats to be read as texels of four. Raises `OutOfDeviceMemory`."""
        width = buffer.size // 16
        if width > self.capabilities.image_texels:
            limit = self.capabilities.image_texels
            raise OutOfDeviceMemory(f"an image of {width} texels is beyond the limit {limit}")
        form = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
        flags = cl.mem_flags.READ_ONLY
        with _mapped(f"an image of {width} texels", image=True):
            return cl.create_image(self._context, flags, form, shape=(width,), buffer=buffer)

    def _check(self, size: int) -> None:
        limit = self.capabilities.allocation_bytes
        if size > limit:
            raise OutOfDeviceMemory(f"{size} bytes are asked for at once; the device gives {limit}")

    def launch(self, source: Source, name: str, arguments: Sequence[Any], local: Size) -> Launch:
        """A launch of kernel `name`; numbers among the arguments are int32 or float32."""
        numbers = {int: np.int32, float: np.float32}
        ready = [numbers.get(type(value), lambda same: same)(value) for value in arguments]
        program = self._program(source)
        with _mapped(f"preparing kernel {name}"):
            kernel = cl.Kernel(program, name)
            kernel.set_args(*ready)
        return Launch(kernel, local, tuple(arguments))

    def forget_programs(self) -> None:
        """Let go of what was compiled: of thousands of programs, each is used once."""
        self._built.clear()

    def check_compiler(self) -> None:
        """Raise `BackendLost` where a driver does not compile (PoCL on a CPU newer than itself)."""
        self._program(Source("common.h"))

    def _program(self, source: Source) -> Any:
        key = self._programs.key(source, self.capabilities.identity)
        if key not in self._built:
            self._built[key] = self._load(key) or self._compile(key, source)
        return self._built[key]

    def _load(self, key: str) -> Any:
        binary = self._programs.read(key)
        if binary is None:
            return None
        try:
            return cl.Program(self._context, [self._handle], [binary]).build()
        except cl.Error:
            return None  # from another driver after all: compile again

    def _compile(self, key: str, source: Source) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)
            program = cl.Program(self._context, source.text)
            try:
                program = program.build(source.options, cache_dir=False)
            except cl.RuntimeError as error:
                lines = [line for line in str(error).splitlines() if "error" in line]
                what = f"{source.file} {source.options}"
                said = "; ".join(lines[:3]) or "the driver does not say why"
                raise BackendLost(f"{what} does not compile: {said}") from error
        self._programs.write(key, program.get_info(cl.program_info.BINARIES)[0])
        return program

    def send(self, launch: Launch, size: Size) -> None:
        """Queue a launch of `size` work-items."""
        cl.enqueue_nd_range_kernel(self._queue, launch.kernel, size, launch.local)

    def submit(self, launches: Sequence[Sized]) -> None:
        """Queue launches one after the other; on a CPU none begins before all are queued.

        What queues them would else take a core from those that have begun.
        """
        queue, enqueue = self._queue, cl.enqueue_nd_range_kernel
        with _mapped("a launch"), self._held_back():
            for launch, size in launches:
                enqueue(queue, launch.kernel, size, launch.local)

    @contextmanager
    def _held_back(self) -> Iterator[None]:
        if self.capabilities.kind is not DeviceKind.CPU:
            yield
            return
        gate = cl.UserEvent(self._context)
        cl.enqueue_barrier(self._queue, wait_for=[gate])
        try:
            yield
        finally:  # a queue that waits for ever could not even be closed
            gate.set_status(cl.command_execution_status.COMPLETE)

    def write(self, buffer: Any, data: NDArray[Any], *, offset: int = 0) -> None:
        """Queue the writing of `data`, which has to stay as it is until the next `read`.

        `offset` in bytes, as in `read`.
        """
        with _mapped("a write"):
            cl.enqueue_copy(self._queue, buffer, data, is_blocking=False, dst_offset=offset)

    def read(self, buffer: Any, out: NDArray[Any], *, offset: int = 0) -> None:
        """Wait for everything, and for `out.nbytes` bytes of the buffer."""
        with _mapped("a read"):
            cl.enqueue_copy(self._queue, out, buffer, src_offset=offset)

    def copy(self, buffer: Any, source: int, target: int, size: int) -> None:
        """Queue a copy of `size` bytes within a buffer."""
        with _mapped("a copy"):
            cl.enqueue_copy(
                self._queue, buffer, buffer, byte_count=size, src_offset=source, dst_offset=target
            )

    def finish(self) -> None:
        """Wait for everything."""
        with _mapped("waiting"):
            self._queue.finish()


def open_device(wanted: str | None, *, limited: bool, programs: ProgramCache) -> Device:
    """The best device that compiles, or that whose platform or name has `wanted` in it.

    Raises OSError when there is none, with the names of those that are there and their reasons.
    """
    found = devices()
    reasons = []
    for capabilities, handle in found:
        names = f"{capabilities.platform} {capabilities.name} {capabilities.vendor}".lower()
        if wanted is not None and wanted.lower() not in names:
            continue
        limits = capabilities.limited() if limited else capabilities
        try:
            device = Device(limits, handle, programs)
            device.check_compiler()
            return device
        except BackendLost as error:
            reasons.append(f"{capabilities.name} ({capabilities.platform}): {error}")
    if reasons:
        raise OSError("; ".join(reasons))
    known = "; ".join(f"{c.name} ({c.platform})" for c, _ in found) or "none"
    raise OSError(f"no OpenCL device has {wanted or ''!r} in its name; there are: {known}")
