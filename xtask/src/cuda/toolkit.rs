//! The CUDA toolkit and the libtorch with CUDA that the build uses.

use crate::failure::Failure;
use crate::libtorch;
use crate::provision::{Part, Recipe};
use std::path::Path;

/// The toolkit, under the workspace root.
pub(super) const FOLDER: &str = ".cuda";

/// The libtorch with CUDA, under the toolkit.
pub(super) const LIBTORCH: &str = "libtorch";

/// Nothing of this runs on a GPU: libraries lie here under the names that the linker asks for, and programs
/// remember those inside the files (`libcublas.so.13`).
pub(super) const RECIPE: Recipe = Recipe {
    name: "CUDA 13.0",
    folder: FOLDER,
    parts: &[
        Part { wheel: "nvidia-cuda-nvcc", source: "nvidia/cu13/bin/", target: "bin/" },
        Part { wheel: "nvidia-nvvm", source: "nvidia/cu13/nvvm/", target: "nvvm/" },
        Part { wheel: "nvidia-cuda-crt", source: "nvidia/cu13/include/", target: "include/" },
        Part { wheel: "nvidia-cuda-cccl", source: "nvidia/cu13/include/nv/", target: "include/nv/" },
        Part { wheel: "nvidia-cuda-runtime", source: "nvidia/cu13/include/", target: "include/" },
        Part {
            wheel: "nvidia-cublas",
            source: "nvidia/cu13/lib/libcublas.so.13",
            target: "lib/libcublas.so",
        },
        Part {
            wheel: "nvidia-cublas",
            source: "nvidia/cu13/lib/libcublasLt.so.13",
            target: "lib/libcublasLt.so",
        },
        Part {
            wheel: "nvidia-cuda-nvrtc",
            source: "nvidia/cu13/lib/libnvrtc.so.13",
            target: "lib/libnvrtc.so",
        },
        Part { wheel: "torch", source: "torch/include/ATen/", target: "libtorch/include/ATen/" },
        Part { wheel: "torch", source: "torch/include/c10/", target: "libtorch/include/c10/" },
        Part { wheel: "torch", source: "torch/include/caffe2/", target: "libtorch/include/caffe2/" },
        Part { wheel: "torch", source: "torch/include/torch/", target: "libtorch/include/torch/" },
        Part { wheel: "torch", source: "torch/lib/libtorch.so", target: "libtorch/lib/libtorch.so" },
        Part { wheel: "torch", source: "torch/lib/libtorch_cpu.so", target: "libtorch/lib/libtorch_cpu.so" },
        Part {
            wheel: "torch",
            source: "torch/lib/libtorch_cuda.so",
            target: "libtorch/lib/libtorch_cuda.so",
        },
        Part { wheel: "torch", source: "torch/lib/libc10.so", target: "libtorch/lib/libc10.so" },
        Part { wheel: "torch", source: "torch/lib/libc10_cuda.so", target: "libtorch/lib/libc10_cuda.so" },
    ],
    download: "1.15 GB",
    disk: "4 GB",
    instead: "or fetch the wheels of xtask/requirements.txt by hand and point pip at them with PIP_FIND_LINKS",
    finish,
};

fn finish(toolkit: &Path) -> Result<(), Failure> {
    libtorch::write_version(&toolkit.join(LIBTORCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_has_cuda_here_and_only_here() {
        let brings_cuda =
            |recipe: &Recipe| recipe.parts.iter().any(|part| part.target.ends_with("lib/libtorch_cuda.so"));
        assert!(brings_cuda(&RECIPE));
        assert!(!brings_cuda(&libtorch::RECIPE));
    }

    #[test]
    fn libraries_have_the_names_the_linker_asks_for() {
        let targets = RECIPE.parts.iter().map(|part| Path::new(part.target));
        let libraries: Vec<_> =
            targets.filter(|target| target.parent().is_some_and(|on| on.ends_with("lib"))).collect();
        assert!(libraries.len() >= 8);
        for library in libraries {
            assert_eq!(library.extension(), Some("so".as_ref()), "{}", library.display());
        }
    }
}
