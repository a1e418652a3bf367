//! Mistakes that hide behind something else, and the laws that see them all the same.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_faults::kit::{Capability, HandedOver, Hooks, wrap};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, Law, Report, Verdict};
use lossproof_spec::{Dtype, EmptyGroup, GlobalBatch, Group, LossSpec, Prediction, TokenWeights};
use lossproof_subject::TensorSet;
use lossproof_tests::{Door, ours};

/// What is wrong with a trainer.
#[derive(Clone, Copy)]
enum Mistake {
    /// Gradients are never cleared.
    NeverCleared,
    /// The largest logit is added to the logarithm of the normaliser before the label's is subtracted.
    MaximumAddedFirst,
    /// The normaliser is a plain sum of exponentials.
    NotShifted,
    /// A batch with an empty sequence is refused.
    RefusesEmptySequences,
    /// This much of the value bias's gradient is added to the key bias's, which is zero.
    KeyBias(f64),
    /// The tokens' gradients of the final bias are 1 and −0.99 by turns, and nearly cancel; rounding is this
    /// much of their norms, and depends on the order of the sequences.
    Cancelling(f64),
}

/// An honest trainer with a mistake on top, and what that mistake has to know.
struct Mistaken {
    mistake: Mistake,
    before: Option<HandedOver>,
    /// The loaded parameters.
    loaded: TensorSet,
    spec: LossSpec,
}

impl Mistaken {
    /// Wraps an honest trainer into it.
    fn over(honest: Door, mistake: Mistake) -> Door {
        let state =
            Self { mistake, before: None, loaded: TensorSet::new(), spec: honest.info().claims.first() };
        let hooks = Hooks {
            reset: |mistaken: &mut Self, inner| {
                mistaken.before = None;
                inner.reset()
            },
            load: |mistaken, inner, parameters| {
                mistaken.before = None;
                mistaken.loaded.clone_from(parameters);
                inner.parameter_loading().unwrap().load(parameters)
            },
            configure: |mistaken, inner, spec| {
                mistaken.spec = *spec;
                inner.configure(spec)
            },
            accumulate: |mistaken, inner, batch, handed| {
                let empty = batch.sequences().position(|sequence| sequence.supervised() == 0);
                if let (Mistake::RefusesEmptySequences, Some(index)) = (mistaken.mistake, empty) {
                    return Err(EmptyGroup { group: Group::Sequence(index), nan: false }.into());
                }
                inner.accumulate(batch, handed)
            },
            gradient: Self::gradient,
            observation: |mistaken, batch, observed| {
                observed.loss = mistaken.loss(batch).unwrap_or(observed.loss);
            },
            offers: |_, capability, _| matches!(capability, Capability::Parameters | Capability::TokenLosses),
            ..Hooks::IDENTITY
        };
        wrap(honest, state, hooks)
    }

    fn gradient(&mut self, batch: &GlobalBatch, handed: &mut HandedOver) {
        match self.mistake {
            Mistake::NeverCleared => {
                if let Some(before) = &self.before {
                    handed.add(1.0, before);
                }
                self.before = Some(handed.clone());
            }
            Mistake::KeyBias(amount) => {
                let values = &mut handed.tensor("h.0.attn.c_attn.bias").values;
                let width = values.len() / 3;
                values[width] += amount * values[2 * width];
            }
            Mistake::Cancelling(rounding) => {
                let values = &mut handed.tensor("ln_f.bias").values;
                values.fill(0.0);
                values[0] = self.cancelling(batch, rounding);
            }
            Mistake::MaximumAddedFirst | Mistake::NotShifted | Mistake::RefusesEmptySequences => {}
        }
    }

    /// Logits of a model that was made to give the same everywhere: by a final gain of zero.
    fn pinned(&self) -> Option<Vec<f64>> {
        let values = |name: &str| self.loaded.get(name).map(lossproof_subject::Tensor::to_f64);
        let (gain, bias, embedding) = (values("ln_f.weight")?, values("ln_f.bias")?, values("wte.weight")?);
        let logit = |row: &[f64]| row.iter().zip(&bias).map(|(w, b)| w * b).sum();
        gain.iter().all(|gain| *gain == 0.0).then(|| embedding.chunks(bias.len()).map(logit).collect())
    }

    /// The first element of the final bias's gradient.
    fn cancelling(&self, batch: &GlobalBatch, rounding: f64) -> f64 {
        let Ok(weights) = TokenWeights::new(&self.spec, &batch.layout()) else { return 0.0 };
        let weights = weights.per_prediction(batch);
        let supervised = batch.predictions().zip(weights).filter(|(p, _)| p.supervised);
        let order = batch.sequences().zip(1..).map(|(s, place)| place * s.input_ids()[0]).sum::<u32>() % 17;
        let token = |(p, weight): (Prediction, f64)| {
            let gradient = if p.target % 2 == 0 { 1.0 } else { -0.99 };
            weight * (gradient + rounding * f64::from(order) / 16.0)
        };
        supervised.map(token).sum()
    }

    fn loss(&self, batch: &GlobalBatch) -> Option<f64> {
        let logits = self.pinned()?;
        let largest = match self.mistake {
            Mistake::MaximumAddedFirst => logits.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Mistake::NotShifted => 0.0,
            _ => return None,
        };
        let log_sum_exp = largest + logits.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        let weights = TokenWeights::new(&self.spec, &batch.layout()).ok()?.per_prediction(batch);
        let supervised = batch.predictions().zip(weights).filter(|(p, _)| p.supervised);
        Some(supervised.map(|(p, weight)| weight * (log_sum_exp - logits[p.target as usize])).sum())
    }
}

fn report(law: &str, mistake: Mistake) -> Report {
    let mut subject = Mistaken::over(ours(Config::Pico, Dtype::F64), mistake);
    let campaign = Campaign { cases: 32, ..Campaign::default() };
    campaign.run(Law::named(law).unwrap(), &mut *subject).unwrap()
}

fn fails(law: &str, mistake: Mistake, how: &str) {
    let report = report(law, mistake);
    assert_eq!(report.verdict, Verdict::Fail, "{report}");
    assert!(report.to_string().contains(how), "{report}");
}

#[test]
fn a_gradient_that_is_never_cleared_is_not_mistaken_for_noise() {
    fails("zero-grad", Mistake::NeverCleared, "after another accumulation");
    assert_eq!(report("sum", Mistake::NeverCleared).verdict, Verdict::Errored);
}

#[test]
fn a_loss_that_is_right_for_small_logits_alone_is_seen() {
    for (mistake, how) in
        [(Mistake::MaximumAddedFirst, "on all logits, exactly"), (Mistake::NotShifted, "not finite")]
    {
        fails("constant-invariance", mistake, how);
        assert_eq!(report("token-loss", mistake).verdict, Verdict::Pass);
    }
}

#[test]
fn refusing_a_batch_that_has_weights_is_a_violation() {
    let how = "it refuses a batch that has weights: sequence";
    fails("batch-mean", Mistake::RefusesEmptySequences, how);
    fails("empty-groups", Mistake::RefusesEmptySequences, how);
}

#[test]
fn what_must_be_zero_is_shown_as_that() {
    let found = report("sum", Mistake::KeyBias(1e-3));
    assert_eq!(found.verdict, Verdict::Fail, "{found}");
    let violation = &found.failure.as_ref().unwrap().violations[0];
    assert!(violation.statement.contains("which must be zero here"), "{found}");
    assert!(violation.error > violation.bound);
    assert!(violation.pair.unwrap().1.abs() <= 0.0);
    // Rounding is let go.
    assert_eq!(report("sum", Mistake::KeyBias(1e-18)).verdict, Verdict::Pass);
}

#[test]
fn the_rounding_of_tokens_that_cancel_is_no_mistake() {
    let found = report("order-invariance", Mistake::Cancelling(4e-15));
    assert_eq!(found.verdict, Verdict::Pass, "{found}");
    // Neither where a second look is taken, nor where it is not.
    for mistake in [1e-12, 1e-9] {
        fails("order-invariance", Mistake::Cancelling(mistake), "gradient of ln_f.bias");
    }
}
