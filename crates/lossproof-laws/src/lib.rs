//! The clauses of `docs/SPEC.md`, made executable: each law is written once, against [`Subject`].
//!
//! A law takes a [`Case`] and a subject, has the subject compute two or more things that stand in a relation the clause
//! demands, and compares: nearly always "this loss and gradient are that linear combination of those". The
//! comparisons have derived bounds (`docs/tolerances.md`), each says how small an error it is certain to
//! catch, and a case counts only where it could have told a violation.

mod answering;
mod attempt;
pub mod blocks;
mod campaign;
mod change;
mod claimed;
mod clauses;
mod compare;
mod confidence;
mod control;
mod dry_run;
mod examiner;
pub mod expectations;
mod final_norm;
mod floor;
mod imposed;
mod known_logits;
mod need;
mod noise;
mod playback;
mod precision;
mod report;
mod roles;
mod second_look;
mod shown;
mod sketch;
mod summary;
mod tally;
mod tape;
mod trial;
mod values_beside;
mod verdict;
mod weights;

pub use campaign::Campaign;
pub use confidence::{cut_off_at, every_row_is_a_token, make_sure};
pub use examiner::{Examination, Examiner, Likeness, RememberingExaminer};
pub use final_norm::FinalNorm;
pub use floor::floor;
pub use known_logits::{KnownGradient, KnownLogits};
pub use need::Need;
// They stand in reports, and who has `lossproof` alone can name them.
pub use lossproof_numerics::{Closest, Violation};
pub use precision::{distance, error_model};
pub use report::{Failure, Report};
pub use sketch::{BlockSketch, Projections, Sketch};
pub use summary::Summary;
pub use verdict::Verdict;

use answering::{Answering, Answers};
use clauses::{
    accumulation, closed_form, cross_entropy, derivative, embedding, evaluation, lone_tokens, masks, model,
    objectives, ranks, reductions, reported, step, step_slope, training,
};
use lossproof_cases::Case;
use lossproof_numerics::{Averages, CONTEXTS, Comparisons};
use lossproof_spec::{CLAUSES, Clause, Level};
use lossproof_subject::{ObjectiveKind, Subject, SubjectError};
use trial::{CaseOutcome, Ended, Facts, Trial, choices};

/// A clause, or several, made executable.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    id: &'static str,
    needs: &'static [Need],
    check: fn(&mut Trial<'_>) -> CaseOutcome,
    /// Whether it takes so many passes that it is tried in one context, however coarse numbers are.
    costs_much: bool,
}

const fn law(id: &'static str, needs: &'static [Need], check: fn(&mut Trial<'_>) -> CaseOutcome) -> Law {
    Law { id, needs, check, costs_much: false }
}

/// How a trial begins.
type Begin = for<'a> fn(&'a mut dyn Subject, &'a Case, &'a Facts) -> Result<Trial<'a>, Ended>;

impl Law {
    const fn that_costs_much(self) -> Self {
        Self { costs_much: true, ..self }
    }
}

use Need::{
    DoublePrecision, Evaluation, FinerAccumulation, IgnoredLabels, Objective, OneMicroBatch, OneRankAndMore,
    OptimizerSteps, Parameters, Segments, SeveralMicroBatches, SeveralRanks, ShorterWindows, TiedHead,
    TokenLosses, TrainingLoop, UpstreamWeights,
};

use ObjectiveKind::{Masked, Prefix, SoftTargets};

/// All laws, in the order of their clauses.
pub const LAWS: &[Law] = &[
    law("shift", &[Parameters], cross_entropy::shift),
    law("token-loss", &[Parameters], cross_entropy::token_loss),
    law("uniform-logits", &[Parameters], cross_entropy::uniform_logits),
    law("constant-invariance", &[Parameters], cross_entropy::constant_invariance),
    law("closed-form-gradient", &[Parameters], closed_form::closed_form_gradient),
    law("label-smoothing", &[Parameters], cross_entropy::label_smoothing),
    law("z-loss", &[Parameters], cross_entropy::z_loss),
    law("normalisation", &[], lone_tokens::normalisation).that_costs_much(),
    law("next-position", &[], lone_tokens::next_position),
    law("mean-zero-score", &[], lone_tokens::mean_zero_score).that_costs_much(),
    law("soft-targets", &[Objective(SoftTargets)], objectives::soft_targets),
    law("masked-tokens", &[Objective(Masked)], objectives::masked_tokens),
    law("prefix-source", &[Objective(Prefix), IgnoredLabels], objectives::prefix_source),
    law("sum", &[], reductions::sum),
    law("token-mean", &[], reductions::token_mean),
    law("sequence-mean", &[], reductions::sequence_mean),
    law("batch-mean", &[], reductions::batch_mean),
    law("naive-accumulated-mean", &[], reductions::naive_accumulated_mean),
    law("forgotten-division", &[], reductions::forgotten_division),
    law("naive-data-parallel", &[], reductions::naive_data_parallel),
    law("averaging-not-undone", &[], reductions::averaging_not_undone),
    law("counting", &[], reductions::counting),
    law("ratios", &[], reductions::ratios),
    law("linearity", &[UpstreamWeights, IgnoredLabels], reductions::linearity),
    law("duplication", &[], reductions::duplication),
    law("empty-groups", &[IgnoredLabels], reductions::empty_groups),
    law("shares", &[], lone_tokens::shares),
    law("equal-tokens", &[IgnoredLabels], lone_tokens::equal_tokens),
    law("ignored-labels", &[IgnoredLabels], masks::ignored_labels),
    law("right-padding", &[Segments, IgnoredLabels], masks::right_padding),
    law("left-padding", &[Segments, IgnoredLabels], masks::left_padding),
    law("ignored-batch", &[IgnoredLabels], masks::ignored_batch),
    law("prompt-masking", &[IgnoredLabels], masks::prompt_masking),
    law("padding-token", &[Segments, IgnoredLabels], masks::padding_token),
    law("eos-as-padding", &[Segments, IgnoredLabels], masks::eos_as_padding),
    law("split-invariance", &[SeveralMicroBatches], accumulation::split_invariance),
    law("order-invariance", &[], accumulation::order_invariance),
    law("naive-deviation", &[SeveralMicroBatches], accumulation::naive_deviation),
    law("partial-window", &[ShorterWindows], accumulation::partial_window),
    law("zero-grad", &[], accumulation::zero_grad),
    law("no-op-accumulation", &[OneMicroBatch], accumulation::no_op_accumulation),
    law("reported-loss", &[], reported::reported_loss),
    law("accumulation-type", &[FinerAccumulation, SeveralMicroBatches], accumulation::accumulation_type),
    law("rank-average", &[SeveralRanks], ranks::rank_average),
    law("rank-invariance", &[SeveralRanks], ranks::rank_invariance),
    law("rank-deviation", &[SeveralRanks], ranks::rank_deviation),
    law("rank-order", &[SeveralRanks], ranks::rank_order),
    law("replicated-ranks", &[OneRankAndMore], ranks::replicated_ranks),
    law("causality", &[TokenLosses], model::causality),
    law("causal-gradient", &[IgnoredLabels], model::causal_gradient),
    law("weight-tying", &[Parameters, TokenLosses, TiedHead], embedding::weight_tying),
    law("repeated-tokens", &[Parameters], embedding::repeated_tokens),
    law("position-embedding", &[Parameters, Segments], embedding::position_embedding),
    law("vocabulary-permutation", &[Parameters], embedding::vocabulary_permutation),
    law("packing", &[Segments, IgnoredLabels], model::packing),
    law("determinism", &[], model::determinism),
    law("every-parameter", &[], model::every_parameter),
    law("finite-differences", &[Parameters, DoublePrecision], derivative::finite_differences),
    law("loss-slope", &[Parameters], derivative::loss_slope),
    law("norm-null-directions", &[], model::norm_null_directions),
    law("step-slope", &[OptimizerSteps], step_slope::step_slope),
    law("clipping", &[OptimizerSteps], step::clipping),
    law("sgd", &[OptimizerSteps], step::sgd),
    law("adam", &[OptimizerSteps], step::adam),
    law("adamw", &[OptimizerSteps], step::adamw),
    law("adam-scale", &[OptimizerSteps, IgnoredLabels], step::adam_scale),
    law("schedule", &[OptimizerSteps], step::schedule),
    law("loss-scaling", &[OptimizerSteps], step::loss_scaling),
    law("composition", &[OptimizerSteps], step::composition),
    law("between-steps", &[OptimizerSteps], step::between_steps),
    law("perplexity", &[Evaluation], evaluation::perplexity),
    law("validation-loss", &[Evaluation, TokenLosses], evaluation::validation_loss),
    law("uniform-perplexity", &[Evaluation, Parameters], evaluation::uniform_perplexity),
    law("validation-batches", &[Evaluation], evaluation::validation_batches),
    law("validation-trace", &[Evaluation], evaluation::validation_trace),
    law("nothing-validated", &[Evaluation, IgnoredLabels], evaluation::nothing_validated),
    law("perplexity-overflow", &[Evaluation, Parameters], evaluation::perplexity_overflow),
    law("training-validation", &[TrainingLoop, Parameters, TokenLosses], training::training_validation),
    law("resume", &[TrainingLoop], training::resume),
    law("resume-again", &[TrainingLoop], training::resume_again),
    law("resume-otherwise", &[TrainingLoop], training::resume_otherwise),
    law("samples-once", &[TrainingLoop], training::samples_once),
    law("training-update", &[TrainingLoop, Parameters], training::training_update),
    law("training-schedule", &[TrainingLoop, Parameters], training::training_schedule),
    law("training-clipping", &[TrainingLoop, Parameters], training::training_clipping),
    law("training-loss", &[TrainingLoop, Parameters], training::training_loss),
    law("training-split", &[TrainingLoop, Parameters], training::training_split),
    law("training-undisturbed", &[TrainingLoop], training::training_undisturbed),
    law("not-a-number", &[TrainingLoop, Parameters], training::not_a_number),
    law("skipped-update", &[TrainingLoop, Parameters], training::skipped_update),
    law("frozen", &[TrainingLoop, Parameters], training::frozen),
    law("dropout", &[TrainingLoop, Parameters, TokenLosses], training::dropout),
];

/// Cases of a campaign, or less than twice as many, that are tried in many contexts where numbers are coarse.
const AVERAGED_CASES: usize = 4;

/// What of a trainer a law is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A step on the next token, or a validation of it.
    Step,
    /// A whole training.
    Training,
    /// What is learnt beside the next token.
    Objective,
}

/// What a law found on one case.
#[derive(Debug)]
pub struct Tried {
    pub(crate) comparisons: Comparisons,
    pub(crate) told: CaseOutcome,
    /// The plans of the trainings that ran, in words.
    pub(crate) plans: Vec<String>,
}

impl Tried {
    pub(crate) fn new(comparisons: Comparisons, told: CaseOutcome) -> Self {
        Self { comparisons, told, plans: Vec::new() }
    }

    /// The comparisons outside their bounds, the worst first.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.comparisons.violations()
    }

    /// Whether the case could have told a violation: something was compared where the clause demands something.
    #[must_use]
    pub fn tells(&self) -> bool {
        matches!(self.told, Ok(true))
    }

    /// What the subject lacks for this case, if it does.
    #[must_use]
    pub fn unsupported(&self) -> Option<&str> {
        match &self.told {
            Err(Ended::Unsupported(what)) => Some(what),
            _ => None,
        }
    }

    /// The error the subject failed with, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&SubjectError> {
        match &self.told {
            Err(Ended::Failed(error)) => Some(error),
            _ => None,
        }
    }
}

impl Law {
    /// The law with this id.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        LAWS.iter().find(|law| law.id == id)
    }

    /// Its id, as in `docs/SPEC.md`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// The clauses it executes.
    pub fn clauses(&self) -> impl Iterator<Item = &'static Clause> {
        let id = self.id;
        CLAUSES.iter().filter(move |clause| clause.law == id)
    }

    /// Whether no trainer may break it: a clause of it is a MUST.
    #[must_use]
    pub fn is_binding(&self) -> bool {
        self.clauses().any(|clause| clause.level == Level::Must)
    }

    /// What it is about.
    #[must_use]
    pub fn aspect(&self) -> Aspect {
        if self.needs_training() {
            Aspect::Training
        } else if self.needs_objective() {
            Aspect::Objective
        } else {
            Aspect::Step
        }
    }

    /// Whether it is about a whole training ([`Subject::training_loop`]).
    #[must_use]
    pub fn needs_training(&self) -> bool {
        self.needs.contains(&TrainingLoop)
    }

    /// Whether it is about what is learnt beside the next token ([`Subject::objectives`]).
    #[must_use]
    pub fn needs_objective(&self) -> bool {
        self.needs.iter().any(|need| matches!(need, Objective(_)))
    }

    /// Whether it is about what a step on the next token, or a validation of it, shows.
    #[must_use]
    pub fn is_of_a_step(&self) -> bool {
        self.aspect() == Aspect::Step
    }

    /// What the subject lacks to be held to this law at all, if it does.
    pub fn lacking(&self, subject: &mut dyn Subject) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.lacking(subject))
    }

    /// Tries the law on one case. `noise` is what two identical calls of the subject differ by.
    pub fn try_on(&self, subject: &mut dyn Subject, case: &Case, noise: f64) -> Tried {
        let facts = Facts { noise, ..Facts::of(subject) };
        self.try_with(subject, case, &facts)
    }

    pub(crate) fn try_with(&self, subject: &mut dyn Subject, case: &Case, facts: &Facts) -> Tried {
        self.try_in_contexts(subject, case, facts, |subject, case, facts| Trial::new(subject, case, facts))
    }

    /// Tries the law on answers that are there already: nobody has a use for parameters, and to draw them takes longer
    /// than the rest.
    pub(crate) fn replay<A: Answers>(&self, answers: &mut Answering<A>, case: &Case, facts: &Facts) -> Tried {
        self.try_in_contexts(answers, case, facts, |answers, case, facts| {
            Trial::of_answers(answers, case, facts)
        })
    }

    fn try_in_contexts(&self, subject: &mut dyn Subject, case: &Case, facts: &Facts, begin: Begin) -> Tried {
        let mut averages = Averages::default();
        let mut tried = self.try_in(begin(subject, case, facts), (case, &mut averages));
        if averages.is_empty() {
            return tried;
        }
        let contexts = self.contexts(facts);
        // The case itself may lie where everything is rounded alike. Alone it says what is to be certified.
        if contexts > 1 {
            averages = Averages::default();
        }
        for context in 1..contexts {
            // What is broken in one context is broken.
            if tried.told.is_err() || tried.comparisons.is_violated() {
                return tried;
            }
            let other = case.in_context(context as u64, facts.info.limits.vocabulary);
            let trial = begin(subject, &other, facts);
            let Tried { comparisons, told, .. } = self.try_in(trial, (case, &mut averages));
            tried.comparisons.merge(comparisons);
            tried.told = told.map(|tells| tells || matches!(tried.told, Ok(true)));
        }
        averages.judge(&mut tried.comparisons);
        tried
    }

    /// In how many contexts a case is tried: where numbers are coarse, some cases of a campaign in many.
    pub(crate) fn contexts(&self, facts: &Facts) -> usize {
        let is_its_turn = facts.turn.among(AVERAGED_CASES).is_some();
        let many = facts.is_coarse() && self.is_of_a_step() && !self.costs_much && is_its_turn;
        if many { 1 + CONTEXTS } else { 1 }
    }

    /// Tries the law in one context of a case, which fixes the choices that the law makes.
    fn try_in(&self, trial: Result<Trial<'_>, Ended>, (case, averages): (&Case, &mut Averages)) -> Tried {
        averages.begin();
        let mut trial = match trial {
            Ok(trial) => trial,
            Err(stop) => return Tried::new(Comparisons::default(), Err(stop)),
        };
        trial.random = choices(case);
        trial.averages = std::mem::take(averages);
        let told = (self.check)(&mut trial);
        *averages = trial.averages;
        Tried { comparisons: trial.comparisons, told, plans: trial.plans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_clause_has_a_law_and_every_law_a_clause() {
        let in_spec: BTreeSet<_> = CLAUSES.iter().map(|clause| clause.law).collect();
        let in_code: BTreeSet<_> = LAWS.iter().map(Law::id).collect();
        assert_eq!(in_spec, in_code);
        assert_eq!(in_code.len(), LAWS.len(), "a law is listed twice");
    }

    #[test]
    fn laws_are_in_the_order_of_their_clauses() {
        let place = |law: &Law| CLAUSES.iter().position(|clause| clause.law == law.id());
        assert!(LAWS.is_sorted_by_key(|law| {
            let group = place(law).and_then(|index| CLAUSES[index].id.split('.').next());
            group.and_then(|group| group.parse::<u32>().ok())
        }));
    }
}
