//! The third forward: an implementation that was recorded elsewhere breaks the tie when two others disagree.

use super::{
    VerifyError,
    blocks::{self, Blocks},
    evidence::{self, evaluator, loader},
    report::{BoundFrom, Row, Statement},
    row::RowBuilder,
};
use crate::{Recorded, Subject};
use lossproof_numerics::{Dtype, ErrorModel};
use lossproof_spec::LossSpec;

/// Holds an f64 subject to the recording, at the recording's own parameters and batch.
pub(crate) fn rows(
    subject: &mut dyn Subject,
    recorded: &Recorded,
    model: &ErrorModel,
) -> Result<[Row; 3], VerifyError> {
    let name = subject.info().name;
    loader(subject)?.load(&recorded.parameters)?;
    let token_losses = evaluator(subject)?.evaluate(&recorded.batch)?;
    let (observed, actual) = evidence::gradient(subject, &LossSpec::token_mean(), &recorded.batch)?;

    let row = |statement, text: &str| {
        RowBuilder::new(
            statement,
            None,
            &name,
            format!("{text} = Hugging Face's, recorded"),
            BoundFrom::Rounding,
        )
    };
    let bound = model.loss_bound(Dtype::F64);
    let hold = |row: &mut RowBuilder, at: &dyn Fn() -> String, actual: f64, expected: f64| {
        let scale = expected.abs().max(1.0);
        row.compare(at, bound, actual.abs() / scale, |factor| (factor * actual - expected).abs() / scale);
        row.end_unit();
    };
    let mut losses = row(Statement::ThirdForwardLosses, "token losses");
    for (index, (&actual, &expected)) in token_losses.iter().zip(&recorded.token_losses).enumerate() {
        hold(&mut losses, &|| format!("prediction {index}"), actual, expected);
    }
    let mut loss = row(Statement::ThirdForwardLoss, "per-token mean");
    hold(&mut loss, &|| "the loss".to_owned(), observed.loss, recorded.loss);

    let mut gradient = row(Statement::ThirdForwardGradient, "its ∇");
    let blocks = Blocks::new(&recorded.batch, &subject.parameters());
    let scales = blocks.scales(|_, block| blocks::norm(&recorded.gradient, block));
    let expected = |name: &str| blocks::elements(&recorded.gradient, name);
    blocks::compare(&mut gradient, &blocks, &scales, model.gradient_bound(Dtype::F64), &actual, expected);
    Ok([losses.finish(), loss.finish(), gradient.finish()])
}
