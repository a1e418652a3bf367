//! Verification of a model whose gradients fit in memory many times over: everything is compared element by element.

use super::{
    Progress, Report, ThirdForward, VerifyError,
    blame::blames,
    blockwise,
    derivative::{Directions, compare as compare_derivatives, differentiate},
    describe,
    evidence::{Evidence, loader},
    row::RowBuilder,
    semantics::{self, Semantics},
    statement::{BoundFrom, Row, Statement},
    third,
};
use lossproof_laws::blocks::{self, Blocks, Expected};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::{Subject, TensorSet};
use num_traits::ToPrimitive;

/// What to verify: two f64 subjects of one model, at given parameters, on one batch.
pub struct Verification<'a> {
    /// The trainer under test.
    pub reference: &'a mut dyn Subject,
    /// The independent implementation.
    pub oracle: &'a mut dyn Subject,
    /// A recording both are held to.
    pub third: Option<ThirdForward<'a>>,
    /// The parameters both are verified at.
    pub parameters: &'a TensorSet,
    /// The batch, with its ranks and micro-batches.
    pub batch: &'a GlobalBatch,
    /// Shape facts of the model and the batch.
    pub model: ErrorModel,
    /// Directions of the finite differences.
    pub directions: Directions,
    /// Fixes the directions.
    pub seed: u64,
}

/// Carries out a verification in f64.
///
/// For six loss semantics (sum, per-token mean, per-sequence mean, batch mean, naive accumulated mean, accumulated
/// per-token mean) the losses and every parameter's gradient of the two subjects are compared with each other, with
/// finite differences of each subject's own forward pass, and with the exact ratios of the loss calculus.
///
/// # Errors
/// When a subject fails, lacks a capability, or is not deterministic. A disagreement is not an error: it is in the report.
pub fn verify(verification: Verification<'_>, progress: &mut Progress<'_>) -> Result<Report, VerifyError> {
    let Verification { reference, oracle, third, parameters, batch, model, directions, seed } = verification;
    let semantics = semantics::all(batch);
    let mut rows = third::all(third, progress)?;
    let mut sides = Vec::new();
    let participants = vec![describe(reference), describe(oracle)];
    let steps = semantics.len() + batch.sequences().count() + 1;
    for subject in [&mut *reference, &mut *oracle] {
        let name = subject.info().name;
        loader(subject)?.load(parameters)?;
        let mut done = 0;
        let evidence = Evidence::gather(subject, batch, &semantics, || {
            done += 1;
            progress(&format!("{name}: gradients"), done, steps);
        })?;
        if evidence.noise > model.gradient_bound(Dtype::F64) {
            return Err(VerifyError::NotDeterministic { subject: name, noise: evidence.noise });
        }
        done = 0;
        let sum = &evidence.computed[0].1;
        let derivatives = differentiate(subject, batch, parameters, sum, directions, seed, || {
            done += 1;
            progress(&format!("{name}: finite differences"), done, parameters.len());
        })?;
        sides.push((evidence, derivatives));
    }
    let noise = sides.iter().map(|(evidence, _)| evidence.noise).fold(0.0, f64::max);
    let comparison = Exact {
        blocks: Blocks::new(batch, &reference.parameters()),
        gradient_bound: model.gradient_bound(Dtype::F64) + noise,
        loss_bound: model.loss_bound(Dtype::F64),
    };
    let [(ours, our_derivatives), (theirs, their_derivatives)] = &sides[..] else {
        unreachable!("invariant: two sides were gathered")
    };
    rows.push(comparison.token_losses(ours, theirs));
    for (index, meaning) in semantics.iter().enumerate() {
        rows.push(comparison.loss(index, meaning, ours, theirs));
        rows.push(comparison.loss_calculus(index, meaning, ours));
        rows.push(comparison.loss_calculus(index, meaning, theirs));
        rows.push(comparison.gradient(index, meaning, ours, theirs));
        for (side, derivatives) in [(ours, our_derivatives), (theirs, their_derivatives)] {
            let text = "∇ = finite differences of its forward".to_owned();
            let mut row = RowBuilder::new(
                Statement::FiniteDifferences,
                Some(meaning.name),
                &side.name,
                text,
                BoundFrom::Plateau,
            );
            compare_derivatives(&mut row, derivatives, meaning, &side.computed[index].1, noise);
            rows.push(row.finish());
        }
        rows.push(comparison.gradient_calculus(index, meaning, ours));
        rows.push(comparison.gradient_calculus(index, meaning, theirs));
    }
    let blames = blames(&rows, &[&ours.name, &theirs.name], None);
    Ok(Report { participants, rows, blames, noise_floor: noise, growth: None })
}

struct Exact {
    blocks: Blocks,
    gradient_bound: f64,
    loss_bound: f64,
}

impl Exact {
    fn token_losses(&self, ours: &Evidence, theirs: &Evidence) -> Row {
        let text = format!("token losses = {}'s", theirs.name);
        let mut row = RowBuilder::new(Statement::TokenLosses, None, &ours.name, text, BoundFrom::Rounding);
        row.token_losses(self.loss_bound, &ours.token_losses, &theirs.token_losses);
        row.finish()
    }

    fn loss(&self, index: usize, meaning: &Semantics, ours: &Evidence, theirs: &Evidence) -> Row {
        let text = format!("loss = {}'s", theirs.name);
        let scale = meaning.loss_scale(&theirs.token_losses);
        let (a, b) = (ours.computed[index].0.loss, theirs.computed[index].0.loss);
        self.one_number(Statement::Loss, meaning, &ours.name, text, a, b, scale)
    }

    fn loss_calculus(&self, index: usize, meaning: &Semantics, side: &Evidence) -> Row {
        let scale = meaning.loss_scale(&side.token_losses);
        let (a, b) = (side.computed[index].0.loss, meaning.loss(&side.token_losses));
        self.one_number(
            Statement::LossCalculus,
            meaning,
            &side.name,
            "loss = Σ_t w_t·ℓ_t".to_owned(),
            a,
            b,
            scale,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "a row has this many facts")]
    fn one_number(
        &self,
        statement: Statement,
        meaning: &Semantics,
        name: &str,
        text: String,
        actual: f64,
        expected: f64,
        scale: f64,
    ) -> Row {
        let mut row = RowBuilder::new(statement, Some(meaning.name), name, text, BoundFrom::Rounding);
        row.number(|| "the loss".to_owned(), self.loss_bound, (actual, expected), scale);
        row.finish()
    }

    fn gradient(&self, index: usize, meaning: &Semantics, ours: &Evidence, theirs: &Evidence) -> Row {
        let text = format!("∇ = {}'s", theirs.name);
        let mut row =
            RowBuilder::new(Statement::Gradient, Some(meaning.name), &ours.name, text, BoundFrom::Rounding);
        let expected = &theirs.computed[index].1;
        let elements = |name: &str| blocks::elements(expected, name);
        self.hold(&mut row, meaning, theirs, &ours.computed[index].1, expected, elements);
        row.finish()
    }

    fn gradient_calculus(&self, index: usize, meaning: &Semantics, side: &Evidence) -> Row {
        let text = meaning.relation();
        let mut row = RowBuilder::new(
            Statement::GradientCalculus,
            Some(meaning.name),
            &side.name,
            text,
            BoundFrom::Rounding,
        );
        let (sum, actual) = (&side.computed[0].1, &side.computed[index].1);
        let ratio = meaning.over_sum.as_ref().filter(|_| index > 0).and_then(ToPrimitive::to_f64);
        let composed = |name: &str| -> Expected<'_> {
            if let Some(ratio) = ratio {
                let sum = blocks::elements(sum, name);
                return Box::new(move |i| ratio * sum(i));
            }
            let parts: Vec<_> =
                side.sequences.iter().map(|gradient| blocks::elements(gradient, name)).collect();
            Box::new(move |i| parts.iter().zip(&meaning.weights).map(|(part, weight)| weight * part(i)).sum())
        };
        self.hold(&mut row, meaning, side, actual, actual, composed);
        row.finish()
    }

    /// Holds `actual` to `expected`, relative to the scale of `scale_of` and of what the calculus composes it of.
    fn hold<'a>(
        &'a self,
        row: &mut RowBuilder,
        meaning: &Semantics,
        side: &Evidence,
        actual: &TensorSet,
        scale_of: &TensorSet,
        expected: impl Fn(&'a str) -> Expected<'a>,
    ) {
        let parts = |block: &_| side.parts(&meaning.weights, |gradient| blocks::norm(gradient, block));
        let scales = self.blocks.scales(|_, block| blocks::norm(scale_of, block).max(parts(block)));
        blockwise::compare(row, &self.blocks, &scales, self.gradient_bound, actual, expected);
    }
}
