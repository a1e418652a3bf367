//! What a subject says of its parameters.

use lossproof_spec::{Dtype, Role};

/// One trainable parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Any name, if the [role](Self::role) is declared. One of Hugging Face's, with or without the prefix
    /// `transformer.` or `model.`, such as `h.0.attn.c_attn.weight`, implies it.
    pub name: String,
    /// Shape: of an embedding or a head one row for each token or position. Under Hugging Face's names in its
    /// layout (`Conv1D` weights are `[in, out]`).
    pub shape: Vec<usize>,
    /// What it does in the model.
    pub role: Role,
    /// The number of the transformer block that it is in, counted from 0 in the order in which they compute;
    /// `None` outside the blocks. Implied by a name of Hugging Face's.
    pub block: Option<usize>,
    /// The other name under which the same values are used, such as `lm_head.weight` for a tied head.
    pub tied_to: Option<String>,
    /// The element type in which it is held, and its gradient added up and handed over, where that is another
    /// than [the card's](crate::SubjectInfo::dtypes).
    pub dtype: Option<Dtype>,
}

impl ParameterInfo {
    /// A parameter that is used under no other name, with the card's element types, and the role and block that
    /// its name implies: what is otherwise is declared with `..`.
    ///
    /// ```
    /// use lossproof_spec::Role;
    /// use lossproof_subject::ParameterInfo;
    ///
    /// let gain = ParameterInfo { role: Role::NormGain, ..ParameterInfo::named("block.0.norm_a.scale", &[64])
    /// };
    /// ```
    #[must_use]
    pub fn named(name: &str, shape: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role: Role::of_name(name),
            block: Role::block_of_name(name),
            tied_to: None,
            dtype: None,
        }
    }
}
