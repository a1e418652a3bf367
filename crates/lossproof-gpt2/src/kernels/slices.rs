//! Loops over slices in forms that the compiler turns into vector instructions.

use crate::Element;
use rayon::prelude::*;

/// Elements from which on handing work to other cores costs less than doing it.
const LARGE: usize = 1 << 15;

/// Runs `work` on every row of a matrix, with the row's index; on all cores when the matrix is large. A last
/// row may be short.
pub(super) fn rows<E: Element, R: Send>(
    values: &mut [E],
    columns: usize,
    work: impl Fn(usize, &mut [E]) -> R + Sync,
) -> Vec<R> {
    if values.len() < LARGE {
        values.chunks_mut(columns).enumerate().map(|(index, row)| work(index, row)).collect()
    } else {
        values.par_chunks_mut(columns).enumerate().map(|(index, row)| work(index, row)).collect()
    }
}

/// Replaces every value.
pub(super) fn map<E: Element>(values: &mut [E], with: impl Fn(E) -> E) {
    for value in values {
        *value = with(*value);
    }
}

/// `total += terms`, element by element.
pub(super) fn add<E: Element>(total: &mut [E], terms: &[E]) {
    if total.len() < LARGE {
        total.iter_mut().zip(terms).for_each(|(total, &term)| *total += term);
    } else {
        let pieces = total.par_chunks_mut(LARGE / 2).zip(terms.par_chunks(LARGE / 2));
        pieces.for_each(|(total, terms)| add(total, terms));
    }
}

/// Adds every row of a matrix to `total`.
pub(super) fn add_rows<E: Element>(total: &mut [E], matrix: &[E]) {
    for row in matrix.chunks_exact(total.len()) {
        total.iter_mut().zip(row).for_each(|(total, &term)| *total += term);
    }
}

/// Independent strands of a reduction: floating-point addition does not commute, so one strand stays scalar.
const STRANDS: usize = 16;

fn reduce<E: Element>(
    a: &[E],
    b: &[E],
    start: E,
    step: impl Fn(E, E, E) -> E,
    join: impl Fn(E, E) -> E,
) -> E {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<STRANDS>(), b.as_chunks::<STRANDS>());
    let mut totals = [start; STRANDS];
    for (a, b) in a.iter().zip(b) {
        for ((total, &a), &b) in totals.iter_mut().zip(a).zip(b) {
            *total = step(*total, a, b);
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(start, |total, (&a, &b)| step(total, a, b));
    totals.into_iter().fold(rest, join)
}

/// The sum.
pub(super) fn sum<E: Element>(values: &[E]) -> E {
    reduce(values, values, E::default(), |total, value, _| total + value, |a, b| a + b)
}

/// The inner product.
pub(super) fn dot<E: Element>(a: &[E], b: &[E]) -> E {
    reduce(a, b, E::default(), |total, a, b| total + a * b, |a, b| a + b)
}

/// The largest value that is not NaN, of at least one.
pub(super) fn largest<E: Element>(values: &[E]) -> E {
    let larger = |a: E, b: E| if b > a { b } else { a };
    reduce(values, values, values[0], |largest, value, _| larger(largest, value), larger)
}
