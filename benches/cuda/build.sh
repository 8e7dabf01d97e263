#!/usr/bin/env bash
# build.sh [DIR]: builds the CUDA tests, two examples and the timed steps for a real GPU, on a machine without one, and
# leaves them stripped and packed in .gpu/ of the repository, to be carried to a machine that has a GPU. The tool kit
# is laid out in DIR [default: target/cuda-toolkit] if it is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
toolkit=${1:-target/cuda-toolkit}
cargo fetch --locked
test -f "$toolkit/env" || "$here/toolkit.sh" "$toolkit"
# shellcheck disable=SC1091
source "$toolkit/env"

mkdir -p .gpu
export CARGO_TARGET_DIR=target/cuda
built=$(cargo test --locked --features cuda --no-run --test cuda --message-format=json;
    cargo build --locked --features cuda --example resnet18_cifar --example ddpm_sample --example cuda_steps --message-format=json)
# Executables of this package, as cargo's messages name them.
grep -o '"executable":"[^"]*"' <<<"$built" | cut -d'"' -f4 | sort -u | while read -r file; do
    name=$(basename "$file" | sed 's/-[0-9a-f]\{16\}$//')
    strip -o ".gpu/$name" "$file"
    # There may be a limit to what is carried.
    gzip -f ".gpu/$name"
done
ls -l .gpu
cat <<'END'
On the GPU machine, with .gpu carried along: benches/cuda/run.sh
END
