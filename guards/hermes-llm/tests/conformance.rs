//! hermes-llm 1.3.2 as it was released, held to every law as its own users would: `lossproof.toml` says which
//! laws decide, and which it is known to break.

use lossproof::{Subject, SubjectError};
use lossproof_hermes_llm::{Steps, hermes_llm};

fn shipped() -> Result<Box<dyn Subject>, SubjectError> {
    hermes_llm(Steps::Shipped)
}

fn frozen() -> Result<Box<dyn Subject>, SubjectError> {
    hermes_llm(Steps::Frozen)
}

fn written_out() -> Result<Box<dyn Subject>, SubjectError> {
    hermes_llm(Steps::WrittenOut)
}

lossproof::conformance! {
    files: "fixtures/cases",
    "hermes-llm": shipped, cases: 32;
    "hermes-llm, first layer frozen": frozen, cases: 32;
    "hermes-llm, windows": written_out, cases: 32;
}
