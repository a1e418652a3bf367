//! What the parts of a gradient weigh in it, where single elements say little: in half precision.
//!
//! An element of such a gradient is off by percents, and so is the whole in its norm. But its rounding errors
//! point anywhere, and of P elements hardly any along one of a few given directions: the coefficients of a
//! least-squares fit to the parts are off by a `√P`-th of that, and their means over many contexts by less still.
//!
//! Not everything is rounded by chance. What a token hands back to the logit of its label is `w·(p − 1)`, and
//! where p is small that is nearly `−w` in every context, and rounded alike in all of them. What it hands back to
//! the logits of tokens that occur nowhere, `w·p_v`, is as different as their probabilities. So the fit is to the
//! rows of the head that belong to those tokens, where it is known which these are.

use crate::trial::{Computed, Trial};
use lossproof_numerics::{Block, Deviation, WEAKEST, coefficients};
use lossproof_spec::{Dtype, Role};
use std::collections::BTreeSet;

/// The unit of what each part weighs.
pub(crate) const WEIGHTS: &str = "weights";

/// The unit of what all parts together weigh.
pub(crate) const SCALE: &str = "scale";

/// Elements that there must be for each part.
const EQUATIONS: usize = 8;

/// Elements of a parameter that a fit is over, and how much each counts.
struct Equations<'a> {
    parameter: &'a str,
    elements: Vec<usize>,
    weight: f64,
}

impl Trial<'_> {
    /// Notes how far a gradient is from `Σ_k c_k·gradient_k` in what each part weighs, and in what all weigh together,
    /// to be judged by the mean over contexts.
    ///
    /// A relative error e of the parts shortens a coefficient by e². What the fit leaves is made of that and of the
    /// error of the gradient, so that its square is a bound on the bias.
    pub(crate) fn weights(
        &mut self,
        what: &str,
        blocks: &[(&Block, f64)],
        actual: &Computed,
        parts: &[(f64, &Computed)],
    ) {
        let parts: Vec<_> = parts.iter().filter(|(factor, _)| *factor != 0.0).collect();
        let count = parts.len();
        let batches = parts.iter().map(|(_, part)| *part).chain([actual]);
        let of_absent = self.rows_of_absent_tokens(blocks, batches);
        let (equations, systematic) = match of_absent {
            Some(rows) if rows.elements.len() >= EQUATIONS * count => (vec![rows], 0.0),
            // Each side is rounded once, by as much at most.
            _ => (of_all(blocks), 2.0 * self.facts.coarsest().unit_roundoff()),
        };
        let (mut products, mut right, mut square) = (vec![0.0; count * count], vec![0.0; count], 0.0);
        for Equations { parameter, elements, weight } in &equations {
            let of = |computed: &Computed, factor: f64| -> Option<Vec<f64>> {
                let tensor = computed.gradient.get(*parameter)?;
                Some(elements.iter().map(|&index| factor * tensor.get(index)).collect())
            };
            let columns: Option<Vec<_>> = parts.iter().map(|(factor, part)| of(part, *factor)).collect();
            let (Some(found), Some(columns)) = (of(actual, 1.0), columns) else { return };
            square += weight * inner(&found, &found);
            for (i, column) in columns.iter().enumerate() {
                right[i] += weight * inner(column, &found);
                for (j, other) in columns.iter().enumerate() {
                    products[i * count + j] += weight * inner(column, other);
                }
            }
        }
        let size: f64 = products.iter().sum();
        if size <= 0.0 {
            return;
        }
        let along = right.iter().sum::<f64>();
        let together = along / size;
        let left = ((square - together * along) / square).max(0.0);
        // And what is handed over is rounded to f32.
        let bias = left.max(Dtype::F32.unit_roundoff());
        let deviation = |value: f64, bias: f64| Deviation {
            value: value - 1.0,
            effect: 1.0,
            bias: bias + systematic,
            weakest: WEAKEST,
        };
        self.averages.note(SCALE, deviation(together, bias), || format!("{what}: gradient as a whole"));
        if let Some((found, growth)) = coefficients(&products, &right).filter(|_| count > 1) {
            for (part, value) in found.into_iter().enumerate() {
                let statement = || format!("{what}: weight of part {} of {count}", part + 1);
                self.averages.note(WEIGHTS, deviation(value, bias * growth), statement);
            }
        }
    }

    /// The rows of the head of tokens that no batch has, neither as an input nor as a label; `None` where the roles do
    /// not say which the head is, it is not compared, or the parameters are the trainer's own, at which probabilities
    /// may be all alike.
    fn rows_of_absent_tokens<'a>(
        &mut self,
        blocks: &[(&'a Block, f64)],
        batches: impl Iterator<Item = &'a Computed>,
    ) -> Option<Equations<'a>> {
        self.subject.parameter_loading()?;
        let all = &self.facts.parameters;
        let of_role = |role: Role| all.iter().find(|parameter| parameter.role == role);
        let tied = of_role(Role::TokenEmbedding).filter(|parameter| parameter.tied_to.is_some());
        let head = of_role(Role::Head).or(tied)?;
        let vocabulary = self.facts.info.limits.vocabulary;
        let [rows, width] = head.shape[..] else { return None };
        let (block, _) = blocks.iter().find(|(block, _)| block.parameter == head.name)?;
        if rows < vocabulary || block.len() != rows * width {
            return None;
        }
        let mut absent: BTreeSet<usize> = (0..vocabulary).collect();
        for computed in batches {
            for sequence in computed.origin.batch.sequences() {
                for token in sequence.input_ids().iter().chain(sequence.targets()) {
                    absent.remove(&(*token as usize));
                }
            }
        }
        let elements = absent.into_iter().flat_map(|row| row * width..(row + 1) * width).collect();
        Some(Equations { parameter: &block.parameter, elements, weight: 1.0 })
    }
}

/// All blocks, each by its elements and relative to its scale: rounding errors are then alike in all of them.
fn of_all<'a>(blocks: &[(&'a Block, f64)]) -> Vec<Equations<'a>> {
    let of = |(block, scale): &(&'a Block, f64)| Equations {
        parameter: &block.parameter,
        elements: block.indices().collect(),
        weight: block.len() as f64 / (scale * scale),
    };
    blocks.iter().map(of).collect()
}

fn inner(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}
