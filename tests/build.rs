//! Lets the tests find libtorch at run time, as `crates/lossproof-torch/build.rs` does for its own.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Absent without the feature `torch`, and where torch-sys does not name libtorch's directory.
    if let Ok(link) = std::env::var("DEP_LOSSPROOF_TORCH_LINK_ARG") {
        println!("cargo::rustc-link-arg={link}");
    }
}
