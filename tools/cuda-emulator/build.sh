#!/usr/bin/env bash
# build.sh DIR KERNEL.cu...: makes DIR/libemu.so of the emulator, these kernels, and dfdx's. What is newer
# than its source is kept. dfdx's kernels and cudarc's declarations are read where cargo keeps sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
mkdir -p "$out"
export CXX=${CXX:-g++}

sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
dfdx=$(echo "$sources"/*/dfdx-0.13.0/src/tensor_ops)
cudarc=$(echo "$sources"/*/cudarc-0.9.15/src)
for folder in "$dfdx" "$cudarc"; do
    test -d "$folder" || { echo "cuda-emulator: no sources at $folder" >&2; exit 1; }
done

export includes="-I$here -I$dfdx/utilities"
export flags="-O2 -std=c++17 -w -fPIC $includes"
export here out
# SSPROP_CUDA_EMULATOR=sanitize: with checks of every access, in our kernels.
sanitize=
[ "${SSPROP_CUDA_EMULATOR:-}" != sanitize ] ||
    sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g"

# kernels SOURCE FLAGS...: an object in which every extern "C" kernel of the source registers its name.
kernels() {
    src=$1 name=$(basename "$1" .cu)
    shift
    object=$out/$name.o
    if [ "$object" -nt "$src" ] && [ "$object" -nt "$here/shim.h" ] && [ "$object" -nt "$here/cuda_fp16.h" ]; then
        return
    fi
    # dfdx's kernels are made by macros: the names come from the preprocessed text.
    names=$($CXX $flags "$@" '-D__global__=EMU_GLOBAL' -include "$here/shim.h" -E -P -x c++ "$src" 2>/dev/null |
        grep -oP 'extern "C"\s+(__attribute__\(\(weak\)\)|EMU_GLOBAL)\s+void\s+(EMU_BOUNDS\s+)?\K\w+' | sort -u)
    { echo "#include \"$src\""; for kernel in $names; do echo "EMU_KERNEL($kernel)"; done; } >"$out/$name.cpp"
    $CXX $flags "$@" -include "$here/shim.h" -c "$out/$name.cpp" -o "$object"
}
export -f kernels

jobs=$(nproc)
# What our kernels include is part of them.
for header in "$(dirname "$1")"/*.cuh; do
    for object in "$out"/ssprop_*.o; do
        [ "$object" -nt "$header" ] || rm -f "$object"
    done
done
# Ours may share a file's name with dfdx's.
for source in "$@"; do
    copy=$out/ssprop_$(basename "$source")
    cmp -s "$source" "$copy" || cp "$source" "$copy"
done
printf '%s\n' "$@" | sed "s|.*/|$out/ssprop_|" | xargs -P "$jobs" -I{} bash -euc "kernels {} -I$(dirname "$1") $sanitize"
find "$dfdx" -name '*.cu' | xargs -P "$jobs" -I{} bash -euc 'kernels {} -D__CUDA_ARCH__=900 -DEMU_WEAK_DEVICE'

$CXX $flags -O3 -c "$here/emu.cpp" -o "$out/emu.o"
$CXX $flags -O3 -march=native -c "$here/cudnn.cpp" -o "$out/cudnn.o"
$CXX $flags -O3 -march=native "-DEMU_DIR=\"$here\"" "-DEMU_INCLUDES=\"$includes\"" -c "$here/driver.cpp" -o "$out/driver.o"
# Whatever else cudarc declares: not supported.
grep -ohP 'pub fn \K(cu|cublas|nvrtc)[A-Z]\w+' "$cudarc"/{driver,cublas,nvrtc}/sys.rs | sort -u |
    sed 's/.*/__attribute__((weak)) int &(void) { return 801; }/' >"$out/stubs.c"
${CC:-gcc} -fPIC -c "$out/stubs.c" -o "$out/stubs.o"
# shellcheck disable=SC2086
$CXX -shared -Wl,-soname,libemu.so $sanitize -o "$out/libemu.so" "$out"/*.o -ldl
