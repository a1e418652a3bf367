//! A trainer in plain loops: a bigram model through a wide layer, every sum added up from left to right.
//!
//! Nothing of it is declared but its parameters' shapes, and the widest of them is not the first. What
//! rounding may do to its sums has to follow from those.

use lossproof_spec::{Dtype, Dtypes, GlobalBatch, LossSpec, Sequence};
use lossproof_subject::{
    GradientSink, GradientView, Limits, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo,
};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Tokens.
const VOCABULARY: usize = 32;
/// Elements of an embedded token.
const WIDTH: usize = 8;

/// The trainer.
pub struct NaiveLoops {
    hidden: usize,
    parameters: Values,
}

/// A number for every element of every parameter.
#[derive(Clone)]
struct Values {
    embedding: Vec<f64>,
    widening: Vec<f64>,
    offset: Vec<f64>,
    head: Vec<f64>,
}

impl Values {
    fn zeros(hidden: usize) -> Self {
        Self {
            embedding: vec![0.0; VOCABULARY * WIDTH],
            widening: vec![0.0; WIDTH * hidden],
            offset: vec![0.0; hidden],
            head: vec![0.0; hidden * VOCABULARY],
        }
    }

    fn all_mut(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.embedding, &mut self.widening, &mut self.offset, &mut self.head]
    }
}

impl NaiveLoops {
    /// A model with a hidden layer of this width.
    #[must_use]
    pub fn new(hidden: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(8);
        let mut parameters = Values::zeros(hidden);
        for values in parameters.all_mut() {
            for value in values {
                *value = random.random_range(-0.5..0.5);
            }
        }
        Self { hidden, parameters }
    }

    /// Adds the gradient of one token's loss, and returns the loss.
    fn token(&self, token: usize, target: usize, gradient: &mut Values) -> f64 {
        let Values { embedding, widening, offset, head } = &self.parameters;
        let embedded = &embedding[token * WIDTH..][..WIDTH];
        let mut active = vec![0.0; self.hidden];
        for (j, active) in active.iter_mut().enumerate() {
            let mut sum = offset[j];
            for (i, value) in embedded.iter().enumerate() {
                sum += value * widening[i * self.hidden + j];
            }
            *active = sum.max(0.0);
        }
        let mut logits = [0.0; VOCABULARY];
        for (c, logit) in logits.iter_mut().enumerate() {
            for (j, active) in active.iter().enumerate() {
                *logit += active * head[j * VOCABULARY + c];
            }
        }
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut normaliser = 0.0;
        for logit in logits {
            normaliser += (logit - largest).exp();
        }
        let mut by_logit = logits.map(|logit| (logit - largest).exp() / normaliser);
        by_logit[target] -= 1.0;
        let mut by_embedded = [0.0; WIDTH];
        for (j, &active) in active.iter().enumerate() {
            let mut by_active = 0.0;
            for (c, by_logit) in by_logit.iter().enumerate() {
                by_active += by_logit * head[j * VOCABULARY + c];
                gradient.head[j * VOCABULARY + c] += by_logit * active;
            }
            if active <= 0.0 {
                continue;
            }
            gradient.offset[j] += by_active;
            for (i, value) in embedded.iter().enumerate() {
                by_embedded[i] += by_active * widening[i * self.hidden + j];
                gradient.widening[i * self.hidden + j] += by_active * value;
            }
        }
        for (i, by_embedded) in by_embedded.into_iter().enumerate() {
            gradient.embedding[token * WIDTH + i] += by_embedded;
        }
        largest + normaliser.ln() - logits[target]
    }
}

impl Subject for NaiveLoops {
    fn info(&self) -> SubjectInfo {
        let limits = Limits::of_model(VOCABULARY, 32);
        let card = SubjectInfo::of_one("naive loops", "1", "none", LossSpec::token_mean(), limits);
        SubjectInfo { dtypes: Dtypes::all(Dtype::F64), ..card }
    }

    fn parameters(&self) -> Vec<ParameterInfo> {
        vec![
            ParameterInfo::named("table", &[VOCABULARY, WIDTH]),
            ParameterInfo::named("widening", &[WIDTH, self.hidden]),
            ParameterInfo::named("offset", &[self.hidden]),
            ParameterInfo::named("narrowing", &[self.hidden, VOCABULARY]),
        ]
    }

    fn reset(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }

    fn accumulate(
        &mut self,
        batch: &GlobalBatch,
        gradients: &mut dyn GradientSink,
    ) -> Result<Observation, SubjectError> {
        let sequences: Vec<&Sequence> = batch.sequences().collect();
        let (mut loss, mut tokens) = (0.0, 0);
        let mut gradient = Values::zeros(self.hidden);
        for prediction in batch.predictions().filter(|prediction| prediction.supervised) {
            let token = sequences[prediction.sequence].input_ids()[prediction.position];
            loss += self.token(token as usize, prediction.target as usize, &mut gradient);
            tokens += 1;
        }
        let divisor = f64::from(tokens.max(1));
        for (parameter, values) in self.parameters().iter().zip(gradient.all_mut()) {
            for value in values.iter_mut() {
                *value /= divisor;
            }
            gradients.receive(&parameter.name, &parameter.shape, GradientView::F64(values))?;
        }
        Ok(Observation::new(loss / divisor, None))
    }
}
