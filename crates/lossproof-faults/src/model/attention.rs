//! Masked multi-head attention between the fused projection and the output's.

use super::{
    PaddedRows, Real,
    operators::{add, dot, softmax},
    real,
    transformer::Transformer,
};
use std::ops::Range;

/// What attention keeps for its backward.
pub(super) struct Attention<T> {
    /// Heads merged again, `[count·width, C]`.
    pub(super) output: Vec<T>,
    /// Queries, keys and values, `[count·width, 3·C]`.
    fused: Vec<T>,
    /// Softmax of every query, `[count, heads, width (query), width (key)]`.
    weights: Vec<T>,
}

/// Queries, keys and values in the fused projection.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;

/// Where things lie in the flat tensors of attention.
#[derive(Clone, Copy)]
struct Places {
    width: usize,
    columns: usize,
    size: usize,
}

impl Places {
    /// A part of one head at one position of a row.
    fn part(self, part: usize, row: usize, position: usize, head: usize) -> Range<usize> {
        let start = ((row * self.width + position) * 3 + part) * self.columns + head * self.size;
        start..start + self.size
    }

    /// One head's output at one position of a row.
    fn output(self, row: usize, position: usize, head: usize) -> Range<usize> {
        let start = (row * self.width + position) * self.columns + head * self.size;
        start..start + self.size
    }
}

impl<T: Real> Transformer<'_, T> {
    fn places(&self, rows: &PaddedRows) -> Places {
        let columns = self.shape.width;
        Places { width: rows.width, columns, size: columns / self.shape.heads }
    }

    /// Every query of every head and row, in the order of the weights.
    fn queries(&self, rows: &PaddedRows) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let (count, heads, width) = (rows.count, self.shape.heads, rows.width);
        (0..count).flat_map(move |row| {
            (0..heads).flat_map(move |head| (0..width).map(move |query| (row, head, query)))
        })
    }

    pub(super) fn attention(&self, rows: &PaddedRows, fused: Vec<T>) -> Attention<T> {
        let places = self.places(rows);
        let scale = real::<T>(places.size as f64).sqrt().recip();
        let mut weights = Vec::new();
        let mut output = vec![T::zero(); fused.len() / 3];
        for (row, head, query) in self.queries(rows) {
            let own = &fused[places.part(QUERY, row, query, head)];
            let score = |key| {
                let seen = (self.operators.sees)(rows, row, query, key);
                let score = dot(own, &fused[places.part(KEY, row, key, head)]) * scale;
                if seen { score } else { T::neg_infinity() }
            };
            let (_, _, softmax) = softmax(&(0..rows.width).map(score).collect::<Vec<_>>());
            for (key, &weight) in softmax.iter().enumerate() {
                let value = &fused[places.part(VALUE, row, key, head)];
                add(&mut output[places.output(row, query, head)], weight, value);
            }
            weights.extend(softmax);
        }
        Attention { output, fused, weights }
    }

    /// The gradient of queries, keys and values, `[count·width, 3·C]`.
    pub(super) fn attention_backward(
        &self,
        rows: &PaddedRows,
        kept: &Attention<T>,
        upstream: &[T],
    ) -> Vec<T> {
        let places = self.places(rows);
        let scale = real::<T>(places.size as f64).sqrt().recip();
        let mut gradient = vec![T::zero(); kept.fused.len()];
        for ((row, head, query), weights) in self.queries(rows).zip(kept.weights.chunks_exact(rows.width)) {
            let upstream = &upstream[places.output(row, query, head)];
            let mut scores = Vec::with_capacity(rows.width);
            for (key, &weight) in weights.iter().enumerate() {
                let value = places.part(VALUE, row, key, head);
                scores.push(dot(upstream, &kept.fused[value.clone()]));
                add(&mut gradient[value], weight, upstream);
            }
            (self.operators.softmax_backward)(weights, &mut scores);
            for (position, score) in scores.into_iter().enumerate() {
                let (query, key) =
                    (places.part(QUERY, row, query, head), places.part(KEY, row, position, head));
                add(&mut gradient[query.clone()], scale * score, &kept.fused[key.clone()]);
                add(&mut gradient[key], scale * score, &kept.fused[query]);
            }
        }
        gradient
    }
}
