//! Both implementations, held to every law through the door a stranger's trainer would use.
//!
//! `LOSSPROOF_DEVICE` moves them: cpu (the default), cuda or cuda:INDEX. `LOSSPROOF_CASES` is another folder
//! for the case files, for a machine that has the program without the workspace.

use lossproof_gpt2::{Config, reference};
use lossproof_spec::Dtype;
use lossproof_subject::{Device, Subject, SubjectError};
use lossproof_torch::{Gpt2Config, libtorch};

fn device() -> Result<Device, SubjectError> {
    let name = std::env::var("LOSSPROOF_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let failed = |message: String| SubjectError::Failed { subject: "LOSSPROOF_DEVICE".to_owned(), message };
    name.parse().map_err(|error: lossproof_subject::UnknownDevice| failed(error.to_string()))
}

/// How many cases each law is tried on. A GPU launches every kernel of a small model for microseconds of work:
/// it takes tens of times as long as a processor, and says the same on fewer.
fn cases(on_the_processor: u32) -> u32 {
    match device() {
        Ok(Device::Cuda(_)) => on_the_processor.min(16),
        _ => on_the_processor,
    }
}

fn ours(config: Config, dtype: Dtype) -> Result<Box<dyn Subject>, SubjectError> {
    reference(config, dtype, device()?)
}

fn theirs(config: Config, dtype: Dtype) -> Result<Box<dyn Subject>, SubjectError> {
    let named = Gpt2Config::named(config.name()).expect("both have the same configurations");
    Ok(libtorch(&named, dtype, device()?)?)
}

lossproof::conformance! {
    files: std::env::var("LOSSPROOF_CASES").unwrap_or_else(|_| "../fixtures/cases".to_owned()),
    "reference, gpt2-pico, f64": || ours(Config::Pico, Dtype::F64), cases: cases(64);
    "reference, gpt2-nano, f64": || ours(Config::Nano, Dtype::F64), cases: cases(8);
    "reference, gpt2-nano, f32": || ours(Config::Nano, Dtype::F32), cases: cases(8);
    "libtorch, gpt2-pico, f64": || theirs(Config::Pico, Dtype::F64), cases: cases(16);
    "libtorch, gpt2-nano, f64": || theirs(Config::Nano, Dtype::F64), cases: cases(8);
    "libtorch, gpt2-nano, f32": || theirs(Config::Nano, Dtype::F32), cases: cases(8);
}
