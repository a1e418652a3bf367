//! Drawing a draft.

use super::{
    bounds::Bounds,
    complexity::{COMBINES, POLICIES, REDUCTIONS, SCOPES},
    draft::{Draft, Row, Token},
    mask::Mask,
};
use crate::Scale;
use lossproof_spec::{Counting, LossSpec};
use rand::{Rng, RngExt};
use std::ops::RangeInclusive;

/// What the sequences of one case have in common.
struct Style {
    /// Every sequence has this many positions and every label: the batches on which means agree.
    even: Option<usize>,
    /// Whether groups without a supervised token occur. Many laws speak of the other batches only.
    empty_groups: bool,
    /// Tokens are below this, but for the end-of-sequence token. A small alphabet makes them repeat.
    alphabet: u32,
    /// The token that ends a sequence and pads it: the last of the vocabulary, as GPT-2's.
    eos: u32,
}

impl Style {
    fn draw(random: &mut impl Rng, bounds: &Bounds) -> Self {
        let small = random.random_range(1..=bounds.vocabulary.min(8));
        let even = random.random_bool(0.1);
        Self {
            even: even.then(|| length(random, &bounds.positions)),
            empty_groups: !even && random.random_bool(0.45),
            alphabet: if random.random_bool(0.4) { small } else { bounds.vocabulary },
            eos: bounds.vocabulary - 1,
        }
    }
}

pub(super) fn draft(random: &mut impl Rng, bounds: &Bounds) -> Draft {
    let style = Style::draw(random, bounds);
    let chance = |probability| if style.empty_groups { probability } else { 0.0 };
    let empty = random.random_bool(chance(0.04));
    let mut ranks = Vec::new();
    for _ in 0..few(random, &bounds.ranks) {
        let empty = empty || random.random_bool(chance(0.15));
        let mut micro_batches = Vec::new();
        for _ in 0..few(random, &bounds.micro_batches) {
            let empty = empty || random.random_bool(chance(0.15));
            let mut rows = Vec::new();
            for _ in 0..few(random, &bounds.sequences) {
                let empty = empty || random.random_bool(chance(0.15));
                rows.push(row(random, bounds, &style, empty));
            }
            micro_batches.push(rows);
        }
        ranks.push(micro_batches);
    }
    Draft {
        ranks,
        spec: if bounds.claimed.is_empty() { spec(random) } else { any_of(random, &bounds.claimed) },
        scale: if random.random_bool(0.8) { Scale::Probe } else { Scale::Gpt2 },
        upstream: upstream(random),
        seed: random.random(),
    }
}

/// How the positions of a row are used.
#[derive(Clone, Copy)]
enum Shape {
    Whole,
    PaddedLeft,
    PaddedRight,
    PaddedBoth,
    Packed,
}

/// A row with a supervised token, or one without if `empty`, as far as the bounds allow either.
fn row(random: &mut impl Rng, bounds: &Bounds, style: &Style, empty: bool) -> Row {
    if let Some(length) = style.even {
        let tokens = tokens(random, style, length);
        return Row { left: 0, documents: vec![tokens], right: 0, padding: 0 };
    }
    let (&least, &most) = (bounds.positions.start(), bounds.positions.end());
    let one_position = least == 1 && (!bounds.ignoring || random.random_bool(0.3));
    let length = match empty {
        true if one_position => 1,
        true => length(random, &bounds.positions),
        false => length(random, &(least.max(2).min(most)..=most)),
    };
    let shapes =
        [(70, Shape::Whole), (9, Shape::PaddedLeft), (9, Shape::PaddedRight), (2, Shape::PaddedBoth)];
    let shape = match length {
        _ if !bounds.segments => Shape::Whole,
        1 => Shape::Whole,
        _ => one_of(random, &[shapes.as_slice(), &[(10, Shape::Packed)]].concat()),
    };
    // A row that is to have a supervised token needs two of one document.
    let real = match shape {
        Shape::Whole => length,
        Shape::Packed if random.random_bool(0.7) => length,
        _ => random.random_range(if empty { 1..=length } else { 2..=length }),
    };
    let left = match shape {
        Shape::Whole | Shape::PaddedRight | Shape::Packed => 0,
        Shape::PaddedLeft => length - real,
        Shape::PaddedBoth => random.random_range(0..=length - real),
    };
    let documents = if let Shape::Packed = shape { random.random_range(2..=4) } else { 1 };
    let padding = if random.random_bool(0.5) { style.eos } else { random.random_range(0..bounds.vocabulary) };
    let mut row = Row { left, documents: Vec::new(), right: length - left - real, padding };
    let mut rest = tokens(random, style, real);
    for more in (1..documents).rev() {
        // The first document may have all tokens but one per document to come.
        if rest.len() > more + 1 {
            let tail = rest.split_off(random.random_range(2..=rest.len() - more));
            row.documents.push(std::mem::replace(&mut rest, tail));
        }
    }
    row.documents.push(rest);
    if padding == style.eos && row.right > 0 && random.random_bool(0.5) {
        let last = row.tokens_mut().last().expect("invariant: a row has a token");
        last.id = style.eos;
    }
    for document in &mut row.documents {
        let mask = if bounds.ignoring { mask(random, empty) } else { Mask::Nothing };
        mask.apply(random, document, style.eos);
    }
    row.settle();
    row
}

fn tokens(random: &mut impl Rng, style: &Style, length: usize) -> Vec<Token> {
    (0..length).map(|_| Token { id: random.random_range(0..style.alphabet), labelled: true }).collect()
}

fn mask(random: &mut impl Rng, empty: bool) -> Mask {
    if empty {
        return Mask::Everything;
    }
    let masks = [
        (35, Mask::Nothing),
        (25, Mask::Prompt),
        (10, Mask::Suffix),
        (10, Mask::Holes),
        (10, Mask::Random),
        (10, Mask::EosAsPadding),
    ];
    one_of(random, &masks)
}

fn spec(random: &mut impl Rng) -> LossSpec {
    LossSpec {
        reduction: any_of(random, &REDUCTIONS),
        scope: any_of(random, &SCOPES),
        micro_batches: any_of(random, &COMBINES),
        ranks: any_of(random, &COMBINES),
        empty: any_of(random, &POLICIES),
        counting: Counting::Supervised,
        label_smoothing: any_of(random, &[0.0, 0.0, 0.0, 0.05, 0.1, 0.5]),
        z_loss: any_of(random, &[0.0, 0.0, 0.0, 1e-4, 1e-2, 0.1]),
    }
}

/// Up to six eighths-of-an-integer in [−2, 2], or one in eight of them 16 or 96 in modulus, which a backward
/// pass that clamps what reaches it makes smaller. Exact in every dtype; not all zero, and mostly not all equal.
fn upstream(random: &mut impl Rng) -> Vec<f64> {
    let length = if random.random_bool(0.15) { 1 } else { random.random_range(2..=6) };
    let weight = |eighths: i8| match eighths {
        -16 | 16 => 6.0 * f64::from(eighths),
        -15 | 15 => f64::from(eighths.signum()) * 16.0,
        _ => f64::from(eighths) / 8.0,
    };
    let mut weights: Vec<_> = (0..length).map(|_| weight(random.random_range(-16..=16))).collect();
    if weights.iter().all(|weight| weight.abs() < 0.1) {
        weights[0] = 1.0;
    }
    weights
}

/// A count in `range`: the k-th smallest has weight 1/k.
fn few(random: &mut impl Rng, range: &RangeInclusive<usize>) -> usize {
    let weight = |count: usize| 1.0 / (count - range.start() + 1) as f64;
    let mut mark = random.random::<f64>() * range.clone().map(weight).sum::<f64>();
    let chosen = range.clone().find(|&count| {
        mark -= weight(count);
        mark < 0.0
    });
    chosen.unwrap_or(*range.end())
}

/// A length in `range`, the long ones rarer.
fn length(random: &mut impl Rng, range: &RangeInclusive<usize>) -> usize {
    let length = random.random_range(range.clone());
    if random.random_bool(0.25) { length } else { length.min(random.random_range(range.clone())) }
}

fn any_of<T: Copy>(random: &mut impl Rng, values: &[T]) -> T {
    values[random.random_range(0..values.len())]
}

fn one_of<T: Copy>(random: &mut impl Rng, weighted: &[(u32, T)]) -> T {
    let mut mark = random.random_range(0..weighted.iter().map(|(weight, _)| weight).sum());
    for &(weight, value) in weighted {
        if mark < weight {
            return value;
        }
        mark -= weight;
    }
    weighted[weighted.len() - 1].1
}
