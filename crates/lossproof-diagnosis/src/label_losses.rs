//! What the losses of all labels of one token say: minus the logarithms of probabilities that add up to one.

use crate::{
    call::{Term, TrainerCall},
    drafts::ProbeTokens,
    half_digits::HalfDigits,
    measuring::load,
    probe_parameters::ProbeParameters,
    score::{Grade, Score},
    trainer_model::TrainerModel,
};
use lossproof_cases::edit::{alone, id};
use lossproof_laws::{every_row_is_a_token, make_sure};
use lossproof_numerics::CrossEntropy;
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence};
use lossproof_subject::{Discard, Limits, LogPolicy, Subject, SubjectError};

/// The largest vocabulary of which every label is tried.
const VOCABULARY: usize = 1024;

/// Labels that are looked at to see whether the model is sure of itself, about.
const LOOKED_AT: usize = 16;

/// Labels that have the largest loss, to the bit, where losses are cut off or reach an end.
const ALIKE: usize = 3;

/// How far losses that are cut off were apart at a quarter of the logits at most, of how far they are: those that
/// approach an end, as the tangent of a cap does, were nearly as far apart there.
const ABRUPT: f64 = 0.8;

/// The token loss that is asked for.
const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0, z_loss: 0.0 };

/// What was reported of every label of one token. The model is sure of itself, where parameters can be loaded.
pub(crate) struct LabelLosses {
    spec: LossSpec,
    /// The batches of the first label and of the last.
    ends: [GlobalBatch; 2],
    /// What was reported, by label.
    reported: Vec<f64>,
    /// Whether the head's rows were drawn, so that no two labels have the same logit.
    distinct: bool,
    /// Whether losses grew in proportion to logits up to the last step.
    abrupt: bool,
}

/// How the largest of the losses of all labels come to be one number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// They grow with the logits until there.
    CutOff,
    /// They are the smallest and this many nats, or less.
    Range(f64),
}

/// Asks for the loss of every label of one token; `None` where the vocabulary is too large for that, or the subject's
/// limits or claims are too narrow.
///
/// # Errors
/// When the subject fails.
pub(crate) fn label_losses(
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
    limits: &Limits,
) -> Result<Option<LabelLosses>, SubjectError> {
    let info = subject.info();
    let plain = |spec: &LossSpec| spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
    let mean = info.claims.claim_of(&LossSpec::token_mean(), limits);
    let Some(spec) = mean.or_else(|| Some(info.claims.first()).filter(plain)) else { return Ok(None) };
    let declared = subject.parameters();
    let tokens = limits.vocabulary <= VOCABULARY && every_row_is_a_token(&declared, limits.vocabulary);
    let Some(sequence) = lone_token(limits).filter(|_| tokens) else { return Ok(None) };
    let batch = |label: usize| sequence(id(label)).map(|sequence| alone(&sequence, limits));
    let ends = [batch(0), batch(limits.vocabulary - 1)];
    let [Some(first), Some(last)] = ends else { return Ok(None) };
    if [&first, &last].iter().any(|batch| limits.check(batch).is_err()) || subject.configure(&spec).is_err() {
        return Ok(None);
    }
    let loss = |subject: &mut dyn Subject, label: usize| -> Result<f64, SubjectError> {
        let Some(batch) = batch(label) else { return Ok(f64::NAN) };
        Ok(subject.accumulate(&batch, &mut Discard)?.loss)
    };
    let loads = subject.parameter_loading().is_some();
    let mut spreads = Vec::new();
    if loads {
        let step = (limits.vocabulary / LOOKED_AT).max(1);
        spreads = make_sure(parameters.general().clone(), &declared, |parameters| {
            load(subject, parameters)?;
            (0..limits.vocabulary).step_by(step).map(|label| loss(subject, label)).collect()
        })?;
    } else {
        subject.reset()?;
    }
    let reported = (0..limits.vocabulary).map(|label| loss(subject, label)).collect::<Result<_, _>>()?;
    let abrupt = match spreads.as_slice() {
        [.., quarter, _, whole] => *quarter < ABRUPT * whole,
        _ => true,
    };
    let distinct = loads && info.model.frozen.is_empty();
    Ok(Some(LabelLosses { spec, ends: [first, last], reported, distinct, abrupt }))
}

/// The sequence in which a label alone is scored, the last, by label; `None` where a subject takes no such sequence.
fn lone_token(limits: &Limits) -> Option<impl Fn(u32) -> Option<Sequence> + use<>> {
    let length = limits.lengths.nearest(if limits.ignore_index { 4 } else { 2 });
    if length < 2 || length > 2 && !limits.ignore_index || limits.vocabulary < 2 {
        return None;
    }
    let mut tokens = ProbeTokens::new(limits.vocabulary, 79);
    let drawn: Vec<u32> = (0..length).map(|_| tokens.next()).collect();
    let ignored = limits.ignore_index;
    Some(move |label: u32| {
        let mut tokens = drawn.clone();
        tokens[length - 1] = label;
        let mut labels: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        if ignored {
            labels[..length - 1].fill(IGNORE_INDEX);
        }
        Sequence::new(tokens, labels).ok()
    })
}

impl LabelLosses {
    /// Holds the losses to a model of the trainer: what it weighs the token with is what they are over without. A model
    /// with another z-loss does not say what the probabilities are, and none that is known cuts losses off.
    pub(crate) fn score(
        &self,
        model: &TrainerModel,
        (limits, log_policy, dtype): (&Limits, LogPolicy, Dtype),
        score: &mut Score,
    ) {
        let weights = [0, 1].map(|end| self.weight(end, model, (limits, log_policy)));
        match weights {
            [Some(weight), Some(other)] if (weight - other).abs() <= 0.0 => {
                let range = model.kernel.filter(|kernel| (kernel.of)(&PLAIN)).and_then(|kernel| kernel.range);
                let fits = match (self.end(weight, dtype), range) {
                    (None, None) => true,
                    (None, Some(most)) => self.spread() <= most * weight,
                    (Some(End::CutOff), _) => false,
                    (Some(End::Range(range)), most) => most.is_some_and(|most| range <= most),
                };
                let grade = Grade::exact_or_impossible(fits && self.total(weight, dtype).is_ok());
                score.add(grade, || "the losses of all labels of one token".to_owned());
            }
            _ if self.is_right(limits, log_policy, dtype) => {}
            _ => score.unforecast(1),
        }
    }

    /// What a model weighs the one token with in what it reports of the first or the last label; `None` where it
    /// scores anything else, or with another z-loss or smoothing. What it computes of logits is minus the logarithm of
    /// a probability in every kernel that is known.
    fn weight(
        &self,
        end: usize,
        model: &TrainerModel,
        (limits, log_policy): (&Limits, LogPolicy),
    ) -> Option<f64> {
        let batch = &self.ends[end];
        let asked = TrainerCall { spec: &self.spec, batch, limits, log_policy, before: &[], upstream: None };
        let seen = model.seen(&asked);
        if model.is_unsaid(&seen) {
            return None;
        }
        let call = TrainerCall { batch: &seen, ..asked };
        let label = batch.predictions().find(|prediction| prediction.supervised)?;
        let is_of_label = |term: &Term| {
            let mut scored =
                term.batch.predictions().zip(&term.weights).filter(|(_, weight)| **weight != 0.0);
            term.token_loss() == PLAIN
                && scored.all(|(p, _)| (p.position, p.target) == (label.position, label.target))
        };
        let terms = model.reports.terms(model.gradient, &call)?;
        let weight: f64 = terms.iter().flat_map(|term| &term.weights).sum();
        (terms.iter().all(is_of_label) && weight > 0.0).then_some(weight)
    }

    /// Whether the losses are those of an honest trainer, as far as somebody can tell.
    fn is_right(&self, limits: &Limits, log_policy: LogPolicy, dtype: Dtype) -> bool {
        let weight = self.weight(0, &TrainerModel::HONEST, (limits, log_policy));
        weight.is_none_or(|weight| self.total(weight, dtype).is_ok() && self.end(weight, dtype).is_none())
    }

    /// The sum of the probabilities, the token having this weight; an error where it is not one.
    fn total(&self, weight: f64, dtype: Dtype) -> Result<f64, f64> {
        let probabilities = self.reported.iter().map(|loss| (-loss / weight).exp());
        let total = probabilities.collect::<CompensatedSum>().value();
        if HalfDigits::of(dtype).same_number(total, 1.0) { Ok(total) } else { Err(total) }
    }

    /// How far the losses are apart.
    fn spread(&self) -> f64 {
        self.largest().0 - self.reported.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest loss, and how many labels have it to the bit.
    fn largest(&self) -> (f64, usize) {
        let most = self.reported.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (most, self.reported.iter().filter(|loss| loss.to_bits() == most.to_bits()).count())
    }

    /// How several labels come to have the largest loss, where an honest trainer has no such loss.
    fn end(&self, weight: f64, dtype: Dtype) -> Option<End> {
        let range = self.spread() / weight;
        if !self.distinct || self.largest().1 < ALIKE {
            None
        } else if range <= 1.0 + HalfDigits::of(dtype).tolerance {
            Some(End::Range(range - HalfDigits::of(dtype).tolerance))
        } else {
            self.abrupt.then_some(End::CutOff)
        }
    }

    /// What is wrong, in words.
    pub(crate) fn statement(&self, limits: &Limits, log_policy: LogPolicy, dtype: Dtype) -> Option<String> {
        let weight = self.weight(0, &TrainerModel::HONEST, (limits, log_policy))?;
        let (most, alike) = self.largest();
        let all = self.reported.len();
        match self.end(weight, dtype) {
            Some(End::CutOff) => {
                return Some(format!(
                    "of the {all} labels of one token {alike} have the same loss, {:.4}, and none has a larger: \
                     losses or probabilities are cut off, and so are the gradients of the dearest mistakes",
                    most / weight
                ));
            }
            Some(End::Range(_)) => {
                return Some(format!(
                    "however sure the model is made of itself, the losses of all labels of one token are {:.4} apart \
                     at most, as probabilities are that are taken for logits",
                    self.spread() / weight
                ));
            }
            None => {}
        }
        let total = self.total(weight, dtype).err()?;
        Some(format!(
            "the probabilities that the losses of all labels of one token say add up to {total:.6}, not to 1: what is \
             reported is not the weight of a token times −ln p, or the prediction sees its label"
        ))
    }
}
