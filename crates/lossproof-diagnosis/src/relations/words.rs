//! What is seen of related calls that an honest trainer would not show, in words.

use super::{RelationScorer, RelationTerms, Relations};

/// Statements about losses, and about gradients, at most.
const OF_A_KIND: usize = 2;

/// The calls whose answers do not follow from those to the calls before them.
pub(crate) fn statements(relations: &Relations, terms: RelationTerms<'_>) -> Vec<String> {
    let scorer = RelationScorer::new(relations, terms);
    let mut said = Vec::new();
    for (is_loss, what) in [(true, "the loss"), (false, "the gradient")] {
        let of_a_kind = scorer.surprises().iter().filter(|surprise| surprise.is_loss == is_loss);
        for surprise in of_a_kind.take(OF_A_KIND) {
            said.push(format!(
                "{} under {}: {what} does not follow from those of the same tokens in other batches, by {:.1e} of its \
                 size",
                surprise.probe.name, surprise.probe.spec, surprise.apart
            ));
        }
    }
    said
}
