#!/usr/bin/env bash
# run.sh [DIR]: on a machine that has a GPU and PyTorch, and need not have Rust: checks that the libraries
# are there, runs the CUDA tests, times convolutions if nvcc is there, and training steps alternately with PyTorch's. DIR has the binaries
# that benches/cuda/build.sh made [default: .gpu]. Results go to $OUT [default: .] too. What fails does not keep the rest
# from running, but the script fails at its end.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
for packed in "${1:-.gpu}"/*.gz; do
    name=$(basename "$packed" .gz)
    gunzip -c "$packed" >"$programs/$name" && chmod +x "$programs/$name" || exit 1
done
# What dfdx compiles at run time finds its headers, if the repository is where the programs were built.
tar xzf "${1:-.gpu}/headers.tgz"
[ -e target/cuda-toolkit/include ] ||
    { mkdir -p target/cuda-toolkit && ln -s "${CUDA_PATH:-/usr/local/cuda}/include" target/cuda-toolkit/include; }
out=${OUT:-.}
python=${PYTHON:-python3}

# The CUDA libraries that came with PyTorch, if the system has none.
libraries=$("$python" - <<'END'
import glob, os
import nvidia
found = {os.path.dirname(f) for root in nvidia.__path__ for f in glob.glob(root + "/**/lib*.so*", recursive=True)}
print(":".join(sorted(found)))
END
) || libraries=
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
for program in "$programs"/*; do
    missing=$(ldd "$program" | grep 'not found')
    [ -z "$missing" ] || { echo "$program: $missing"; exit 1; }
done

failed=()
echo "== tests"
for tests in cuda cuda_unfolded; do
    timeout 100 "$programs/$tests" --test-threads=1 2>&1 | tee "$out/$tests.log" | tail -n 20 || failed+=("$tests")
done

echo "== convolutions"
cudnn=$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])')/cudnn
if ! command -v nvcc >/dev/null; then
    echo "not run: no nvcc"
elif [ ! -d "$cudnn/include" ]; then
    echo "not run: no headers of cuDNN in $cudnn/include"
elif ! said=$(nvcc -std=c++17 -O3 -arch=native -o "$programs/convolutions" "$here/convolutions.cu" \
    -I "$cudnn/include" -L "$cudnn/lib" -l:libcudnn.so.9 -lcublas 2>&1); then
    printf 'not run: nvcc did not compile them:\n%s\n' "$said"
else
    timeout 60 "$programs/convolutions" | tee "$out/convolutions.md" || failed+=("convolutions")
fi

echo "== steps"
timeout 150 "$python" "$here/vs_pytorch.py" "$programs/cuda_steps" --json "$out/cuda-steps.json" |
    tee "$out/cuda-steps.md" || failed+=("steps")

[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
