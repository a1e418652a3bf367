//! What no subject may do, whatever it computes: the ways in which an answer is none.

use lossproof_spec::Dtype;
use std::fmt;

/// A method of a subject, or of one of its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Subject::info`](crate::Subject::info).
    Info,
    /// [`Subject::parameters`](crate::Subject::parameters).
    Parameters,
    /// [`Subject::reset`](crate::Subject::reset).
    Reset,
    /// [`Subject::configure`](crate::Subject::configure).
    Configure,
    /// [`Subject::accumulate`](crate::Subject::accumulate).
    Accumulate,
    /// The method that offers a capability.
    Capability(&'static str),
    /// [`LoadParameters::load`](crate::LoadParameters::load).
    Load,
    /// [`LoadParameters::set`](crate::LoadParameters::set).
    Set,
    /// [`TokenLosses::evaluate`](crate::TokenLosses::evaluate).
    Evaluate,
    /// [`UpstreamWeights::backward`](crate::UpstreamWeights::backward).
    Backward,
    /// [`OptimizerSteps::start`](crate::OptimizerSteps::start).
    Start,
    /// [`OptimizerSteps::step`](crate::OptimizerSteps::step).
    Step,
    /// [`OptimizerSteps::read`](crate::OptimizerSteps::read).
    Read,
    /// [`Evaluation::validate`](crate::Evaluation::validate).
    Validate,
    /// [`TrainingLoop::accepts`](crate::TrainingLoop::accepts).
    Accepts,
    /// [`TrainingLoop::train`](crate::TrainingLoop::train).
    Train,
    /// [`TrainingLoop::resume`](crate::TrainingLoop::resume).
    Resume,
    /// [`Objectives::learn`](crate::Objectives::learn).
    Learn,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Parameters => "parameters",
            Self::Reset => "reset",
            Self::Configure => "configure",
            Self::Accumulate => "accumulate",
            Self::Capability(name) => name,
            Self::Load => "load",
            Self::Set => "set",
            Self::Evaluate => "evaluate",
            Self::Backward => "backward",
            Self::Start => "start",
            Self::Step => "step",
            Self::Read => "read",
            Self::Validate => "validate",
            Self::Accepts => "accepts",
            Self::Train => "train",
            Self::Resume => "resume",
            Self::Learn => "learn",
        })
    }
}

/// How a subject broke what [`Subject`](crate::Subject) promises of every trainer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// The subject's card has a number that says nothing.
    #[error("the subject's card: {what}")]
    Card {
        /// Which, and what it should be.
        what: String,
    },
    /// A method panicked.
    #[error("`{call}` panicked: {message}")]
    Panicked {
        /// The method.
        call: Call,
        /// What the panic said.
        message: String,
    },
    /// What the subject's card says it takes was refused: a batch, parameters or a loss.
    #[error("`{call}` refuses what the subject's card says it takes: {message}")]
    Refused {
        /// The method.
        call: Call,
        /// What it said.
        message: String,
    },
    /// A tensor under a name that is not a parameter's.
    #[error("`{call}` hands over a tensor `{name}`, which is not among the parameters")]
    UnknownTensor {
        /// The method.
        call: Call,
        /// The name.
        name: String,
    },
    /// A parameter's tensor more than once.
    #[error("`{call}` hands over `{name}` twice")]
    RepeatedTensor {
        /// The method.
        call: Call,
        /// The parameter.
        name: String,
    },
    /// A parameter without a tensor.
    #[error("`{call}` does not hand over `{name}`")]
    MissingTensor {
        /// The method.
        call: Call,
        /// The parameter.
        name: String,
    },
    /// Tensors in another order than that of the parameters.
    #[error("`{call}` hands over `{name}` where the order of the parameters has `{expected}`")]
    TensorOrder {
        /// The method.
        call: Call,
        /// The parameter that came.
        name: String,
        /// The parameter whose turn it was.
        expected: String,
    },
    /// A tensor whose shape is not the parameter's.
    #[error("`{call}` hands over `{name}` with shape {found:?}, the parameter has {expected:?}")]
    TensorShape {
        /// The method.
        call: Call,
        /// The parameter.
        name: String,
        /// The shape handed over.
        found: Vec<usize>,
        /// The shape declared.
        expected: Vec<usize>,
    },
    /// A tensor with fewer or more values than its shape holds.
    #[error("`{call}` hands over {found} values of `{name}`, its shape holds {expected}")]
    TensorValues {
        /// The method.
        call: Call,
        /// The parameter.
        name: String,
        /// The number of values handed over.
        found: usize,
        /// The number of values the shape holds.
        expected: usize,
    },
    /// A tensor in another element type than the subject declares.
    #[error("`{call}` hands over `{name}` in {found}, the subject declares {expected}")]
    TensorDtype {
        /// The method.
        call: Call,
        /// The parameter.
        name: String,
        /// The element type handed over.
        found: Dtype,
        /// The element type declared.
        expected: Dtype,
    },
    /// A number that is not finite although the loss spec gives every group of the batch a weight.
    #[error("`{call}` answers {what} that is not finite, where the loss spec has a number")]
    NotFinite {
        /// The method.
        call: Call,
        /// Which number.
        what: String,
    },
    /// A list of another length than it must have.
    #[error("`{call}` answers {found} {what}, expected {expected}")]
    Count {
        /// The method.
        call: Call,
        /// What is counted.
        what: &'static str,
        /// The number found.
        found: usize,
        /// The number expected.
        expected: usize,
    },
    /// A card or a list of parameters that is not what it was at first.
    #[error("`{call}` no longer answers what it answered at first: {what}")]
    Changed {
        /// The method.
        call: Call,
        /// What changed, from what to what.
        what: String,
    },
    /// Two parameters under one name.
    #[error("`parameters` lists `{name}` twice")]
    RepeatedParameter {
        /// The name.
        name: String,
    },
    /// The process of a trainer that has one to itself was gone.
    #[error("the trainer's process was gone where `{call}` was to be answered: {how}")]
    Ended {
        /// The method.
        call: Call,
        /// How it ended, and what it wrote last.
        how: String,
    },
    /// The process of a trainer answered what is no answer.
    #[error("`{call}` was not answered as the protocol says: {what}")]
    Protocol {
        /// The method.
        call: Call,
        /// What is wrong with the answer.
        what: String,
    },
    /// A method that did not return in time.
    #[error("`{call}` did not return within {seconds} s")]
    Hung {
        /// The method.
        call: Call,
        /// The time it was given.
        seconds: u64,
    },
}

impl Breach {
    /// Whether it came from how the trainer ended rather than from what it answered, so that a simpler case, which may
    /// fail for no reason but that, says nothing.
    #[must_use]
    pub fn ends_a_search(&self) -> bool {
        self.is_of_a_process() || matches!(self, Self::Panicked { .. })
    }

    /// Whether it lies in the process of a trainer and not in what was asked of it.
    #[must_use]
    pub fn is_of_a_process(&self) -> bool {
        matches!(self, Self::Hung { .. } | Self::Ended { .. } | Self::Protocol { .. })
    }
}
