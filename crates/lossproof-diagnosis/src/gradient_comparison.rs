//! The gradient of one parameter as it was measured, compared with what it should be.

use crate::{call::TrainerCall, half_digits::HalfDigits, score::Grade};
use lossproof_numerics::{norm, vector};
use lossproof_spec::Role;
use lossproof_subject::ParameterInfo;

/// Where a parameter is, seen from the last block of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In front of the last block.
    Before,
    /// In the last block.
    LastBlock,
    /// Behind all blocks.
    After,
    /// The card does not say it, or the blocks are not those of a GPT-2.
    Unsaid,
}

impl Place {
    /// The place of one of these parameters: behind the blocks are those of the final norm and of a head of its
    /// own. What is wrong in front of what within a block is known of those of a GPT-2, which makes queries, keys
    /// and values in one.
    pub(crate) fn of(parameter: &ParameterInfo, all: &[ParameterInfo]) -> Self {
        let last = all.iter().filter_map(|parameter| parameter.block).max();
        let is_gpt2 = all.iter().any(|one| one.block == last && one.role == Role::QueryKeyValue);
        match (parameter.role, parameter.block) {
            (Role::TokenEmbedding | Role::EmbeddingScale | Role::PositionEmbedding, _) => Self::Before,
            (
                Role::FinalNormGain | Role::FinalNormBias | Role::Head | Role::HeadBias | Role::LogitScale,
                _,
            ) => Self::After,
            (_, Some(_)) if !is_gpt2 => Self::Unsaid,
            (_, Some(_)) if parameter.block == last => Self::LastBlock,
            (_, Some(_)) => Self::Before,
            (_, None) => Self::Unsaid,
        }
    }
}

/// The gradient of one parameter as it was measured, and what it should be.
pub(crate) struct GradientComparison<'a> {
    pub(crate) call: &'a TrainerCall<'a>,
    pub(crate) role: Role,
    pub(crate) shape: &'a [usize],
    /// Whether its values are used under another name too.
    pub(crate) tied: bool,
    /// What the gradient should be.
    pub(crate) honest: &'a [f64],
    pub(crate) measured: &'a [f64],
    /// What the gradient was in the call before.
    pub(crate) former: Option<&'a [f64]>,
    /// Where the parameter is, seen from the last block of the model.
    pub(crate) place: Place,
    pub(crate) half_digits: HalfDigits,
}

impl GradientComparison<'_> {
    /// How well the gradient agrees with these values.
    pub(crate) fn grade(&self, expected: &[f64]) -> Grade {
        self.half_digits.grade(self.measured, expected)
    }

    /// How well the gradient agrees with a loss that is no number. The gradient may be one: that of
    /// libtorch's mean over nothing is.
    pub(crate) fn grade_no_number(&self) -> Grade {
        if self.measured.iter().any(|value| value.is_nan()) { Grade::Exact } else { self.open() }
    }

    /// How well the gradient agrees with the forecast that nothing is wrong with it.
    pub(crate) fn right(&self) -> Grade {
        Grade::exact_or_impossible(self.same())
    }

    /// How well the gradient agrees where a hypothesis leaves open whether something is wrong with it.
    pub(crate) fn open(&self) -> Grade {
        if self.same() { Grade::Exact } else { Grade::Loose }
    }

    /// How well the gradient agrees with the forecast that something is wrong with it.
    pub(crate) fn differs(&self) -> Grade {
        if self.same() { Grade::Poor } else { Grade::Loose }
    }

    /// Whether every element is a number.
    pub(crate) fn is_finite(&self) -> bool {
        vector::is_finite(self.measured)
    }

    /// Whether the gradient is what it should be.
    pub(crate) fn same(&self) -> bool {
        self.close(self.honest, self.measured)
    }

    /// Whether two parts of the gradient are the same, at the scale of the whole.
    pub(crate) fn close(&self, honest: &[f64], measured: &[f64]) -> bool {
        vector::distance(honest, measured)
            <= self.half_digits.tolerance * norm(self.honest).max(self.half_digits.floor)
    }

    /// What the honest gradient must be multiplied with, where the measured one is parallel to it.
    pub(crate) fn factor(&self) -> Option<f64> {
        let factor = vector::dot(self.honest, self.measured) / vector::dot(self.honest, self.honest);
        let mut scaled = self.honest.to_vec();
        vector::scale(&mut scaled, factor);
        (factor.is_finite() && self.close(&scaled, self.measured)).then_some(factor)
    }

    /// Rows of the parameter: as they should be and as they were measured.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[f64], &[f64])> {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        self.honest.chunks(columns).zip(self.measured.chunks(columns))
    }
}
