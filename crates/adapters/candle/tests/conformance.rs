//! Both trainers, of either mean and in either precision, held to every law as their own users would.

use lossproof::{Subject, SubjectError};
use lossproof_candle::{Architecture, Mean, Precision, Settings, candle};

const GPT2: Settings = Settings::new(Architecture::Gpt2, Mean::OfTokens);
const LLAMA: Settings = Settings::new(Architecture::Llama, Mean::OfTokens);

fn gpt2() -> Result<Box<dyn Subject>, SubjectError> {
    candle(GPT2)
}

fn gpt2_double() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { precision: Precision::Double, ..GPT2 })
}

fn gpt2_naive() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { mean: Mean::OfMicroBatches, ..GPT2 })
}

fn llama() -> Result<Box<dyn Subject>, SubjectError> {
    candle(LLAMA)
}

fn llama_double() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { precision: Precision::Double, ..LLAMA })
}

fn llama_naive() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { mean: Mean::OfMicroBatches, ..LLAMA })
}

// Most of the time goes to `loss-slope`. `finite-differences` comes to every parameter of the f64 trainers
// with `--cases 48`.
lossproof::conformance! {
    files: "fixtures/cases",
    "gpt2": gpt2, cases: 16;
    "gpt2, f64": gpt2_double, cases: 16;
    "gpt2, naive mean": gpt2_naive, cases: 16;
    "llama": llama, cases: 16;
    "llama, f64": llama_double, cases: 16;
    "llama, naive mean": llama_naive, cases: 16;
}
