"""Old store against new one, and what validating adds; the same as ``kv-lockstep bench``.

python benchmarks/benchmark_kv_cache.py --quick
python benchmarks/benchmark_kv_cache.py --json bench.json
"""

from __future__ import annotations

import sys

from validator.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
