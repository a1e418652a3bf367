//! What a sample weighs in an evaluation, and what that does to its result.
//!
//! A weight is measured: all samples are one and the same block but for one, which is another block. The mean is then
//! `m + w·(m′ − m)` with `m` and `m′` the means of the two blocks, each evaluated alone, and `w` what the one
//! weighs.

use super::{
    division::runs,
    section::{BLOCK, MODEL, Section},
    stage::{self, BOTH, FirstBlocks, settings},
};
use crate::number::fraction;
use lossproof_loop::{
    Corpus, Event, Objective, Progress, Run, SeededSampler, Semantics, Settings, Validation,
};
use lossproof_spec::{BatchError, Fraction};
use lossproof_subject::{LoopTrainer, Sample, SamplePlace, TrainerState, state_of};
use miette::IntoDiagnostic;

/// Samples, batch and ranks that are shown: the last batch has one sample, three, and none on two ranks.
const SHOWN: [(usize, usize, usize); 4] = [(17, 8, 1), (17, 8, 2), (11, 4, 2), (10, 4, 4)];

/// The largest denominator that a weight is looked for with.
const DENOMINATORS: u32 = 64;

/// How far a weight may be from a fraction that it is taken for.
const TOLERANCE: f64 = 1e-9;

/// What samples weigh in the mean of an evaluation.
pub(super) fn weights(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section = Section::new("an evaluation: what samples weigh in it, their mean weight being 1");
    for (samples, batch, ranks) in SHOWN {
        let mut measured = Vec::new();
        for semantics in BOTH {
            let settings = Settings { evaluation_batch: batch, ranks, ..settings(semantics, BLOCK) };
            measured.push(weights_of(corpus, samples, &settings)?);
        }
        let printed = [&measured[0], &measured[1]].map(|weights| runs(weights.iter().map(|w| weight(*w))));
        let on = if ranks == 1 { "1 rank".to_owned() } else { format!("{ranks} ranks") };
        section.row(format!("{samples} blocks in batches of {batch} on {on}"), printed);
    }
    Ok(section)
}

/// What is reported at the same parameters, those after a whole lawful run.
pub(super) fn losses(corpus: &FirstBlocks) -> miette::Result<Section> {
    let mut section = Section::new(format!(
        "an evaluation: its result at the same parameters, {} blocks in batches of {}",
        corpus.validation_samples(),
        settings(BOTH[0], BLOCK).evaluation_batch
    ));
    let state = trained(corpus)?;
    for ranks in [1, 2] {
        let [lawful, script] = BOTH.map(|semantics| Settings { ranks, ..settings(semantics, BLOCK) });
        let results = [validated(corpus, &lawful, &state)?, validated(corpus, &script, &state)?];
        let on = if ranks == 1 { "1 rank".to_owned() } else { format!("{ranks} ranks") };
        section.row(format!("{on}: loss"), results.map(|result| format!("{:.6}", result.loss)));
        section.row(format!("{on}: perplexity"), results.map(|result| format!("{:.4}", result.perplexity)));
    }
    Ok(section)
}

/// The state after a whole run.
fn trained(corpus: &FirstBlocks) -> miette::Result<TrainerState> {
    let settings = settings(Semantics::LAWFUL, BLOCK);
    let mut trainer = stage::trainer(MODEL)?;
    let sampler = SeededSampler::new(corpus.training_samples(), &settings);
    let mut run = Run::new(&mut *trainer, corpus, &sampler, &settings).into_diagnostic()?;
    run.finish().into_diagnostic()?;
    state_of(run.trainer()).into_diagnostic()
}

/// What an evaluation of this state reports.
fn validated(corpus: &dyn Corpus, settings: &Settings, state: &TrainerState) -> miette::Result<Validation> {
    let mut trainer = stage::trainer(MODEL)?;
    evaluate(&mut *trainer, corpus, settings, Some(state))
}

/// The evaluation that a run makes between two updates.
fn evaluate(
    trainer: &mut dyn LoopTrainer,
    corpus: &dyn Corpus,
    settings: &Settings,
    state: Option<&TrainerState>,
) -> miette::Result<Validation> {
    let settings = Settings { evaluate_every: 1, ..*settings };
    let sampler = SeededSampler::new(corpus.training_samples(), &settings);
    let mut run = Run::new(trainer, corpus, &sampler, &settings).into_diagnostic()?;
    if let Some(state) = state {
        run.trainer().restore(state).into_diagnostic()?;
    }
    run.resume(Progress { updates: 1, ..Progress::default() });
    match run.advance().into_diagnostic()? {
        Some(Event::Validation { validation, .. }) => Ok(validation),
        _ => miette::bail!("no evaluation was due"),
    }
}

/// Of so many samples what each weighs, times their number.
fn weights_of(corpus: &FirstBlocks, samples: usize, settings: &Settings) -> miette::Result<Vec<f64>> {
    let blocks = [corpus.block(0).to_vec(), corpus.block(1).to_vec()];
    let mut trainer = stage::trainer(MODEL)?;
    let mut evaluate_with = |other: Vec<usize>| {
        let probe = Probe { blocks: &blocks, samples, other };
        evaluate(&mut *trainer, &probe, settings, None).map(|validation| validation.loss)
    };
    let none = evaluate_with(Vec::new())?;
    let all = evaluate_with((0..samples).collect())?;
    let mut weights = Vec::new();
    for sample in 0..samples {
        let one = evaluate_with(vec![sample])?;
        weights.push((one - none) / (all - none) * samples as f64);
    }
    Ok(weights)
}

/// Samples of one block, but for some that are of another.
struct Probe<'a> {
    blocks: &'a [Vec<u32>; 2],
    samples: usize,
    other: Vec<usize>,
}

impl Corpus for Probe<'_> {
    fn training_samples(&self) -> usize {
        self.samples
    }

    fn validation_samples(&self) -> usize {
        self.samples
    }

    fn training(&self, index: usize, place: SamplePlace) -> Result<Sample, BatchError> {
        let block = &self.blocks[usize::from(self.other.contains(&index))];
        let vocabulary = u32::try_from(MODEL.shape().vocabulary).unwrap_or(u32::MAX);
        Objective::Causal.sample(block, place, vocabulary, 0)
    }

    fn validation(&self, index: usize, _: u32) -> Result<Sample, BatchError> {
        self.training(index, SamplePlace { epoch: 0, sample: 0 })
    }
}

/// A weight as the fraction that it is within rounding, or in digits.
fn weight(value: f64) -> String {
    for denominator in 1..=DENOMINATORS {
        let numerator = value * f64::from(denominator);
        let whole = numerator.round();
        if (numerator - whole).abs() < TOLERANCE
            && let Ok(whole) = format!("{whole:.0}").parse::<i64>()
        {
            return fraction(&Fraction::new(whole.into(), i64::from(denominator).into()));
        }
    }
    format!("{value:.6}")
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn a_weight_is_the_fraction_it_is_within_rounding() {
        assert_eq!([1.125 + 1e-13, 1.0, 0.125, 0.0].map(weight), ["9/8", "1", "1/8", "0"]);
        assert_eq!(weight(std::f64::consts::PI), "3.141593");
    }
}
