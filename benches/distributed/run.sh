#!/usr/bin/env bash
# run.sh [RATE...]: the time and the bytes of a training step on one host, and on two that a cable of each
# RATE joins [default: none 1gbit 100mbit]; ssprop's and PyTorch's (DistributedDataParallel over gloo) in
# turns, ROUNDS times [default: 3]. What hosts.sh needs, and PyTorch: PYTHON, or benches/.venv, which
# benches/vs_pytorch.sh makes.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=benches/distributed
[ $# -gt 0 ] || set -- none 1gbit 100mbit

python=${PYTHON:-benches/.venv/bin/python}
"$python" -c 'import torch' 2>/dev/null || python=python3
"$python" -c 'import torch' 2>/dev/null || {
    echo "run.sh: no PyTorch: set PYTHON, or run benches/vs_pytorch.sh once" >&2
    exit 1
}

cargo build --quiet --features mpi --example distributed_steps
ours=target/debug/examples/distributed_steps

both() { # WHERE COMMAND...: runs each side by that command.
    local where=$1
    shift
    { "$@" $ours; "$@" "$python" $here/ddp.py --networks step unet; } 2>&1 |
        sed "s/^/$where: /"
}

for round in $(seq "${ROUNDS:-3}"); do
    echo "== round $round"
    both "one host" taskset -c 0
    for rate in "$@"; do
        [ "$round" -gt 1 ] || $here/hosts.sh "$rate" "$python" $here/link.py 2>/dev/null | sed "s/^/$rate: /"
        both "$rate" $here/hosts.sh "$rate"
    done
done
