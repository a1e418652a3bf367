//! The linear equations that a hypothesis makes of the answers: which token losses each is a sum of, and with which
//! weights.

use crate::{
    call::{Term, Weighing},
    reported_loss::Summed,
    trainer_model::{Sight, TrainerModel, honest_attention},
    weighed::Weighed,
};
use lossproof_spec::{MicroBatch, Sequence};
use std::{collections::BTreeMap, rc::Rc};

/// What a token loss depends on, as far as a hypothesis says: two that are equal in this have the same value and the
/// same gradient.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TokenKey {
    /// ε and ζ of the token loss.
    kind: [u64; 2],
    target: u32,
    /// The width of the micro-batch, where everything is seen: what the micro-batch is filled up with is seen, too.
    width: Option<usize>,
    /// Position id of the prediction, or its index where everything is seen.
    at: u32,
    /// Place and token of everything that is seen.
    visible: Vec<(u32, u32)>,
}

/// What a hypothesis says of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Equation {
    /// It is the sum of these unknowns with these weights, as bits.
    Sum(BTreeMap<usize, u64>),
    /// It is no number: the mean of nothing.
    NoNumber,
}

/// What a hypothesis says of all answers of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    unknowns: BTreeMap<TokenKey, usize>,
    equations: Vec<Equation>,
}

/// Which answers equations are made for.
#[derive(Clone, Copy)]
pub(super) enum Quantity {
    /// Reported losses.
    Loss,
    /// Gradients, by this weighing.
    Gradient(Weighing),
}

impl Quantity {
    /// What a model sums for it.
    pub(super) fn summed(self, model: &TrainerModel) -> Summed {
        match self {
            Self::Loss => model.reports.summed(model.gradient),
            Self::Gradient(weighing) => Summed::Batch(weighing),
        }
    }
}

impl System {
    /// The equations that a model makes of the answers to calls, as it weighs them.
    pub(super) fn new(model: &TrainerModel, calls: impl Iterator<Item = Rc<Weighed>>) -> Self {
        let mut system = Self::default();
        for call in calls {
            let terms = call.terms.as_ref();
            let equation = terms.map_or(Equation::NoNumber, |terms| system.sum(model, terms));
            system.equations.push(equation);
        }
        system
    }

    fn sum(&mut self, model: &TrainerModel, terms: &[Term]) -> Equation {
        let mut sum = BTreeMap::<usize, f64>::new();
        for term in terms {
            let mut rest = term.weights.iter();
            for micro_batch in term.batch.micro_batches() {
                let sight = (model.sight)(micro_batch);
                let width = micro_batch.sequences().iter().map(Sequence::len).max();
                let width = width.filter(|_| sight == Sight::Everything);
                for (sequence, position) in predictions(micro_batch) {
                    let Some(&weight) = rest.next().filter(|weight| **weight != 0.0) else { continue };
                    let key = TokenKey::new(term, sequence, position, (sight, width));
                    let next = self.unknowns.len();
                    let unknown = *self.unknowns.entry(key).or_insert(next);
                    *sum.entry(unknown).or_default() += weight;
                }
            }
        }
        Equation::Sum(sum.into_iter().map(|(unknown, weight)| (unknown, weight.to_bits())).collect())
    }

    /// Whether a call's answer should be a number.
    pub(super) fn is_number(&self, call: usize) -> bool {
        matches!(self.equations[call], Equation::Sum(_))
    }

    /// The weights of all unknowns in a call's answer.
    pub(super) fn row(&self, call: usize) -> Vec<f64> {
        let mut row = vec![0.0; self.unknowns.len()];
        if let Equation::Sum(sum) = &self.equations[call] {
            for (unknown, weight) in sum {
                row[*unknown] = f64::from_bits(*weight);
            }
        }
        row
    }
}

/// Every prediction of a micro-batch, in canonical order.
fn predictions(micro_batch: &MicroBatch) -> impl Iterator<Item = (&Sequence, usize)> {
    let positions = |sequence: &Sequence| 0..sequence.len().saturating_sub(1);
    micro_batch.sequences().iter().flat_map(move |sequence| positions(sequence).map(move |at| (sequence, at)))
}

impl TokenKey {
    fn new(
        term: &Term,
        sequence: &Sequence,
        position: usize,
        (sight, width): (Sight, Option<usize>),
    ) -> Self {
        let documents = sequence.segment_ids();
        let inputs = sequence.input_ids().iter().zip(sequence.position_ids()).zip(0..);
        let mut visible = Vec::new();
        for (index, ((&token, &place), number)) in inputs.enumerate() {
            match sight {
                Sight::Everything => visible.push((number, token)),
                Sight::Document if documents[index] == documents[position] => visible.push((place, token)),
                Sight::Causal if honest_attention(sequence, position, index) => visible.push((place, token)),
                Sight::Document | Sight::Causal => {}
            }
        }
        let place = sequence.position_ids()[position];
        Self {
            kind: [term.label_smoothing.to_bits(), term.z_loss.to_bits()],
            target: sequence.targets()[position + 1],
            width,
            at: if width.is_some() { u32::try_from(position).unwrap_or(u32::MAX) } else { place },
            visible,
        }
    }
}
