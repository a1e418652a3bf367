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
        if let Some((_, reading)) = self.given.iter().find(|(given, _)| given == name) {
            return reading.clone();
        }
        let plain = plain(name);
        // A quantity whose own name was given to another column is not that one.
        widely_used(&plain)
            .filter(|reading| !self.given.iter().any(|(_, given)| given == reading))
            .unwrap_or_else(|| Reading::Quantity(Quantity::Other(name.to_owned())))
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

/// What a widely used name stands for.
fn widely_used(plain: &str) -> Option<Reading> {
    let quantity = match plain {
        "step" | "steps" | "global_step" | "iter" | "iteration" | "update" | "updates" | "it"
        | "optimizer_step" | "num_updates" => return Some(Reading::Update),
        "tokens"
        | "num_tokens"
        | "num_input_tokens_seen"
        | "tokens_seen"
        | "total_tokens"
        | "consumed_tokens"
        | "n_tokens"
        | "n_tokens_total" => return Some(Reading::Tokens),
        "loss" | "lm_loss" | "ce_loss" | "nll_loss" | "cross_entropy" => Quantity::Loss,
        "grad_norm" | "gradient_norm" | "gnorm" | "total_grad_norm" | "global_grad_norm" | "norm" => {
            Quantity::GradNorm
        }
        "learning_rate" | "lr" => Quantity::LearningRate,
        "clip_factor" | "clip_coef" => Quantity::ClipFactor,
        "eval_loss" | "val_loss" | "valid_loss" | "validation_loss" | "dev_loss" => Quantity::ValidationLoss,
        "perplexity"
        | "ppl"
        | "eval_perplexity"
        | "val_perplexity"
        | "validation_perplexity"
        | "eval_ppl"
        | "val_ppl" => Quantity::Perplexity,
        _ => return None,
    };
    Some(Reading::Quantity(quantity))
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
