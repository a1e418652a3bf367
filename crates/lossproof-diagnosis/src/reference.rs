//! What a reference with the same parameters makes of weighted sums of token losses, each asked for once.

use crate::{
    call::Term, measuring::load, named_values::NamedValues, trainer_model::LossKernel, truth::LossAndGradient,
};
use lossproof_cases::edit::relabel;
use lossproof_numerics::vector;
use lossproof_spec::{GlobalBatch, LossSpec};
use lossproof_subject::{Collect, Subject, SubjectError, TensorSet};
use std::{collections::BTreeMap, rc::Rc};

/// Numbers that are kept of all answers together, at most: 64 MiB.
const KEPT: usize = 1 << 23;

/// Weighted sums, and what they are; `None` where the reference cannot say.
type Answer = (Vec<Term>, Option<Rc<LossAndGradient>>);

/// Another trainer with the same parameters, which is taken to be right. Most hypotheses agree with others on most
/// probes, so that its answers are kept.
pub(crate) struct Reference<'a, 'r> {
    subject: &'r mut (dyn Subject + 'r),
    parameters: &'a TensorSet,
    /// Whether it has the parameters.
    loaded: bool,
    /// What it answered, by probe.
    answers: BTreeMap<usize, Vec<Answer>>,
    /// Numbers in these answers.
    kept: usize,
}

impl<'a, 'r> Reference<'a, 'r> {
    /// A trainer that is to have these parameters.
    pub(crate) fn new(subject: &'r mut (dyn Subject + 'r), parameters: &'a TensorSet) -> Self {
        Self { subject, parameters, loaded: false, answers: BTreeMap::new(), kept: 0 }
    }

    /// `Σ` of the terms of a probe, and its gradient; `None` where the reference cannot say.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn truth(
        &mut self,
        probe: usize,
        kernel: Option<LossKernel>,
        terms: &[Term],
    ) -> Result<Option<Rc<LossAndGradient>>, SubjectError> {
        let of_kernel = kernel.is_some_and(|kernel| terms.iter().any(|term| (kernel.of)(&term.token_loss())));
        if of_kernel || terms.iter().any(|term| term.weights.iter().any(|weight| weight.is_nan())) {
            return Ok(None);
        }
        let known = self.answers.entry(probe).or_default().iter().find(|(known, _)| known == terms);
        if let Some((_, answer)) = known {
            return Ok(answer.clone());
        }
        let answer = self.computed(terms)?.map(Rc::new);
        let gradients = answer.iter().flat_map(|answer| answer.gradient.values()).map(Vec::len);
        // Of a batch there are a weight and five numbers for each position.
        let numbers =
            gradients.sum::<usize>() + 6 * terms.iter().map(|term| term.weights.len()).sum::<usize>();
        if self.kept + numbers <= KEPT {
            self.kept += numbers;
            self.answers.entry(probe).or_default().push((terms.to_vec(), answer.clone()));
        }
        Ok(answer)
    }

    fn computed(&mut self, terms: &[Term]) -> Result<Option<LossAndGradient>, SubjectError> {
        if !self.loaded {
            load(self.subject, self.parameters)?;
            self.loaded = true;
        }
        let (mut loss, mut gradient) = (0.0, NamedValues::new());
        for term in terms {
            let spec =
                LossSpec { label_smoothing: term.label_smoothing, z_loss: term.z_loss, ..LossSpec::sum() };
            if self.subject.configure(&spec).is_err() {
                return Ok(None);
            }
            let Some(upstream) = self.subject.upstream_weights() else { return Ok(None) };
            let mut sink = Collect::default();
            let weighed = supervised_where_weighed(&term.batch, &term.weights);
            loss += upstream.backward(&weighed, &term.weights, &mut sink)?;
            for (name, tensor) in sink.into_tensors() {
                let own = gradient.entry(name).or_insert_with(|| vec![0.0; tensor.elements()]);
                if own.len() != tensor.elements() {
                    return Ok(None);
                }
                vector::add_scaled(own, 1.0, &tensor.to_f64());
            }
        }
        Ok(Some(LossAndGradient { loss, gradient }))
    }
}

/// The batch with a label exactly where a prediction weighs something.
fn supervised_where_weighed(batch: &GlobalBatch, weights: &[f64]) -> GlobalBatch {
    let mut rest = weights.iter();
    batch.map_sequences(|sequence| {
        relabel(sequence, |fields, at| {
            let weighs = rest.next().is_some_and(|weight| *weight != 0.0);
            weighs.then(|| fields.targets[at])
        })
    })
}
