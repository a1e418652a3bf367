//! Who attends to whom: which inputs each token loss depends on.

use crate::{
    score::{Grade, Score},
    trainer_model::{TrainerModel, honest_attention},
};
use lossproof_cases::edit::{alone, edit, given};
use lossproof_spec::{Dtype, IGNORE_INDEX, Role, Sequence, SequenceFields};
use lossproof_subject::{Discard, Limits, Subject, SubjectError};

/// Which inputs the token losses of a sequence depend on.
pub(crate) struct Dependence {
    pub(crate) sequence: Sequence,
    /// Whether the model attends to earlier tokens, by its card: one without attention need not depend on them.
    pub(crate) attends: bool,
    /// How many blocks it has, where the card says so.
    pub(crate) blocks: Option<usize>,
    /// Whether a label may be another token than its input.
    pub(crate) free_labels: bool,
    /// Whether these are losses that are trained on, of one label each, and not those of an evaluation: what is wrong
    /// with labels or weights is in them.
    pub(crate) trained: bool,
    /// By position, then input; `None` of a label that cannot be another than its input, so that both change, and of a
    /// prediction without a label of what is trained on.
    pub(crate) depends: Vec<Vec<Option<bool>>>,
}

impl Dependence {
    /// Holds it to a model's attention. Where a position is padding, nothing is asked. A hypothesis that does
    /// not speak of attention is not contradicted by what is not seen, and does not explain it: what is wrong
    /// with labels may be so in an evaluation too.
    pub(crate) fn score(&self, model: &TrainerModel, score: &mut Score) {
        let (mut open, mut fits) = (false, true);
        for (position, input, depends) in self.of_real_positions() {
            let said = match model.attends {
                Some(attends) => attends(&self.sequence, position, input, self.blocks),
                None => None,
            };
            let is_wrong = self.is_wrong((position, input, depends));
            match said {
                Some(expected) => fits &= expected == depends || !self.attends && !depends,
                // What is said of labels alone does not let anything be seen that must not be.
                None if model.attends.is_none()
                    && depends
                    && is_wrong
                    && self.free_labels
                    && !self.trained =>
                {
                    fits = false;
                }
                None => open |= is_wrong,
            }
        }
        let what = || "who attends to whom".to_owned();
        match (fits, open) {
            (false, _) => score.add(Grade::Impossible, what),
            (true, true) if model.attends.is_none() => score.unforecast(1),
            (true, true) => score.add(Grade::Loose, what),
            (true, false) => score.add(Grade::Exact, what),
        }
    }

    /// Where it is not what it should be: the position and the input, and whether it depends on that.
    pub(crate) fn anomaly(&self) -> Option<(usize, usize, bool)> {
        self.of_real_positions().find(|pair| self.is_wrong(*pair))
    }

    /// Whether a loss depends on any earlier token than the one that its position sees. In a model whose blocks add
    /// nothing yet none does.
    pub(crate) fn looks_back(&self) -> bool {
        self.of_real_positions().any(|(position, input, depends)| input < position && depends)
    }

    /// Whether an honest trainer would not show this of a position and an input.
    fn is_wrong(&self, (position, input, depends): (usize, usize, bool)) -> bool {
        let sees = honest_attention(&self.sequence, position, input);
        depends != sees && (depends || self.attends)
    }

    fn of_real_positions(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        let real = |(position, _): &(usize, _)| self.sequence.segment_ids()[*position] > 0;
        self.depends.iter().enumerate().filter(real).flat_map(|(position, depends)| {
            let inputs = depends.iter().enumerate();
            inputs.filter_map(move |(input, depends)| Some((position, input, (*depends)?)))
        })
    }
}

/// Sequences to look at: one plain, one with padding on both sides and two documents.
pub(crate) fn sequences(limits: &Limits) -> Vec<Sequence> {
    let token =
        |index: usize| u32::try_from(1 + index % limits.vocabulary.saturating_sub(2).max(1)).unwrap_or(0);
    let tokens = |length: usize| -> Vec<u32> { (0..length).map(token).collect() };
    let labels = |tokens: &[u32]| tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>();
    let plain = tokens(6);
    let packed = tokens(8);
    let mut fields = SequenceFields {
        labels: labels(&packed),
        targets: packed.clone(),
        input_ids: packed,
        segment_ids: vec![0, 1, 1, 1, 2, 2, 2, 0],
        position_ids: vec![0, 0, 1, 2, 0, 1, 2, 0],
    };
    for padding in [0, 1, 7] {
        fields.labels[padding] = IGNORE_INDEX;
    }
    let plain = Sequence::new(plain.clone(), labels(&plain));
    [plain, Sequence::from_fields(fields)].into_iter().flatten().collect()
}

/// Which inputs each token loss of a sequence depends on; `None` where some are no numbers, or they are not
/// one for each prediction.
///
/// # Errors
/// When the subject fails.
pub(crate) fn dependence(
    subject: &mut dyn Subject,
    sequence: Sequence,
    dtype: Dtype,
    limits: &Limits,
) -> Result<Option<Dependence>, SubjectError> {
    let parameters = subject.parameters();
    let attends = parameters.iter().any(|parameter| is_of_attention(parameter.role));
    let blocks = parameters.iter().filter_map(|parameter| parameter.block).max().map(|last| last + 1);
    let free_labels = limits.free_labels;
    let trained = subject.token_losses().is_none();
    let mut evaluate = |sequence: Sequence| match subject.token_losses() {
        Some(losses) => {
            let batch = alone(&sequence, limits);
            let mut losses = losses.evaluate(&batch)?;
            // Where the trainer takes no batch of one, those of the first copy.
            losses.truncate(losses.len() / batch.sequences().count());
            Ok(losses)
        }
        None => losses_of_lone_labels(subject, &sequence, limits),
    };
    let before = evaluate(sequence.clone())?;
    if before.len() + 1 != sequence.len() || before.iter().any(|loss| !loss.is_finite()) {
        return Ok(None);
    }
    // A loss that depends on an input moves by far more than rounding; one that does not moves by rounding at
    // most.
    let moved = 256.0 * dtype.unit_roundoff();
    let mut by_input: Vec<Vec<Option<bool>>> = Vec::new();
    for input in 0..sequence.len() {
        let Some(token) = another_token(sequence.input_ids()[input], limits) else { return Ok(None) };
        let after = evaluate(edit(&sequence, |fields| {
            fields.input_ids[input] = token;
            if !limits.free_labels {
                fields.targets[input] = token;
                if given(fields.labels[input]) {
                    fields.labels[input] = i64::from(token);
                }
            }
        }))?;
        if after.len() != before.len() || after.iter().any(|loss| !loss.is_finite()) {
            return Ok(None);
        }
        let depends = |(a, b): (&f64, &f64)| (a - b).abs() > moved * a.abs().max(1.0);
        let found = before.iter().zip(&after).enumerate().map(|(position, losses)| {
            let asked = limits.free_labels || position + 1 != input;
            (asked && (!trained || sequence.supervises(position))).then(|| depends(losses))
        });
        by_input.push(found.collect());
    }
    let by_position = |position: usize| by_input.iter().map(|depends| depends[position]).collect();
    let depends = (0..before.len()).map(by_position).collect();
    Ok(Some(Dependence { sequence, attends, blocks, free_labels, trained, depends }))
}

/// The losses that are reported of a sequence with one label, for each of its labels; nothing where there is none.
fn losses_of_lone_labels(
    subject: &mut dyn Subject,
    sequence: &Sequence,
    limits: &Limits,
) -> Result<Vec<f64>, SubjectError> {
    let mut losses = Vec::new();
    for position in 0..sequence.len() - 1 {
        let loss = if sequence.supervises(position) {
            let lone = sequence.supervise_only(|other| other == position);
            subject.accumulate(&alone(&lone, limits), &mut Discard)?.loss
        } else {
            0.0
        };
        losses.push(loss);
    }
    Ok(losses)
}

/// Whether a parameter makes queries or keys of attention.
fn is_of_attention(role: Role) -> bool {
    matches!(role, Role::QueryKeyValue | Role::Query | Role::Key)
}

/// Another token than this one; not one of the vocabulary's ends, where it has others.
fn another_token(old: u32, limits: &Limits) -> Option<u32> {
    let tokens = u32::try_from(limits.vocabulary).unwrap_or(u32::MAX);
    let inner = (1..tokens.saturating_sub(1)).rev().find(|token| *token != old);
    inner.or_else(|| (0..tokens).find(|token| *token != old))
}
