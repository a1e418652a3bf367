//! Trainers without a fault: none of them may be taken for one that has one.

mod render;

pub(super) use render::{json, markdown, text};

use crate::subjects;
use lossproof_diagnosis::Diagnosis;
use lossproof_faults::{Control, Keyhole, NamedClaim, Profile};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law, Verdict};
use lossproof_spec::Dtype;
use lossproof_subject::{Count, Device, Subject};
use lossproof_torch::{LlamaConfig, libtorch};
use miette::IntoDiagnostic;
use rayon::prelude::*;

/// What was held against trainers that are right.
#[derive(Default)]
struct Sound {
    /// Random batches.
    batches: usize,
    /// The largest error of any comparison, as a share of its bound.
    closest: f64,
    /// Laws that compared nothing, or could not have told a violation of everything they compared: few
    /// batches leave some.
    unchecked: usize,
    /// False alarms.
    alarms: Vec<String>,
}

/// A trainer that is right, with every claim and all that it has.
struct SoundTrainer {
    name: &'static str,
    /// What is different from the reference, of a control.
    what: &'static str,
    sound: Sound,
}

/// All trainers that are right, behind one claim and through one profile.
struct SoundProfile {
    profile: Profile,
    claim: NamedClaim,
    dtype: Dtype,
    trainers: usize,
    sound: Sound,
}

/// A trainer without a fault.
#[derive(Clone, Copy)]
enum Trainer {
    Reference,
    Libtorch,
    Llama,
    Control(&'static Control),
}

impl Trainer {
    fn all() -> Vec<Self> {
        let mut trainers = vec![Self::Reference, Self::Libtorch, Self::Llama];
        trainers.extend(Control::all().map(Self::Control));
        trainers
    }

    fn make(self, dtype: Dtype) -> miette::Result<Box<dyn Subject>> {
        let reference = || subjects::ours(Config::Pico, dtype, Device::Cpu);
        match self {
            Self::Reference => reference(),
            Self::Libtorch => subjects::theirs(Config::Pico, dtype, Device::Cpu),
            Self::Llama => Ok(libtorch(&LlamaConfig::PICO, dtype, Device::Cpu).into_diagnostic()?),
            Self::Control(control) => Ok(control.inject(reference()?)),
        }
    }

    /// Its name, and what is different from the reference.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Reference => ("reference", "the reference itself, on dfdx"),
            Self::Libtorch => ("libtorch", "the independent implementation"),
            Self::Llama => ("llama", "a Llama on libtorch; not diagnosed"),
            Self::Control(control) => (control.id, control.what),
        }
    }
}

/// What trainers without a loop are held to.
fn held_to() -> impl Iterator<Item = &'static Law> {
    LAWS.iter().filter(|law| law.is_of_a_step())
}

impl Sound {
    /// Holds a trainer to every law.
    fn hold(&mut self, subject: &mut dyn Subject, campaign: &Campaign, through: &str) -> miette::Result<()> {
        for law in held_to() {
            let report = campaign.run(law, subject).into_diagnostic()?;
            self.batches += report.cases;
            if let Some(worst) = &report.worst
                && worst.bound > 0.0
            {
                self.closest = self.closest.max(worst.error / worst.bound);
            }
            self.unchecked += usize::from(report.verdict == Verdict::Unchecked);
            if matches!(report.verdict, Verdict::Fail | Verdict::Errored) {
                self.alarms.push(format!("{through}{report}"));
            }
        }
        Ok(())
    }
}

/// Batches for each law that is tried in `places` places, so many in total or a few more.
fn shared_out(batches: u32, places: usize, campaign: &Campaign) -> Campaign {
    let each = u32::try_from(places * held_to().count()).unwrap_or(u32::MAX);
    Campaign { cases: batches.div_ceil(each), ..campaign.clone() }
}

/// What was found of trainers without a fault.
pub(super) struct Alarms {
    trainers: Vec<SoundTrainer>,
    profiles: Vec<SoundProfile>,
}

impl Alarms {
    /// Holds every trainer without a fault to every law, on so many batches in total: with all that it has,
    /// and on as many again with one claim, through each profile and in both dtypes.
    ///
    /// # Errors
    /// When a trainer cannot be made.
    pub(super) fn sound(campaign: &Campaign, batches: u32) -> miette::Result<Self> {
        Ok(Self { trainers: trainers(campaign, batches)?, profiles: profiles(campaign, batches)? })
    }

    /// What was held against each.
    fn each(&self) -> impl Iterator<Item = &Sound> {
        let trainers = self.trainers.iter().map(|one| &one.sound);
        trainers.chain(self.profiles.iter().map(|one| &one.sound))
    }

    /// Whether nothing was held against any of them.
    pub(super) fn none(&self) -> bool {
        self.each().all(|sound| sound.alarms.is_empty())
    }
}

/// Holds every trainer without a fault to every law, on so many batches in total.
fn trainers(campaign: &Campaign, batches: u32) -> miette::Result<Vec<SoundTrainer>> {
    let trainers = Trainer::all();
    let campaign = shared_out(batches, trainers.len(), campaign);
    let one = |trainer: &Trainer| -> miette::Result<SoundTrainer> {
        let (name, what) = trainer.described();
        let mut sound = Sound::default();
        sound.hold(&mut *trainer.make(Dtype::F64)?, &campaign, "")?;
        // A diagnosis takes the reference for the truth, which is none for another architecture.
        if !matches!(trainer, Trainer::Llama) {
            let mut truth = super::reference()?;
            let mut subject = trainer.make(Dtype::F64)?;
            let diagnosis = Diagnosis::of(&mut *subject, Some(&mut *truth)).into_diagnostic()?;
            if !diagnosis.sound {
                sound.alarms.push(diagnosis.to_string());
            }
        }
        Ok(SoundTrainer { name, what, sound })
    };
    trainers.par_iter().map(one).collect()
}

/// Holds every trainer without a fault to every law, with each claim, through each profile and in both
/// dtypes, on so many batches in total.
fn profiles(campaign: &Campaign, batches: u32) -> miette::Result<Vec<SoundProfile>> {
    let trainers = Trainer::all();
    let mut views = Vec::new();
    for profile in Profile::ALL {
        for dtype in [Dtype::F64, Dtype::F32] {
            for claim in NamedClaim::ALL {
                let sound = Sound::default();
                views.push(SoundProfile { profile, claim, dtype, trainers: trainers.len(), sound });
            }
        }
    }
    let campaign = shared_out(batches, views.len() * trainers.len(), campaign);
    views.par_iter_mut().try_for_each(|view| {
        let keyhole = Keyhole { profile: view.profile, claim: view.claim.spec, micro_batches: Count::ANY };
        for trainer in &trainers {
            let mut subject = keyhole.of(trainer.make(view.dtype)?).into_diagnostic()?;
            let through =
                format!("{}, {}, {}, {}: ", trainer.described().0, view.profile, view.claim, view.dtype);
            view.sound.hold(&mut *subject, &campaign, &through)?;
        }
        Ok::<_, miette::Report>(())
    })?;
    Ok(views)
}
