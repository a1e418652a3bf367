//! Trials, added up to a verdict.

use crate::{
    Failure, Law, Report, Tried, Verdict,
    control::{Controls, Taped},
    trial::{Ended, Facts},
};
use lossproof_numerics::{Comparisons, Control};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Adds up trials.
#[derive(Default)]
pub(crate) struct Tally {
    comparisons: Comparisons,
    pub(crate) cases: usize,
    telling: usize,
    /// The units of which anything was compared.
    looked_at: BTreeSet<String>,
    unsupported: Option<String>,
    /// Why the subject's limits rule out a batch of some case.
    outside: Option<String>,
    /// The case that certified each unit best.
    strongest: BTreeMap<String, Rc<Taped>>,
}

impl Tally {
    /// Notes what is compared in a case that is not counted: one that fails, or comes after one. It certifies nothing.
    pub(crate) fn looks_at(&mut self, tried: &Tried) {
        self.looked_at.extend(tried.comparisons.looked_at().iter().cloned());
        self.comparisons.count(&tried.comparisons);
    }

    pub(crate) fn add(&mut self, tried: Tried, taped: Option<Taped>) {
        self.looked_at.extend(tried.comparisons.looked_at().iter().cloned());
        self.cases += 1;
        self.telling += usize::from(tried.tells());
        if let Some(what) = tried.unsupported() {
            self.unsupported = Some(what.to_owned());
        }
        if let Err(Ended::OutsideLimits(error)) = &tried.told {
            self.outside.get_or_insert_with(|| error.to_string());
        }
        let taped = taped.map(Rc::new);
        for (name, unit) in tried.comparisons.units() {
            let former = self.comparisons.unit(name).map_or(f64::INFINITY, |unit| unit.power);
            // A fact is no matter of degree: any telling case is as strong as another.
            let stronger = unit.power < former || !self.strongest.contains_key(name);
            if unit.power.is_finite() && stronger && (tried.tells() || unit.control == Control::Factor) {
                self.strongest.extend(taped.clone().map(|taped| (name.to_owned(), taped)));
            }
        }
        self.comparisons.merge(tried.comparisons);
    }

    /// The first unit that a change of an answer leaves unmoved.
    fn uncaught(&self, law: &Law, facts: &Facts) -> Option<String> {
        let mut controls = Controls::new(law, facts);
        let uncaught = self.comparisons.units().find(|(name, unit)| {
            let taped = self.strongest.get(*name);
            unit.power.is_finite() && !taped.is_some_and(|taped| controls.catches(name, *unit, taped))
        });
        uncaught.map(|(name, _)| name.to_owned())
    }

    pub(crate) fn report(
        self,
        law: &'static Law,
        facts: &Facts,
        failure: Option<Failure>,
        control: bool,
    ) -> Report {
        let (verdict, reason) = match &failure {
            Some(Failure { error: Some(error), violations, .. }) if violations.is_empty() => {
                (Verdict::Errored, Some(error.clone()))
            }
            Some(_) => (Verdict::Fail, None),
            None => self.undisputed(law, facts, control),
        };
        let Self { comparisons, cases, telling, looked_at, .. } = self;
        let (compared, power) = (comparisons.compared(), comparisons.power());
        let worst = comparisons.closest().cloned();
        let noise = facts.noise;
        Report { law, verdict, cases, telling, compared, looked_at, worst, power, noise, failure, reason }
    }

    /// The verdict where no case broke the law, and what would make it another where it is no pass.
    fn undisputed(&self, law: &Law, facts: &Facts, control: bool) -> (Verdict, Option<String>) {
        let unchecked = |reason: String| (Verdict::Unchecked, Some(reason));
        if self.comparisons.compared() == 0 {
            return match (&self.unsupported, &self.outside) {
                (Some(what), _) => (Verdict::Unsupported, Some(what.clone())),
                // More cases would decide nothing.
                (None, Some(limit)) => unchecked(format!(
                    "nothing was compared: the trainer's limits rule out what this law asks for: {limit}"
                )),
                (None, None) => unchecked(
                    "nothing was compared: the law's case never came up within the limits; more cases (--cases) or wider \
                     limits would decide it"
                        .to_owned(),
                ),
            };
        }
        if self.telling == 0
            && let Some(what) = &self.unsupported
        {
            return unchecked(format!("no case could have told a violation, for want of {what}"));
        }
        if self.telling == 0 {
            return unchecked(
                "no case could have told a violation; more cases (--cases) or wider limits (several ranks, micro-batches, \
                 sequences of unequal length) would decide it"
                    .to_owned(),
            );
        }
        if let Some(what) = self.comparisons.uncertified() {
            return unchecked(format!(
                "the effect of {what} lies below its bound in every case; parameters at which it receives a gradient, or \
                 more cases (--cases), would decide it"
            ));
        }
        if control && let Some(what) = self.uncaught(law, facts) {
            return unchecked(format!(
                "the negative control was missed: {what} passes with any answer changed by more than the law's power, \
                 or fails on the recorded answers as they are"
            ));
        }
        (Verdict::Pass, None)
    }
}
