"""What a device looks like that will never work again in this process."""

from __future__ import annotations

__all__ = ["is_device_lost"]

_MAKERS = ("CUDA error", "HIP error")
# Of cudaGetErrorString: those after which, says CUDA, "the process must be terminated and relaunched".
_LASTING = (
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "hardware stack error",
    "uncorrectable ECC error encountered",
)


def is_device_lost(error: BaseException) -> bool:
    """Whether all further work on the device would fail with the same error (a broken CUDA or HIP context)."""
    told = str(error)
    return (
        isinstance(error, RuntimeError)
        and any(maker in told for maker in _MAKERS)
        and any(sign in told for sign in _LASTING)
    )
