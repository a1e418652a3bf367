//! The models this trainer can be.

use crate::architecture::{Architecture, Model};
use crate::{Failure, Gpt2Config, LlamaConfig};
use tch::Tensor;

/// The architecture and the shape of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Config {
    /// A GPT-2.
    Gpt2(Gpt2Config),
    /// A Llama.
    Llama(LlamaConfig),
}

impl Config {
    /// The configuration called `name`, such as `gpt2-nano` or `llama-nano`; `None` where none is.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Gpt2Config::named(name).map(Self::Gpt2).or_else(|| LlamaConfig::named(name).map(Self::Llama))
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.architecture().name()
    }

    pub(crate) fn architecture(&self) -> &dyn Architecture {
        match self {
            Self::Gpt2(config) => config,
            Self::Llama(config) => config,
        }
    }

    /// The model over `tensors`, as [`Architecture::model`] takes them.
    pub(crate) fn model(&self, tensors: &[Tensor]) -> Box<dyn Model> {
        self.architecture().model(tensors)
    }

    /// Whether such a model exists.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        match self.architecture().problem() {
            None => Ok(()),
            Some(problem) => Err(Failure::new(format!("{}: {problem}", self.name()))),
        }
    }
}

impl From<Gpt2Config> for Config {
    fn from(config: Gpt2Config) -> Self {
        Self::Gpt2(config)
    }
}

impl From<LlamaConfig> for Config {
    fn from(config: LlamaConfig) -> Self {
        Self::Llama(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_model() {
        for config in [Config::from(Gpt2Config::NANO), Config::from(LlamaConfig::NANO)] {
            assert_eq!(Config::named(config.name()).as_ref(), Some(&config));
        }
        assert_eq!(Config::named("llama-xl"), None);
    }
}
