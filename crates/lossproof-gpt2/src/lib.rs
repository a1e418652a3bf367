//! GPT-2 on dfdx.
