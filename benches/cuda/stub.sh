#!/usr/bin/env bash
# stub.sh DIR: writes DIR/libcuda.so.1 with every driver function that cudarc declares; each answers "no
# device". Enough to link, and to start a program. It must not get to a machine with a driver.
set -euo pipefail
dir=$1
declared=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-0.9.15/src/driver/sys.rs)
{
    grep -ohP 'pub fn \Kcu[A-Z]\w+' "$declared" | sort -u | grep -vx cuGetErrorString |
        sed 's/.*/int &(void) { return 100; }/'
    echo 'int cuGetErrorString(int error, const char **text) { *text = "no CUDA driver: a stub"; return 0; }'
} >"$dir/cuda-stub.c"
${CC:-gcc} -shared -fPIC -O1 -Wl,-soname,libcuda.so.1 -o "$dir/libcuda.so.1" "$dir/cuda-stub.c"
ln -sfn libcuda.so.1 "$dir/libcuda.so"
