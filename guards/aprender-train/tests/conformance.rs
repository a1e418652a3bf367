//! aprender-train 0.72.3 as it was released, held to every law as its own users would: `lossproof.toml` says
//! which laws decide, and which it is known to break.

use lossproof::{Subject, SubjectError};
use lossproof_aprender_train::{Rows, aprender_train};

fn llama() -> Result<Box<dyn Subject>, SubjectError> {
    aprender_train(2, Rows::Even)
}

fn ragged() -> Result<Box<dyn Subject>, SubjectError> {
    aprender_train(2, Rows::Ragged)
}

fn no_block() -> Result<Box<dyn Subject>, SubjectError> {
    aprender_train(0, Rows::Single)
}

lossproof::conformance! {
    files: "fixtures/cases",
    "aprender-train": llama, cases: 16;
    "aprender-train, rows of any length": ragged, cases: 16;
    "aprender-train, no block": no_block, cases: 16;
}
