//! What a subject says of itself, and of one batch.

use crate::{Claims, Device, Limits, LogPolicy, ModelInfo, ParameterInfo, Unsupported};
use lossproof_spec::{Dtype, Dtypes, LossSpec};

/// What a subject says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectInfo {
    /// Name of the trainer.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it computes with, and that library's version.
    pub framework: String,
    /// Element types of parameters, gradients and losses. A parameter may have [its own](ParameterInfo::dtype).
    pub dtypes: Dtypes,
    /// Where it computes.
    pub device: Device,
    /// The loss semantics that it says it has.
    pub claims: Claims,
    /// What it can take.
    pub limits: Limits,
    /// Which loss it logs for a step.
    pub log_policy: LogPolicy,
    /// What its model is beside trainable parameters.
    pub model: ModelInfo,
}

impl SubjectInfo {
    /// The card of a trainer with one loss, in f32 on the CPU, that logs the loss of the whole window. Other
    /// fields are changed with `..`.
    ///
    /// ```
    /// use lossproof_spec::LossSpec;
    /// use lossproof_subject::{Count, Limits, SubjectInfo};
    ///
    /// let limits = Limits { micro_batches: Count::exactly(4), ..Limits::of_model(50_257, 1024) };
    /// let card = SubjectInfo::of_one("my trainer", "0.3.0", "candle 0.9", LossSpec::token_mean(), limits);
    /// ```
    #[must_use]
    pub fn of_one(name: &str, version: &str, framework: &str, claim: LossSpec, limits: Limits) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            framework: framework.to_owned(),
            dtypes: Dtypes::all(Dtype::F32),
            device: Device::Cpu,
            claims: Claims::One(claim),
            limits,
            log_policy: LogPolicy::default(),
            model: ModelInfo::default(),
        }
    }

    /// The coarsest element type that a gradient of these parameters, a step or a loss passes through.
    #[must_use]
    pub fn coarsest(&self, parameters: &[ParameterInfo]) -> Dtype {
        let own = parameters.iter().filter_map(|parameter| parameter.dtype);
        own.fold(self.dtypes.coarsest(), Dtype::coarser)
    }

    /// The coarsest element type on the way to a loss. Values that are loaded are exact in f32, so that a
    /// parameter rounds them where it is held in less.
    #[must_use]
    pub fn loss_dtype(&self, parameters: &[ParameterInfo]) -> Dtype {
        let held = parameters.iter().map(|parameter| self.held_in(parameter));
        held.filter(|held| !matches!(held, Dtype::F64 | Dtype::F32)).fold(self.dtypes.loss, Dtype::coarser)
    }

    /// The coarsest element type on the way from the loss to the gradient of a parameter. It is computed at
    /// the values that the parameter has, so that in which type it is held plays no part.
    #[must_use]
    pub fn gradient_dtype(&self, parameter: &ParameterInfo) -> Dtype {
        self.dtypes.loss.coarser(self.gathered_in(parameter))
    }

    /// The coarsest element type that a step takes a parameter through, from the gradient that is handed over.
    #[must_use]
    pub fn update_dtype(&self, parameter: &ParameterInfo) -> Dtype {
        self.held_in(parameter).coarser(self.gathered_in(parameter))
    }

    /// The coarser of the element types that a gradient is added up and handed over in.
    fn gathered_in(&self, parameter: &ParameterInfo) -> Dtype {
        parameter.dtype.unwrap_or_else(|| self.dtypes.gradient.coarser(self.dtypes.accumulation))
    }

    /// The element type that a parameter is held in.
    #[must_use]
    pub fn held_in(&self, parameter: &ParameterInfo) -> Dtype {
        parameter.dtype.unwrap_or(self.dtypes.parameters)
    }

    /// The answer to a spec that is not claimed.
    #[must_use]
    pub fn unsupported(&self, spec: &LossSpec) -> Unsupported {
        Unsupported::new(&self.name, spec)
    }
}

/// What a subject returned for one batch, besides the gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The loss the trainer logs for this step, as its [`LogPolicy`] says. NaN under the empty policy `nan`
    /// when a mean was taken of nothing.
    pub loss: f64,
    /// The loss of each supervised token of the whole batch, whatever the log policy, in the order of
    /// [`GlobalBatch::predictions`](lossproof_spec::GlobalBatch::predictions), where the trainer has them.
    /// Label smoothing and z-loss of the spec in force are in them.
    pub token_losses: Option<Vec<f64>>,
    /// The trainer's own count of supervised tokens in the whole batch, where it has one.
    pub supervised_tokens: Option<usize>,
}

impl Observation {
    /// The loss of a trainer that logs no token losses, and its count of supervised tokens, where it has one.
    #[must_use]
    pub fn new(loss: f64, supervised_tokens: Option<usize>) -> Self {
        Self { loss, token_losses: None, supervised_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card_with_half_gradients(card: SubjectInfo) -> SubjectInfo {
        SubjectInfo { dtypes: Dtypes { gradient: Dtype::Bf16, ..card.dtypes }, ..card }
    }

    #[test]
    fn what_a_number_passes_through_decides_how_coarse_it_is() {
        let card = SubjectInfo::of_one("x", "1", "y", LossSpec::sum(), Limits::of_model(2, 2));
        let card = SubjectInfo { dtypes: Dtypes::all(Dtype::F64), ..card };
        let plain = ParameterInfo::named("a", &[1]);
        let single = ParameterInfo { dtype: Some(Dtype::F32), ..plain.clone() };
        let half = ParameterInfo { dtype: Some(Dtype::Bf16), ..plain.clone() };
        let all = [plain.clone(), single.clone()];
        assert_eq!(card.gradient_dtype(&plain), Dtype::F64);
        assert_eq!(card.gradient_dtype(&single), Dtype::F32);
        assert_eq!(card.coarsest(&all), Dtype::F32);
        // A value that is loaded is the same in f32, and not in bf16.
        assert_eq!(card.loss_dtype(&all), Dtype::F64);
        assert_eq!(card.loss_dtype(&[half]), Dtype::Bf16);
        // Parameters in more than is computed in do not make a gradient finer.
        let master = SubjectInfo { dtypes: Dtypes::all(Dtype::F32), ..card };
        let double = ParameterInfo { dtype: Some(Dtype::F64), ..plain.clone() };
        assert_eq!(master.gradient_dtype(&double), Dtype::F32);
        assert_eq!([master.held_in(&double), master.update_dtype(&double)], [Dtype::F64; 2]);
        assert_eq!(card_with_half_gradients(master).update_dtype(&plain), Dtype::Bf16);
    }
}
