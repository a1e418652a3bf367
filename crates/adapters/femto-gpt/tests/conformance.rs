//! femto-gpt 0.2.0 as it was released, held to every law as its own users would: `lossproof.toml` says which
//! laws decide, and which it is known to break.
//!
//! Most laws cannot decide anything of it: it has one loss, the mean over the tokens of sequences of one
//! length whose tokens are all supervised, in one micro-batch on one rank. With its head tied to the
//! embedding the laws that know the logits apply to the same code.

use lossproof::{Subject, SubjectError};
use lossproof_femto_gpt::{Config, Head, femto_gpt};

fn own_head() -> Result<Box<dyn Subject>, SubjectError> {
    femto_gpt(Config::PICO, Head::Own)
}

fn tied_head() -> Result<Box<dyn Subject>, SubjectError> {
    femto_gpt(Config::PICO, Head::Tied { bias: 0.0 })
}

lossproof::conformance! {
    files: "fixtures/cases",
    "femto-gpt": own_head, cases: 32;
    "femto-gpt, tied": tied_head, cases: 32;
}
