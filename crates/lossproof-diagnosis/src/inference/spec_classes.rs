//! Every loss spec there is, gathered into classes that a batch cannot tell apart.

use lossproof_spec::{
    Combine, Counting, EmptyGroup, EmptyPolicy, Layout, LossSpec, Reduction, Scope, TokenWeights,
};
use std::fmt;

/// One choice that a [`LossSpec`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// [`LossSpec::reduction`].
    Reduction,
    /// [`LossSpec::scope`].
    Scope,
    /// [`LossSpec::micro_batches`].
    MicroBatches,
    /// [`LossSpec::ranks`].
    Ranks,
    /// [`LossSpec::counting`].
    Counting,
    /// [`LossSpec::empty`].
    Empty,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reduction => "the reduction",
            Self::Scope => "the scope of the normaliser",
            Self::MicroBatches => "how micro-batches are combined",
            Self::Ranks => "how ranks are combined",
            Self::Counting => "what counts as a token",
            Self::Empty => "the empty policy",
        })
    }
}

const CHOICES: [Choice; 6] =
    [Choice::Reduction, Choice::Scope, Choice::MicroBatches, Choice::Ranks, Choice::Counting, Choice::Empty];

impl Choice {
    /// `spec` with this choice made in every way there is, the plainest first.
    fn variants(self, spec: LossSpec) -> Vec<LossSpec> {
        const REDUCTIONS: [Reduction; 4] =
            [Reduction::TokenMean, Reduction::Sum, Reduction::SequenceMean, Reduction::BatchMean];
        const SCOPES: [Scope; 3] = [Scope::Global, Scope::RankWindow, Scope::MicroBatch];
        const COMBINES: [Combine; 2] = [Combine::Add, Combine::Average];
        const COUNTINGS: [Counting; 3] =
            [Counting::Supervised, Counting::BeforeShift, Counting::AllPositions];
        match self {
            Self::Reduction => REDUCTIONS.map(|reduction| LossSpec { reduction, ..spec }).to_vec(),
            Self::Scope => SCOPES.map(|scope| LossSpec { scope, ..spec }).to_vec(),
            Self::MicroBatches => COMBINES.map(|micro_batches| LossSpec { micro_batches, ..spec }).to_vec(),
            Self::Ranks => COMBINES.map(|ranks| LossSpec { ranks, ..spec }).to_vec(),
            Self::Counting => COUNTINGS.map(|counting| LossSpec { counting, ..spec }).to_vec(),
            Self::Empty => EmptyPolicy::ALL.map(|empty| LossSpec { empty, ..spec }).to_vec(),
        }
    }
}

/// Every loss spec but for the numbers in it (label smoothing and z-loss change token losses, not weights),
/// those that say more than usual after those that do not.
fn all_specs() -> Vec<LossSpec> {
    let mut specs = vec![LossSpec::token_mean()];
    for choice in CHOICES {
        specs = specs.into_iter().flat_map(|spec| choice.variants(spec)).collect();
    }
    specs.sort_by_key(rank);
    specs
}

/// The semantics that have a name of their own, the commonest first.
fn presets() -> [(LossSpec, Option<&'static str>); 8] {
    [
        (LossSpec::token_mean(), None),
        (LossSpec::sum(), None),
        (LossSpec::sequence_mean(), None),
        (LossSpec::batch_mean(), None),
        (LossSpec::naive_accumulated_mean(), Some("naive accumulated mean")),
        (LossSpec::forgotten_division(), Some("forgotten division")),
        (LossSpec::naive_data_parallel(), Some("naive data parallel")),
        (LossSpec::averaging_not_undone(), Some("averaging not undone")),
    ]
}

/// The semantics of `spec` without what it counts and its empty policy.
fn plain(spec: &LossSpec) -> LossSpec {
    LossSpec { counting: Counting::Supervised, empty: EmptyPolicy::ZeroCounted, ..numberless(spec) }
}

/// `spec` as far as weights go.
pub(super) fn numberless(spec: &LossSpec) -> LossSpec {
    LossSpec { label_smoothing: 0.0, z_loss: 0.0, ..*spec }
}

/// Orders specs by how much there is to explain: a wrong count, then a special policy, then a semantics
/// without a name.
fn rank(spec: &LossSpec) -> (u8, u8, usize) {
    let presets = presets();
    let preset = presets.iter().position(|(preset, _)| *preset == plain(spec));
    (spec.counting as u8, spec.empty as u8, preset.unwrap_or(presets.len()))
}

/// A loss spec in few words: what is added needs none where the normaliser is counted over the global batch,
/// and a semantics with a name is called by it.
pub(crate) fn words(spec: &LossSpec) -> String {
    let name = presets().into_iter().find(|(preset, _)| *preset == plain(spec)).and_then(|(_, name)| name);
    let text =
        spec.to_string().replacen(", micro-batches added, ranks added", "", usize::from(name.is_none()));
    match name {
        Some(name) => format!("{name} ({text})"),
        None if spec.reduction == Reduction::Sum => text.replacen(" over the global batch", "", 1),
        None => text,
    }
}

/// Every semantics once, the plainest first.
pub(crate) fn loss_specs() -> Vec<LossSpec> {
    let mut specs: Vec<LossSpec> = Vec::new();
    for spec in all_specs() {
        let spec = canonical(&spec);
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    specs
}

/// The same semantics, on every batch, with what cannot matter set to what is usual.
pub(super) fn canonical(spec: &LossSpec) -> LossSpec {
    let mut spec = numberless(spec);
    let counts_no_tokens = matches!(spec.reduction, Reduction::Sum | Reduction::BatchMean);
    if spec.reduction == Reduction::Sum {
        spec.scope = Scope::Global;
    }
    if counts_no_tokens {
        spec.counting = Counting::Supervised;
        // No mean is taken over tokens, so none over nothing.
        if matches!(spec.empty, EmptyPolicy::Nan | EmptyPolicy::Error) {
            spec.empty = EmptyPolicy::ZeroCounted;
        }
    }
    let counts_groups = matches!(spec.reduction, Reduction::SequenceMean | Reduction::BatchMean)
        || spec.micro_batches == Combine::Average
        || spec.ranks == Combine::Average
        || spec.counting != Counting::Supervised;
    if spec.empty == EmptyPolicy::ZeroSkipped && !counts_groups {
        spec.empty = EmptyPolicy::ZeroCounted;
    }
    spec
}

/// What a spec makes of a layout: weights, or a mean over nothing.
pub(super) type SpecOutcome = Result<TokenWeights, bool>;

/// The outcome of `spec`; the error tells NaN (true) from a refusal (false).
pub(super) fn outcome(spec: &LossSpec, layout: &Layout) -> SpecOutcome {
    TokenWeights::new(spec, layout).map_err(|EmptyGroup { nan, .. }| nan)
}

/// Loss specs with the same token weights on one layout: no measurement on it tells them apart. Never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct SpecClass {
    specs: Vec<LossSpec>,
    pub(super) outcome: SpecOutcome,
}

/// All loss specs in classes, the plainest first in each and among them.
pub(super) fn classes(layout: &Layout) -> Vec<SpecClass> {
    let mut classes: Vec<SpecClass> = Vec::new();
    for spec in all_specs() {
        let outcome = outcome(&spec, layout);
        match classes.iter_mut().find(|class| class.outcome == outcome) {
            Some(class) => class.specs.push(spec),
            None => classes.push(SpecClass { specs: vec![spec], outcome }),
        }
    }
    classes
}

impl SpecClass {
    /// All its members, the plainest first.
    #[must_use]
    pub fn specs(&self) -> &[LossSpec] {
        &self.specs
    }

    /// The member to call it by: the one that needs the least explanation.
    #[must_use]
    pub fn representative(&self) -> &LossSpec {
        &self.specs[0]
    }

    /// Their weights; `None` where a mean over nothing makes them NaN or is refused.
    #[must_use]
    pub fn weights(&self) -> Option<&TokenWeights> {
        self.outcome.as_ref().ok()
    }

    /// Whether `spec` is a member, whatever its label smoothing and z-loss.
    #[must_use]
    pub fn contains(&self, spec: &LossSpec) -> bool {
        self.specs.contains(&numberless(spec))
    }

    /// The choices that make no difference on this layout, whatever else a member chooses.
    #[must_use]
    pub fn indifferent(&self) -> Vec<Choice> {
        let free =
            |choice: &Choice| self.specs.iter().all(|s| choice.variants(*s).iter().all(|v| self.contains(v)));
        CHOICES.into_iter().filter(free).collect()
    }

    /// Members that differ in more than choices without a difference: the semantics that this layout
    /// confuses, the [representative](Self::representative) first.
    #[must_use]
    pub fn alternatives(&self) -> Vec<LossSpec> {
        let indifferent = self.indifferent();
        let usual = |spec: LossSpec, choice: &Choice| choice.variants(spec)[0];
        let mut known = Vec::new();
        let mut alternatives = self.specs.clone();
        alternatives.retain(|spec| {
            let key = canonical(&indifferent.iter().fold(*spec, usual));
            let new = !known.contains(&key);
            known.push(key);
            new
        });
        alternatives
    }
}

/// The semantics by name: `per-token mean over the global batch`.
impl fmt::Display for SpecClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(self.representative()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::SequenceShape;
    use proptest::prelude::*;

    fn layouts() -> impl Strategy<Value = Layout> {
        let shape =
            (1..5_usize, 0..5_usize, any::<bool>()).prop_map(|(positions, supervised, first_label)| {
                SequenceShape { positions, supervised: supervised.min(positions - 1), first_label }
            });
        let micro_batches = prop::collection::vec(prop::collection::vec(shape, 1..4), 1..4);
        prop::collection::vec(micro_batches, 1..4).prop_map(|ranks| Layout::new(ranks).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_canonical_is_the_same_semantics_on_every_batch(layout in layouts()) {
            for spec in all_specs() {
                let canonical = canonical(&spec);
                prop_assert_eq!(outcome(&spec, &layout), outcome(&canonical, &layout), "{} is not {}", spec, canonical);
            }
        }
    }

    #[test]
    fn all_specs_are_all_and_each_once() {
        let specs = all_specs();
        assert_eq!(specs.len(), 4 * 3 * 2 * 2 * 3 * 4);
        assert!(specs.iter().enumerate().all(|(index, spec)| !specs[..index].contains(spec)));
    }
}
