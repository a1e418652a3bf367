//! What a law asks of a trainer: semantics that it claims, and sequences by themselves under them.
//!
//! For claimed semantics S and a batch B whose sequence i has the weight `w_i(B)` for each of its tokens,
//!
//! ```text
//! L_S(B) = Σ_i ρ_i·L_S(alone_i)        ρ_i = w_i(B) / Σ_c w_c(alone_i)
//! ```
//!
//! in loss and gradient, where `alone_i` is sequence i by itself, in as many copies c as the smallest batch
//! inside the limits has. Every ρ is one exact fraction, because all tokens of a sequence weigh the same
//! under every semantics of the calculus; so a law needs one claim of a trainer and no sum. Where the trainer
//! claims the sum too, sequences are taken by themselves under it: that also holds the scales of its
//! reductions to each other.

use crate::trial::{Computed, Ended, Facts, Lone, Trial};
use lossproof_cases::edit::alone;
use lossproof_spec::{EmptyPolicy, Fraction, GlobalBatch, LossSpec, Sequence, TokenWeights, to_f64};

impl Facts {
    /// The claim that is these semantics inside the limits, with the empty policy that is wanted or else
    /// another.
    pub(crate) fn claim(&self, wanted: &LossSpec) -> Option<LossSpec> {
        if let Some((_, known)) = self.recognised.borrow().iter().find(|(known, _)| known == wanted) {
            return *known;
        }
        let (claims, limits) = (&self.info.claims, &self.info.limits);
        let others = EmptyPolicy::ALL.map(|empty| LossSpec { empty, ..*wanted });
        let claim = [*wanted].iter().chain(&others).find_map(|spec| claims.claim_of(spec, limits));
        self.recognised.borrow_mut().push((*wanted, claim));
        claim
    }
}

/// A sequence, and what each of its tokens weighs in a batch.
pub(crate) type Piece = (Sequence, Fraction);

impl Trial<'_> {
    /// The claim that is this reduction with the token loss of the case.
    pub(crate) fn reduction(&self, preset: LossSpec) -> Option<LossSpec> {
        self.facts.claim(&self.with_token_loss(preset))
    }

    /// The claim that is these semantics.
    pub(crate) fn claimed(&self, wanted: &LossSpec) -> Result<LossSpec, Ended> {
        self.facts.claim(wanted).ok_or_else(|| Ended::Unsupported(wanted.to_string()))
    }

    /// The semantics of the case where they have weights on all of these batches, and otherwise the claim to
    /// the same with another empty policy that has.
    pub(crate) fn spec(&self, batches: &[&GlobalBatch]) -> Result<LossSpec, Ended> {
        let weighs =
            |spec: &LossSpec| batches.iter().all(|batch| TokenWeights::new(spec, &batch.layout()).is_ok());
        let policies = EmptyPolicy::ALL.map(|empty| LossSpec { empty, ..self.case.spec });
        let weighing = [self.case.spec].into_iter().chain(policies).filter(weighs);
        let mut claimed = weighing.filter_map(|spec| self.facts.claim(&spec).filter(weighs));
        claimed.next().ok_or(Ended::NotApplicable)
    }

    /// The semantics under which sequences are taken by themselves for a batch under these: the sum of the
    /// same token losses where the trainer claims it.
    pub(crate) fn of_lone(&self, spec: &LossSpec) -> LossSpec {
        let LossSpec { label_smoothing, z_loss, .. } = *spec;
        self.facts.claim(&LossSpec { label_smoothing, z_loss, ..LossSpec::sum() }).unwrap_or(*spec)
    }

    /// A sequence by itself; `None` where it supervises nothing. At the same parameters it is computed once.
    pub(crate) fn lone(&mut self, spec: &LossSpec, sequence: &Sequence) -> Result<Option<Lone>, Ended> {
        if sequence.supervised() == 0 {
            return Ok(None);
        }
        let known = self.lone.iter().find(|lone| {
            let origin = &lone.computed.origin;
            origin.loads == self.loads && origin.spec == *spec && lone.sequence == *sequence
        });
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        let batch = alone(sequence, &self.facts.info.limits);
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let weight = weights.sequences().map(|(weight, _)| weight).sum();
        let computed = self.gradient(spec, &batch)?;
        let lone = Lone { sequence: sequence.clone(), weight, computed };
        self.lone.push(lone.clone());
        Ok(Some(lone))
    }

    /// Sequences by themselves, each with its factor `ρ` in the loss of a batch in which its tokens weigh
    /// this much.
    pub(crate) fn parts(&mut self, spec: &LossSpec, pieces: &[Piece]) -> Result<Vec<(f64, Computed)>, Ended> {
        let spec = self.of_lone(spec);
        let mut parts = Vec::new();
        for (sequence, weight) in pieces {
            if let Some(lone) = self.lone(&spec, sequence)? {
                parts.push((to_f64(&(weight / &lone.weight)), lone.computed));
            }
        }
        Ok(parts)
    }

    /// Holds what the trainer computes under claimed semantics to `Σ_i ρ_i·(loss, gradient)_i` of its own
    /// sequences. They must have weights on the batch.
    pub(crate) fn calculus(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> Result<Computed, Ended> {
        let weights = TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let weights = weights.sequences().map(|(weight, _)| weight.clone());
        let pieces: Vec<Piece> = batch.sequences().cloned().zip(weights).collect();
        self.made_of(&spec.to_string(), spec, batch, &pieces)
    }

    /// Holds a batch to pieces that make it up.
    pub(crate) fn made_of(
        &mut self,
        what: &str,
        spec: &LossSpec,
        batch: &GlobalBatch,
        pieces: &[Piece],
    ) -> Result<Computed, Ended> {
        let parts = self.parts(spec, pieces)?;
        let actual = self.gradient(spec, batch)?;
        let parts: Vec<_> = parts.iter().map(|(factor, part)| (*factor, part)).collect();
        self.combination(what, batch, &actual, &parts, &[]);
        Ok(actual)
    }

    /// Holds two batches of the same sequences to each other where every token weighs the same in both, and
    /// otherwise one of them to its sequences. The first is taken to be right.
    pub(crate) fn unchanged_by(
        &mut self,
        what: &str,
        spec: &LossSpec,
        before: &GlobalBatch,
        after: &GlobalBatch,
    ) -> Result<Computed, Ended> {
        if !same_weights(spec, before, after) {
            return self.calculus(spec, after);
        }
        let (expected, actual) = (self.gradient(spec, before)?, self.gradient(spec, after)?);
        self.same(what, after, &actual, &expected);
        Ok(actual)
    }
}

/// A batch that is supervised in parts, under semantics of which the whole is a weighted sum of the parts.
pub(crate) struct Parted {
    pub(crate) spec: LossSpec,
    pub(crate) whole: GlobalBatch,
    /// Where each sequence of `whole` is in the batch of the case.
    pub(crate) places: Vec<usize>,
}

impl Trial<'_> {
    /// What is supervised in parts: the batch of the case under the sum, where the trainer claims it. Under
    /// other semantics what a part weighs differs from sequence to sequence, and one sequence is taken by
    /// itself: the one with most supervised tokens.
    pub(crate) fn to_be_parted(&self) -> Result<Parted, Ended> {
        let batch = &self.case.batch;
        if let Some(spec) = self.reduction(LossSpec::sum()) {
            return Ok(Parted {
                spec,
                whole: batch.clone(),
                places: (0..batch.sequences().count()).collect(),
            });
        }
        let longest = batch.sequences().enumerate().max_by_key(|(_, sequence)| sequence.supervised());
        let (place, sequence) = longest.ok_or(Ended::NotApplicable)?;
        let whole = alone(sequence, &self.facts.info.limits);
        let places = vec![place; whole.sequences().count()];
        Ok(Parted { spec: self.spec(&[&whole])?, whole, places })
    }

    /// Holds a batch to parts of it, each with some of its tokens supervised and all together with each once.
    /// All tokens of the batch weigh the same, and so do those of a part. Returns what was computed: the
    /// whole, and the parts.
    pub(crate) fn parted(
        &mut self,
        what: &str,
        spec: &LossSpec,
        whole: &GlobalBatch,
        parts: &[GlobalBatch],
    ) -> Result<(Computed, Vec<Computed>), Ended> {
        let weights =
            |batch: &GlobalBatch| TokenWeights::new(spec, &batch.layout()).map_err(|_| Ended::NotApplicable);
        let of_whole = weights(whole)?;
        let mut factors = Vec::new();
        let mut computed = Vec::new();
        for part in parts {
            let own = weights(part)?;
            let mut tokens = own.sequences().zip(of_whole.sequences());
            // The copies of one sequence weigh the same, and so do all sequences under the sum.
            let supervised = tokens.find(|((_, tokens), _)| *tokens > 0);
            factors.push(supervised.map_or(0.0, |((own, _), (whole, _))| to_f64(&(whole / own))));
            computed.push(self.gradient(spec, part)?);
        }
        let actual = self.gradient(spec, whole)?;
        let parts: Vec<_> = factors.iter().copied().zip(&computed).collect();
        self.combination(what, whole, &actual, &parts, &[]);
        Ok((actual, computed))
    }
}

/// Whether the sequences of two batches, in their order, weigh the same.
fn same_weights(spec: &LossSpec, one: &GlobalBatch, other: &GlobalBatch) -> bool {
    match (TokenWeights::new(spec, &one.layout()), TokenWeights::new(spec, &other.layout())) {
        (Ok(one), Ok(other)) => one.sequences().eq(other.sequences()),
        _ => false,
    }
}
