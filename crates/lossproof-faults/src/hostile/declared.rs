//! What a subject says of itself and does not keep to: its card, its parameters, the specs and batches it
//! takes.

use super::{
    HeldTo::Verification,
    Hostile,
    Outcome::{Errored, NotCovered, Red},
    hooked, hostile,
};
use crate::kit::{Capability, HandedOver, Hooks, NamedTensor, wrap};
use lossproof_gpt2::Config;
use lossproof_spec::{Dtype, Dtypes, EmptyGroup, GlobalBatch, Group, LossSpec};
use lossproof_subject::{
    Count, Limits, LogPolicy, Observation, ParameterInfo, Subject, SubjectError, SubjectInfo, Tensor,
    TensorSet, Unsupported,
};
use std::cell::Cell;

const HONEST: Hooks<()> = Hooks::IDENTITY;

/// A bias that the subject does not tell of.
const HIDDEN: &str = "h.0.mlp.c_fc.bias";

/// A parameter that no model has.
const PHANTOM: &str = "h.9.mlp.c_proj.weight";

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "refuses-every-spec",
        "`configure` refuses every loss spec, its own too, and nothing beyond loss and gradient is offered",
        Red,
        |honest| {
            let refuse = |(): &mut (), inner: &mut dyn Subject, spec: &LossSpec| Err(refused(inner, spec));
            hooked(honest, Hooks { configure: refuse, offers: |(), _, _| false, ..HONEST })
        },
    )
    .saying("card says it takes"),
    hostile(
        "refuses-every-other-time",
        "`configure` refuses every second spec that it is given, whichever it is",
        Red,
        |honest| {
            let hooks = Hooks {
                configure: |calls: &mut u32, inner, spec| {
                    *calls += 1;
                    if calls.is_multiple_of(2) { Err(refused(inner, spec)) } else { inner.configure(spec) }
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, 0, hooks)
        },
    ),
    hostile(
        "computes-one-spec-only",
        "claims every spec, and computes the per-token mean under each of them",
        Red,
        |honest| {
            let configure =
                |(): &mut (), inner: &mut dyn Subject, _: &LossSpec| inner.configure(&LossSpec::token_mean());
            hooked(honest, Hooks { configure, ..HONEST })
        },
    ),
    hostile(
        "refuses-three-ranks",
        "declares no bound on ranks, and refuses batches of three and more as outside its limits",
        Red,
        |honest| hooked(honest, Hooks { accumulate: at_most_two_ranks, ..HONEST }),
    )
    .saying("refuses"),
    hostile(
        "refuses-ragged-batches",
        "refuses every batch with sequences of unequal length as one of a kind that it does not take",
        Red,
        |honest| hooked(honest, Hooks { accumulate: equal_lengths, ..HONEST }),
    )
    .saying("refuses"),
    hostile(
        "fails-on-several-micro-batches",
        "fails, for want of memory as it says, whenever there is anything to accumulate",
        Errored,
        |honest| hooked(honest, Hooks { accumulate: single_micro_batch, ..HONEST }),
    ),
    hostile("card-changes", "the card has another version every time that it is asked for", Red, |honest| {
        let hooks = Hooks {
            info: |asked: &Cell<u32>, info| {
                asked.set(asked.get() + 1);
                SubjectInfo { version: format!("0.{}.0", asked.get()), ..info }
            },
            ..Hooks::IDENTITY
        };
        wrap(honest, Cell::new(0), hooks)
    }),
    hostile(
        "parameters-change-their-order",
        "the parameters are listed the other way round every second time",
        Red,
        |honest| {
            let hooks = Hooks {
                parameters: |asked: &Cell<u32>, mut parameters: Vec<ParameterInfo>| {
                    asked.set(asked.get() + 1);
                    if asked.get().is_multiple_of(2) {
                        parameters.reverse();
                    }
                    parameters
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, Cell::new(0), hooks)
        },
    ),
    hostile(
        "capability-comes-and-goes",
        "token losses are offered every second time that somebody asks for them",
        Red,
        |honest| {
            let hooks = Hooks {
                offers: |asked: &Cell<u32>, capability, inside| {
                    if capability == Capability::TokenLosses {
                        asked.set(asked.get() + 1);
                    }
                    inside && (capability != Capability::TokenLosses || asked.get() % 2 == 1)
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, Cell::new(0), hooks)
        },
    ),
    hostile("parameter-listed-twice", "one parameter stands in the list twice", Red, |honest| {
        let parameters = |(): &(), mut parameters: Vec<ParameterInfo>| {
            parameters.push(parameters[0].clone());
            parameters
        };
        hooked(honest, Hooks { parameters, ..HONEST })
    }),
    hostile(
        "hidden-parameter",
        "a bias that is trained is neither listed nor handed over, and there are no optimizer steps",
        NotCovered,
        hide_a_bias,
    )
    .saying("architecture"),
    hostile(
        "hidden-parameter-beside-another",
        "the same, beside an implementation that lists the bias",
        Red,
        hide_a_bias,
    )
    .held_to(Verification),
    hostile(
        "phantom-parameter",
        "a parameter is listed that is used nowhere, and its gradient is handed over as zero",
        Red,
        |honest| {
            let hooks = Hooks {
                parameters: |(), mut parameters| {
                    parameters.push(phantom());
                    parameters
                },
                gradient: |(), _, handed| handed.tensors.push(zeros(&phantom())),
                offers: |(), capability, inside| inside && capability != Capability::OptimizerSteps,
                load: |(), inner, parameters| {
                    let known = parameters.iter().filter(|(name, _)| *name != PHANTOM);
                    let known = known.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
                    (HONEST.load)(&mut (), inner, &known)
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    )
    .saying(PHANTOM),
    hostile(
        "vocabulary-it-has-not",
        "declares twice as many tokens as its embedding has rows",
        Red,
        |honest| {
            let info = |(): &(), info: SubjectInfo| {
                let vocabulary = 2 * info.limits.vocabulary;
                SubjectInfo { limits: Limits { vocabulary, ..info.limits }, ..info }
            };
            hooked(honest, Hooks { info, ..HONEST })
        },
    ),
    hostile(
        "one-position",
        "declares limits in which nothing can be predicted: sequences of one position",
        NotCovered,
        |honest| {
            hooked(
                honest,
                Hooks {
                    info: |(), info| limited(info, |limits| limits.lengths = Count::exactly(1)),
                    ..HONEST
                },
            )
        },
    ),
    hostile(
        "no-sequences",
        "declares limits in which there is no batch at all: micro-batches without a sequence",
        NotCovered,
        |honest| {
            hooked(
                honest,
                Hooks {
                    info: |(), info| limited(info, |limits| limits.sequences = Count::exactly(0)),
                    ..HONEST
                },
            )
        },
    ),
    hostile(
        "declares-double-precision",
        "declares f64, and hands its gradients over in f32",
        Red,
        |honest| {
            let info = |(): &(), info| SubjectInfo { dtypes: Dtypes::all(Dtype::F64), ..info };
            hooked(honest, Hooks { info, ..HONEST })
        },
    )
    .around(Config::Pico, Dtype::F32),
    hostile(
        "refuses-as-if-empty",
        "refuses micro-batches of several sequences as if a group of theirs had no supervised token",
        Red,
        |honest| hooked(honest, Hooks { accumulate: single_sequences, ..HONEST }),
    )
    .saying("refuses"),
    hostile(
        "one-sequence-at-a-time",
        "declares that it takes one sequence only, so that nobody sees that more would be summed up twice",
        NotCovered,
        |honest| {
            let hooks = Hooks {
                info: |(), info| {
                    limited(info, |limits| {
                        (limits.ranks, limits.micro_batches) = (Count::exactly(1), Count::exactly(1));
                        limits.sequences = Count::exactly(1);
                    })
                },
                gradient: |(), batch, handed| {
                    if batch.sequences().count() > 1 {
                        handed.scale(2.0);
                    }
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "logs-by-another-policy",
        "declares that it logs the loss of the last micro-batch, and logs that of the whole batch",
        Red,
        |honest| {
            let info = |(): &(), info| SubjectInfo { log_policy: LogPolicy::LastMicroBatch, ..info };
            hooked(honest, Hooks { info, ..HONEST })
        },
    ),
];

fn refused(inner: &dyn Subject, spec: &LossSpec) -> Unsupported {
    Unsupported::new(&inner.info().name, spec)
}

fn limited(info: SubjectInfo, limit: fn(&mut Limits)) -> SubjectInfo {
    let mut limits = info.limits;
    limit(&mut limits);
    SubjectInfo { limits, ..info }
}

fn at_most_two_ranks(
    (): &mut (),
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    handed: &mut HandedOver,
) -> Result<Observation, SubjectError> {
    match batch.ranks().len() {
        found @ 3.. => Err(SubjectError::Number { what: "ranks".to_owned(), found, takes: Count::up_to(2) }),
        _ => inner.accumulate(batch, handed),
    }
}

fn equal_lengths(
    (): &mut (),
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    handed: &mut HandedOver,
) -> Result<Observation, SubjectError> {
    let mut lengths = batch.sequences().map(lossproof_spec::Sequence::len);
    let first = lengths.next();
    match lengths.position(|length| Some(length) != first) {
        Some(index) => Err(SubjectError::Kind { what: "is not as long as the first", sequence: index + 1 }),
        None => inner.accumulate(batch, handed),
    }
}

fn single_sequences(
    (): &mut (),
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    handed: &mut HandedOver,
) -> Result<Observation, SubjectError> {
    match batch.micro_batches().position(|micro_batch| micro_batch.sequences().len() > 1) {
        Some(index) => Err(EmptyGroup { group: Group::Sequence(index), nan: false }.into()),
        None => inner.accumulate(batch, handed),
    }
}

fn single_micro_batch(
    (): &mut (),
    inner: &mut dyn Subject,
    batch: &GlobalBatch,
    handed: &mut HandedOver,
) -> Result<Observation, SubjectError> {
    if batch.micro_batches().count() == 1 {
        return inner.accumulate(batch, handed);
    }
    Err(SubjectError::Failed { subject: inner.info().name, message: "out of memory".to_owned() })
}

/// A subject whose [`HIDDEN`] bias stays what it is at first.
fn hide_a_bias(honest: Box<dyn Subject>) -> Box<dyn Subject> {
    let hooks = Hooks {
        parameters: |(), mut parameters| {
            parameters.retain(|parameter| parameter.name != HIDDEN);
            parameters
        },
        gradient: |(), _, handed| handed.tensors.retain(|tensor| tensor.name != HIDDEN),
        offers: |(), capability, inside| inside && capability != Capability::OptimizerSteps,
        load: |(), inner, parameters| {
            let mut all: TensorSet = parameters.clone();
            if let Some(hidden) = inner.parameters().into_iter().find(|parameter| parameter.name == HIDDEN) {
                let tensor = zeros(&hidden);
                let values = lossproof_subject::TensorValues::F64(tensor.values);
                all.insert(
                    hidden.name,
                    Tensor::new(hidden.shape, values).expect("invariant: as many zeros as elements"),
                );
            }
            (HONEST.load)(&mut (), inner, &all)
        },
        ..HONEST
    };
    hooked(honest, hooks)
}

fn phantom() -> ParameterInfo {
    ParameterInfo::named(PHANTOM, &[32, 8])
}

fn zeros(parameter: &ParameterInfo) -> NamedTensor {
    NamedTensor {
        name: parameter.name.clone(),
        shape: parameter.shape.clone(),
        values: vec![0.0; parameter.shape.iter().product()],
        dtype: Dtype::F64,
    }
}
