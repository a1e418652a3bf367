//! The updates of a training held to what the update rule makes of their samples.

use crate::clauses::step::{norm_of, roundings_of_update, tensor_norm};
use crate::trial::{Computed, Ended, Trial, values};
use lossproof_numerics::{Updated, norm};
use lossproof_spec::{Adam, CompensatedSum, GlobalBatch, LossSpec, Optimizer, Rule};
use lossproof_subject::{TensorSet, TracedUpdate, TrainingPlan, TrainingTrace};

/// An update of a training, and what the trainer accumulates over its samples at the parameters before it.
pub(super) struct Replayed<'t> {
    pub(super) update: &'t TracedUpdate,
    pub(super) before: TensorSet,
    pub(super) window: GlobalBatch,
    /// `None` of an update that was skipped: there is no gradient that is one.
    pub(super) computed: Option<Computed>,
}

impl Trial<'_> {
    /// Accumulates the samples of every update once more, at the parameters before it. The parameters of the trial
    /// are in force again afterwards.
    pub(super) fn replay_training<'t>(
        &mut self,
        spec: &LossSpec,
        plan: &TrainingPlan,
        trace: &'t TrainingTrace,
    ) -> Result<Vec<Replayed<'t>>, Ended> {
        let start = self.start_of_training()?;
        let mut before = start.clone();
        let mut replayed = Vec::new();
        for (k, update) in trace.updates().enumerate() {
            let window = update.batch(plan);
            self.fact("samples of an update", window.is_some(), || format!("update {k} has no samples"));
            let window = window.ok_or(Ended::NotApplicable)?;
            self.load(&before)?;
            let computed = if update.skipped { None } else { Some(self.gradient(spec, &window)?) };
            let after = update.parameters.clone();
            replayed.push(Replayed { update, before, window, computed });
            before = after;
        }
        self.load(&start)?;
        Ok(replayed)
    }

    /// Holds the parameters after every update to the rule of the plan, at its learning rate and with its clipping;
    /// but for one whose values are too large for an update to be seen in them.
    pub(super) fn rule_of_training(
        &mut self,
        plan: &TrainingPlan,
        replayed: &[Replayed<'_>],
        except: Option<&str>,
    ) -> Result<(), Ended> {
        for info in self.facts.parameters.clone() {
            if plan.frozen.contains(&info.name) || except == Some(&info.name) {
                continue;
            }
            let mut expected: Option<Updated> = None;
            // What the gradients so far can be off by: a moment is a sum of them with weights of at most one.
            let mut gradient_error = 0.0;
            let mut made: u32 = 0;
            for (k, one) in replayed.iter().enumerate() {
                let Some(computed) = &one.computed else { continue };
                let whole = trained_norm(plan, &computed.gradient);
                let clip_factor = plan.clip.map_or(1.0, |clip| clip.factor(whole));
                let mut gradient = values(&computed.gradient, &info.name)?;
                for element in &mut gradient {
                    *element *= clip_factor;
                }
                let mut bound = 2.0 * self.gradient_bound(&one.window, &info.name);
                if clip_factor < 1.0 {
                    // The factor of clipping errs as the norm does, which is that of the coarsest parameter.
                    bound += 2.0 * self.whole_gradient_bound(&one.window);
                }
                gradient_error += bound * clip_factor * whole;
                let before = values(&one.before, &info.name)?;
                let learning_rate = plan.learning_rate_of(made as usize);
                let optimizer = Optimizer { rule: plan.rule, ..Optimizer::sgd(learning_rate) };
                let updated =
                    expected.get_or_insert_with(|| Updated::new(before.clone(), info.shape.clone()));
                updated.step(&optimizer, learning_rate, &before, &gradient);
                made += 1;

                let after = values(&one.update.parameters, &info.name)?;
                let (mut moved, mut to_move) = (Vec::new(), Vec::new());
                for ((before, after), expected) in before.iter().zip(&after).zip(&updated.values) {
                    moved.push(after - before);
                    to_move.push(expected - before);
                }
                let rounding = roundings_of_update(made)
                    * self.facts.update_dtype(&info.name).unit_roundoff()
                    * norm(&updated.magnitudes);
                let error = rounding + learning_rate * carried(&plan.rule, updated, made, gradient_error);
                let scale = norm(&to_move);
                let what = format!("update {k}: what {} moves by", info.name);
                if scale > 0.0 {
                    let bound = error / scale + self.facts.noise;
                    self.elements(&what, &info.name, bound, &moved, &to_move, scale);
                } else if error > 0.0 {
                    // Nothing is to move: what does is no rounding.
                    let magnitude = norm(&updated.magnitudes).max(error);
                    self.elements(&what, &info.name, error / magnitude, &moved, &to_move, magnitude);
                }
            }
        }
        Ok(())
    }

    /// Holds the first update by SGD to the direction of its gradient, whatever its length is.
    pub(super) fn along_the_gradient(
        &mut self,
        one: &Replayed<'_>,
        computed: &Computed,
    ) -> Result<(), Ended> {
        let names: Vec<String> = self.facts.parameters.iter().map(|info| info.name.clone()).collect();
        let (mut products, mut squares, mut gradients) =
            (CompensatedSum::default(), CompensatedSum::default(), CompensatedSum::default());
        let mut held = 0.0_f64;
        for name in &names {
            let [before, after, gradient] = [
                values(&one.before, name)?,
                values(&one.update.parameters, name)?,
                values(&computed.gradient, name)?,
            ];
            for ((before, after), gradient) in before.iter().zip(&after).zip(&gradient) {
                let moved = after - before;
                products.add(moved * gradient);
                squares.add(moved * moved);
                gradients.add(gradient * gradient);
            }
            let largest = norm(&before).hypot(norm(&after));
            held = held.hypot(self.facts.update_dtype(name).unit_roundoff() * largest);
        }
        let (moved, gradient) = (squares.value().sqrt(), gradients.value().sqrt());
        if moved > 0.0 && gradient > 0.0 {
            // The cosine of an angle φ is 1 − φ²/2, and φ is what the two are off by, relative to their lengths.
            let angle = self.whole_gradient_bound(&one.window) + roundings_of_update(1) * held / moved;
            let cosine = -products.value() / (moved * gradient);
            let bound = angle * angle + 64.0 * f64::EPSILON;
            // From a right angle on the bound says nothing.
            if bound < 1.0 {
                self.fact("direction of an update", 1.0 - cosine <= bound, || {
                    format!("the first update is not along its gradient: the cosine is {cosine}")
                });
            }
        }
        Ok(())
    }

    /// Holds what the first update of a training by SGD moves to what the same update of another training does.
    pub(super) fn same_move(
        &mut self,
        what: &str,
        window: &GlobalBatch,
        start: &TensorSet,
        (one, other): (&TensorSet, &TensorSet),
    ) -> Result<(), Ended> {
        let moves = |after: &TensorSet, name: &str| -> Result<Vec<f64>, Ended> {
            let (after, before) = (values(after, name)?, values(start, name)?);
            Ok(after.iter().zip(&before).map(|(after, before)| after - before).collect())
        };
        let names: Vec<String> = self.facts.parameters.iter().map(|info| info.name.clone()).collect();
        let mut norms = Vec::new();
        for name in &names {
            norms.push(norm(&moves(other, name)?));
        }
        let whole = norm(&norms);
        for (name, own) in names.iter().zip(norms) {
            let held = self.facts.update_dtype(name).unit_roundoff() * norm(&values(start, name)?);
            let error = 2.0 * (self.gradient_bound(window, name) * whole + roundings_of_update(1) * held);
            if own > 0.0 {
                let (found, expected) = (moves(one, name)?, moves(other, name)?);
                let bound = error / own + self.facts.noise;
                let what = format!("{what}: what {name} moves by");
                self.elements(&what, name, bound, &found, &expected, own);
            }
        }
        Ok(())
    }
}

/// The norm of a gradient over all parameters that are trained.
pub(super) fn trained_norm(plan: &TrainingPlan, gradient: &TensorSet) -> f64 {
    if plan.frozen.is_empty() {
        return norm_of(gradient);
    }
    let trained = gradient.iter().filter(|(name, _)| !plan.frozen.contains(*name));
    norm(&trained.map(|(_, tensor)| tensor_norm(tensor)).collect::<Vec<_>>())
}

/// What an update, before the learning rate, can be off by where moments are made of gradients that are off by so
/// much.
///
/// SGD adds its velocity. Adam's `u = m̂/(√v̂ + ε)`: an average of gradients that are off by δ is off by δ, and so
/// is the root of an average of their squares, by the triangle inequality. So an element is off by at most
/// `δ·(1 + |u|)/(max(√v̂ − δ, 0) + ε)`, and never by more than `2·C`, the C of Cauchy and Schwarz being the
/// largest that `m̂/√v̂` can be after so many steps.
fn carried(rule: &Rule, updated: &Updated, steps: u32, error: f64) -> f64 {
    let (Rule::Adam(adam) | Rule::AdamW(adam)) = rule else { return error };
    let [c1, c2] =
        [adam.beta_1, adam.beta_2].map(|beta| 1.0 - beta.powi(i32::try_from(steps).unwrap_or(i32::MAX)));
    let largest = largest_update(adam, steps, c1, c2);
    let mut squares = 0.0;
    for (first, second) in updated.moments() {
        let (first, root) = (first / c1, (second / c2).sqrt());
        let update = first.abs() / (root + adam.epsilon);
        let off = error * (1.0 + update) / ((root - error).max(0.0) + adam.epsilon);
        squares += off.min(2.0 * largest).powi(2);
    }
    squares.sqrt()
}

fn largest_update(adam: &Adam, steps: u32, c1: f64, c2: f64) -> f64 {
    let ratio = adam.beta_1 * adam.beta_1 / adam.beta_2;
    let mut sum = 0.0;
    let mut power = 1.0;
    for _ in 0..steps {
        sum += power;
        power *= ratio;
    }
    ((1.0 - adam.beta_1).powi(2) / (1.0 - adam.beta_2) * sum).sqrt() * c2.sqrt() / c1
}
