//! What `lossproof train` prints at the end.

use crate::{
    number::grouped,
    table::{Align, Table},
};
use lossproof_loop::{Corpus, Epoch, Event, Plan, Progress, Reductions, Settings, TextCorpus, Update};
use std::{fmt::Write, time::Duration};

/// How much of the time was the loop's own.
pub(super) fn timing(whole: Duration, in_trainer: Duration) -> String {
    let own = whole.saturating_sub(in_trainer);
    let percent = 100.0 * own.as_secs_f64() / whole.as_secs_f64();
    format!(
        "\ntime: {whole:.1?}, of which the loop's own, outside of passes, updates and validations: {percent:.2} %\n"
    )
}

/// What is added up while a run goes on.
pub(super) struct Report {
    heading: String,
    epochs: Vec<(Epoch, Totals)>,
    totals: Totals,
    last_rate: f64,
    /// Updates that were planned, and those that were made before and since.
    planned: u64,
    made: u64,
    skipped: u64,
    resumed: Option<Progress>,
}

/// Of one epoch.
#[derive(Clone, Copy, Default)]
struct Totals {
    samples: u64,
    predictions: u64,
    updates: u64,
    skipped: u64,
}

impl Report {
    pub(super) fn new(
        config: &str,
        corpus: &TextCorpus,
        settings: &Settings,
        plan: &Plan,
        resumed: Option<Progress>,
    ) -> Self {
        let (training, validation) = (corpus.training_samples(), corpus.validation_samples());
        let heading = format!(
            "{config}: {} blocks of {} tokens to train on, {} to validate with; {} micro-batches of {} blocks an epoch on \
             each of {} ranks, {} of them an update: {} updates in {} epochs\n",
            grouped(training),
            settings.block,
            grouped(validation),
            grouped(plan.micro_batches),
            settings.batch,
            settings.ranks,
            settings.accumulate,
            grouped(plan.updates),
            plan.epochs,
        );
        Self {
            heading,
            epochs: Vec::new(),
            totals: Totals::default(),
            last_rate: f64::NAN,
            planned: plan.updates,
            made: resumed.map_or(0, |progress| progress.updates),
            skipped: 0,
            resumed,
        }
    }

    pub(super) fn add(&mut self, event: &Event) {
        match event {
            Event::Update(Update { samples, tokens, skipped, learning_rate, .. }) => {
                self.totals.samples += samples;
                self.totals.predictions += tokens;
                self.totals.updates += u64::from(!skipped);
                self.totals.skipped += u64::from(*skipped);
                self.made += u64::from(!skipped);
                self.skipped += u64::from(*skipped);
                self.last_rate = *learning_rate;
            }
            Event::Validation { .. } => {}
            Event::Epoch(epoch) => self.epochs.push((*epoch, std::mem::take(&mut self.totals))),
        }
    }

    /// Whether every planned update was made.
    pub(super) fn is_complete(&self) -> bool {
        self.made >= self.planned
    }

    pub(super) fn text(&self, validation: &Reductions) -> String {
        let mut text = self.heading.clone();
        let heads =
            ["epoch", "samples", "predictions", "updates", "skipped", "training loss", "validation loss"];
        let columns = heads.iter().map(|head| (*head, Align::Right)).chain([("perplexity", Align::Right)]);
        let mut epochs = Table::new(columns);
        for (epoch, totals) in &self.epochs {
            epochs.row([
                (epoch.epoch + 1).to_string(),
                grouped(totals.samples),
                grouped(totals.predictions),
                grouped(totals.updates),
                grouped(totals.skipped),
                format!("{:.6}", epoch.training_loss),
                format!("{:.6}", epoch.validation.loss),
                format!("{:.4}", epoch.validation.perplexity),
            ]);
        }
        text.push('\n');
        if let Some(Progress { updates, epoch, .. }) = self.resumed {
            writeln!(
                text,
                "resumed after update {updates}, in epoch {}: what is counted was done since\n",
                epoch + 1
            )
            .expect("invariant: a string takes everything");
        }
        text += &epochs.render();
        if !self.is_complete() {
            let (made, planned) = (grouped(self.made), grouped(self.planned));
            writeln!(
                text,
                "\n{made} of {planned} updates were made. {} were skipped: their gradient was not finite, or no token of their \
                 window was to be learnt.",
                grouped(self.skipped)
            )
            .expect("invariant: a string takes everything");
        }
        if self.last_rate.is_finite() {
            writeln!(text, "\nlearning rate of the last update: {:e}", self.last_rate)
                .expect("invariant: a string takes everything");
        }
        if validation.tokens == 0 {
            text += "\nnothing was kept for validation: give a longer text or a larger --validation\n";
            return text;
        }
        text += "\nthe validation at the end, by each reduction:\n";
        let mut reductions =
            Table::new([("reduction", Align::Left), ("of", Align::Right), ("loss", Align::Right)]);
        let rows = [
            ("sum of all token losses", validation.tokens, validation.sum),
            ("token mean", validation.tokens, validation.token_mean),
            ("mean of sequence means", validation.samples, validation.sequence_mean),
            ("sum divided by the sequences", validation.samples, validation.batch_mean),
            ("mean of batch means", validation.batches, validation.mean_of_means),
        ];
        for (name, of, loss) in rows {
            reductions.row([name.to_owned(), grouped(of), format!("{loss:.6}")]);
        }
        text += &reductions.render();
        writeln!(text, "perplexity, the exponential of the token mean: {:.6}", validation.token_mean.exp())
            .expect("invariant: a string takes everything");
        text
    }
}
