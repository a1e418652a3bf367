//! A gradient check beside PyTorch's own.

use crate::measured::{quartiles, seconds};
use lossproof_benches::batch;
use lossproof_gpt2::{Config, probe_initial, reference};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::Device;
use lossproof_verify::{Directions, Verification, verify};
use std::error::Error;

/// `torch.autograd.gradcheck(fast_mode=True)` of a mean cross-entropy of a GPT-2 with 29 600 parameters in
/// f64, on two cores: one random projection, one reduction.
const GRADCHECK: f64 = 0.38;

/// What it costs to hold one implementation of gpt2-nano to finite differences under six reductions, and to
/// the calculus.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let config = Config::Nano;
    let shape = config.shape();
    let batch: GlobalBatch = batch(config, 8, 24)?;
    let mut times = Vec::new();
    for seed in 0..5 {
        // Both sides are the reference, so that half of the time is that of one.
        let [mut one, mut other] = [(), ()].map(|()| reference(config, Dtype::F64, Device::Cpu));
        let verification = Verification {
            trainer: one.as_deref_mut().map_err(|error| error.to_string())?,
            reference: other.as_deref_mut().map_err(|error| error.to_string())?,
            third: None,
            parameters: &probe_initial(shape, seed),
            batch: &batch,
            model: ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, &batch),
            directions: Directions::PerTensor(1),
            seed,
        };
        times.push(seconds(|| verify(verification, &mut |_, _, _| {}))?.0 / 2.0);
    }
    let median = quartiles(times)[1];
    Ok(format!(
        "\n## A gradient check\n\ngpt2-nano (35 744 parameters), f64, 8 × 24 tokens: two directions per tensor, \
         fourth order, taken per token and contracted with\nthe weights of six reductions, and the six gradients \
         held to the calculus: {median:.2} s, {:.1} times the {GRADCHECK} s of\n\
         `torch.autograd.gradcheck(fast_mode=True)` for one reduction and one projection of a model with 29 600 \
         parameters (measured\nonce, on a machine with two cores like this one; it is not part of the run).\n",
        median / GRADCHECK
    ))
}
