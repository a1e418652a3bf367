//! Lets the binaries of this package, and those of its dependents, find libtorch at run time, and its CUDA
//! side if it has one.
//!
//! torch-sys links libtorch but gives binaries no rpath. `cargo::rustc-link-arg` reaches the binaries of its
//! own package alone, so a dependent with binaries (tests and benches included) passes on what it finds in
//! `DEP_LOSSPROOF_TORCH_LINK_ARG`, the name under which cargo hands it the metadata.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // torch-sys names the directory on Linux and macOS alone; elsewhere there is no rpath to give.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        let mut link = format!("-Wl,-rpath,{lib}");
        // torch-sys asks for this library where it exists, but nothing refers to its symbols (it registers itself when
        // loaded), so the linker would drop it. What it needs itself need not be on the machine that links.
        if Path::new(&lib).join("libtorch_cuda.so").exists() {
            link += ",--push-state,--no-as-needed,-ltorch_cuda,--pop-state,--allow-shlib-undefined";
        }
        println!("cargo::rustc-link-arg={link}");
        println!("cargo::metadata=link_arg={link}");
    }
}
