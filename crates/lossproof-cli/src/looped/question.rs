//! "64 tokens, 63 losses, 8192 sequences: who divides by what, and when does backward happen?"

use super::{
    division::{Pass, agree, by_rule, divisors, losses},
    stage::{self, BOTH, FirstBlocks, settings},
    window,
};
use crate::{
    number::grouped,
    table::{Align, Table},
    text::paragraph,
};
use lossproof_gpt2::Config;
use lossproof_loop::{Corpus, Event, Length, Plan, Settings};
use lossproof_subject::SamplePlace;
use miette::IntoDiagnostic;

/// The model that is run: it has as many positions as a block has tokens.
const MODEL: Config = Config::Nano;
/// Tokens of a block.
const BLOCK: usize = 64;
/// Blocks of the epoch that is asked about.
const SEQUENCES: usize = 8192;

/// How blocks are spread over passes, updates and ranks.
#[derive(Clone, Copy)]
struct Layout {
    batch: usize,
    accumulate: usize,
    ranks: usize,
}

/// Those that are shown of 8192 blocks: one pass, one update of many passes, one that divides, and two that do not.
const SHOWN: [Layout; 5] = [
    Layout { batch: SEQUENCES, accumulate: 1, ranks: 1 },
    Layout { batch: 64, accumulate: 128, ranks: 1 },
    Layout { batch: 8, accumulate: 4, ranks: 1 },
    Layout { batch: 3, accumulate: 4, ranks: 1 },
    Layout { batch: 3, accumulate: 4, ranks: 2 },
];

/// Those that are run, with as many blocks as make one window of each kind.
const RUN: [(Layout, usize); 2] =
    [(Layout { batch: 3, accumulate: 4, ranks: 1 }, 20), (Layout { batch: 3, accumulate: 4, ranks: 2 }, 32)];

/// What is printed, and whether what was measured is what the rule says.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) holds: bool,
}

/// The windows of an epoch, under what is lawful and in the script.
struct Epoch {
    layout: Layout,
    samples: usize,
    passes: [usize; 2],
    updates: [u64; 2],
    /// The first window and, where there is another, the last.
    windows: Vec<(&'static str, [Vec<Pass>; 2])>,
}

/// Answers it.
///
/// # Errors
/// When the trainer fails.
pub(super) fn answer() -> miette::Result<Answer> {
    let corpus = FirstBlocks::new(MODEL, BLOCK, SEQUENCES.min(RUN[1].1), 1)?;
    let sample = corpus.training(0, SamplePlace { epoch: 0, sample: 0 }).into_diagnostic()?;
    let each = sample.sequence.supervised();
    let mut text = format!(
        "{BLOCK} tokens, {each} losses, {SEQUENCES} sequences: who divides by what, and when does backward happen?\n"
    );
    text += &paragraph(
        &format!(
            "A block of {BLOCK} tokens has {each} losses, for its last token has no next one. Blocks go through the model \
             in micro-batches, and each micro-batch has one forward and one backward pass on each rank. A backward pass \
             adds to the gradient and changes no parameter. When as many micro-batches as are to be accumulated have \
             passed, or the epoch is at its end, there is one update: a window of micro-batches ends."
        ),
        0,
    );
    text += &paragraph(
        "So what divides has to divide before each backward pass. Lawfully that is by the losses of the whole window, of \
         all its micro-batches on all ranks, which are counted before the first pass. The script divides three times: the \
         model by the losses of the micro-batch, accelerate by the micro-batches of a window as configured, and the \
         average over ranks by the ranks. The two agree where all micro-batches are equally large and windows are \
         full.",
        0,
    );
    let blocks = grouped(SEQUENCES);
    text.extend([
        "\nAn epoch of ",
        &blocks,
        " blocks, by the rule; of two numbers the second is the script's:\n\n",
    ]);
    text += &table(&SHOWN.map(|layout| planned(layout, SEQUENCES, each)));

    let mut measured = Vec::new();
    let (mut holds, mut unexplained) = (true, 0.0_f64);
    for (layout, samples) in RUN {
        let expected = planned(layout, samples, each);
        let (epoch, rest) = run(layout, samples)?;
        holds &= alike(&expected, &epoch) && rest <= UNEXPLAINED;
        unexplained = unexplained.max(rest);
        measured.push(epoch);
    }
    text.extend([
        "\nThe same windows of ",
        MODEL.name(),
        " on libtorch, read off the parameters before and after each update:\n\n",
    ]);
    text += &table(&measured);
    text.push('\n');
    text += &paragraph(
        &format!(
            "What each loss was divided by is {} as the rule has it. These divisors leave {} of the gradients \
             unexplained.",
            if holds { "everywhere" } else { "NOT everywhere" },
            if unexplained <= UNEXPLAINED {
                format!("less than {UNEXPLAINED:.0e}")
            } else {
                format!("{unexplained:.1e}")
            },
        ),
        0,
    );
    Ok(Answer { text, holds })
}

/// What rounding may leave of a gradient in double precision, with room for every order of its sums.
const UNEXPLAINED: f64 = 1e-12;

/// An epoch of so many blocks under these semantics.
fn settings_of(layout: Layout) -> [Settings; 2] {
    let Layout { batch, accumulate, ranks } = layout;
    BOTH.map(|semantics| Settings {
        batch,
        accumulate,
        ranks,
        length: Length::Epochs(1),
        ..settings(semantics, BLOCK)
    })
}

/// An epoch by the rule.
fn planned(layout: Layout, samples: usize, losses: usize) -> Epoch {
    let settings = settings_of(layout);
    let windows = settings.map(|settings| by_rule(samples, losses, &settings));
    let passes = windows.each_ref().map(|windows| windows.iter().map(Vec::len).sum());
    let updates = settings.map(|settings| Plan::new(samples, &settings).updates);
    let first = windows.each_ref().map(|windows| windows.first().cloned().unwrap_or_default());
    let last = windows.each_ref().map(|windows| windows.last().cloned().unwrap_or_default());
    let windows = if updates == [1, 1] {
        vec![("the only one", first)]
    } else if first.iter().zip(&last).all(|(first, last)| agree(first, last)) {
        vec![("every one", first)]
    } else {
        vec![("first", first), ("last", last)]
    };
    Epoch { layout, samples, passes, updates, windows }
}

/// An epoch as it was run, and what the measured divisors leave of its gradients.
fn run(layout: Layout, samples: usize) -> miette::Result<(Epoch, f64)> {
    let corpus = FirstBlocks::new(MODEL, BLOCK, samples, 1)?;
    let (mut passes, mut updates, mut unexplained) = ([0; 2], [0; 2], 0.0_f64);
    let mut windows = [Vec::new(), Vec::new()];
    for (side, settings) in settings_of(layout).iter().enumerate() {
        for event in stage::run(MODEL, &corpus, settings)? {
            let Event::Update(update) = event else { continue };
            updates[side] += 1;
            let mut of_window = 0;
            for micro_batch in &update.micro_batches {
                of_window += micro_batch.losses.len();
            }
            passes[side] += of_window;
            let start = update.micro_batches.first().map_or(0, |first| first.micro_batch);
            let measured = window::measure(MODEL, &corpus, settings, start)?;
            unexplained = unexplained.max(measured.unexplained);
            windows[side].push(measured.passes);
        }
    }
    let [lawful, script] = windows;
    let names = ["first", "last"];
    let pairs = lawful.into_iter().zip(script).map(|(lawful, script)| [lawful, script]);
    let windows = names.into_iter().zip(pairs).collect();
    Ok((Epoch { layout, samples, passes, updates, windows }, unexplained))
}

/// Whether two epochs have the same passes, updates and windows.
fn alike(one: &Epoch, other: &Epoch) -> bool {
    let same_windows = one
        .windows
        .iter()
        .zip(&other.windows)
        .all(|((_, one), (_, other))| one.iter().zip(other).all(|(one, other)| agree(one, other)));
    let counts = (one.passes, one.updates, one.windows.len());
    counts == (other.passes, other.updates, other.windows.len()) && same_windows
}

/// A number that may be another in the script.
fn both<N: ToString + PartialEq>(of: [N; 2]) -> String {
    let [lawful, script] = of;
    if lawful == script { grouped(lawful) } else { format!("{}, {}", grouped(lawful), grouped(script)) }
}

/// Epochs in print.
fn table(epochs: &[Epoch]) -> String {
    let right = ["blocks", "batch", "accumulate", "ranks", "backward", "updates"];
    let left = ["window", "losses of its passes", "divided by", "in the script", "divided by"];
    let right = right.into_iter().map(|head| (head, Align::Right));
    let mut table = Table::new(right.chain(left.into_iter().map(|head| (head, Align::Left))));
    for epoch in epochs {
        let Layout { batch, accumulate, ranks } = epoch.layout;
        let mut first = vec![
            grouped(epoch.samples),
            grouped(batch),
            grouped(accumulate),
            grouped(ranks),
            both(epoch.passes),
            both(epoch.updates),
        ];
        for (name, [lawful, script]) in &epoch.windows {
            let mut row = std::mem::replace(&mut first, vec![String::new(); 6]);
            row.push((*name).to_owned());
            for passes in [lawful, script] {
                row.extend([losses(passes), divisors(passes)]);
            }
            table.row(row);
        }
    }
    table.render()
}
