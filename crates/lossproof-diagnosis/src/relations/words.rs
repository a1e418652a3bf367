//! What is seen of related calls that an honest trainer would not show, in words.

use super::{RelationScorer, RelationTerms, Relations, scorer::Surprise};
use crate::named_values::several;

/// Statements about losses, and about gradients, at most.
const OF_A_KIND: usize = 2;

/// The calls whose answers do not follow from those to the calls before them.
pub(crate) fn statements(relations: &Relations, terms: RelationTerms<'_>) -> Vec<String> {
    let scorer = RelationScorer::new(relations, terms);
    let mut said = Vec::new();
    for is_loss in [true, false] {
        let of_a_kind = scorer.surprises().iter().filter(|surprise| surprise.is_loss == is_loss);
        for surprise in of_a_kind.take(OF_A_KIND) {
            let (what, rest) =
                if is_loss { ("the loss".to_owned(), String::new()) } else { gradient(&scorer, surprise) };
            said.push(format!(
                "{} under {}: {what} does not follow from those of the same tokens in other batches, by {:.1e} of its \
                 size{rest}",
                surprise.probe.name, surprise.probe.spec, surprise.apart
            ));
        }
    }
    said
}

/// Which gradient is off, and how many are not.
fn gradient(scorer: &RelationScorer<'_>, surprise: &Surprise<'_>) -> (String, String) {
    let (off, all) = scorer.parameters_of(surprise);
    let rest = match all - off.len() {
        0 => return ("the gradient".to_owned(), String::new()),
        _ if off.is_empty() => return ("the gradient".to_owned(), String::new()),
        1 => "; that of one other does".to_owned(),
        others => format!("; those of {others} others do"),
    };
    (format!("the gradient of {}", several(&off)), rest)
}
