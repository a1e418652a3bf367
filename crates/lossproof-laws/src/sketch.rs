//! What is kept of a gradient too large to keep.

use lossproof_numerics::{Block, PROJECTIONS, ProjectionSums, Widen};
use lossproof_spec::CompensatedSum;
use lossproof_subject::{GradientSink, GradientView, SinkError};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use std::ops::Range;

/// Groups of elements one core sketches at a time.
const CHUNK: usize = 1 << 10;

/// Keeps of each block of a gradient its norm and 64 seeded ±1 projections, accumulated in f64.
///
/// Projections are linear: a relation `g = Σ_i w_i·g_i` between gradients holds between their sketches, and a relation
/// that is off by `Δ` shows in each projection with standard deviation `‖Δ‖`. The root mean square of the 64 estimates
/// `‖Δ‖`; `docs/tolerances.md` says how well.
///
/// The elements of a block are taken 64 at a time: random signs, a Walsh–Hadamard transform, random signs
/// again, and the 64 results go to the 64 projections. Each projection is thus an inner product with
/// independent random signs, those of different projections are orthogonal within a group and independent
/// between groups, and a group costs 64·6 additions instead of 64².
#[derive(Clone, Debug)]
pub struct Sketch<'a> {
    seed: u64,
    blocks: &'a [Block],
    sketches: Vec<Option<BlockSketch>>,
}

/// What a [`Sketch`] keeps of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSketch {
    /// Euclidean norm.
    pub norm: f64,
    /// The projections.
    pub projections: Projections,
}

/// Inner products of one block with the sign vectors of its place and the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Projections(Box<[f64; PROJECTIONS]>);

impl Projections {
    /// The projections of `Σ_i w_i·x_i` from those of the `x_i`.
    pub fn combined<'a>(parts: impl IntoIterator<Item = (f64, &'a Self)>) -> Self {
        let mut sum = Box::new([0.0; PROJECTIONS]);
        for (weight, part) in parts {
            for (sum, projection) in sum.iter_mut().zip(&*part.0) {
                *sum += weight * projection;
            }
        }
        Self(sum)
    }

    /// The estimate of the norm: the root mean square.
    #[must_use]
    pub fn size(&self) -> f64 {
        root_mean_square(self.0.iter().copied())
    }

    /// The estimate of `‖factor·self − other‖`.
    #[must_use]
    pub fn distance(&self, factor: f64, other: &Self) -> f64 {
        root_mean_square(self.0.iter().zip(&*other.0).map(|(own, other)| factor * own - other))
    }
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    (values.map(|value| value * value).sum::<f64>() / PROJECTIONS as f64).sqrt()
}

impl<'a> Sketch<'a> {
    /// A sketch of a gradient that consists of these blocks; sketches compare only when they have the same
    /// seed and blocks.
    #[must_use]
    pub fn new(seed: u64, blocks: &'a [Block]) -> Self {
        Self { seed, blocks, sketches: vec![None; blocks.len()] }
    }

    /// One sketch per block, in the order of the blocks; `None` where the parameter was not handed over.
    #[must_use]
    pub fn into_blocks(self) -> Vec<Option<BlockSketch>> {
        self.sketches
    }

    fn sketch<T: Widen>(&self, index: usize, values: &[T]) -> BlockSketch {
        let runs = Runs::of(&self.blocks[index]);
        let chunk = |first: usize| {
            // Four words of the generator per group: two for the signs before the transform, two for those after it.
            let mut signs = ChaCha8Rng::seed_from_u64(self.seed);
            signs.set_stream(index as u64);
            signs.set_word_pos(4 * first as u128);
            let mut sums = ProjectionSums::default();
            for group in first..runs.groups().min(first + CHUNK) {
                let group = &values[runs.group(group)];
                let mut values = [0.0; PROJECTIONS];
                T::widen(group, &mut values[..group.len()]);
                sums.add(&mut values, signs.next_u64(), signs.next_u64());
            }
            sums
        };
        let chunks: Vec<_> = (0..runs.groups()).into_par_iter().step_by(CHUNK).map(chunk).collect();
        let total =
            |sum: &dyn Fn(&ProjectionSums) -> f64| chunks.iter().map(sum).collect::<CompensatedSum>().value();
        let mut projections = Box::new([0.0; PROJECTIONS]);
        for (index, projection) in projections.iter_mut().enumerate() {
            *projection = total(&|sums| sums.projections[index]);
        }
        BlockSketch { norm: total(&|sums| sums.square).sqrt(), projections: Projections(projections) }
    }
}

impl GradientSink for Sketch<'_> {
    fn receive(&mut self, name: &str, shape: &[usize], values: GradientView<'_>) -> Result<(), SinkError> {
        let own: Vec<_> =
            (0..self.blocks.len()).filter(|&index| self.blocks[index].parameter == name).collect();
        let Some(&first) = own.first() else {
            return Err(SinkError::Unknown { name: name.to_owned() });
        };
        let width = self.blocks[first].width;
        let elements: usize = own.iter().map(|&index| self.blocks[index].len()).sum();
        if values.len() != elements || shape.last().is_some_and(|&last| last != width) {
            return Err(SinkError::Shape {
                name: name.to_owned(),
                found: shape.to_vec(),
                values: values.len(),
                expected: vec![elements / width.max(1), width],
            });
        }
        for index in own {
            if self.sketches[index].is_some() {
                return Err(SinkError::Twice { name: name.to_owned() });
            }
            self.sketches[index] = Some(match values {
                GradientView::F32(values) => self.sketch(index, values),
                GradientView::F64(values) => self.sketch(index, values),
            });
        }
        Ok(())
    }
}

/// A block as runs of elements that lie together, each divided into groups.
struct Runs {
    count: usize,
    length: usize,
    /// First element of the first run, and from one run to the next.
    start: usize,
    stride: usize,
}

impl Runs {
    fn of(block: &Block) -> Self {
        let start = block.rows.start * block.width + block.columns.start;
        if block.columns.len() == block.width {
            Self { count: 1, length: block.len(), start, stride: 0 }
        } else {
            Self { count: block.rows.len(), length: block.columns.len(), start, stride: block.width }
        }
    }

    fn groups(&self) -> usize {
        self.count * self.length.div_ceil(PROJECTIONS)
    }

    /// The elements of a group, the last of a run perhaps fewer than 64.
    fn group(&self, group: usize) -> Range<usize> {
        let per_run = self.length.div_ceil(PROJECTIONS);
        let (run, within) = (group / per_run, group % per_run * PROJECTIONS);
        let start = self.start + run * self.stride + within;
        start..start + PROJECTIONS.min(self.length - within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(rows: Range<usize>, columns: Range<usize>, width: usize) -> Block {
        let (parameter, label) = ("x".to_owned(), "part".to_owned());
        Block {
            parameter,
            label,
            rows,
            columns,
            width,
            structurally_zero: false,
            may_be_zero: false,
            undeclared: false,
        }
    }

    fn whole(elements: usize) -> Block {
        block(0..1, 0..elements, elements)
    }

    fn sketch(seed: u64, blocks: &[Block], values: &[f64]) -> Vec<BlockSketch> {
        let mut sketch = Sketch::new(seed, blocks);
        sketch.receive("x", &[blocks[0].width], GradientView::F64(values)).unwrap();
        sketch.into_blocks().into_iter().map(Option::unwrap).collect()
    }

    fn wave(elements: u32, frequency: f64) -> Vec<f64> {
        (0..elements).map(|i| (f64::from(i) * frequency).sin()).collect()
    }

    #[test]
    fn projections_are_sums_with_signs() {
        // Of each unit vector a projection is its sign there: all ±1, and any two projections orthogonal.
        let signs: Vec<BlockSketch> = (0..PROJECTIONS)
            .map(|place| {
                let mut unit = vec![0.0; PROJECTIONS];
                unit[place] = 1.0;
                sketch(5, &[whole(PROJECTIONS)], &unit).remove(0)
            })
            .collect();
        for one in 0..PROJECTIONS {
            for other in 0..PROJECTIONS {
                let inner: f64 = signs.iter().map(|s| s.projections.0[one] * s.projections.0[other]).sum();
                let expected = if one == other { 64.0 } else { 0.0 };
                assert!((inner - expected).abs() < 1e-12, "{one} {other}: {inner}");
            }
        }
        let ones = signs.iter().flat_map(|s| s.projections.0.iter());
        assert!(ones.into_iter().all(|sign| (sign.abs() - 1.0).abs() < 1e-15));
    }

    #[test]
    fn sketches_are_linear() {
        // Longer than two chunks, and not a multiple of a group.
        let (a, b) = (wave(140_001, 1.0), wave(140_001, 0.7));
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 2.0 * a - b).collect();
        let [of_a, of_b, of_sum] =
            [&a, &b, &sum].map(|values| sketch(3, &[whole(140_001)], values).remove(0));
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((of_sum.norm / norm - 1.0).abs() < 1e-12);
        let combined = Projections::combined([(2.0, &of_a.projections), (-1.0, &of_b.projections)]);
        assert!(of_sum.projections.distance(1.0, &combined) < 1e-12 * norm);
        assert!((of_sum.projections.distance(3.0, &combined) / combined.size() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_estimate_of_a_norm_spreads_as_promised() {
        // Relative standard deviation √(1/128) = 0.088; exact for a single group.
        let values = wave(5000, 1.3);
        let mut squares = 0.0;
        for seed in 0..200 {
            let sketch = sketch(seed, &[whole(5000)], &values).remove(0);
            let apart = sketch.projections.size() / sketch.norm - 1.0;
            assert!(apart.abs() < 0.45, "{apart}");
            squares += apart * apart;
        }
        assert!((0.07..0.11).contains(&(squares / 200.0_f64).sqrt()), "{squares}");
        for elements in [1, 8, 64] {
            let sketch = sketch(1, &[whole(elements)], &values[1..=elements]).remove(0);
            assert!((sketch.projections.size() / sketch.norm - 1.0).abs() < 1e-14);
        }
    }

    #[test]
    fn blocks_see_their_own_elements_alone() {
        let blocks = [block(0..300, 0..70, 210), block(0..300, 70..140, 210), block(0..300, 140..210, 210)];
        let values = wave(63_000, 0.9);
        let before = sketch(2, &blocks, &values);
        for (block, sketched) in blocks.iter().zip(&before) {
            let own = block.indices().map(|index| values[index].powi(2)).sum::<f64>().sqrt();
            assert!((sketched.norm / own - 1.0).abs() < 1e-13);
        }
        let mut changed = values;
        changed[299 * 210 + 139] += 1.0;
        let after = sketch(2, &blocks, &changed);
        let moved = |index: usize| after[index].projections.distance(1.0, &before[index].projections);
        assert!(moved(0) == 0.0 && (moved(1) - 1.0).abs() < 1e-12 && moved(2) == 0.0);
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [f64::NAN, f64::INFINITY] {
            let sketched = sketch(1, &[whole(3)], &[1.0, bad, 2.0]).remove(0);
            assert!(!sketched.projections.size().is_finite() && !sketched.norm.is_finite());
        }
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let blocks = [whole(3)];
        let mut sketch = Sketch::new(0, &blocks);
        let view = GradientView::F32(&[1.0, 2.0, 3.0]);
        assert!(matches!(sketch.receive("y", &[3], view), Err(SinkError::Unknown { .. })));
        assert!(matches!(sketch.receive("x", &[3, 1], view), Err(SinkError::Shape { .. })));
        let short = GradientView::F32(&[1.0, 2.0]);
        assert!(matches!(sketch.receive("x", &[3], short), Err(SinkError::Shape { .. })));
        sketch.receive("x", &[3], view).unwrap();
        assert!(matches!(sketch.receive("x", &[3], view), Err(SinkError::Twice { .. })));
    }
}
