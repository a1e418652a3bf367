//! What dfdx 0.13 takes of gemm 0.15, from gemm 0.19: the same function with the same arguments.

pub use current::{Parallelism, gemm};
