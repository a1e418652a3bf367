//! The third forward: an implementation that was recorded elsewhere breaks the tie when two others disagree.

use super::{
    VerifyError,
    blocks::{self, Blocks},
    evidence::{evaluator, gradient, loader},
    report::{Row, Statement},
    row::RowBuilder,
};
use crate::{Recorded, Subject};
use lossproof_numerics::{Dtype, ErrorModel};
use lossproof_spec::LossSpec;

/// Where the bounds of these rows come from.
const BOUND_FROM: &str = "rounding model, f64";

/// Holds an f64 subject to the recording, at the recording's own parameters and batch.
pub(crate) fn rows(
    subject: &mut dyn Subject,
    recorded: &Recorded,
    model: &ErrorModel,
) -> Result<[Row; 2], VerifyError> {
    let name = subject.info().name;
    loader(subject)?.load(&recorded.parameters)?;
    let token_losses = evaluator(subject)?.evaluate(&recorded.batch)?;
    let (observed, actual) = gradient(subject, &LossSpec::token_mean(), &recorded.batch)?;

    let text = format!("{name}: token losses and loss = Hugging Face's forward, recorded");
    let mut losses = RowBuilder::new(Statement::ThirdForwardLosses, None, &name, text, BOUND_FROM);
    let bound = model.loss_bound(Dtype::F64);
    let mut hold = |at: &dyn Fn() -> String, actual: f64, expected: f64| {
        let scale = expected.abs().max(1.0);
        losses.compare(at, bound, actual.abs() / scale, |factor| (factor * actual - expected).abs() / scale);
        losses.end_unit();
    };
    for (index, (&actual, &expected)) in token_losses.iter().zip(&recorded.token_losses).enumerate() {
        hold(&|| format!("prediction {index}"), actual, expected);
    }
    hold(&|| "the loss".to_owned(), observed.loss, recorded.loss);

    let text = format!("{name}: gradient of the per-token mean = Hugging Face's, recorded");
    let mut row = RowBuilder::new(Statement::ThirdForwardGradient, None, &name, text, BOUND_FROM);
    let blocks = Blocks::new(&recorded.batch, &subject.parameters());
    let scales = blocks.scales(|_, block| blocks::norm(&recorded.gradient, block));
    let expected = |name: &str| blocks::elements(&recorded.gradient, name);
    blocks::compare(&mut row, &blocks, &scales, model.gradient_bound(Dtype::F64), &actual, expected);
    Ok([losses.finish(), row.finish()])
}
