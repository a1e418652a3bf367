//! The weights of the loss that is reported, and the log policy that they follow.

use super::{
    Precision, Tomogram, TomographyError, Unexplained,
    basis::{Single, singles},
    decimal_places::half_of_a_place,
    precision::checked,
    tomogram::{ReportedPolicy, Weight, WeightSource, measurements, weights},
};
use crate::inference::{LogComparison, due_weights};
use lossproof_numerics::{Equations, Perturbation};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, Sequence, SequenceFields};
use lossproof_subject::{Discard, LogPolicy, Subject};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Batches of one layout, the loss that a subject reported for each, and what each token loss is.
#[derive(Clone, Debug)]
pub struct ReportedLosses {
    /// Their layout is that of every probe.
    batch: GlobalBatch,
    /// The semantics in force, and the log policy that the subject declares.
    spec: LossSpec,
    declared: LogPolicy,
    names: Vec<String>,
    /// Which predictions of the batch the unknowns are.
    places: Vec<usize>,
    probes: Vec<ReportedProbe>,
    precision: Precision,
}

#[derive(Clone, Debug)]
struct ReportedProbe {
    token_losses: Vec<f64>,
    reported: f64,
}

impl ReportedLosses {
    /// The losses that a subject reports for twice as many batches as predictions, of the layout of `batch`
    /// with random tokens. Every group keeps its size and every label that is ignored stays
    /// so, therefore the weights stay too. `evaluator` gives the token losses, and must hold the same
    /// parameters; without it the subject does. Both are asked about `spec`. `precision` is the subject's,
    /// noise included ([`Observed`](super::Observed)); an evaluator is taken to have no noise.
    ///
    /// The spread of the token losses decides the condition: about 60 where logits are of order one
    /// ([`probe_initial`](lossproof_subject::probe_initial)), and thousands at GPT-2's initial scale, where
    /// all token losses are nearly `ln V`.
    ///
    /// # Errors
    /// When the subject fails, nobody evaluates token losses, or label smoothing or z-loss is in them:
    /// evaluation is of plain cross-entropy.
    pub fn of(
        subject: &mut dyn Subject,
        evaluator: Option<&mut dyn Subject>,
        batch: &GlobalBatch,
        spec: &LossSpec,
        precision: &Precision,
        seed: u64,
    ) -> Result<Self, TomographyError> {
        let subject = &mut checked(subject)?;
        subject.configure(spec)?;
        if spec.label_smoothing > 0.0 || spec.z_loss > 0.0 {
            return Err(TomographyError::Lacks {
                subject: subject.info().name,
                capability: "evaluate token losses with label smoothing or z-loss in them",
                remedy: "ask for a semantics without either",
            });
        }
        let mut evaluator = evaluator.map(checked).transpose()?;
        if let Some(evaluator) = &mut evaluator {
            evaluator.configure(spec)?;
        }
        let (singles, _) = singles(batch);
        let (mut names, mut places) = (Vec::new(), Vec::new());
        for (index, Single { place, prediction, .. }) in singles.iter().enumerate() {
            // Tokens are random: the name of an unknown is that of its place.
            let (sequence, position) = (prediction.sequence, prediction.position);
            names.push(format!("prediction {index}: sequence {sequence}, position {position}"));
            places.push(*place);
        }
        let evaluated = evaluator.as_ref().map_or(0.0, |other| Precision::of(other, batch, 0.0).loss);
        let precision = Precision { loss: precision.loss.max(evaluated), ..*precision };
        let info = subject.info();
        let vocabulary = u32::try_from(info.limits.vocabulary).unwrap_or(u32::MAX);
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        subject.reset()?;
        let mut probes = Vec::new();
        for _ in 0..2 * places.len() {
            let probe = with_random_tokens(batch, vocabulary, random)?;
            let reported = subject.accumulate(&probe, &mut Discard)?.loss;
            let all = match &mut evaluator {
                Some(evaluator) => evaluate(evaluator, &probe)?,
                None => evaluate(subject, &probe)?,
            };
            let token_losses = places.iter().filter_map(|&place| all.get(place).copied()).collect();
            probes.push(ReportedProbe { token_losses, reported });
        }
        let (batch, spec, declared) = (batch.clone(), *spec, info.log_policy);
        Ok(Self { batch, spec, declared, names, places, probes, precision })
    }

    /// What recovered weights are beside those of the log policies.
    fn policy(&self, weights: &[Weight]) -> ReportedPolicy {
        let measured = measurements(&self.batch, &self.places, weights);
        let all = due_weights(self.declared, &self.batch, &self.spec);
        let due = self.places.iter().map(|&place| all.as_ref().map_or(f64::NAN, |all| all[place])).collect();
        ReportedPolicy {
            comparison: LogComparison::new(&self.batch, &measured, &self.spec, self.declared),
            due,
        }
    }

    /// Recovers the weights of the reported loss: `min_w Σ_k (Σ_t w_t·ℓ_t⁽ᵏ⁾ − r⁽ᵏ⁾)²` over the probes k.
    ///
    /// The weights are held to those of the log policy that the subject declares: see [`Tomogram::policy`].
    ///
    /// # Errors
    /// When a loss is not finite.
    pub fn recover(&self) -> Result<Tomogram, TomographyError> {
        let column = |t: usize| self.probes.iter().map(move |probe| probe.token_losses[t]).collect();
        let columns: Vec<Vec<f64>> = (0..self.names.len()).map(column).collect();
        let reported: Vec<f64> = self.probes.iter().map(|probe| probe.reported).collect();
        let equations = Equations::new(&columns, &reported)?;
        let size = |losses: &[f64]| losses.iter().map(|loss| loss.max(1.0).powi(2)).sum::<f64>().sqrt();
        let bounds: Vec<f64> = columns.iter().map(|losses| self.precision.loss * size(losses)).collect();
        // The bound of a reported loss is relative to Σ_t |w_t|·max(ℓ_t, 1), which the columns' bounds add up
        // to.
        let rounding = |weights: &[f64]| {
            weights.iter().zip(&bounds).map(|(weight, bound)| weight.abs() * bound).sum::<f64>()
        };
        let first = equations.solve(&Perturbation { columns: &bounds, right: 0.0 })?;
        let places = half_of_a_place(&reported, self.precision.loss) * (reported.len() as f64).sqrt();
        let right = rounding(&first.values) + places;
        let mut solution = equations.solve(&Perturbation { columns: &bounds, right })?;
        // Errors of the token losses bend the residual as much as those of the reported loss.
        let explained = 2.0 * right;
        let scale = equations.right_norm();
        let relative = |value: f64| if value > 0.0 { value / scale } else { 0.0 };
        let (residual, bound) = (relative(solution.residual), relative(explained));
        let mut unexplained = Vec::new();
        if solution.residual > explained {
            unexplained.push(Unexplained {
                name: "the reported loss".to_owned(),
                residual,
                bound,
                share: 1.0,
            });
            let right = solution.residual;
            solution = equations.solve(&Perturbation { columns: &bounds, right })?;
        }
        let undetermined = vec![
            "weights that depend on the tokens and not on the layout alone: the probes have different tokens"
                .to_owned(),
        ];
        let recovered = weights(solution, self.names.iter().map(String::as_str));
        Ok(Tomogram {
            source: WeightSource::ReportedLoss,
            equations: self.probes.len(),
            residual,
            bound,
            is_fit: !unexplained.is_empty(),
            unexplained,
            undetermined,
            policy: Some(self.policy(&recovered.weights)),
            ..recovered
        })
    }
}

fn evaluate(subject: &mut dyn Subject, batch: &GlobalBatch) -> Result<Vec<f64>, TomographyError> {
    let name = subject.info().name;
    let evaluator = subject.token_losses().ok_or(TomographyError::Lacks {
        subject: name,
        capability: "evaluate token losses",
        remedy: "give a subject with the same parameters that can",
    })?;
    Ok(evaluator.evaluate(batch)?)
}

/// The batch with random tokens, its masks, documents and positions as they are.
fn with_random_tokens(
    batch: &GlobalBatch,
    vocabulary: u32,
    random: &mut ChaCha8Rng,
) -> Result<GlobalBatch, TomographyError> {
    let mut failed = None;
    let drawn = batch.map_sequences(|sequence| {
        let mut fields = SequenceFields::from(sequence.clone());
        let same: Vec<bool> =
            fields.input_ids.iter().zip(&fields.targets).map(|(input, target)| input == target).collect();
        fields.input_ids.fill_with(|| random.random_range(0..vocabulary));
        for (position, same) in same.into_iter().enumerate() {
            let token = if same { fields.input_ids[position] } else { random.random_range(0..vocabulary) };
            fields.targets[position] = token;
            if fields.labels[position] != IGNORE_INDEX {
                fields.labels[position] = i64::from(token);
            }
        }
        Sequence::from_fields(fields).unwrap_or_else(|error| {
            failed = Some(error);
            sequence.clone()
        })
    });
    failed.map_or(Ok(drawn), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::LOG_POLICIES;
    use crate::tomography::{
        Basis, Observed, disagreement, recover,
        toy::{self, Toy},
    };
    use lossproof_spec::TokenWeights;

    #[test]
    fn what_is_logged_is_told_from_what_is_optimised() {
        let batch = toy::batch([5, 3, 4, 3], |index, p| index == 0 && p == 2);
        let naive = LossSpec::naive_accumulated_mean();
        for logged in [None, Some(naive)] {
            let mut toy = Toy { logged, ..Toy::new() };
            let precision = Precision::of(&toy, &batch, 0.0);
            let losses =
                ReportedLosses::of(&mut toy, None, &batch, &LossSpec::token_mean(), &precision, 1).unwrap();
            let of_loss = losses.recover().unwrap();
            assert!(of_loss.is_explained() && of_loss.equations == 22, "{of_loss:?}");
            let spec = logged.unwrap_or(toy.spec);
            let truth = TokenWeights::new(&spec, &batch.layout()).unwrap().per_prediction(&batch);
            for (weight, truth) in of_loss.weights.iter().zip(truth) {
                assert!(
                    (weight.value - truth).abs() <= weight.error && weight.error < 1e-9,
                    "{weight:?}, not {truth}"
                );
            }
            let basis = Basis::of_reference(&mut Toy::new(), &toy.spec, &batch).unwrap();
            let observed = Observed::of(&mut toy, &batch).unwrap();
            let of_gradient = recover(&basis, &observed.gradient, &observed.precision).unwrap();
            let apart = disagreement(&of_gradient, &of_loss);
            assert_eq!(apart.is_some(), logged.is_some());
            if let Some(apart) = apart {
                assert!(apart.to_string().starts_with("it logs one loss and optimises another"), "{apart}");
            }
            // Errors grow with the noise.
            let noisy = Precision::of(&toy, &batch, 1e-4);
            let noisy =
                ReportedLosses::of(&mut toy, None, &batch, &LossSpec::token_mean(), &noisy, 1).unwrap();
            assert!(noisy.recover().unwrap().weights.iter().all(|weight| weight.error > 1e-5));
        }
    }

    #[test]
    fn a_loss_is_held_to_the_log_policy_that_is_declared() {
        let batch = toy::batch([5, 3, 4, 3], |index, p| index == 0 && p == 2);
        let basis = Basis::of_reference(&mut Toy::new(), &LossSpec::token_mean(), &batch).unwrap();
        for declared in LOG_POLICIES {
            for actual in LOG_POLICIES {
                let mut toy = Toy { policies: (declared, actual), ..Toy::new() };
                let observed = Observed::of(&mut toy, &batch).unwrap();
                let of_gradient = recover(&basis, &observed.gradient, &observed.precision).unwrap();
                let losses = ReportedLosses::of(
                    &mut toy,
                    None,
                    &batch,
                    &LossSpec::token_mean(),
                    &observed.precision,
                    1,
                )
                .unwrap();
                let of_loss = losses.recover().unwrap();
                let policy = of_loss.policy.clone().unwrap();
                assert_eq!(policy.comparison.declared, declared);
                assert_eq!(policy.comparison.found, [actual]);
                let said = policy.comparison.to_string();
                assert_eq!(said.contains("as declared"), declared == actual, "{said}");
                let apart = disagreement(&of_gradient, &of_loss);
                assert_eq!(apart.is_some(), declared != actual, "{declared:?} {actual:?}: {apart:?}");
                assert!(apart.is_none_or(|apart| apart.found == [actual]));
                // Noise as large as losses tells no policies apart, and nothing is said against any of them.
                let noisy = Precision::of(&toy, &batch, 1.0);
                let losses =
                    ReportedLosses::of(&mut toy, None, &batch, &LossSpec::token_mean(), &noisy, 1).unwrap();
                let coarse = losses.recover().unwrap();
                assert!(coarse.policy.as_ref().unwrap().comparison.agrees(), "{coarse:?}");
                assert_eq!(disagreement(&of_gradient, &coarse), None);
            }
        }
    }

    #[test]
    fn token_losses_that_nobody_evaluates_are_said_to_be_missing() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut toy = Toy::new();
        let precision = Precision::of(&toy, &batch, 0.0);
        for spec in [
            LossSpec { z_loss: 1e-4, ..LossSpec::token_mean() },
            LossSpec { label_smoothing: 0.1, ..LossSpec::token_mean() },
        ] {
            let error = ReportedLosses::of(&mut toy, None, &batch, &spec, &precision, 1).unwrap_err();
            assert!(matches!(error, TomographyError::Lacks { .. }), "{error}");
        }
    }

    #[test]
    fn a_loss_that_is_no_weighted_sum_says_so() {
        let batch = toy::batch([5, 3, 4, 3], |_, _| false);
        let mut toy = Toy::new();
        let precision = Precision::of(&toy, &batch, 0.0);
        let mut losses =
            ReportedLosses::of(&mut toy, None, &batch, &LossSpec::token_mean(), &precision, 1).unwrap();
        losses.probes[3].reported *= 1.01;
        let tomogram = losses.recover().unwrap();
        assert!(
            tomogram.fault().unwrap().starts_with("the reported loss is no weighted sum"),
            "{tomogram:?}"
        );
        losses.probes[0].reported = f64::NAN;
        assert!(losses.recover().is_err());
    }
}
