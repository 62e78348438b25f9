"""The backend `cuda`: PyTorch on an NVIDIA GPU."""

from ofa_hw_profilers.cuda.profiler import CudaProfiler

__all__ = ["CudaProfiler"]
