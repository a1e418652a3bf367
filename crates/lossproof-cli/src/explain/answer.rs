//! The explanation in words and tables. Every number in it is counted or computed by the loss calculus.

use super::batch::{Batch, Extent};
use super::semantics::{Semantics, Why, why};
use crate::number::{fraction, grouped, range};
use crate::table::{Align, Table};
use crate::text::paragraph;
use lossproof_spec::{Counting, LossSpec, TokenWeights, WeightRatio};
use num_traits::One;

/// Semantics that weigh every token of a batch alike, in the order of their letters; never empty.
struct Class {
    members: Vec<Semantics>,
    weights: TokenWeights,
}

impl Class {
    fn letters(&self) -> String {
        list(&self.members)
    }
}

/// What there is to say about `batch`.
pub(super) fn answer(batch: &Batch) -> String {
    let mut text = counts(batch);
    if batch.supervised == 0 {
        text += &paragraph(
            "So there is nothing to learn from: the sum of no losses is 0, a mean of no losses is 0 divided by 0, \
             which PyTorch answers with NaN. Give a sequence at least two tokens.",
            0,
        );
        return text;
    }
    let classes = classes(batch);
    text += &weights(batch, &classes);
    text += &coincidences(batch, &classes);
    text += &ratios(&classes);
    text += &miscounts(batch);
    text += &consequences(&classes);
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

fn list(semantics: &[Semantics]) -> String {
    let letters: Vec<_> = semantics.iter().map(|s| s.letter().to_string()).collect();
    letters.join(", ")
}

fn weigh(spec: &LossSpec, batch: &Batch) -> TokenWeights {
    TokenWeights::new(spec, &batch.layout).expect("invariant: these semantics count an empty group as zero")
}

fn classes(batch: &Batch) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for &semantics in Semantics::all(batch) {
        let weights = weigh(&semantics.spec(), batch);
        match classes.iter_mut().find(|class| class.weights == weights) {
            Some(class) => class.members.push(semantics),
            None => classes.push(Class { members: vec![semantics], weights }),
        }
    }
    classes
}

fn counts(batch: &Batch) -> String {
    let mut text = "How many losses are there?\n".to_owned();
    let losses = plural(batch.supervised, "loss", "losses");
    let sequences = plural(batch.sequences, "sequence", "sequences");
    text += &match (batch.lengths.all_equal(), batch.per_sequence.all_equal()) {
        (Some(length), Some(per_sequence)) => paragraph(
            &format!("{losses}: {sequences} × {} each, not {}.", grouped(per_sequence), grouped(length)),
            0,
        ),
        _ => paragraph(
            &format!(
                "{losses}: {sequences} of {}, {} tokens in all, one loss less than tokens in each.",
                between(batch.lengths, "token", "tokens"),
                grouped(batch.supervised + batch.sequences),
            ),
            0,
        ),
    };
    let (length, predictions) = (batch.lengths.most, batch.per_sequence.most);
    text += &paragraph(
        &format!(
            "At each token the model predicts the next one. The loss of a prediction says how wrong it was: minus the \
             logarithm of the probability the model gave to the token that really came. The last token of a sequence \
             has no next token, so {} make {}. A token whose prediction is scored is called a supervised token; each \
             has one loss.",
            plural(length, "token", "tokens"),
            plural(predictions, "prediction", "predictions"),
        ),
        0,
    );
    if batch.per_sequence.least == 0 && batch.supervised > 0 {
        text += &paragraph(
            "A sequence of one token predicts nothing and has no loss. It is still counted as a sequence (in C and D \
             below), and a micro-batch or rank without any loss is still counted as one (in E, H and I).",
            0,
        );
    }
    text
}

fn weights(batch: &Batch, classes: &[Class]) -> String {
    let mut text = heading("What is the gradient the gradient of?");
    text += &paragraph(
        "Of one number, the loss of the whole step, into which all these losses are put together. How they are put \
         together is called the reduction. Every reduction multiplies each loss by a weight and adds up, so the gradient \
         is the sum of the single losses' gradients with the same weights. The weights are all there is to know.",
        0,
    );
    text.push('\n');
    let heads = [("", Align::Left), ("reduction", Align::Left), ("a loss is divided by", Align::Left)];
    let mut table = Table::new(heads.into_iter().chain([("its weight here", Align::Right)]));
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
            "N = {} losses, n = {} sequences, K = {} micro-batches per rank, R = {} ranks. A micro-batch is the part of \
             the batch that passes through the model at once; a rank is one of several processes that train the same \
             model together, each on its own part.",
            grouped(batch.supervised),
            grouped(batch.sequences),
            grouped(batch.micro_batches),
            grouped(batch.ranks),
        ),
        0,
    );
    if batch.groups() > 1 {
        text += &paragraph(
            &format!(
                "Here the sequences are dealt out in order: {} and {} to each of {} micro-batches.",
                between(batch.dealt, "sequence", "sequences"),
                between(batch.per_micro_batch, "loss", "losses"),
                grouped(batch.groups()),
            ),
            0,
        );
    }
    text
}

/// The weight of a supervised token, or the least and the most of them.
fn weight(weights: &TokenWeights) -> String {
    let of_tokens = || weights.sequences().filter(|(_, tokens)| *tokens > 0).map(|(weight, _)| weight);
    match (of_tokens().min(), of_tokens().max()) {
        (Some(least), Some(most)) if least != most => format!("{}…{}", fraction(least), fraction(most)),
        (Some(weight), _) => fraction(weight),
        (None, _) => String::new(),
    }
}

fn coincidences(batch: &Batch, classes: &[Class]) -> String {
    let mut text = heading("Which of them are the same here, and why?");
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
            text += &paragraph(&format!("{} = {}  {reason}", one.letter(), member.letter()), 7);
        }
    }
    text
}

fn ratios(classes: &[Class]) -> String {
    let mut text = heading("How do the gradients compare?");
    let mut varies = false;
    let heads = classes.iter().map(|class| (class.members[0].letter().to_string(), Align::Right));
    let mut table = Table::new([("row ÷ column".to_owned(), Align::Left)].into_iter().chain(heads));
    for row in classes {
        let cells = classes.iter().map(|column| match WeightRatio::between(&row.weights, &column.weights) {
            WeightRatio::Uniform(ratio) => fraction(&ratio),
            WeightRatio::Varies { min, max } => {
                varies = true;
                range(&min, &max)
            }
            WeightRatio::Nothing => String::new(),
        });
        let cells: Vec<_> = [row.letters()].into_iter().chain(cells).collect();
        table.row(cells);
    }
    text += &table.render();
    text.push('\n');
    if varies {
        text += &paragraph("a…b: the ratio of the weights varies from token to token, between a and b.", 0);
    }
    text
}

fn miscounts(batch: &Batch) -> String {
    let mut text = heading("What if the tokens are counted wrongly?");
    let before_shift = match batch.lengths.all_equal() {
        Some(length) => format!(
            "Counted before the shift, {} per sequence instead of {}",
            grouped(length),
            grouped(batch.per_sequence.most)
        ),
        None => "Counted before the shift, one too many per sequence".to_owned(),
    };
    text += &miscount(batch, &before_shift, Counting::BeforeShift);
    text += &miscount(
        batch,
        "Padding counted (what fills short sequences up to the longest of a micro-batch, rank or batch)",
        Counting::AllPositions,
    );
    text
}

/// How a wrong count changes the weights of all semantics, those that change alike named together.
fn miscount(batch: &Batch, what: &str, counting: Counting) -> String {
    let mut right = Vec::new();
    let mut wrong: Vec<(String, Vec<Semantics>)> = Vec::new();
    for &semantics in Semantics::all(batch) {
        let spec = semantics.spec();
        let factor =
            match WeightRatio::between(&weigh(&LossSpec { counting, ..spec }, batch), &weigh(&spec, batch)) {
                WeightRatio::Varies { min, max } => range(&min, &max),
                WeightRatio::Uniform(ratio) if !ratio.is_one() => fraction(&ratio),
                WeightRatio::Uniform(_) | WeightRatio::Nothing => {
                    right.push(semantics);
                    continue;
                }
            };
        match wrong.iter_mut().find(|(known, _)| *known == factor) {
            Some((_, alike)) => alike.push(semantics),
            None => wrong.push((factor, vec![semantics])),
        }
    }
    if wrong.is_empty() {
        return paragraph(&format!("{what}: no weight changes, all sequences being equally long."), 2);
    }
    let wrong: Vec<_> = wrong.iter().map(|(by, who)| format!("{by} in {}", list(who))).collect();
    let right =
        if right.is_empty() { String::new() } else { format!(" {} do not count tokens.", list(&right)) };
    paragraph(&format!("{what}: the weights are multiplied by {}.{right}", wrong.join("; ")), 2)
}

fn consequences(classes: &[Class]) -> String {
    let mut text = heading("What does it do to learning?");
    let _ = classes;
    text += &paragraph(
        "A ratio that is one number makes the gradient longer or shorter and leaves its direction: the Adam optimizers \
         divide by the gradient's size, so the loss curve hides the difference, while plain SGD, gradient clipping and \
         the logged gradient norm show all of it. A ratio that varies turns the gradient: some tokens are learnt \
         harder than others, and no learning rate makes up for it.",
        0,
    );
    text
}
