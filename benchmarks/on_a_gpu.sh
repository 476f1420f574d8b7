#!/bin/sh
# Prints what watching costs where entries lie on a GPU, in one command and less than 8 minutes: benchmarks/on_a_gpu.sh
# Without a GPU it prints what counts of calls and a processor can say, and names what is missing. PYTHON names another
# interpreter than .venv's, LIGHTZERO that of an environment with LightZero (make test-lightzero builds one).
cd "$(dirname "$0")/.." || exit 2
PYTHON=${PYTHON:-.venv/bin/python}
LIGHTZERO=${LIGHTZERO:-.venv-lightzero/bin/python}
export OMP_NUM_THREADS=1
[ -x "$PYTHON" ] || { echo "there is no $PYTHON: run make venv, or set PYTHON"; exit 2; }

step() { # seconds, what it shows, command...
	most=$1; shift
	echo; echo "== $1"; shift
	timeout "$most" "$@" || echo "-- not to be had: exit $? of: $*"
}

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
	device=cuda
	"$PYTHON" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
	step 90 "the tests that need a device" "$PYTHON" -m pytest -q -k "cuda or device" tests/validator/device tests/validator/bench
else
	device=cpu
	echo "no CUDA device here: times of a device, waits and a training on one need a GPU; the counts below do not"
fi
step 90 "added to an operation: calls, kernels, processor time" "$PYTHON" -m validator.cli bench --added
step 40 "a search at Atari size, both caches on the device; waits per operation" "$PYTHON" -c '
from validator.bench.device import bench_device
from validator.commands.bench import _device
print(_device(bench_device(11)))'
step 60 "an entry of 500 MB" "$PYTHON" benchmarks/big_entries.py 500
if [ -x "$LIGHTZERO" ]; then
	step 180 "LightZero CartPole, watched per unwatched" "$LIGHTZERO" benchmarks/lightzero_overhead.py --device "$device" --pairs 3
else
	echo; echo "-- LightZero CartPole: there is no $LIGHTZERO; make test-lightzero builds one"
fi
