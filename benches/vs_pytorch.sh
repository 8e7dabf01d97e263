#!/bin/sh
# Times PyTorch and this crate alternately, and prints the ratios. See --help.
#
# PYTHON names a Python that has torch; without it, python3 if that has torch, or else a virtual
# environment that is made in benches/.venv.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if ! python3 -c 'import torch' 2>/dev/null; then
        PYTHON=benches/.venv/bin/python
        if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
            python3 -m venv benches/.venv
            "$PYTHON" -m pip install --quiet torch numpy
        fi
    fi
fi
exec "$PYTHON" benches/vs_pytorch.py "$@"
