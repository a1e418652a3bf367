//! The third forward: an implementation that was recorded elsewhere breaks the tie when two others disagree.

use super::{
    Progress, ThirdForward, VerifyError, blockwise,
    evidence::{self, evaluator, loader},
    row::RowBuilder,
    statement::{BoundFrom, Row, Statement},
};
use lossproof_cases::Recorded;
use lossproof_laws::blocks::{self, Blocks};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::Subject;

/// The rows of every subject that is held to a recording.
pub(super) fn all(
    third: Option<ThirdForward<'_>>,
    progress: &mut Progress<'_>,
) -> Result<Vec<Row>, VerifyError> {
    let mut all = Vec::new();
    if let Some(ThirdForward { recorded, subjects, model }) = third {
        for subject in subjects {
            progress(&format!("{}: the third forward", subject.info().name), 0, 1);
            all.extend(rows(subject, recorded, &model)?);
        }
    }
    Ok(all)
}

/// Holds an f64 subject to the recording, at the recording's own parameters and batch.
fn rows(subject: &mut dyn Subject, recorded: &Recorded, model: &ErrorModel) -> Result<[Row; 3], VerifyError> {
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
    let mut losses = row(Statement::ThirdForwardLosses, "token losses");
    losses.token_losses(bound, &token_losses, &recorded.token_losses);
    let mut loss = row(Statement::ThirdForwardLoss, "per-token mean");
    let scale = recorded.loss.abs().max(1.0);
    loss.number(|| "the loss".to_owned(), bound, (observed.loss, recorded.loss), scale);

    let mut gradient = row(Statement::ThirdForwardGradient, "its ∇");
    let blocks = Blocks::new(&recorded.batch, &subject.parameters());
    let scales = blocks.scales(|_, block| blocks::norm(&recorded.gradient, block));
    let expected = |name: &str| blocks::elements(&recorded.gradient, name);
    blockwise::compare(&mut gradient, &blocks, &scales, model.gradient_bound(Dtype::F64), &actual, expected);
    Ok([losses.finish(), loss.finish(), gradient.finish()])
}
