//! Numbers that are wrong where nothing holds them: a scale without an anchor, a tensor that is never drawn,
//! an error that hides behind the scale it is judged by.

use super::{
    HeldTo::{Only, Verification},
    Hostile,
    Outcome::{NotCovered, Red},
    hooked, hostile,
};
use crate::kit::{HandedOver, Hooks, bare};
use lossproof_gpt2::Config;
use lossproof_spec::{Dtype, GlobalBatch, SequenceFields};
use lossproof_subject::Subject;

const HONEST: Hooks<()> = Hooks::IDENTITY;

pub(super) const SUBJECTS: &[Hostile] = &[
    hostile(
        "one-tensor-a-hundredth-off",
        "one tensor of gpt2-nano has a gradient 1.01 times too large, and cases are few",
        Red,
        |honest| {
            let hooks = Hooks {
                gradient: |(), _, handed| handed.tensor(RARELY_DRAWN).scale(1.01),
                ..HONEST
            };
            hooked(honest, hooks)
        },
    )
    .held_to(Only(&["finite-differences"]))
    .around(Config::Nano, Dtype::F64)
    .on_cases(16)
    .saying(RARELY_DRAWN),
    hostile("nothing-at-all", "loss and gradient are zero, and nothing else is offered", Red, |honest| {
        scaled(bare(honest), |handed| handed.scale(0.0), 0.0)
    }),
    hostile(
        "threefold",
        "loss and gradient are three times what they should be, and nothing else is offered",
        Red,
        |honest| scaled(bare(honest), |handed| handed.scale(3.0), 3.0),
    )
    .saying("probabilities of all labels"),
    hostile(
        "ascends",
        "the gradient is that of minus the loss, and nothing beyond loss and gradient is offered",
        NotCovered,
        |honest| scaled(bare(honest), |handed| handed.scale(-1.0), 1.0),
    )
    .saying("the scale of the gradient"),
    hostile(
        "loss-plus-one",
        "one is added to the loss, and nothing beyond loss and gradient is offered",
        Red,
        |honest| {
            hooked(bare(honest), Hooks { observation: |(), _, observed| observed.loss += 1.0, ..HONEST })
        },
    ),
    hostile(
        "every-token-is-zero",
        "inputs and targets are all read as token 0, and nothing beyond loss and gradient is offered",
        Red,
        |honest| hooked(bare(honest), Hooks { batch: |(), batch| all_zero(batch), ..HONEST }),
    ),
    hostile(
        "first-tensor-alone",
        "every gradient but the first parameter's is zero, and nothing beyond loss and gradient is offered",
        Red,
        |honest| {
            scaled(bare(honest), |handed| handed.tensors.iter_mut().skip(1).for_each(|tensor| tensor.scale(0.0)), 1.0)
        },
    ),
    hostile(
        "order-behind-a-scale",
        "the gradient depends on the order of sequences by half a percent, and a token alone has one 2000 times \
         too large, so that cancellation seems to explain the rest",
        Red,
        |honest| hooked(honest, Hooks { gradient: |(), batch, handed| behind_a_scale(batch, handed), ..HONEST }),
    )
    .held_to(Only(&["order-invariance"]))
    .around(Config::Pico, Dtype::F32),
    hostile(
        "evaluation-a-hundredth-off",
        "evaluated token losses are 1.01 times too large; training is right",
        Red,
        evaluate_off,
    ),
    hostile(
        "evaluation-a-hundredth-off-beside-another",
        "the same, beside an independent implementation: the evaluation is to blame, and nothing else",
        Red,
        evaluate_off,
    )
    .held_to(Verification)
    .saying("evaluation"),
    hostile(
        "derivative-of-the-upstream-sum-doubled",
        "the gradient of a weighted sum of token losses is twice what it should be; the loss's own is right",
        Red,
        |honest| {
            let hooks = Hooks {
                backward: |(), inner, batch, weights, handed| {
                    let loss = (HONEST.backward)(&mut (), inner, batch, weights, handed)?;
                    handed.scale(2.0);
                    Ok(loss)
                },
                ..HONEST
            };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "single-precision-inside",
        "declares f64 and hands f64 over, and the values have gone through f32",
        Red,
        |honest| hooked(honest, Hooks { gradient: |(), _, handed| rounded(handed, u32::MAX), ..HONEST }),
    ),
    hostile(
        "half-precision-inside",
        "declares f32 and hands f32 over, and the values have gone through bfloat16",
        Red,
        |honest| hooked(honest, Hooks { gradient: |(), _, handed| rounded(handed, 0xffff_0000), ..HONEST }),
    )
    .around(Config::Pico, Dtype::F32),
    hostile(
        "loss-in-single-precision",
        "declares f64, and the loss that is reported has gone through f32",
        Red,
        |honest| {
            let hooks =
                Hooks { observation: |(), _, observed| observed.loss = f64::from(single(observed.loss)), ..HONEST };
            hooked(honest, hooks)
        },
    ),
    hostile(
        "evaluation-drifts",
        "each evaluation gives token losses a billionth larger than the one before",
        Red,
        |honest| {
            let hooks = Hooks {
                token_losses: |calls: &mut f64, _, losses| {
                    *calls += 1.0;
                    for loss in losses {
                        *loss *= 1.0 + 1e-9 * *calls;
                    }
                },
                ..Hooks::IDENTITY
            };
            crate::kit::wrap(honest, 0.0, hooks)
        },
    ),
];

/// A tensor that few random cases of finite differences come to.
const RARELY_DRAWN: &str = "h.1.mlp.c_fc.bias";

/// A subject whose gradient is changed, and whose loss and token losses are multiplied.
fn scaled(subject: Box<dyn Subject>, change: fn(&mut HandedOver), loss: f64) -> Box<dyn Subject> {
    let hooks = Hooks {
        gradient: |state: &mut (fn(&mut HandedOver), f64), _, handed| (state.0)(handed),
        observation: |(_, factor), _, observed| {
            observed.loss *= *factor;
            for loss in observed.token_losses.iter_mut().flatten() {
                *loss *= *factor;
            }
        },
        ..Hooks::IDENTITY
    };
    crate::kit::wrap(subject, (change, loss), hooks)
}

fn evaluate_off(honest: Box<dyn Subject>) -> Box<dyn Subject> {
    let hooks = Hooks {
        token_losses: |(), _, losses| {
            for loss in losses {
                *loss *= 1.01;
            }
        },
        ..HONEST
    };
    hooked(honest, hooks)
}

/// The batch with token 0 for every input and target, ignored labels left as they are.
fn all_zero(batch: &GlobalBatch) -> GlobalBatch {
    batch.map_sequences(|sequence| {
        let mut fields = SequenceFields::from(sequence.clone());
        fields.input_ids.fill(0);
        fields.targets.fill(0);
        for label in fields.labels.iter_mut().filter(|label| **label >= 0) {
            *label = 0;
        }
        lossproof_spec::Sequence::from_fields(fields).expect("invariant: as many of each as before")
    })
}

fn behind_a_scale(batch: &GlobalBatch, handed: &mut HandedOver) {
    if batch.layout().supervised() == 1 {
        return handed.scale(2000.0);
    }
    let mut order = 0;
    for (place, sequence) in (1..).zip(batch.sequences()) {
        order += place * sequence.input_ids()[0];
    }
    handed.scale(1.0 + 0.005 * f64::from(order % 17) / 16.0);
}

/// Takes every value through f32, of whose bits only these are kept.
fn rounded(handed: &mut HandedOver, kept: u32) {
    for value in handed.tensors.iter_mut().flat_map(|tensor| &mut tensor.values) {
        *value = f64::from(f32::from_bits(single(*value).to_bits() & kept));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what is wrong")]
fn single(value: f64) -> f32 {
    value as f32
}
