//! The build script of programs that know of the emulator: `cfg(cuda_emulator)`.

fn main() {
    println!("cargo:rerun-if-env-changed=SSPROP_CUDA_EMULATOR");
    println!("cargo:rustc-check-cfg=cfg(cuda_emulator)");
    let feature = |name: &str| std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    let emulated = std::env::var_os("SSPROP_CUDA_EMULATOR").is_some();
    if emulated && feature("CUDA") && feature("CI_CHECK") {
        println!("cargo:rustc-cfg=cuda_emulator");
    }
}
