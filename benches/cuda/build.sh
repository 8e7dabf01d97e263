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
# pack SUFFIX CARGO-ARGUMENTS...: the executables of this package, as cargo's messages name them.
pack() {
    cargo "${@:2}" --locked --message-format=json | grep -o '"executable":"[^"]*"' | cut -d'"' -f4 | sort -u |
        while read -r file; do
            name=$(basename "$file" | sed 's/-[0-9a-f]\{16\}$//')$1
            strip -o ".gpu/$name" "$file"
            # There may be a limit to what is carried.
            gzip -f ".gpu/$name"
        done
}
pack "" build --features cudnn --example resnet18_cifar --example train_classifier --example ddpm_sample --example cuda_steps
pack "" test --features cudnn --no-run --test cuda
# Convolutions without cuDNN.
pack "_unfolded" test --features cuda --no-run --test cuda
# dfdx compiles some operations when they first run, with headers from where it was built.
tar czf .gpu/headers.tgz target/cuda/debug/build/dfdx-*/out/*.cuh
ls -l .gpu
cat <<'END'
On the GPU machine, with .gpu carried along: benches/cuda/run.sh
END
