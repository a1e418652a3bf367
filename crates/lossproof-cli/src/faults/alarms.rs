//! Trainers without a fault: none of them may be taken for one that has one.

use super::{libtorch, reference};
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::Control;
use lossproof_laws::{Campaign, LAWS, Verdict};
use lossproof_subject::Subject;
use miette::IntoDiagnostic;
use rayon::prelude::*;

/// A trainer that is right, and what was held against it.
pub(super) struct Sound {
    pub(super) name: String,
    /// What is different from the reference, of a control.
    pub(super) what: &'static str,
    /// Random batches.
    pub(super) batches: usize,
    /// The largest error of any comparison, as a share of its bound.
    pub(super) closest: f64,
    /// Laws that compared nothing, or could not have told a violation of everything they compared: few
    /// batches leave some.
    pub(super) unchecked: usize,
    /// False alarms.
    pub(super) alarms: Vec<String>,
}

/// A trainer without a fault: its name, what is different from the reference, and how to make it.
type SoundTrainer = (String, &'static str, Box<dyn Fn() -> miette::Result<Box<dyn Subject>> + Send + Sync>);

fn trainers() -> Vec<SoundTrainer> {
    let mut trainers: Vec<SoundTrainer> = vec![
        ("reference".to_owned(), "the reference itself, on dfdx", Box::new(reference)),
        ("libtorch".to_owned(), "the independent implementation", Box::new(libtorch)),
    ];
    for control in Control::all() {
        trainers.push((control.id.to_owned(), control.what, Box::new(|| Ok(control.inject(reference()?)))));
    }
    trainers
}

/// Holds every trainer without a fault to every law, on so many batches in total.
///
/// # Errors
/// When a trainer cannot be made.
pub(super) fn sound(campaign: &Campaign, batches: u32) -> miette::Result<Vec<Sound>> {
    let trainers = trainers();
    let each = u32::try_from(trainers.len() * LAWS.len()).unwrap_or(u32::MAX);
    let campaign = Campaign { cases: batches.div_ceil(each), ..campaign.clone() };
    let one = |(name, what, make): &SoundTrainer| -> miette::Result<Sound> {
        let mut subject = make()?;
        let mut sound =
            Sound { name: name.clone(), what, batches: 0, closest: 0.0, unchecked: 0, alarms: Vec::new() };
        for law in LAWS {
            let report = campaign.run(law, &mut *subject).into_diagnostic()?;
            sound.batches += report.cases;
            if let Some(worst) = &report.worst
                && worst.bound > 0.0
            {
                sound.closest = sound.closest.max(worst.error / worst.bound);
            }
            sound.unchecked += usize::from(report.verdict == Verdict::Unchecked);
            if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                sound.alarms.push(report.to_string());
            }
        }
        let mut truth = reference()?;
        let diagnosis = Diagnosis::of(&mut *make()?, Some(&mut *truth)).into_diagnostic()?;
        if !diagnosis.sound {
            sound.alarms.push(diagnosis.to_string());
        }
        Ok(sound)
    };
    trainers.par_iter().map(one).collect()
}
