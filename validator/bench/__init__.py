"""What caches and harness cost, measured: interleaved in one process, medians and spread."""

from validator.bench.caches import SIZES, bench_caches, bench_comparison
from validator.bench.device import bench_device
from validator.bench.harness import bench_bookkeeping, bench_growth
from validator.bench.training import bench_training

__all__ = [
    "SIZES",
    "bench_bookkeeping",
    "bench_caches",
    "bench_comparison",
    "bench_device",
    "bench_growth",
    "bench_training",
]
