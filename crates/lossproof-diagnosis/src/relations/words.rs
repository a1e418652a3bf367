//! What is seen of related calls that an honest trainer would not show, in words.

use super::{RelationTerms, Relations};

/// Statements about losses, and about gradients, at most.
const OF_A_KIND: usize = 2;

/// The calls whose answers do not follow from those to the calls before them.
pub(crate) fn statements(relations: &Relations, terms: RelationTerms<'_>) -> Vec<String> {
    let surprises = relations.surprises(terms);
    let mut said = Vec::new();
    for (is_loss, what) in [(true, "the loss"), (false, "the gradient")] {
        for (_, probe, apart) in surprises.iter().filter(|(of_loss, ..)| *of_loss == is_loss).take(OF_A_KIND)
        {
            said.push(format!(
                "{} under {}: {what} does not follow from those of the same tokens in other batches, by {apart:.1e} \
                 of its size",
                probe.name, probe.spec
            ));
        }
    }
    said
}
