//! What the CUDA device needs at build time; without the feature `cuda`, nothing.
//!
//! nvcc compiles our kernels to PTX. With `ci-check` no CUDA is there: the crate only type-checks, or,
//! if `SSPROP_CUDA_EMULATOR` is set, runs on the emulator of `tools/cuda-emulator`, which is linked in
//! place of the driver.

use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: &str = "src/cuda";
const EMULATOR: &str = "../tools/cuda-emulator";
// CUDA_PATH would do for this crate, but not for dfdx's build script.
const NO_NVCC: &str = "set CUDA_PATH to the CUDA tool kit's folder, and add its `bin` to PATH as well, where dfdx \
                       looks for nvcc: export CUDA_PATH=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(cuda_emulator)");
    refuse_nightly();
    let feature = |name: &str| std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    if !feature("CUDA") {
        return;
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=SSPROP_CUDA_EMULATOR");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    if !feature("CI_CHECK") {
        println!("cargo:rerun-if-env-changed=CUDA_PATH");
        println!("cargo:rustc-env=SSPROP_CUDA_VERSION={}", tool_kit());
        sources().iter().for_each(|source| compile(source, &out));
    } else if std::env::var_os("SSPROP_CUDA_EMULATOR").is_some() {
        println!("cargo:rerun-if-changed={EMULATOR}");
        emulate(&out.join("emulator"));
    }
}

/// dfdx asks the compiler as this does, and under a nightly one switches code on that no longer compiles. This crate is
/// compiled before dfdx, so that its message comes before hundreds of others.
fn refuse_nightly() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output();
    let version = version.map_or(Vec::new(), |output| output.stdout);
    if String::from_utf8_lossy(&version).contains("nightly") {
        eprintln!("ssprop stands on dfdx 0.13, which does not compile with a nightly Rust: use a stable one");
        eprintln!(
            "(`cargo +stable build`, or `rustup override set stable` in the project's folder)"
        );
        std::process::exit(1);
    }
}

/// Our kernels.
fn sources() -> Vec<PathBuf> {
    let files = std::fs::read_dir(KERNELS).expect(KERNELS);
    let mut files: Vec<_> = files.map(|file| file.expect(KERNELS).path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "cu"));
    files.sort();
    files
}

fn nvcc() -> PathBuf {
    let nvcc = std::env::var_os("CUDA_PATH").map(|root| Path::new(&root).join("bin/nvcc"));
    nvcc.filter(|nvcc| nvcc.exists()).unwrap_or("nvcc".into())
}

/// The tool kit's version, 13000 for the 13.0 of "Cuda compilation tools, release 13.0, V13.0.88".
fn tool_kit() -> u32 {
    let told = Command::new(nvcc()).arg("--version").output();
    let told = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    let told = told.unwrap_or_default();
    let release = told.split("release ").nth(1).unwrap_or_default();
    let release = release.split(',').next().unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    numbers.next().unwrap_or(0) * 1000 + numbers.next().unwrap_or(0) * 10
}

/// To PTX for a virtual architecture, which the driver of any newer GPU compiles further.
fn compile(source: &Path, out: &Path) {
    let nvcc = nvcc();
    let name = source.file_name().expect("a file");
    // What uses the tensor cores' TF32 is loaded on GPUs that have it.
    let uses_tf32 = std::fs::read_to_string(source).is_ok_and(|text| text.contains("mma.cuh"));
    let arch = if uses_tf32 {
        "compute_80"
    } else {
        "compute_75"
    };
    let status = Command::new(&nvcc)
        .args(["--ptx", "-O3", "-arch", arch, "-o"])
        .arg(out.join(name).with_extension("ptx"))
        .arg(source)
        .status()
        .unwrap_or_else(|err| panic!("{}: {err}; {NO_NVCC}", nvcc.display()));
    assert!(status.success(), "{}: {status}", source.display());
}

/// Links the emulator, with our kernels and dfdx's, under the names of the driver's functions.
fn emulate(out: &Path) {
    let status = Command::new("bash")
        .arg(format!("{EMULATOR}/build.sh"))
        .arg(out)
        .args(sources())
        // The sanitizers' emulator is made apart.
        .env("SSPROP_CUDA_EMULATOR", "1")
        .status()
        .expect("bash");
    assert!(status.success(), "{EMULATOR}/build.sh: {status}");
    println!("cargo:rustc-cfg=cuda_emulator");
    // That of its driver.
    println!("cargo:rustc-env=SSPROP_CUDA_VERSION=13000");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=emu");
}
