//! The explanation in words and tables. Every number in it is counted, or computed by the loss calculus.

use super::{
    asked,
    batch::{Batch, Extent},
    classes::{Class, classes, letters, span, weigh},
    modes::Mode,
    semantics::{Semantics, Why, why},
};
use crate::{
    number::{fraction, grouped, range},
    table::{Align, Table},
    text::paragraph,
};
use lossproof_spec::{Counting, LossSpec, TokenWeights, WeightRatio};
use num_traits::One;

/// What there is to say about `batch`, and what `modes` make of it.
pub(super) fn answer(batch: &Batch, modes: &[&Mode]) -> String {
    let mut text = counts(batch);
    if batch.supervised == 0 {
        text += &paragraph(
            "So there is nothing to learn from: the sum of no losses is 0, and a mean of none is 0 divided by 0, for \
             which PyTorch returns NaN. Give a sequence at least two tokens.",
            0,
        );
        return text;
    }
    let classes = classes(batch);
    text += &weights(batch, &classes);
    text += &coincidences(batch, &classes);
    text += &ratios(&classes);
    text += &miscounts(batch);
    text += &consequences();
    if !modes.is_empty() {
        text += &heading("What do the modes asked for compute?");
        text += &asked::asked(modes, batch, &classes);
    }
    text
}

fn counts(batch: &Batch) -> String {
    let losses = plural(batch.supervised, "loss", "losses");
    let sequences = plural(batch.sequences, "sequence", "sequences");
    let total = match (batch.lengths.all_equal(), batch.sequence_losses.all_equal()) {
        (Some(length), Some(each)) => {
            let (length, each) = (grouped(length), grouped(each));
            format!("{sequences} × {each} = {losses}: {each} per sequence, not {length}.")
        }
        _ => format!(
            "{losses}: {sequences} of {}, {} tokens in all, and in each sequence one loss less than tokens.",
            between(batch.lengths, "token", "tokens"),
            grouped(batch.supervised + batch.sequences),
        ),
    };
    let mut text = "How many losses are there?\n".to_owned() + &paragraph(&total, 0);
    text += &paragraph(
        &format!(
            "At each token the model predicts the next one, and the loss of that prediction says how wrong it was: \
             minus the logarithm of the probability the model gave to the token that really came. The last token of a \
             sequence has no next one, so {} make {}. A token whose prediction is scored is called a supervised token; \
             each has one loss.",
            plural(batch.lengths.most, "token", "tokens"),
            plural(batch.sequence_losses.most, "prediction", "predictions"),
        ),
        0,
    );
    if batch.sequence_losses.least == 0 && batch.supervised > 0 {
        text += &paragraph(
            "A sequence of one token predicts nothing and has no loss. Below it still counts as a sequence (and a \
             micro-batch or rank without a loss as one), so what is divided by their number comes out smaller.",
            0,
        );
    }
    text
}

fn weights(batch: &Batch, classes: &[Class]) -> String {
    let mut text = heading("What is the gradient the gradient of?");
    text += &paragraph(
        "Of one number, the loss of the whole step, into which all these losses are put together. How that is done is \
         called the reduction. Every reduction multiplies each loss by a weight and adds up; the gradient (how each of \
         the model's parameters moves that number) is then the sum of the single losses' gradients with the same \
         weights. So the weights are all there is to know:",
        0,
    );
    text.push('\n');
    let mut table = Table::new([
        ("", Align::Left),
        ("reduction", Align::Left),
        ("a loss is divided by", Align::Left),
        ("weight here", Align::Right),
    ]);
    for &semantics in Semantics::all(batch) {
        let class = classes.iter().find(|class| class.members.contains(&semantics));
        let class = class.expect("invariant: the classes hold all semantics");
        table.row([
            semantics.letter().to_string(),
            semantics.name().to_owned(),
            semantics.divided_by().to_owned(),
            weight(&class.weights),
        ]);
    }
    text += &table.render();
    text.push('\n');
    text += &paragraph(
        &format!(
            "N is the number of losses ({}), n of sequences ({}), K of micro-batches per rank ({}), R of ranks ({}). A \
             micro-batch is the part of the batch that goes through the model at once; a rank is one of several \
             processes that train the same model together, each on its own part.{}",
            grouped(batch.supervised),
            grouped(batch.sequences),
            grouped(batch.micro_batches),
            grouped(batch.ranks),
            dealt(batch),
        ),
        0,
    );
    let parts = if batch.groups() == 1 {
        ""
    } else {
        "G forgets that last division; H averages each rank by itself; I counts like F, but then the ranks average what \
         they should add. Trainers that mean to compute B are found to compute E, G, H and I. "
    };
    text += &paragraph(
        &format!(
            "PyTorch's cross_entropy returns B by default, of the part it is given. For a batch in parts, F counts all \
             losses before it divides; E averages each part by itself and then averages the averages. {parts}A to D are \
             all legitimate; a trainer is wrong when it computes another one than it says."
        ),
        0,
    );
    text
}

fn weight(weights: &TokenWeights) -> String {
    span(weights.sequences().filter(|(_, tokens)| *tokens > 0).map(|(weight, _)| weight))
}

/// How the batch is split, when it is.
fn dealt(batch: &Batch) -> String {
    if batch.groups() == 1 {
        return String::new();
    }
    format!(
        " Dealt in order, each of the {} micro-batches here has {} and {}.",
        grouped(batch.groups()),
        between(batch.dealt, "sequence", "sequences"),
        between(batch.micro_batch_losses, "loss", "losses"),
    )
}

fn coincidences(batch: &Batch, classes: &[Class]) -> String {
    let mut reasons: Vec<(Vec<Semantics>, String)> = Vec::new();
    for class in classes {
        for (index, &member) in class.members.iter().enumerate().skip(1) {
            let earlier = &class.members[..index];
            let known = earlier.iter().find_map(|&one| why(one, member, batch).map(|why| (one, why)));
            let (one, reason) = match known {
                Some((one, Why::Always(reason))) => (one, format!("always: {reason}.")),
                Some((one, Why::Here { because, unless })) => {
                    (one, format!("because {because}. {unless}, and they part."))
                }
                None => (
                    earlier[0],
                    "because the numbers happen to agree. Other lengths tell them apart.".to_owned(),
                ),
            };
            match reasons.iter_mut().find(|(alike, known)| alike[0] == one && *known == reason) {
                Some((alike, _)) => alike.push(member),
                None => reasons.push((vec![one, member], reason)),
            }
        }
    }
    let mut text = heading("Which of them are the same here, and why?");
    for (alike, reason) in reasons {
        text += &paragraph(&format!("{} {reason}", letters(&alike, " = ")), 2);
    }
    text
}

fn ratios(classes: &[Class]) -> String {
    let mut text = heading("How do their gradients compare?");
    text += &paragraph(
        "Below are the row's weights divided by the column's. One number means that the row's gradient is that many \
         times the column's. Two numbers a…b mean that the ratio varies from token to token, between a and b: then the \
         gradients point in different directions.",
        0,
    );
    text.push('\n');
    let heads = classes.iter().map(|class| (class.members[0].letter().to_string(), Align::Right));
    let mut table = Table::new([("÷".to_owned(), Align::Left)].into_iter().chain(heads));
    for row in classes {
        let mut cells = vec![letters(&row.members, ", ")];
        cells.extend(classes.iter().map(|column| {
            match WeightRatio::between(&row.weights, &column.weights) {
                WeightRatio::Uniform(ratio) => fraction(&ratio),
                WeightRatio::Varies { min, max } => range(&min, &max),
                WeightRatio::Nothing => String::new(),
            }
        }));
        table.row(cells);
    }
    text += &table.render();
    text
}

fn miscounts(batch: &Batch) -> String {
    let mut text = heading("What if losses are counted wrongly?");
    let instead = match (batch.lengths.all_equal(), batch.sequence_losses.all_equal()) {
        (Some(length), Some(each)) => {
            format!("{} per sequence instead of {}", grouped(length), grouped(each))
        }
        _ => "one too many per sequence".to_owned(),
    };
    let first =
        format!("Counting tokens, the first of a sequence included, which nothing predicts ({instead})");
    text += &miscount(batch, &first, Counting::BeforeShift);
    let padding = "Counting padding, the filler that makes sequences as long as the longest beside them";
    text += &miscount(batch, padding, Counting::AllPositions);
    text
}

/// How a wrong count changes the weights of all semantics, those that change alike named together.
fn miscount(batch: &Batch, what: &str, counting: Counting) -> String {
    let mut unchanged = Vec::new();
    let mut changed: Vec<(String, Vec<Semantics>)> = Vec::new();
    for &semantics in Semantics::all(batch) {
        let right = semantics.spec();
        let wrong = LossSpec { counting, ..right };
        let factor = match WeightRatio::between(&weigh(&wrong, batch), &weigh(&right, batch)) {
            WeightRatio::Varies { min, max } => range(&min, &max),
            WeightRatio::Uniform(ratio) if !ratio.is_one() => fraction(&ratio),
            WeightRatio::Uniform(_) | WeightRatio::Nothing => {
                unchanged.push(semantics);
                continue;
            }
        };
        match changed.iter_mut().find(|(known, _)| *known == factor) {
            Some((_, alike)) => alike.push(semantics),
            None => changed.push((factor, vec![semantics])),
        }
    }
    if changed.is_empty() {
        return paragraph(&format!("{what}: changes nothing here, where all sequences are equally long."), 2);
    }
    let factors: Vec<_> =
        changed.iter().map(|(factor, alike)| format!("by {factor} in {}", letters(alike, ", "))).collect();
    let factors = factors.join("; ");
    paragraph(&format!("{what}: multiplies the weights {factors}; not in {}.", letters(&unchanged, ", ")), 2)
}

fn consequences() -> String {
    let mut text = heading("What does it do to learning?");
    text += &paragraph(
        "Where the ratio is one number, the gradients differ in length alone: the usual optimizer, Adam, divides a \
         gradient by its own size, so the loss curve hides the difference, which shows in full in the steps of plain \
         SGD, in gradient clipping (it limits the length) and in the logged gradient norm (it is the length). Where the \
         ratio varies, some tokens are learnt harder than others, under every optimizer, and no learning rate makes up \
         for it.",
        0,
    );
    text
}

fn heading(text: &str) -> String {
    format!("\n{text}\n")
}

/// `1 sequence`, `8 192 sequences`.
fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `3 losses`, `3 to 11 losses`.
fn between(extent: Extent, one: &str, many: &str) -> String {
    match extent.all_equal() {
        Some(count) => plural(count, one, many),
        None => format!("{} to {}", grouped(extent.least), plural(extent.most, one, many)),
    }
}
