//! What is said of bugs that nobody knows: a known one that the diagnosis does not think of, and bugs that are in no
//! catalogue.

use super::profiles;
use crate::{
    subjects::{self, Arithmetic},
    table::{Align, Table},
};
use lossproof_diagnosis::{Diagnosis, Diagnostician};
use lossproof_faults::{Class, Fault, Keyhole, Unseen};
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS, Law};
use lossproof_subject::{Device, Subject, Watchdog};
use miette::IntoDiagnostic;
use rayon::prelude::*;
use std::fmt::Write;

/// How trainers are seen: all of one, beside a reference, or through a profile.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    pub(super) keyhole: Option<Keyhole>,
    pub(super) config: Config,
    pub(super) arithmetic: Arithmetic,
}

impl Sight {
    fn honest(&self) -> miette::Result<Box<dyn Subject>> {
        profiles::honest(self.config, self.arithmetic)
    }

    /// A trainer as it is seen.
    fn of(&self, subject: Box<dyn Subject>) -> miette::Result<Box<dyn Subject>> {
        match &self.keyhole {
            Some(keyhole) => keyhole.of(subject).into_diagnostic(),
            None => Ok(subject),
        }
    }

    /// Who looks at it. Nobody has a reference beside a trainer that is seen through a profile.
    fn diagnostician(&self) -> Diagnostician {
        match self.keyhole {
            Some(_) => Diagnostician::default(),
            None => subjects::beside_the_reference(self.config, self.arithmetic.truth(), Device::Cpu),
        }
    }
}

/// The first candidates of a diagnosis, in words.
fn said(diagnosis: &Diagnosis) -> String {
    if diagnosis.sound {
        return "nothing wrong".to_owned();
    }
    let mut names = Vec::new();
    for candidate in diagnosis.candidates.iter().take(2) {
        names.push(format!("{} {:.2}", candidate.bug.id, candidate.likelihood));
    }
    if names.is_empty() { "no known bug".to_owned() } else { names.join(", ") }
}

/// What is said of a fault, with its hypothesis and without.
pub(super) struct LeftOut {
    fault: &'static Fault,
    full: Diagnosis,
    without: Diagnosis,
}

impl LeftOut {
    fn is_named(&self) -> bool {
        self.full.place(self.fault.bug.id) == Some(0)
    }
}

/// Examines each fault twice: knowing every bug, and without it and those that nothing seen tells from it. Behind a
/// profile only the faults that some law kills there are looked at.
///
/// # Errors
/// When a trainer cannot be made.
pub(super) fn leave_one_out(
    sight: &Sight,
    faults: &[&'static Fault],
    campaign: &Campaign,
) -> miette::Result<Vec<LeftOut>> {
    let mut visible = faults.to_vec();
    if let Some(keyhole) = &sight.keyhole {
        let rows = profiles::classify(keyhole, (sight.config, sight.arithmetic), faults, campaign)?;
        visible = rows.iter().filter(|row| row.class == Class::Killed).map(|row| row.fault).collect();
    }
    let one = |fault: &&'static Fault| -> miette::Result<LeftOut> {
        let faulty = || sight.of(fault.inject(sight.honest()?));
        let watchdog = Watchdog::default();
        let full = sight.diagnostician().diagnose(&mut *faulty()?, &watchdog);
        let without = sight.diagnostician().leaving_out(fault.bug, &full);
        let without = without.diagnose(&mut *faulty()?, &watchdog);
        Ok(LeftOut { fault, full, without })
    };
    visible.par_iter().map(one).collect()
}

/// The table of faults that were left out, and how many are named.
pub(super) fn text(rows: &[LeftOut]) -> String {
    let mut table = Table::new([
        ("fault", Align::Left),
        ("family", Align::Left),
        ("named", Align::Left),
        ("without its hypothesis and its class", Align::Left),
    ]);
    for row in rows {
        let class = row.full.first();
        let named = match (row.is_named(), class.len()) {
            (true, 1) => "itself".to_owned(),
            (true, of) => format!("one of {of}"),
            (false, _) => said(&row.full),
        };
        let (id, family) = (row.fault.bug.id.to_owned(), row.fault.bug.family.to_string());
        table.row([id, family, named, said(&row.without)]);
    }
    let share = |of: &dyn Fn(&LeftOut) -> bool| {
        let all = rows.iter().filter(|row| of(row));
        format!("{} of {}", all.clone().filter(|row| row.is_named()).count(), all.count())
    };
    let certain = rows.iter().filter(|row| row.without.is_certain()).count();
    let mut text = table.render();
    let _ = writeln!(
        text,
        "\nin-sample: named first, or among those that nothing tells apart: {}, of accumulation, alignment, masking \
         and logging {}\nleft out: wrong with certainty {certain} of {}",
        share(&|_| true),
        share(&|row| row.fault.bug.family.is_of_weights()),
        rows.len(),
    );
    text
}

/// A bug outside the catalogue, and what was found of it.
pub(super) struct OutOfSample {
    bug: &'static Unseen,
    killed_by: Option<&'static Law>,
    diagnosis: Diagnosis,
}

impl OutOfSample {
    /// Whether a law kills it and nothing wrong is said of it.
    pub(super) fn is_taken_right(&self) -> bool {
        self.killed_by.is_some() && !self.diagnosis.sound && !self.diagnosis.is_certain()
    }
}

/// Examines every bug that is in no catalogue.
///
/// # Errors
/// When a trainer cannot be made, or kept cases cannot be read.
pub(super) fn unseen(sight: &Sight, campaign: &Campaign) -> miette::Result<Vec<OutOfSample>> {
    let all: Vec<&'static Unseen> = Unseen::all().collect();
    let one = |bug: &&'static Unseen| -> miette::Result<OutOfSample> {
        let subject = || sight.of(bug.inject(sight.honest()?));
        let binding = LAWS.iter().filter(|law| law.is_binding());
        let killed_by = campaign.first_to_fail(binding, &mut *subject()?).into_diagnostic()?;
        let diagnosis = sight.diagnostician().diagnose(&mut *subject()?, &Watchdog::default());
        Ok(OutOfSample { bug, killed_by, diagnosis })
    };
    all.par_iter().map(one).collect()
}

/// The table of bugs outside the catalogue, and how they are taken.
pub(super) fn unseen_text(rows: &[OutOfSample]) -> String {
    let mut table = Table::new([("bug", Align::Left), ("killed by", Align::Left), ("said", Align::Left)]);
    for row in rows {
        let killed = row.killed_by.map_or("NOTHING", Law::id).to_owned();
        table.row([row.bug.id.to_owned(), killed, said(&row.diagnosis)]);
    }
    let count = |of: &dyn Fn(&OutOfSample) -> bool| rows.iter().filter(|row| of(row)).count();
    let mut text = table.render();
    let _ = writeln!(
        text,
        "\nwithout a hypothesis of their own: killed {} of {}, wrong with certainty {}, \"none is wrong\" {}",
        count(&|row| row.killed_by.is_some()),
        rows.len(),
        count(&|row| row.diagnosis.is_certain()),
        count(&|row| row.diagnosis.sound),
    );
    text
}
