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
use lossproof_laws::{cut_off_at, every_row_is_a_token, make_sure};
use lossproof_numerics::CrossEntropy;
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch, IGNORE_INDEX, LossSpec, Sequence};
use lossproof_subject::{Discard, Limits, LogPolicy, Subject, SubjectError, TensorSet};
use std::collections::BTreeMap;

/// A token by itself, of which every label is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneTokenDraft {
    /// Tokens of its sequence, of which it is the last, where a subject takes so many.
    length: usize,
    /// Whether the model is to be sure of itself, where that can be.
    pub(crate) sure: bool,
    /// The largest vocabulary of which every label is tried.
    vocabulary: usize,
}

/// One behind few tokens, of a model that is sure of itself, and one behind many, of one that is not: there every label
/// counts.
pub(crate) const LONE_TOKENS: [LoneTokenDraft; 2] = [
    LoneTokenDraft { length: 4, sure: true, vocabulary: 1024 },
    LoneTokenDraft { length: 16, sure: false, vocabulary: 128 },
];

/// The token loss that is asked for.
const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0, z_loss: 0.0 };

/// What was reported of every label of one token. The model is sure of itself, where that can be.
pub(crate) struct LabelLosses {
    spec: LossSpec,
    /// The batches of the first label and of the last.
    ends: [GlobalBatch; 2],
    /// What was reported, by label.
    reported: Vec<f64>,
    /// Whether the head's rows were drawn, so that no two labels have the same logit.
    distinct: bool,
    /// Whether losses are far apart.
    pub(crate) sure: bool,
}

/// How the largest of the losses of all labels come to be one number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// They grow with the logits until there.
    CutOff,
    /// They are off the smallest of them by what probabilities are off the largest, which is one.
    OfProbabilities,
}

/// Asks for the loss of every label of one token, or says why that cannot be.
///
/// # Errors
/// When the subject fails.
pub(crate) fn label_losses(
    subject: &mut dyn Subject,
    parameters: &ProbeParameters,
    limits: &Limits,
    token: LoneTokenDraft,
) -> Result<Result<LabelLosses, String>, SubjectError> {
    let (info, declared, vocabulary) = (subject.info(), subject.parameters(), limits.vocabulary);
    let plain = |spec: &LossSpec| spec.label_smoothing <= 0.0 && spec.z_loss <= 0.0;
    let mean = info.claims.claim_of(&LossSpec::token_mean(), limits);
    let Some(spec) = mean.or_else(|| Some(info.claims.first()).filter(plain)) else {
        return Ok(Err("every loss that is claimed has smoothing or a z-loss".to_owned()));
    };
    if vocabulary > token.vocabulary {
        return Ok(Err(format!("there are more than {}", token.vocabulary)));
    }
    if !every_row_is_a_token(declared.iter().chain(&info.model.frozen), vocabulary) {
        return Ok(Err("the head has more rows than there are tokens".to_owned()));
    }
    let narrow = || Ok(Err("no batch with one supervised token is within the subject's limits".to_owned()));
    let Some(sequence) = lone_token(limits, token.length) else { return narrow() };
    let batch = |label: usize| sequence(id(label)).map(|sequence| alone(&sequence, limits));
    let [Some(first), Some(last)] = [batch(0), batch(vocabulary - 1)] else { return narrow() };
    if [&first, &last].iter().any(|batch| limits.check(batch).is_err()) {
        return narrow();
    }
    let Some(weights) =
        subject.configure(&spec).ok().and_then(|()| info.log_policy.weights(&first, &spec).ok())
    else {
        return Ok(Err("no loss that is claimed says what a lone token weighs in what is logged".to_owned()));
    };
    let weight: f64 = weights.iter().sum();
    let loss = |subject: &mut dyn Subject, label: usize| -> Result<f64, SubjectError> {
        let Some(batch) = batch(label) else { return Ok(f64::NAN) };
        Ok(subject.accumulate(&batch, &mut Discard)?.loss)
    };
    let loads = subject.parameter_loading().is_some();
    let (mut sure, mut known) = (false, BTreeMap::new());
    if loads && !token.sure {
        load(subject, parameters.general())?;
    } else if loads {
        let parameters = parameters.general();
        let losses = |parameters: &TensorSet, labels: &[usize]| -> Result<_, SubjectError> {
            load(subject, parameters)?;
            labels.iter().map(|label| Ok(loss(subject, *label)? / weight)).collect()
        };
        (sure, known) = make_sure(parameters, (&declared, vocabulary), losses)?;
    } else {
        subject.reset()?;
    }
    let mut reported = Vec::new();
    for label in 0..vocabulary {
        match known.get(&label) {
            Some(known) => reported.push(weight * known),
            None => reported.push(loss(subject, label)?),
        }
    }
    let distinct = loads && info.model.frozen.is_empty();
    Ok(Ok(LabelLosses { spec, ends: [first, last], reported, distinct, sure }))
}

/// The sequence in which a label alone is scored, the last, by label; `None` where a subject takes no such sequence.
fn lone_token(limits: &Limits, length: usize) -> Option<impl Fn(u32) -> Option<Sequence> + use<>> {
    let length = limits.lengths.nearest(if limits.ignore_index { length } else { 2 });
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
            [Some(weight), Some(other)]
                if (weight - other).abs() <= 0.0 && !self.is_label_seen(model, limits) =>
            {
                let kernel = model.kernel.filter(|kernel| (kernel.of)(&PLAIN));
                let of_probabilities = kernel.is_some_and(|kernel| kernel.of_probabilities);
                let fits = match self.end(weight, dtype) {
                    None => {
                        !of_probabilities || self.below_the_largest(weight) <= 1.0 + self.tolerance(dtype)
                    }
                    Some(End::CutOff) => false,
                    Some(End::OfProbabilities) => of_probabilities,
                };
                let grade = Grade::exact_or_impossible(fits && self.wrong_total(weight, dtype).is_none());
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

    /// Whether a model lets the label in among the inputs that its position sees: then each label has probabilities of
    /// its own, which add up to anything.
    fn is_label_seen(&self, model: &TrainerModel, limits: &Limits) -> bool {
        let [first, last] = self.ends.each_ref().map(|batch| {
            let Some(label) = batch.predictions().find(|prediction| prediction.supervised) else {
                return Vec::new();
            };
            let seen = batch.map_sequences(|sequence| (model.sees)(sequence, &self.spec, limits));
            let inputs =
                seen.sequences().map(|seen| seen.input_ids().iter().take(label.position + 1).copied());
            inputs.flatten().collect()
        });
        first != last
    }

    /// Whether the losses are those of an honest trainer, as far as somebody can tell.
    fn is_right(&self, limits: &Limits, log_policy: LogPolicy, dtype: Dtype) -> bool {
        let weight = self.weight(0, &TrainerModel::HONEST, (limits, log_policy));
        weight.is_none_or(|weight| {
            self.wrong_total(weight, dtype).is_none() && self.end(weight, dtype).is_none()
        })
    }

    /// The sum of the probabilities, the token having this weight, where it is not one.
    fn wrong_total(&self, weight: f64, dtype: Dtype) -> Option<f64> {
        let probabilities = self.reported.iter().map(|loss| (-loss / weight).exp());
        let total = probabilities.collect::<CompensatedSum>().value();
        (!HalfDigits::of(dtype).same_number(total, 1.0)).then_some(total)
    }

    /// How far the losses, over the weight, are below the largest, all together. Of losses `A − p` with
    /// probabilities p that is one, less what all have of the smallest.
    fn below_the_largest(&self, weight: f64) -> f64 {
        let most = self.reported.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.reported.iter().map(|loss| (most - loss) / weight).collect::<CompensatedSum>().value()
    }

    /// What a sum over all labels errs by.
    fn tolerance(&self, dtype: Dtype) -> f64 {
        HalfDigits::of(dtype).tolerance * self.reported.len() as f64
    }

    /// The loss over the weight that losses are cut off at, and how many labels have it.
    fn cut_off(&self, weight: f64) -> Option<(f64, usize)> {
        let losses: Vec<f64> = self.reported.iter().map(|loss| loss / weight).collect();
        cut_off_at(&losses).filter(|_| self.distinct)
    }

    /// How several labels come to have the largest loss, where an honest trainer has no such loss.
    fn end(&self, weight: f64, dtype: Dtype) -> Option<End> {
        if self.cut_off(weight).is_some() {
            return Some(End::CutOff);
        }
        let is_one = (self.below_the_largest(weight) - 1.0).abs() <= self.tolerance(dtype);
        (self.distinct && is_one && !self.sure).then_some(End::OfProbabilities)
    }

    /// What is wrong, in words.
    pub(crate) fn statement(&self, limits: &Limits, log_policy: LogPolicy, dtype: Dtype) -> Option<String> {
        let weight = self.weight(0, &TrainerModel::HONEST, (limits, log_policy))?;
        if let Some((most, alike)) = self.cut_off(weight) {
            return Some(format!(
                "of the {} labels of one token {alike} have the same loss, {most:.4}, and none has a larger: losses or \
                 probabilities are cut off, and so are the gradients of the dearest mistakes",
                self.reported.len()
            ));
        }
        if self.end(weight, dtype) == Some(End::OfProbabilities) {
            return Some(
                "however sure the model is made of itself, the losses of all labels of one token are less than one nat \
                 apart, as probabilities are that are taken for logits"
                    .to_owned(),
            );
        }
        let total = self.wrong_total(weight, dtype)?;
        Some(format!(
            "the probabilities that the losses of all labels of one token say add up to {total:.6}, not to 1: what is \
             reported is not the weight of a token times −ln p, or the prediction sees its label"
        ))
    }
}
