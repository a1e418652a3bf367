//! Clauses of group 3: what is ignored, masked or padded has no influence.

use crate::trial::{CaseOutcome, Computed, Ended, TOKEN_COUNT, Trial};
use lossproof_cases::edit::{edit, given, id, padded, plain};
use lossproof_spec::{EmptyPolicy, GlobalBatch, LossSpec, Sequence};
use lossproof_subject::Tensor;
use rand::RngExt;

/// What stands under an ignored label changes nothing, and supervising a set of tokens is supervising its parts.
pub(crate) fn ignored_labels(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.clone();
    let vocabulary = trial.facts.info.limits.vocabulary;
    let spec = trial.spec(&[&batch])?;
    let actual = trial.gradient(&spec, &batch)?;
    let random = &mut trial.random;
    let other = batch.map_sequences(|sequence| {
        edit(sequence, |fields| {
            for (target, &label) in fields.targets.iter_mut().zip(&fields.labels) {
                if !given(label) {
                    *target = id(random.random_range(0..vocabulary));
                }
            }
        })
    });
    let again = trial.gradient(&spec, &other)?;
    trial.same("other tokens under ignored labels", &batch, &again, &actual);

    let mut keep = Vec::new();
    for sequence in batch.sequences() {
        let of_sequence: Vec<bool> = (0..sequence.len()).map(|_| trial.random.random()).collect();
        keep.push(of_sequence);
    }
    let parted = trial.to_be_parted()?;
    let part = |wanted: bool| {
        let mut places = parted.places.iter();
        parted.whole.map_sequences(|s| {
            let chosen = places.next().map(|&place| &keep[place]);
            s.supervise_only(|position| chosen.is_some_and(|chosen| chosen[position] == wanted))
        })
    };
    let (_, parts) =
        trial.parted("supervised in two parts", &parted.spec, &parted.whole, &[part(true), part(false)])?;
    Ok(parts.iter().all(|part| part.total > 0.0))
}

/// Which end padding is added to.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// A loss depends on a token where another one changes it by so many times what rounding may.
const DEPENDS: f64 = 16.0;

impl Trial<'_> {
    /// The batch with some sequences padded as far as the positions allow, `filler` being the padding's token.
    fn pad(&mut self, side: Side, filler: u32) -> Result<(GlobalBatch, bool), Ended> {
        let limits = self.facts.info.limits;
        if !limits.segments || limits.lengths.is_exact() || !limits.ignore_index {
            return Err(Ended::Unsupported("padded sequences".to_owned()));
        }
        let mut any = false;
        let random = &mut self.random;
        let batch = self.case.batch.map_sequences(|sequence| {
            let room = limits.lengths.most - sequence.len();
            let count = random.random_range(0..=room.min(5));
            any |= count > 0 && sequence.supervised() > 0;
            match side {
                Side::Left => padded(sequence, count, 0, filler),
                Side::Right => padded(sequence, 0, count, filler),
            }
        });
        Ok((batch, any))
    }

    fn padding_invariance(&mut self, side: Side, what: &str) -> CaseOutcome {
        let filler = id(self.random.random_range(0..self.facts.info.limits.vocabulary));
        let (batch, any) = self.pad(side, filler)?;
        let plain = self.case.batch.clone();
        let spec = self.spec(&[&plain])?;
        self.unchanged_by(what, &spec, &plain, &batch)?;
        Ok(any)
    }
}

/// Padding on the right changes nothing.
pub(crate) fn right_padding(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.padding_invariance(Side::Right, "padded on the right")
}

/// Padding on the left changes nothing, positions being counted from the first token that is real.
pub(crate) fn left_padding(trial: &mut Trial<'_>) -> CaseOutcome {
    trial.padding_invariance(Side::Left, "padded on the left")
}

/// Which token fills the padding does not matter, and its embedding gets no gradient from there.
pub(crate) fn padding_token(trial: &mut Trial<'_>) -> CaseOutcome {
    // As much padding is drawn the second time as the first.
    let position = trial.random.get_word_pos();
    let (one, any) = trial.pad(Side::Right, 0)?;
    trial.random.set_word_pos(position);
    let last = id(trial.facts.info.limits.vocabulary - 1);
    let (other, _) = trial.pad(Side::Right, last)?;
    let spec = trial.spec(&[&one])?;
    trial.unchanged_by("padded with another token", &spec, &one, &other)?;
    Ok(any)
}

/// A token that also fills the padding stays supervised where it is real.
pub(crate) fn eos_as_padding(trial: &mut Trial<'_>) -> CaseOutcome {
    let real = trial.case.batch.predictions().find(|p| p.supervised).map(|p| p.target);
    let Some(eos) = real else { return Ok(false) };
    let (batch, any) = trial.pad(Side::Right, eos)?;
    let plain = trial.case.batch.clone();
    let spec = trial.reduction(LossSpec::token_mean()).map_or_else(|| trial.spec(&[&plain]), Ok)?;
    let actual = trial.unchanged_by("padded with a token that is also real", &spec, &plain, &batch)?;
    if let Some(counted) = actual.observation.supervised_tokens {
        let supervised = plain.layout().supervised();
        trial.fact(TOKEN_COUNT, counted == supervised, || {
            format!("{counted} supervised tokens were counted, there are {supervised}")
        });
    }
    Ok(any)
}

/// A batch without a supervised token gives a zero gradient, NaN or an error, as declared.
pub(crate) fn ignored_batch(trial: &mut Trial<'_>) -> CaseOutcome {
    let batch = trial.case.batch.map_sequences(|sequence| sequence.supervise_only(|_| false));
    let spec = trial.case.spec;
    let told = trial.by_policy(&spec, &batch)?;
    // Whatever the spec of the case is, the default must be seen to hold.
    let zero = LossSpec { empty: EmptyPolicy::ZeroCounted, ..LossSpec::token_mean() };
    let gives_zero = [EmptyPolicy::ZeroCounted, EmptyPolicy::ZeroSkipped].contains(&spec.empty);
    let claimed = trial.facts.claim(&zero).filter(|claim| claim.empty == EmptyPolicy::ZeroCounted);
    let Some(zero) = claimed.or(gives_zero.then_some(spec)) else { return Ok(told) };
    let nothing = trial.gradient(&zero, &batch)?;
    let norm = nothing.gradient.values().flat_map(Tensor::to_f64).fold(0.0, |sum: f64, g| sum + g.abs());
    let loss = nothing.loss();
    trial.fact("empty batch", loss.abs() <= 0.0 && norm <= 0.0, || {
        format!("nothing is supervised, but the loss is {loss} and the gradient has the 1-norm {norm}")
    });
    Ok(told)
}

impl Trial<'_> {
    /// A prompt without labels is still seen. Another token right before the answer changes the answer's
    /// loss: every language model looks that far back. So does another first token, where it does while the
    /// prompt has labels; that is looked at where losses of the whole and of its parts add up. Batches and
    /// losses are those of the whole, of the prompt and of the answer.
    fn prompt_in_sight(
        &mut self,
        spec: &LossSpec,
        chosen: usize,
        [whole, prompt, answer]: [&GlobalBatch; 3],
        [of_whole, of_prompt, of_answer]: [&Computed; 3],
    ) -> Result<(), Ended> {
        let vocabulary = self.vocabulary();
        let changed = |batch: &GlobalBatch, position: usize| {
            let mut index = 0..;
            batch.map_sequences(|sequence| {
                if index.next() != Some(chosen) {
                    return sequence.clone();
                }
                edit(sequence, |fields| {
                    fields.input_ids[position] = id((fields.input_ids[position] as usize + 1) % vocabulary);
                })
            })
        };
        let sequence = answer.sequences().nth(chosen).ok_or(Ended::NotApplicable)?;
        let before = (0..sequence.len()).find(|&position| sequence.supervises(position));
        let near = self.gradient(spec, &changed(answer, before.ok_or(Ended::NotApplicable)?))?;
        self.fact("token before the answer", near.is_another_than(of_answer), || {
            "another token right before the answer does not change the answer's loss".to_owned()
        });
        // Losses of parts add up where they are those of whole batches, under the sum.
        let whole_is_logged = self.facts.info.log_policy.logged(whole, spec) == [whole.clone()];
        if self.reduction(LossSpec::sum()).is_none() || !whole_is_logged {
            return Ok(());
        }
        let of_changed = self.gradient(spec, &changed(whole, 0))?.loss()
            - self.gradient(spec, &changed(prompt, 0))?.loss();
        let difference = of_changed - (of_whole.loss() - of_prompt.loss());
        if difference.abs() > DEPENDS * self.loss_bound(whole) * of_whole.loss_scale() {
            let far = self.gradient(spec, &changed(answer, 0))?;
            self.fact("token in the prompt", far.is_another_than(of_answer), || {
                "another token in the prompt does not change the answer's loss".to_owned()
            });
        }
        Ok(())
    }
}

/// Masking a prompt takes its tokens out of the loss, and leaves them in sight.
pub(crate) fn prompt_masking(trial: &mut Trial<'_>) -> CaseOutcome {
    let parted = trial.to_be_parted()?;
    let mut cuts = Vec::new();
    for sequence in trial.case.batch.sequences() {
        cuts.push(trial.random.random_range(0..sequence.len()));
    }
    let cuts: Vec<usize> = parted.places.iter().map(|&place| cuts[place]).collect();
    let part = |prompt: bool| {
        let mut cut = cuts.iter();
        parted.whole.map_sequences(|s| {
            let cut = cut.next().copied().unwrap_or(0);
            s.supervise_only(|position| (position < cut) == prompt)
        })
    };
    let batches = [part(true), part(false)];
    let (whole, parts) = trial.parted("prompt and answer", &parted.spec, &parted.whole, &batches)?;
    let ([prompt, answer], [of_prompt, of_answer]) = (&batches, &parts[..]) else {
        return Err(Ended::NotApplicable);
    };
    let mean = trial.reduction(LossSpec::token_mean()).filter(|mean| *mean != parted.spec);
    let count = answer.layout().supervised();
    if let Some(mean) = mean.filter(|_| count > 0 && trial.reduction(LossSpec::sum()).is_some()) {
        let of_mean = trial.gradient(&mean, answer)?;
        let parts = [(1.0 / count as f64, of_answer)];
        trial.combination("mean over the answer", answer, &of_mean, &parts, &[]);
    }
    let sees = |s: &Sequence, cut: usize| plain(s) && cut > 0 && (cut..s.len()).any(|t| s.supervises(t));
    let in_sight = answer.sequences().zip(&cuts).position(|(s, &cut)| sees(s, cut));
    if let Some(chosen) = in_sight.filter(|_| trial.vocabulary() > 1) {
        let batches = [&parted.whole, prompt, answer];
        trial.prompt_in_sight(&parted.spec, chosen, batches, [&whole, of_prompt, of_answer])?;
    }
    Ok(of_prompt.total > 0.0 && of_answer.total > 0.0)
}
