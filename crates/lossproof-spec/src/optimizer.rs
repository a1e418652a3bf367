//! What an optimizer step is declared to be: loss scaling, clipping, schedule and update rule.

use serde::{Deserialize, Serialize};

/// How parameters are updated from the gradient of one step: loss scaling, clipping, schedule and rule, in that order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The update rule.
    pub rule: Rule,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Optimizer steps of linear warm-up: step k (from 0) has the learning rate `lr·min(1, (k + 1)/warm_up)`;
    /// 0 and 1 mean none.
    #[serde(default)]
    pub warm_up: u32,
    /// Clipping by the global norm, once per step: after accumulation, the all-reduce and the undoing of the
    /// loss scale.
    #[serde(default)]
    pub clip: Option<Clip>,
    /// Factor on the loss before the backward pass, undone on the gradient before anything looks at it; 1 means none. A
    /// step whose gradient is then not finite is skipped: parameters, optimizer state and schedule stay as they are, as
    /// PyTorch's `GradScaler` does.
    #[serde(default = "one")]
    pub loss_scale: f64,
}

fn one() -> f64 {
    1.0
}

/// An update rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// PyTorch's `torch.optim.SGD` without dampening and Nesterov: with `d = g + λ·θ`, `v ← μ·v + d` (the first step
    /// has `v = d`), `θ ← θ − lr·v`.
    Sgd {
        /// μ; 0 is plain SGD.
        momentum: f64,
        /// λ, added to the gradient.
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015) as in `torch.optim.Adam`: the weight decay is added to the gradient.
    Adam(Adam),
    /// `AdamW` (Loshchilov & Hutter 2019) as in `torch.optim.AdamW`: `θ ← θ − lr·λ·θ` before the update, beside it.
    AdamW(Adam),
}

/// Numbers of Adam. With `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²` and corrections `c_i = 1 − β_i^k` at step k
/// (from 1), `θ ← θ − lr·(m/c₁)/(√(v/c₂) + ε)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// β₁.
    pub beta_1: f64,
    /// β₂.
    pub beta_2: f64,
    /// ε.
    pub epsilon: f64,
    /// Where ε stands.
    #[serde(default)]
    pub epsilon_placement: EpsilonPlacement,
    /// λ.
    #[serde(default)]
    pub weight_decay: f64,
    /// Which parameters decay.
    #[serde(default)]
    pub decayed: Decayed,
}

/// Where Adam's ε stands. Both are in use; which one is a declaration, not a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EpsilonPlacement {
    /// `√(v/c₂) + ε`, as in the algorithm of the paper and PyTorch.
    #[default]
    AfterCorrection,
    /// `(√v + ε)/√c₂`, the paper's "ε̂" at the end of its section 2, and TensorFlow's.
    BeforeCorrection,
}

/// Which parameters decay. Both are in use; which one is a declaration, not a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Decayed {
    /// All of them, as PyTorch does with one parameter group.
    #[default]
    All,
    /// Those with two dimensions or more: no bias and no layer-norm gain, as GPT-2 trainers usually do.
    Matrices,
}

impl Decayed {
    /// Whether a parameter of this shape decays.
    #[must_use]
    pub fn includes(self, shape: &[usize]) -> bool {
        self == Self::All || shape.len() >= 2
    }
}

/// Clipping by the global norm: the gradient is multiplied by `min(1, max_norm/(norm + epsilon))`, as PyTorch's
/// `clip_grad_norm_` does with its `epsilon` of 1e-6.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The largest norm that is left alone.
    pub max_norm: f64,
    /// What is added to the norm in the denominator. A declaration: 0 and 1e-6 are in use.
    pub epsilon: f64,
}

impl Clip {
    /// What a gradient of this norm is multiplied with.
    #[must_use]
    pub fn factor(&self, norm: f64) -> f64 {
        (self.max_norm / (norm + self.epsilon)).min(1.0)
    }
}

impl Optimizer {
    /// Plain SGD.
    #[must_use]
    pub fn sgd(learning_rate: f64) -> Self {
        let rule = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
        Self { rule, learning_rate, warm_up: 0, clip: None, loss_scale: 1.0 }
    }

    /// The rule, where it is `AdamW` as most trainers have it: weight decay on matrices alone, ε added after the
    /// correction, as PyTorch does, and no loss scale. Warm-up and clipping may be any.
    #[must_use]
    pub fn usual_adam_w(&self) -> Option<Adam> {
        let Rule::AdamW(adam) = self.rule else { return None };
        let on_matrices = adam.decayed == Decayed::Matrices || adam.weight_decay <= 0.0;
        let after = adam.epsilon_placement == EpsilonPlacement::AfterCorrection;
        (on_matrices && after && self.loss_scale.to_bits() == 1.0_f64.to_bits()).then_some(adam)
    }

    /// The learning rate of optimizer step `step`, counted from 0.
    #[must_use]
    pub fn learning_rate_at(&self, step: u32) -> f64 {
        let warm_up = self.warm_up.max(1);
        self.learning_rate * (f64::from(step.saturating_add(1)) / f64::from(warm_up)).min(1.0)
    }
}
