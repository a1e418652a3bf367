//! Clauses of group 2: reductions are token weights.

use crate::trial::{CaseOutcome, Computed, EMPTY_POLICY, Ended, Origin, TOKEN_COUNT, Trial};
use lossproof_cases::edit::{assemble, disassemble, regroup};
use lossproof_spec::{
    Counting, EmptyPolicy, GlobalBatch, LossSpec, MicroBatch, Reduction, Scope, TokenWeights, WeightRatio,
};
use lossproof_subject::{Collect, Observation, SubjectError};
use num_traits::ToPrimitive;
use std::rc::Rc;

impl Trial<'_> {
    /// [`calculus`](Self::calculus) of a claimed preset with the token loss of the case. The case tells when
    /// something is supervised and the weights are not those of `other`.
    fn preset(&mut self, preset: LossSpec, other: Option<LossSpec>) -> CaseOutcome {
        let spec = self.claimed(&self.with_token_loss(preset))?;
        // Another reduction that is the same inside the limits is none to be told from.
        let other = other.filter(|other| self.reduction(*other) != Some(spec));
        let batch = &self.case.batch;
        self.calculus(&spec, batch)?;
        Ok(batch.layout().supervised() > 0 && other.is_none_or(|other| differ(&spec, &other, batch)))
    }
}

/// Whether two specs give some token different weights.
pub(crate) fn differ(one: &LossSpec, other: &LossSpec, batch: &GlobalBatch) -> bool {
    let layout = batch.layout();
    match (TokenWeights::new(one, &layout), TokenWeights::new(other, &layout)) {
        (Ok(one), Ok(other)) => !WeightRatio::between(&one, &other).is_one() && layout.supervised() > 0,
        _ => false,
    }
}

pub(crate) fn sum(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::sum(), None)
}

pub(crate) fn token_mean(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::token_mean(), Some(LossSpec::naive_accumulated_mean()))
}

pub(crate) fn sequence_mean(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::sequence_mean(), Some(LossSpec::token_mean()))
}

pub(crate) fn batch_mean(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::batch_mean(), Some(LossSpec::sum()))
}

pub(crate) fn naive_accumulated_mean(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::naive_accumulated_mean(), Some(LossSpec::token_mean()))
}

pub(crate) fn forgotten_division(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::forgotten_division(), Some(LossSpec::naive_accumulated_mean()))
}

pub(crate) fn naive_data_parallel(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::naive_data_parallel(), Some(LossSpec::token_mean()))
}

pub(crate) fn averaging_not_undone(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.preset(LossSpec::averaging_not_undone(), Some(LossSpec::token_mean()))
}

/// Every scope counts supervised tokens: neither first labels, nor ignored positions, nor padding.
pub(crate) fn counting(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let mut tells = false;
    let mut scoped = vec![LossSpec::sequence_mean()];
    scoped.extend(
        [Scope::MicroBatch, Scope::RankWindow, Scope::Global]
            .map(|scope| LossSpec { scope, ..LossSpec::token_mean() }),
    );
    let mut claimed: Vec<LossSpec> = scoped.into_iter().filter_map(|spec| trial.reduction(spec)).collect();
    if claimed.is_empty() {
        claimed.push(trial.spec(&[&batch])?);
    }
    for spec in claimed {
        let actual = trial.calculus(&spec, &batch)?;
        let supervised = batch.layout().supervised();
        if let Some(counted) = actual.observation.supervised_tokens {
            trial.fact(TOKEN_COUNT, counted == supervised, || {
                format!("{counted} supervised tokens were counted, there are {supervised}")
            });
        }
        let wrong = [Counting::BeforeShift, Counting::AllPositions];
        let others = wrong.iter().map(|&counting| LossSpec { counting, ..spec });
        tells |= others.filter(|other| *other != spec).all(|other| differ(&spec, &other, &batch));
    }
    Ok(tells)
}

/// Every pair of reductions whose weights are in one ratio has its losses and gradients in it.
pub(crate) fn ratios(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let presets = [
        LossSpec::sum(),
        LossSpec::token_mean(),
        LossSpec::sequence_mean(),
        LossSpec::batch_mean(),
        LossSpec::naive_accumulated_mean(),
        LossSpec::forgotten_division(),
        LossSpec::naive_data_parallel(),
        LossSpec::averaging_not_undone(),
    ];
    let layout = batch.layout();
    let mut computed = Vec::new();
    let mut claimed: Vec<LossSpec> = Vec::new();
    for claim in presets.into_iter().filter_map(|preset| trial.reduction(preset)) {
        if !claimed.contains(&claim) {
            claimed.push(claim);
        }
    }
    if claimed.len() < 2 {
        return Err(Ended::Unsupported("several reductions".to_owned()));
    }
    for spec in claimed {
        let weights = TokenWeights::new(&spec, &layout).map_err(|_| Ended::NotApplicable)?;
        computed.push((spec, weights, trial.gradient(&spec, &batch)?));
    }
    for (index, (numerator, of_numerator, one)) in computed.iter().enumerate() {
        for (denominator, of_denominator, other) in &computed[..index] {
            if let WeightRatio::Uniform(ratio) = WeightRatio::between(of_numerator, of_denominator) {
                let what = format!("{numerator} = {ratio} × {denominator}");
                let ratio = ratio.to_f64().ok_or(Ended::NotApplicable)?;
                trial.combination(&what, &batch, one, &[(ratio, other)], &[]);
            }
        }
    }
    Ok(layout.supervised() > 1)
}

/// The gradient of `Σ_t u_t·ℓ_t` is `Σ_k u_k·∇(sum over the tokens with weight u_k)`. A trainer that does not
/// claim the sum is asked for the sums by the weights 1 and 0, and for its own loss by the weights that it
/// has.
pub(crate) fn linearity(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let upstream = trial.case.upstream_weights();
    let own = trial.spec(&[&batch])?;
    let spec = trial.of_lone(&own);
    let is_sum = trial.reduction(LossSpec::sum()).is_some();
    trial.subject.configure(&spec)?;
    let actual = trial.weighted(&spec, &batch, &upstream)?;
    let supervised = batch.predictions().zip(&upstream).filter(|(p, _)| p.supervised);
    let mut classes: Vec<f64> = supervised.map(|(_, &weight)| weight).collect();
    classes.sort_by(f64::total_cmp);
    classes.dedup_by(|a, b| a.to_bits() == b.to_bits());
    let mut parts = Vec::new();
    for &class in &classes {
        let of_class = |weight: &f64| weight.to_bits() == class.to_bits();
        let part = if is_sum {
            let mut weights = upstream.iter();
            let own = batch.map_sequences(|s| s.supervise_only(|_| weights.next().is_some_and(of_class)));
            trial.gradient(&spec, &own)?
        } else {
            let ones: Vec<f64> =
                upstream.iter().map(|weight| f64::from(u8::from(of_class(weight)))).collect();
            trial.weighted(&spec, &batch, &ones)?
        };
        parts.push((class, part));
    }
    let parts: Vec<_> = parts.iter().map(|(class, part)| (*class, part)).collect();
    trial.combination("weighted sum of token losses", &batch, &actual, &parts, &[]);
    if !is_sum {
        let weights = TokenWeights::new(&spec, &batch.layout()).map_err(|_| Ended::NotApplicable)?;
        let weighted = trial.weighted(&spec, &batch, &weights.per_prediction(&batch))?;
        let whole = trial.gradient(&spec, &batch)?;
        trial.same(&format!("{spec}, its weights given"), &batch, &weighted, &whole);
    }
    Ok(classes.len() > 1)
}

/// Every sequence twice in its micro-batch: the sum doubles, the means stay.
pub(crate) fn duplication(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let twice =
        |m: &MicroBatch| m.sequences().iter().flat_map(|s| [s.clone(), s.clone()]).collect::<Vec<_>>();
    let doubled = regroup(&batch, twice);
    let spec = trial.spec(&[&batch, &doubled])?;
    let factor = if spec.reduction == Reduction::Sum { 2.0 } else { 1.0 };
    let (once, twice) = (trial.gradient(&spec, &batch)?, trial.gradient(&spec, &doubled)?);
    trial.combination(&format!("{spec}, every sequence twice"), &doubled, &twice, &[(factor, &once)], &[]);
    Ok(batch.layout().supervised() > 0)
}

/// An empty sequence, micro-batch or rank is added and contributes what the empty policy says.
pub(crate) fn empty_groups(trial: &mut Trial<'_>) -> CaseOutcome {
    let mut ranks = disassemble(&trial.case.batch);
    let ignored = ranks[0][0][0].supervise_only(|_| false);
    match trial.case.seed % 3 {
        0 => ranks[0][0].push(ignored),
        1 => ranks[0].push(vec![ignored]),
        _ => ranks.push(vec![vec![ignored]]),
    }
    let batch = assemble(ranks);
    trial.by_policy(&trial.case.spec.clone(), &batch)
}

impl Trial<'_> {
    /// `Σ_t u_t·ℓ_t` under the semantics in force.
    fn weighted(&mut self, spec: &LossSpec, batch: &GlobalBatch, weights: &[f64]) -> Result<Computed, Ended> {
        let mut sink = Collect::default();
        let loss = self.upstream()?.backward(batch, weights, &mut sink)?;
        let observation = Observation::new(loss, None);
        let supervised = batch.predictions().zip(weights).filter(|(p, _)| p.supervised);
        let total = supervised.map(|(_, weight)| weight.abs()).sum();
        let upstream = Some(weights.to_vec());
        let origin = Origin { spec: *spec, batch: batch.clone(), upstream, loads: self.loads };
        Ok(Computed { observation, gradient: Rc::new(sink.into_tensors()), total, origin })
    }

    /// Holds a batch with empty groups to the empty policy of a spec: weights where there are some, NaN or an
    /// error where that is declared.
    pub(crate) fn by_policy(&mut self, spec: &LossSpec, batch: &GlobalBatch) -> CaseOutcome {
        let Err(empty) = TokenWeights::new(spec, &batch.layout()) else {
            self.calculus(spec, batch)?;
            return Ok(true);
        };
        self.facts.info.limits.check(batch)?;
        self.subject.configure(spec)?;
        let answer = self.subject.accumulate(batch, &mut Collect::default());
        match (spec.empty, answer) {
            // What is logged may have weights where the whole has none.
            (EmptyPolicy::Nan, Ok(_)) if self.facts.info.log_policy.weights(batch, spec).is_ok() => {}
            (EmptyPolicy::Nan, Ok(observation)) => self.fact(EMPTY_POLICY, observation.loss.is_nan(), || {
                format!("{empty}, but the loss is {}", observation.loss)
            }),
            (EmptyPolicy::Error, Err(SubjectError::EmptyGroup(_))) => {
                self.fact(EMPTY_POLICY, true, String::new);
            }
            (_, Ok(observation)) => {
                self.fact(EMPTY_POLICY, false, || format!("{empty}, but the loss is {}", observation.loss));
            }
            (_, Err(error)) => {
                self.fact(EMPTY_POLICY, false, || format!("{empty}, but the subject says: {error}"));
            }
        }
        Ok(true)
    }
}
