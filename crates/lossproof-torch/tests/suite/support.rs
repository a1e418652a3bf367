//! Subjects, batches and measures that the tests share.

use lossproof_spec::{Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Rank, Sequence};
use lossproof_subject::{Collect, Device, Observation, Subject, Tensor, TensorSet, TensorValues};
use lossproof_torch::{Config, Gpt2Config, LlamaConfig, libtorch};
use safetensors::SafeTensors;
use std::path::Path;

/// What two f64 computations of one quantity in different orders may differ by, relative to its scale. Their sums have
/// at most a few hundred terms of mixed sign, so a hundred units of round-off (2e-14) are usual; this leaves room for
/// ten times the cancellation, and any real fault is many orders larger.
pub(crate) const BOUND: f64 = 2e-13;

pub(crate) type Door = Box<dyn Subject + Send>;

/// The tensors of one committed file of the third forward.
pub(crate) struct Fixture(Vec<u8>);

impl Fixture {
    pub(crate) fn of(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/third-forward")
            .join(format!("{name}.safetensors"));
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub(crate) fn f64s(&self, key: &str) -> Vec<f64> {
        let file = self.file();
        let view = file.tensor(key).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::F64, "{key}");
        view.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    /// An integer matrix by rows.
    pub(crate) fn rows(&self, key: &str) -> Vec<Vec<i64>> {
        let file = self.file();
        let view = file.tensor(key).unwrap();
        assert_eq!(view.dtype(), safetensors::Dtype::I64, "{key}");
        let all: Vec<_> =
            view.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect();
        all.chunks(view.shape()[1]).map(<[i64]>::to_vec).collect()
    }

    /// The tensors whose key starts with `prefix`, by the rest of it.
    pub(crate) fn set(&self, prefix: &str) -> TensorSet {
        let file = self.file();
        let named = file.names().into_iter().filter_map(|key| Some((key, key.strip_prefix(prefix)?)));
        named
            .map(|(key, name)| {
                let shape = file.tensor(key).unwrap().shape().to_vec();
                (name.to_owned(), Tensor::new(shape, TensorValues::F64(self.f64s(key))).unwrap())
            })
            .collect()
    }
}

/// The smallest model of each architecture.
pub(crate) fn picos() -> [Config; 2] {
    [Gpt2Config::PICO.into(), LlamaConfig::PICO.into()]
}

/// A subject with the third forward's parameters: at a model's initial ones many faults would not show.
pub(crate) fn loaded<C: Clone + Into<Config>>(config: &C, dtype: Dtype) -> Door {
    let config = config.clone().into();
    let mut subject = libtorch(&config, dtype, Device::Cpu).unwrap();
    let parameters = Fixture::of(config.name()).set("parameter/");
    subject.parameter_loading().unwrap().load(&parameters).unwrap();
    subject
}

pub(crate) fn accumulate(
    subject: &mut Door,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> (Observation, TensorSet) {
    subject.configure(spec).unwrap();
    let mut gradient = Collect::default();
    let seen = subject.accumulate(batch, &mut gradient).unwrap();
    (seen, gradient.into_tensors())
}

pub(crate) fn evaluate(subject: &mut Door, batch: &GlobalBatch) -> Vec<f64> {
    subject.token_losses().unwrap().evaluate(batch).unwrap()
}

/// `length` tokens that differ between seeds, the first `prompt` labels ignored.
pub(crate) fn sequence(seed: u32, length: u32, prompt: usize) -> Sequence {
    let tokens: Vec<u32> = (0..length).map(|position| (seed * 17 + position * (5 + seed)) % 61).collect();
    let label =
        |(position, &token): (usize, &u32)| if position < prompt { IGNORE_INDEX } else { i64::from(token) };
    let labels = tokens.iter().enumerate().map(label).collect();
    Sequence::new(tokens, labels).unwrap()
}

/// A global batch of ranks of micro-batches of sequences.
pub(crate) fn global(ranks: Vec<Vec<Vec<Sequence>>>) -> GlobalBatch {
    let micro_batches =
        |rank: Vec<Vec<Sequence>>| rank.into_iter().map(|m| MicroBatch::new(m).unwrap()).collect();
    GlobalBatch::new(ranks.into_iter().map(|rank| Rank::new(micro_batches(rank)).unwrap()).collect()).unwrap()
}

/// One micro-batch on one rank.
pub(crate) fn together(sequences: Vec<Sequence>) -> GlobalBatch {
    global(vec![vec![sequences]])
}

pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// `Σ_i factors[i]·gradients[i]`, and for each tensor the scale `Σ_i |factors[i]|·‖gradients[i]‖`.
pub(crate) fn combine(factors: &[f64], gradients: &[TensorSet]) -> Vec<(String, Vec<f64>, f64)> {
    let names = gradients[0].keys().cloned();
    names
        .map(|name| {
            let mut sum = vec![0.0; gradients[0][&name].elements()];
            let mut scale = 0.0;
            for (factor, gradient) in factors.iter().zip(gradients) {
                let values = gradient[&name].to_f64();
                scale += factor.abs() * norm(&values);
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += factor * value;
                }
            }
            (name, sum, scale)
        })
        .collect()
}

/// Asserts that `gradient` is the linear combination, tensor by tensor.
pub(crate) fn assert_combination(gradient: &TensorSet, factors: &[f64], basis: &[TensorSet], context: &str) {
    let expected = combine(factors, basis);
    assert_eq!(expected.len(), gradient.len());
    for (name, expected, scale) in expected {
        assert_close(&gradient[&name].to_f64(), &expected, scale, &format!("{context}: {name}"));
    }
}

/// Asserts `‖actual − expected‖ ≤ BOUND·scale`; NaN fails.
pub(crate) fn assert_close(actual: &[f64], expected: &[f64], scale: f64, context: &str) {
    assert_eq!(actual.len(), expected.len(), "{context}");
    let difference: Vec<_> = actual.iter().zip(expected).map(|(a, e)| a - e).collect();
    let error = norm(&difference);
    assert!(error <= BOUND * scale, "{context}: error {error:.2e} at scale {scale:.2e}");
}
