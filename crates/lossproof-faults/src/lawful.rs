//! Whether an honest trainer of another architecture could show what a faulty one shows: then no law may
//! condemn it, and none is expected to.
//!
//! What a trainer shows whose parameters never move is that of an honest one where its [`Tangent`] gives the
//! same answers. Where it takes steps, its losses have to follow: along each gradient that it reports, which
//! is where its steps lead, the loss of every batch has the slope that the gradient of that batch says. The
//! model that computes these losses, moved in no other direction, is then one that an honest trainer can have.

use crate::{
    Fault, Keyhole, KeyholeError, Profile,
    honest::{parameters, set},
    tangent::Tangent,
    tensors::NamedTensors,
    witnesses::Witnesses,
};
use lossproof_cases::strategies::Size;
use lossproof_numerics::{FIRST_STEP, HALVINGS, Slope, sweep};
use lossproof_spec::{CompensatedSum, Dtype, GlobalBatch};
use lossproof_subject::{Subject, SubjectError};

/// Random batches on which a trainer is compared with its [`Tangent`], which asks for every label of every
/// token.
const COMPARED: u32 = 16;

/// Random batches whose losses are followed along the gradients of each other.
const FOLLOWED: u32 = 4;

/// Whether an honest trainer could show what is seen of this fault. `honest` makes trainers without it.
///
/// # Errors
/// When a trainer does not have the claim or cannot be made.
pub(crate) fn is_lawful(
    keyhole: &Keyhole,
    fault: &Fault,
    seed: u64,
    honest: impl Fn(Dtype) -> Result<Box<dyn Subject>, KeyholeError>,
    dtype: Dtype,
) -> Result<bool, KeyholeError> {
    if !matches!(keyhole.profile, Profile::Bare | Profile::Steps) {
        return Ok(false);
    }
    let size = Size { ranks: 1..=2, micro_batches: 1..=3, sequences: 1..=2, positions: 1..=8 };
    let bare = Keyhole { profile: Profile::Bare, ..*keyhole };
    let shown = || -> Result<_, KeyholeError> { Ok(bare.of(fault.inject(honest(dtype)?))?) };
    let mut same = shown()?;
    let compared = Witnesses { count: COMPARED, size: size.clone(), seed };
    if compared.tell_apart(&mut Tangent::of(shown()?), &mut *same) {
        return Ok(false);
    }
    if keyhole.profile == Profile::Bare {
        return Ok(true);
    }
    let followed = Witnesses { count: FOLLOWED, size, seed };
    let batches: Vec<GlobalBatch> = followed.cases(&same.info()).into_iter().map(|case| case.batch).collect();
    // Differences need double precision, and what a fault computes does not depend on it.
    let mut subject = fault.inject(honest(Dtype::F64)?);
    subject.configure(&keyhole.claim)?;
    Ok(losses_follow(&mut *subject, &batches).unwrap_or(false))
}

/// Whether, from where a trainer starts and from where a step leads, the losses of all batches have the slopes
/// along every gradient that their own gradients say.
fn losses_follow(subject: &mut dyn Subject, batches: &[GlobalBatch]) -> Result<bool, SubjectError> {
    let start = parameters(subject)?;
    for steps in 0..2 {
        for along in batches {
            let mut point = start.clone();
            if steps > 0 {
                let taken = gradient(subject, &start, along)?;
                point.add(-0.1 / taken.norm().max(f64::MIN_POSITIVE), &taken);
            }
            let mut direction = gradient(subject, &point, along)?;
            let length = direction.norm();
            if length <= 0.0 {
                continue;
            }
            direction.scale(1.0 / length);
            for batch in batches {
                if !slope_is_right(subject, &point, &direction, batch)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Whether the loss of a batch has, at a point and along a direction, the slope that its gradient says.
fn slope_is_right(
    subject: &mut dyn Subject,
    point: &NamedTensors,
    direction: &NamedTensors,
    batch: &GlobalBatch,
) -> Result<bool, SubjectError> {
    let gradient = gradient(subject, point, batch)?;
    let differences = sweep(FIRST_STEP, HALVINGS, |step| {
        let mut moved = point.clone();
        moved.add(step, direction);
        bring_to(subject, &moved)?;
        Ok::<_, SubjectError>(vec![subject.accumulate(batch, &mut NamedTensors::default())?.loss])
    })?;
    let products: Vec<f64> = gradient.values().zip(direction.values()).map(|(g, d)| g * d).collect();
    let inner = products.iter().copied().collect::<CompensatedSum>().value();
    let plateau = differences.contract(&[1.0]);
    let slope = Slope::new(inner, gradient.norm(), 1.0, products.len(), plateau);
    Ok(slope.is_undecided(Slope::bound()) || slope.error(1.0) <= Slope::bound())
}

/// The gradient of a batch at a point.
fn gradient(
    subject: &mut dyn Subject,
    point: &NamedTensors,
    batch: &GlobalBatch,
) -> Result<NamedTensors, SubjectError> {
    bring_to(subject, point)?;
    let mut gradient = NamedTensors::default();
    subject.accumulate(batch, &mut gradient)?;
    Ok(gradient)
}

fn bring_to(subject: &mut dyn Subject, point: &NamedTensors) -> Result<(), SubjectError> {
    subject.reset()?;
    for (name, values) in point.iter() {
        set(subject, name, values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::without_fault;
    use lossproof_gpt2::{Config, reference};
    use lossproof_spec::LossSpec;
    use lossproof_subject::{Count, Device};

    fn honest(dtype: Dtype) -> Result<Box<dyn Subject>, KeyholeError> {
        reference(Config::Pico, dtype, Device::Cpu).map_err(|error| KeyholeError::Honest(error.into()))
    }

    fn bare(claim: LossSpec) -> Keyhole {
        Keyhole { profile: Profile::Bare, claim, micro_batches: Count::ANY }
    }

    fn lawful(keyhole: &Keyhole, fault: &str) -> bool {
        let fault = Fault::named(fault).expect("it is in the catalogue");
        is_lawful(keyhole, fault, 0, honest, Dtype::F64).expect("trainers can be made")
    }

    #[test]
    fn the_tangent_of_an_honest_trainer_answers_as_it_does() {
        let size = Size { ranks: 1..=2, micro_batches: 1..=2, sequences: 1..=2, positions: 1..=6 };
        let witnesses = Witnesses { count: 4, size, seed: 1 };
        for claim in [LossSpec::sum(), LossSpec::token_mean(), LossSpec::naive_accumulated_mean()] {
            let seen = || bare(claim).of(without_fault(honest(Dtype::F64).unwrap())).unwrap();
            assert!(!witnesses.tell_apart(&mut Tangent::of(seen()), &mut *seen()), "{claim}");
        }
    }

    #[test]
    fn a_wrong_backward_pass_is_lawful_where_parameters_never_move_and_a_wrong_weight_is_not() {
        let keyhole = bare(LossSpec::token_mean());
        assert!(lawful(&keyhole, "gelu-backward-second-term"));
        assert!(lawful(&keyhole, "softmax-twice"));
        assert!(!lawful(&keyhole, "shift-twice"));
        assert!(!lawful(&keyhole, "all-reduce-missing"));
        assert!(!lawful(&keyhole, "causal-mask-diagonal-off-by-one"));
    }

    #[test]
    fn where_steps_are_taken_losses_follow_the_gradient_of_a_model() {
        let keyhole = Keyhole { profile: Profile::Steps, ..bare(LossSpec::token_mean()) };
        assert!(lawful(&keyhole, "temperature-in-training"));
        assert!(!lawful(&keyhole, "backward-factor"));
    }
}
