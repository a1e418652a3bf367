//! Lets the binaries of this package, and those of its dependents, find libtorch at run time.
//!
//! torch-sys links libtorch but gives binaries no rpath. `cargo::rustc-link-arg` reaches the binaries of its own package
//! alone, so a dependent with binaries (tests and benches included) repeats these lines with
//! `DEP_LOSSPROOF_TORCH_LIBTORCH_LIB`, the name under which cargo hands it the metadata.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // torch-sys names the directory on Linux and macOS alone; elsewhere there is no rpath to give.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        println!("cargo::metadata=libtorch_lib={lib}");
    }
}
