#!/usr/bin/env bash
# toolkit.sh DIR [compiler]: lays a CUDA 13.0 tool kit out of PyPI's packages under DIR (1.6 GB), so that the crate
# builds with the feature `cuda` on a machine that has no CUDA and no GPU. Then: source DIR/env
# With `compiler` only what the kernels are compiled with (0.3 GB): nothing links then.
set -euo pipefail
root=${1:?a folder to lay it out in}
parts=nvcc,crt,nvvm,cudart
[ "${2:-}" = compiler ] || parts+=,cccl,cublas,nvrtc
mkdir -p "$root"
root=$(cd "$root" && pwd)
python3 -m venv "$root/venv"
# 13.0.2 is what torch 2.11's wheels bring; its driver loads no PTX newer than 13.0's.
"$root/venv/bin/pip" install -q --no-cache-dir --disable-pip-version-check "cuda-toolkit[$parts]==13.0.2"
site=$(echo "$root"/venv/lib/python3*/site-packages/nvidia)
mkdir -p "$root/include" "$root/lib" "$root/bin"
ln -sfn "$site"/cu13/include/* "$root/include/"
# The packages have versioned names only.
for lib in "$site"/cu13/lib/*.so.*; do
    name=$(basename "$lib")
    ln -sfn "$lib" "$root/lib/$name"
    ln -sfn "$name" "$root/lib/${name%%.so.*}.so"
done
# The linker wants a libcuda.so with the soname of the driver's; what it does is never run here.
[ "${2:-}" = compiler ] || "$(dirname "$0")"/stub.sh "$root/lib"
# nvcc looks for its parts beside the path that it was called by: no symbolic link.
printf '#!/bin/sh\nexec %s/cu13/bin/nvcc "$@"\n' "$site" >"$root/bin/nvcc"
# dfdx's build script asks nvidia-smi even where CUDA_COMPUTE_CAP is set.
printf '#!/bin/sh\necho compute_cap\necho 9.0\n' >"$root/bin/nvidia-smi"
chmod +x "$root/bin/nvcc" "$root/bin/nvidia-smi"
cat >"$root/env" <<END
export CUDA_PATH=$root
export CUDA_COMPUTE_CAP=90
export PATH=$root/bin:\$PATH
END
