//! The names that trainers have for what they log.

use crate::{Quantity, Reading};

/// What the columns of a log are, by their names: those that are widely used, and those that a person has given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    given: Vec<(String, Reading)>,
}

impl Names {
    /// The widely used names, and these besides, which go first.
    #[must_use]
    pub fn with(given: Vec<(String, Reading)>) -> Self {
        Self { given }
    }

    /// What the column of a name is. A quantity without a known name keeps the one it has.
    #[must_use]
    pub fn reading(&self, name: &str) -> Reading {
        self.ranked(name).1
    }

    /// The same, with how usual the name is for it: the lower, the more.
    pub(crate) fn ranked(&self, name: &str) -> (usize, Reading) {
        if let Some((_, reading)) = self.given.iter().find(|(given, _)| given == name) {
            return (0, reading.clone());
        }
        let known = widely_used(&plain(name));
        // A quantity whose own name was given to another column is not that one.
        known
            .filter(|(_, reading)| !self.given.iter().any(|(_, given)| given == reading))
            .unwrap_or_else(|| (0, Reading::Quantity(Quantity::Other(name.to_owned()))))
    }
}

/// A name in lower case, its words apart by one underscore, without the word that says that it is of training.
fn plain(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words = match words.as_slice() {
        ["train" | "training" | "trainer", rest @ ..] if !rest.is_empty() => rest,
        words => words,
    };
    words.join("_")
}

/// Widely used names, the most usual first.
const UPDATES: &[&str] = &[
    "global_step",
    "update",
    "updates",
    "num_updates",
    "optimizer_step",
    "step",
    "steps",
    "iter",
    "iteration",
    "it",
];
const TOKENS: &[&str] = &[
    "num_input_tokens_seen",
    "tokens_seen",
    "consumed_tokens",
    "total_tokens",
    "n_tokens_total",
    "tokens",
    "num_tokens",
    "n_tokens",
];
const LOSS: &[&str] = &["loss", "lm_loss", "ce_loss", "cross_entropy", "nll_loss"];
const GRAD_NORM: &[&str] =
    &["grad_norm", "gradient_norm", "global_grad_norm", "total_grad_norm", "gnorm", "norm"];
const LEARNING_RATE: &[&str] = &["learning_rate", "lr"];
const CLIP_FACTOR: &[&str] = &["clip_factor", "clip_coef"];
const VALIDATION_LOSS: &[&str] = &["eval_loss", "val_loss", "valid_loss", "validation_loss", "dev_loss"];
const PERPLEXITY: &[&str] = &[
    "eval_perplexity",
    "val_perplexity",
    "validation_perplexity",
    "eval_ppl",
    "val_ppl",
    "perplexity",
    "ppl",
];

/// What a widely used name stands for, and its place among those that stand for it.
fn widely_used(plain: &str) -> Option<(usize, Reading)> {
    let known = [
        (UPDATES, Reading::Update),
        (TOKENS, Reading::Tokens),
        (LOSS, Reading::Quantity(Quantity::Loss)),
        (GRAD_NORM, Reading::Quantity(Quantity::GradNorm)),
        (LEARNING_RATE, Reading::Quantity(Quantity::LearningRate)),
        (CLIP_FACTOR, Reading::Quantity(Quantity::ClipFactor)),
        (VALIDATION_LOSS, Reading::Quantity(Quantity::ValidationLoss)),
        (PERPLEXITY, Reading::Quantity(Quantity::Perplexity)),
    ];
    known
        .into_iter()
        .find_map(|(names, reading)| Some((names.iter().position(|name| *name == plain)?, reading)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_several_trainers_are_known_and_given_ones_go_first() {
        let names = Names::default();
        let quantity = |name: &str| names.reading(name);
        assert_eq!(quantity("train/loss"), Reading::Quantity(Quantity::Loss));
        assert_eq!(quantity("train_loss"), Reading::Quantity(Quantity::Loss));
        assert_eq!(quantity("lm loss"), Reading::Quantity(Quantity::Loss));
        assert_eq!(quantity("eval/loss"), Reading::Quantity(Quantity::ValidationLoss));
        assert_eq!(quantity("trainer/global_step"), Reading::Update);
        assert_eq!(quantity("moe_loss"), Reading::Quantity(Quantity::Other("moe_loss".to_owned())));
        let given = Names::with(vec![("moe_loss".to_owned(), Reading::Quantity(Quantity::Loss))]);
        assert_eq!(given.reading("moe_loss"), Reading::Quantity(Quantity::Loss));
        assert_eq!(given.reading("loss"), Reading::Quantity(Quantity::Other("loss".to_owned())));
    }
}
