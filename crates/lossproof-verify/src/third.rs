//! The third forward: an implementation that was recorded elsewhere breaks the tie when two others disagree.

use super::{
    Progress, VerifyError,
    alteration::{Alteration, Answer},
    answers::Answers,
    capability::loader,
    checked::checked,
    loss_rows::LossRows,
    row::{Measurement, RowBuilder},
    semantics::{Semantics, TOKEN_MEAN},
    statement::{BoundFrom, Statement, StatementRow},
};
use lossproof_cases::Recorded;
use lossproof_laws::blocks::{self, Blocks};
use lossproof_numerics::{ErrorModel, difference};
use lossproof_spec::{Dtype, LossSpec};
use lossproof_subject::Subject;

/// Two f64 subjects of a recorded model, to be held to the recording.
pub struct ThirdForward<'a> {
    /// What was recorded.
    pub recorded: &'a Recorded,
    /// The subjects; their parameters are replaced by the recording's.
    pub subjects: Vec<&'a mut dyn Subject>,
    /// Shape facts of the recorded model and batch.
    pub model: ErrorModel,
}

/// Who computed what was recorded.
const RECORDED: &str = "Hugging Face's, recorded";

/// The rows of every subject that is held to a recording.
pub(crate) fn all(
    third: Option<ThirdForward<'_>>,
    progress: &mut Progress<'_>,
) -> Result<Vec<StatementRow>, VerifyError> {
    let mut all = Vec::new();
    if let Some(ThirdForward { recorded, subjects, model }) = third {
        for subject in subjects {
            progress(&format!("{}: the third forward", subject.info().name), 0, 1);
            all.extend(checked(subject, |subject| rows(subject, recorded, &model))?);
        }
    }
    Ok(all)
}

/// Holds an f64 subject to the recording, at the recording's own parameters and batch.
fn rows(
    subject: &mut dyn Subject,
    recorded: &Recorded,
    model: &ErrorModel,
) -> Result<Vec<StatementRow>, VerifyError> {
    loader(subject)?.load(&recorded.parameters)?;
    let mean = Semantics::new(TOKEN_MEAN, LossSpec::token_mean(), &recorded.batch);
    let blocks = Blocks::new(&recorded.batch, &subject.parameters());
    let answers = Answers::under(subject, &recorded.batch, std::slice::from_ref(&mean), || ())?;
    let losses = LossRows { judged: &answers.losses, bound: model.loss_bound(Dtype::F64) };
    let mut rows = vec![losses.recorded_token_losses(RECORDED, &recorded.token_losses)];
    if answers.losses.logs_the_whole(0) {
        rows.push(losses.recorded_loss(0, RECORDED, recorded.loss));
    }
    rows.push(gradient(&answers, recorded, &blocks, model.gradient_bound(Dtype::F64)));
    Ok(rows)
}

fn gradient(answers: &Answers, recorded: &Recorded, blocks: &Blocks, bound: f64) -> StatementRow {
    let text = format!("its ∇ = {RECORDED}");
    let name = &answers.losses.name;
    let mut row = RowBuilder::new(Statement::ThirdForwardGradient, None, name, text, BoundFrom::Rounding);
    let scales = blocks.scales(|_, block| blocks::norm(&recorded.gradient, block));
    for (block, scale) in blocks.with_scales(&scales) {
        let measure = |alteration: Option<&Alteration<'_>>| {
            let actual = answers.seen(alteration).elements(0, &block.parameter);
            let expected = blocks::elements(&recorded.gradient, &block.parameter);
            let apart = difference(actual, expected, block.indices());
            vec![Measurement::of_block(block, apart.relative_to(scale), apart.actual / scale, bound)]
        };
        let controls = |power| {
            let norm = blocks::norm(answers.gradient(0), block);
            let all = Alteration::scaled(Answer::Gradient(0, block), power);
            vec![all, Alteration::element(0, block, norm, power, block.len() / 2)]
        };
        row.unit(&blocks::name(block), measure, controls);
    }
    row.finish()
}
