//! Answers that have another form than they must have: lists of another length, tensors of another name or
//! shape, numbers that are none.

use super::{HeldTo::Verification, Hostile, Outcome::Red, hooked, hostile};
use crate::{
    kit::{Hooks, wrap},
    names::EMBEDDING,
};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;

const HONEST: Hooks<()> = Hooks::IDENTITY;

/// A matrix whose two sides differ.
const MATRIX: &str = "h.0.mlp.c_fc.weight";

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile("token-losses-one-short", "evaluates the loss of every prediction but the last", Red, |honest| {
        let token_losses = |(): &mut (), _: &_, losses: &mut Vec<f64>| {
            losses.pop();
        };
        hooked(honest, Hooks { token_losses, ..HONEST })
    })
    .saying("token losses"),
    hostile(
        "token-losses-one-long",
        "evaluates one token loss more than there are predictions",
        Red,
        |honest| hooked(honest, Hooks { token_losses: |(), _, losses| losses.push(1.0), ..HONEST }),
    )
    .saying("token losses"),
    hostile("no-token-losses", "evaluates no token loss whatever the batch", Red, |honest| {
        hooked(honest, Hooks { token_losses: |(), _, losses| losses.clear(), ..HONEST })
    })
    .saying("token losses"),
    hostile(
        "token-losses-of-42",
        "reports a single token loss beside the gradient, and it is 42",
        Red,
        |honest| {
            let hooks =
                Hooks { observation: |(), _, observed| observed.token_losses = Some(vec![42.0]), ..HONEST };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "token-losses-doubled",
        "reports twice each token loss beside the gradient, as many as there are",
        Red,
        |honest| {
            let hooks = Hooks {
                observation: |(), _, observed| {
                    for loss in observed.token_losses.iter_mut().flatten() {
                        *loss *= 2.0;
                    }
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile("counts-one-token-more", "counts one supervised token more than there is", Red, |honest| {
        let hooks = Hooks {
            observation: |(), _, observed| {
                observed.supervised_tokens = observed.supervised_tokens.map(|tokens| tokens + 1);
            },
            ..HONEST
        };
        hooked(honest, hooks)
    }),
    hostile(
        "gradient-shape-swapped",
        "hands the gradient of a matrix over with its two sides swapped and the values in place",
        Red,
        |honest| {
            let hooks = Hooks { gradient: |(), _, handed| handed.tensor(MATRIX).shape.reverse(), ..HONEST };
            hooked(honest, hooks)
        },
    )
    .saying("shape"),
    hostile(
        "gradient-one-value-short",
        "hands the gradient of a matrix over without its last value",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |(), _, handed| {
                    handed.tensor(MATRIX).values.pop();
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    )
    .saying("values"),
    hostile("gradient-in-double-precision", "an f32 trainer that hands f64 values over", Red, |honest| {
        let hooks = Hooks {
            gradient: |(), _, handed| {
                for tensor in &mut handed.tensors {
                    tensor.dtype = Dtype::F64;
                }
            },
            ..HONEST
        };
        hooked(honest, hooks)
    })
    .around(Config::Pico, Dtype::F32),
    hostile(
        "gradient-in-another-order",
        "hands the gradient over in the reverse of the order in which the parameters are listed",
        Red,
        |honest| hooked(honest, Hooks { gradient: |(), _, handed| handed.tensors.reverse(), ..HONEST }),
    ),
    hostile(
        "gradient-of-an-unknown-name",
        "hands one gradient over under a name that is no parameter's",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |(), _, handed| {
                    "h.0.mlp.fc_in.weight".clone_into(&mut handed.tensor(MATRIX).name);
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    )
    .saying("fc_in"),
    hostile(
        "gradient-handed-over-twice",
        "hands one gradient over a second time, at the end",
        Red,
        |honest| {
            let hooks =
                Hooks { gradient: |(), _, handed| handed.tensors.push(handed.tensors[0].clone()), ..HONEST };
            hooked(honest, hooks)
        },
    )
    .saying("twice"),
    hostile("gradient-withheld", "does not hand the gradient of a matrix over", Red, |honest| {
        let hooks = Hooks {
            gradient: |(), _, handed| handed.tensors.retain(|tensor| tensor.name != MATRIX),
            ..HONEST
        };
        hooked(honest, hooks)
    })
    .saying(MATRIX),
    hostile("gradient-not-a-number", "one element of the embedding's gradient is NaN", Red, |honest| {
        let hooks =
            Hooks { gradient: |(), _, handed| handed.tensor(EMBEDDING).values[0] = f64::NAN, ..HONEST };
        hooked(honest, hooks)
    })
    .saying("not finite"),
    hostile("loss-is-infinite", "the loss is infinite, and the gradient is right", Red, |honest| {
        hooked(honest, Hooks { observation: |(), _, observed| observed.loss = f64::INFINITY, ..HONEST })
    }),
    hostile(
        "step-reports-one-norm-short",
        "a step reports the norms of all gradients but the last",
        Red,
        |honest| {
            let hooks = Hooks {
                report: |(), _, report| {
                    report.tensor_norms.pop();
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile("parameters-read-short", "hands its current parameters over without the last", Red, |honest| {
        let hooks = Hooks {
            read: |(), inner, handed| {
                (HONEST.read)(&mut (), inner, handed)?;
                handed.tensors.pop();
                Ok(())
            },
            ..HONEST
        };
        hooked(honest, hooks)
    }),
    hostile(
        "validation-counts-no-token",
        "a validation prints the right loss, and that it counted no token",
        Red,
        |honest| hooked(honest, Hooks { printed: |(), _, printed| printed.tokens = 0, ..HONEST }),
    ),
    hostile(
        "validation-without-perplexity",
        "a validation prints the right loss, and NaN for its exponential",
        Red,
        |honest| hooked(honest, Hooks { printed: |(), _, printed| printed.perplexity = f64::NAN, ..HONEST }),
    ),
    hostile(
        "malformed-now-and-then",
        "every fortieth gradient has one tensor twice, and the others are as they should be",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |calls: &mut u32, _, handed| {
                    *calls += 1;
                    if calls.is_multiple_of(40) {
                        handed.tensors.push(handed.tensors[0].clone());
                    }
                },
                ..Hooks::IDENTITY
            };
            wrap(honest, 0, hooks)
        },
    )
    .saying("twice"),
    hostile(
        "token-losses-one-short-beside-another",
        "evaluates the loss of every prediction but the last, beside an independent implementation",
        Red,
        |honest| {
            let token_losses = |(): &mut (), _: &_, losses: &mut Vec<f64>| {
                losses.pop();
            };
            hooked(honest, Hooks { token_losses, ..HONEST })
        },
    )
    .held_to(Verification)
    .saying("token losses"),
    hostile(
        "gradient-not-a-number-beside-another",
        "one element of the embedding's gradient is NaN, beside an independent implementation",
        Red,
        |honest| {
            let hooks =
                Hooks { gradient: |(), _, handed| handed.tensor(EMBEDDING).values[0] = f64::NAN, ..HONEST };
            hooked(honest, hooks)
        },
    )
    .held_to(Verification),
];
