//! rusty-gradients 0.2.0 as it was released, held to every law as its own users would: `lossproof.toml` says
//! which laws decide, and which it is known to break.

use lossproof::{Subject, SubjectError};
use lossproof_rusty_gradients::{pico, rusty_gradients};

fn gpt() -> Result<Box<dyn Subject>, SubjectError> {
    rusty_gradients(pico())
}

lossproof::conformance! {
    files: "fixtures/cases",
    "rusty-gradients": gpt, cases: 64;
}
