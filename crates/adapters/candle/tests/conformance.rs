//! Both trainers, of either mean, in single precision, held to every law as their own users would.

use lossproof::{Subject, SubjectError};
use lossproof_candle::{Architecture, Mean, Settings, candle};

const GPT2: Settings = Settings::new(Architecture::Gpt2, Mean::OfTokens);
const LLAMA: Settings = Settings::new(Architecture::Llama, Mean::OfTokens);

fn gpt2() -> Result<Box<dyn Subject>, SubjectError> {
    candle(GPT2)
}

fn gpt2_naive() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { mean: Mean::OfMicroBatches, ..GPT2 })
}

fn llama() -> Result<Box<dyn Subject>, SubjectError> {
    candle(LLAMA)
}

fn llama_naive() -> Result<Box<dyn Subject>, SubjectError> {
    candle(Settings { mean: Mean::OfMicroBatches, ..LLAMA })
}

// Most of the time goes to `loss-slope`.
lossproof::conformance! {
    files: "fixtures/cases",
    "gpt2": gpt2, cases: 16;
    "gpt2, naive mean": gpt2_naive, cases: 16;
    "llama": llama, cases: 16;
    "llama, naive mean": llama_naive, cases: 16;
}
