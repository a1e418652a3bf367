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

    /// Every head of every row, in the order of the weights.
    fn heads(&self, rows: &PaddedRows) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let (count, heads) = (rows.count, self.shape.heads);
        (0..count).flat_map(move |row| (0..heads).map(move |head| (row, head)))
    }

    /// A square matrix of queries and keys, or its transpose, so that a softmax runs along its rows.
    fn turned(&self, matrix: Vec<T>, width: usize) -> Vec<T> {
        if !self.operators.softmax_over_queries {
            return matrix;
        }
        (0..matrix.len()).map(|at| matrix[at % width * width + at / width]).collect()
    }

    pub(super) fn attention(&self, rows: &PaddedRows, fused: Vec<T>) -> Attention<T> {
        let (places, width) = (self.places(rows), rows.width);
        let scale = real::<T>(places.size as f64).sqrt().recip();
        let mut weights = Vec::new();
        let mut output = vec![T::zero(); fused.len() / 3];
        for (row, head) in self.heads(rows) {
            let mut scores = Vec::with_capacity(width * width);
            for query in 0..width {
                let own = &fused[places.part(QUERY, row, query, head)];
                scores.extend((0..width).map(|key| {
                    let seen = (self.operators.sees)(rows, row, query, key);
                    let score = dot(own, &fused[places.part(KEY, row, key, head)]) * scale;
                    (self.operators.masked)(score, seen)
                }));
            }
            let softmaxes =
                self.turned(scores, width).chunks_exact(width).flat_map(|s| softmax(s).2).collect();
            let softmaxes = self.turned(softmaxes, width);
            for (query, softmax) in softmaxes.chunks_exact(width).enumerate() {
                for (key, &weight) in softmax.iter().enumerate() {
                    let value = &fused[places.part(VALUE, row, key, head)];
                    add(&mut output[places.output(row, query, head)], weight, value);
                }
            }
            weights.extend(softmaxes);
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
        let (places, width) = (self.places(rows), rows.width);
        let scale = real::<T>(places.size as f64).sqrt().recip();
        let mut gradient = vec![T::zero(); kept.fused.len()];
        for ((row, head), weights) in self.heads(rows).zip(kept.weights.chunks_exact(width * width)) {
            let mut scores = Vec::with_capacity(width * width);
            for (query, weights) in weights.chunks_exact(width).enumerate() {
                let upstream = &upstream[places.output(row, query, head)];
                for (key, &weight) in weights.iter().enumerate() {
                    let value = places.part(VALUE, row, key, head);
                    scores.push(dot(upstream, &kept.fused[value.clone()]));
                    add(&mut gradient[value], weight, upstream);
                }
            }
            let (softmaxes, mut scores) = (self.turned(weights.to_vec(), width), self.turned(scores, width));
            for (softmax, scores) in softmaxes.chunks_exact(width).zip(scores.chunks_exact_mut(width)) {
                (self.operators.softmax_backward)(softmax, scores);
            }
            for (at, score) in self.turned(scores, width).into_iter().enumerate() {
                let (query, key) = (at / width, at % width);
                let seen = (self.operators.sees)(rows, row, query, key);
                let score = (self.operators.masked_backward)(score, seen);
                let (query, key) = (places.part(QUERY, row, query, head), places.part(KEY, row, key, head));
                add(&mut gradient[query.clone()], scale * score, &kept.fused[key.clone()]);
                add(&mut gradient[key], scale * score, &kept.fused[query]);
            }
        }
        gradient
    }
}
