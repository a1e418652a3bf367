//! What one subject of a small model answered, its gradients whole and in f64.

use super::{
    VerifyError,
    alteration::{Alteration, Answer, Change},
    losses::Losses,
    semantics::Semantics,
};
use lossproof_laws::{
    blocks::{self, Blocks, Expected},
    distance,
};
use lossproof_numerics::Block;
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Collect, Observation, Subject, TensorSet};

/// Everything a small model's subject answered.
pub(crate) struct Answers {
    pub(crate) losses: Losses,
    /// The gradient under each semantics.
    gradients: Vec<TensorSet>,
    /// The gradient of the sum of each sequence's token losses, the sequence being alone.
    sequences: Vec<TensorSet>,
    /// The norm of every block of each of these.
    sequence_norms: Vec<Vec<f64>>,
    /// What two identical calls differed by, relative to the gradient.
    pub(crate) noise: f64,
}

impl Answers {
    /// Asks a subject for everything. `tick` is called after each gradient.
    pub(crate) fn gather(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        semantics: &[Semantics],
        blocks: &Blocks,
        mut tick: impl FnMut(),
    ) -> Result<Self, VerifyError> {
        let mut answers = Self::under(subject, batch, semantics, &mut tick)?;
        for sequence in batch.sequences() {
            let alone = GlobalBatch::single(sequence.clone());
            let (_, gradient) = accumulate(subject, &LossSpec::sum(), &alone)?;
            let norms = blocks.all().iter().map(|block| blocks::norm(&gradient, block)).collect();
            answers.sequence_norms.push(norms);
            answers.sequences.push(gradient);
            tick();
        }
        if let (Some(meaning), Some(first)) = (semantics.last(), answers.gradients.last()) {
            let (_, again) = accumulate(subject, &meaning.spec, &meaning.batch)?;
            answers.noise = distance(&again, first);
        }
        tick();
        Ok(answers)
    }

    /// Asks a subject for token losses, and for the loss and gradient under each semantics.
    pub(crate) fn under(
        subject: &mut dyn Subject,
        batch: &GlobalBatch,
        semantics: &[Semantics],
        mut tick: impl FnMut(),
    ) -> Result<Self, VerifyError> {
        let mut losses = Losses::evaluated(subject, batch)?;
        let mut gradients = Vec::with_capacity(semantics.len());
        for meaning in semantics {
            let (observation, gradient) = accumulate(subject, &meaning.spec, &meaning.batch)?;
            losses.observe(subject, meaning, observation)?;
            gradients.push(gradient);
            tick();
        }
        let (sequences, sequence_norms) = (Vec::new(), Vec::new());
        Ok(Self { losses, gradients, sequences, sequence_norms, noise: 0.0 })
    }

    /// The gradient under one semantics.
    pub(crate) fn gradient(&self, semantics: usize) -> &TensorSet {
        &self.gradients[semantics]
    }

    /// The gradients, with one answer altered if there is an alteration.
    pub(crate) fn seen<'a>(&'a self, alteration: Option<&'a Alteration<'a>>) -> SeenGradients<'a> {
        SeenGradients { answers: self, alteration }
    }

    /// `Σ_i |w_i|·‖g_i‖` over the gradients of single sequences, for one block by its place.
    pub(crate) fn composed_norm(&self, weights: &[f64], block: usize) -> f64 {
        let norms = self.sequence_norms.iter().map(|norms| norms[block]);
        norms.zip(weights).map(|(norm, weight)| weight.abs() * norm).sum()
    }
}

/// One configured accumulation, collected.
fn accumulate(
    subject: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<(Observation, TensorSet), VerifyError> {
    let mut sink = Collect::default();
    subject.configure(spec)?;
    let observation = subject.accumulate(batch, &mut sink)?;
    Ok((observation, sink.into_tensors()))
}

/// Gradients as a row sees them: as they are, or with one answer altered.
#[derive(Clone, Copy)]
pub(crate) struct SeenGradients<'a> {
    answers: &'a Answers,
    alteration: Option<&'a Alteration<'a>>,
}

impl<'a> SeenGradients<'a> {
    /// The elements of one parameter's gradient under a semantics, NaN where it was not handed over.
    pub(crate) fn elements(&self, semantics: usize, parameter: &str) -> Expected<'a> {
        let Some(tensor) = self.answers.gradients[semantics].get(parameter) else {
            return Box::new(|_| f64::NAN);
        };
        match self.alteration {
            Some(&Alteration { answer: Answer::Gradient(altered, block), change })
                if altered == semantics && block.parameter == parameter =>
            {
                Box::new(move |index| changed(change, block, index, tensor.get(index)))
            }
            _ => Box::new(|index| tensor.get(index)),
        }
    }

    /// The elements of one parameter in `Σ_i w_i·g_i`, the gradients of single sequences weighed and added
    /// up, NaN where one was not handed over.
    pub(crate) fn composed(&self, weights: &'a [f64], parameter: &str) -> Expected<'a> {
        let parts = self.answers.sequences.iter().map(|gradient| gradient.get(parameter));
        match parts.collect::<Option<Vec<_>>>() {
            Some(parts) => Box::new(move |index| {
                parts.iter().zip(weights).map(|(part, weight)| weight * part.get(index)).sum()
            }),
            None => Box::new(|_| f64::NAN),
        }
    }
}

fn changed(change: Change, block: &Block, index: usize, value: f64) -> f64 {
    match change {
        Change::Element(element, by) if element == index => value + by,
        Change::Factor(factor) if contains(block, index) => factor * value,
        _ => value,
    }
}

fn contains(block: &Block, index: usize) -> bool {
    let width = block.width.max(1);
    block.rows.contains(&(index / width)) && block.columns.contains(&(index % width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_its_own_block_alone() {
        let block = Block {
            parameter: "x".to_owned(),
            label: "part".to_owned(),
            rows: 1..3,
            columns: 2..4,
            width: 5,
            structurally_zero: false,
            may_be_zero: false,
            undeclared: false,
        };
        let touched = |change| {
            let altered = |index: &usize| changed(change, &block, *index, 1.0) > 1.0;
            (0..20).filter(altered).collect::<Vec<_>>()
        };
        assert_eq!(touched(Change::Factor(2.0)), block.indices().collect::<Vec<_>>());
        for choice in 0..9 {
            let Alteration { change, .. } = Alteration::element(0, &block, 1.0, 1.0, choice);
            let [index] = touched(change)[..] else { panic!("one element is altered") };
            assert_eq!(Some(index), block.indices().nth(choice % 4));
        }
    }
}
