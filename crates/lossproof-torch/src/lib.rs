//! GPT-2 on libtorch.
