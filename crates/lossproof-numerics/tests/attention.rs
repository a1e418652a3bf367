//! The crate's parts held to each other on two layers of attention, written out below: the structurally zero blocks are
//! exactly those whose finite differences vanish, and directional derivatives agree with the coordinates they
//! are made of.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking, as the test does")]

use lossproof_numerics::{
    Block, CrossEntropy, CrossEntropyError, Sweep, directional_bound, gradient_blocks, rademacher, sweep,
};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, MicroBatch, Rank, Role, Sequence, SequenceFields};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

const WIDTH: usize = 4;
const VOCABULARY: usize = 6;
const SHAPES: [(&str, &[usize]); 6] = [
    ("wte.weight", &[VOCABULARY, WIDTH]),
    ("wpe.weight", &[7, WIDTH]),
    ("h.0.attn.c_attn.weight", &[WIDTH, 3 * WIDTH]),
    ("h.0.attn.c_attn.bias", &[3 * WIDTH]),
    ("h.1.attn.c_attn.weight", &[WIDTH, 3 * WIDTH]),
    ("h.1.attn.c_attn.bias", &[3 * WIDTH]),
];

/// Values in the order of `SHAPES`.
#[derive(Clone)]
struct Model(Vec<Vec<f64>>);

impl Model {
    fn random(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut values =
            |shape: &[usize]| (0..shape.iter().product()).map(|_| random.random::<f64>() - 0.5).collect();
        Self(SHAPES.iter().map(|(_, shape)| values(shape)).collect())
    }

    /// The loss of every supervised token.
    fn losses(&self, batch: &GlobalBatch) -> Result<Vec<f64>, CrossEntropyError> {
        let mut losses = Vec::new();
        for sequence in batch.sequences() {
            let hidden = self.hidden(sequence);
            for position in (0..sequence.len()).filter(|&position| sequence.supervises(position)) {
                let logits: Vec<f64> =
                    self.0[0].chunks(WIDTH).map(|row| dot(row, &hidden[position])).collect();
                losses
                    .push(CrossEntropy::default().loss(&logits, sequence.targets()[position + 1] as usize)?);
            }
        }
        Ok(losses)
    }

    fn hidden(&self, sequence: &Sequence) -> Vec<Vec<f64>> {
        let row = |tensor: &[f64], index: u32| tensor[index as usize * WIDTH..][..WIDTH].to_vec();
        let embed =
            |(&token, &position): (&u32, &u32)| add(&row(&self.0[0], token), &row(&self.0[1], position));
        let mut hidden: Vec<_> =
            sequence.input_ids().iter().zip(sequence.position_ids()).map(embed).collect();
        for layer in 0..2 {
            let (weight, bias) = (&self.0[2 + 2 * layer], &self.0[3 + 2 * layer]);
            let project = |x: &Vec<f64>| -> Vec<f64> {
                (0..3 * WIDTH)
                    .map(|c| bias[c] + (0..WIDTH).map(|r| x[r] * weight[r * 3 * WIDTH + c]).sum::<f64>())
                    .collect()
            };
            let projected: Vec<_> = hidden.iter().map(project).collect();
            let part = |position: usize, which: usize| &projected[position][which * WIDTH..][..WIDTH];
            for (t, x) in hidden.iter_mut().enumerate() {
                let segments = sequence.segment_ids();
                let seen: Vec<usize> = (0..=t).filter(|&j| segments[j] == segments[t]).collect();
                let scores: Vec<f64> = seen.iter().map(|&j| dot(part(t, 0), part(j, 1)).exp()).collect();
                let total: f64 = scores.iter().sum();
                let mut attended = vec![0.0; WIDTH];
                for (&j, score) in seen.iter().zip(&scores) {
                    attended =
                        add(&attended, &part(j, 2).iter().map(|v| v * score / total).collect::<Vec<_>>());
                }
                *x = add(x, &attended.iter().map(|a| a.tanh()).collect::<Vec<_>>());
            }
        }
        hidden
    }

    fn sweep(&self, batch: &GlobalBatch, tensor: usize, direction: &[f64]) -> Sweep {
        let losses = sweep(0.0625, 6, |h| {
            let mut moved = self.clone();
            for (value, v) in moved.0[tensor].iter_mut().zip(direction) {
                *value += h * v;
            }
            moved.losses(batch)
        });
        losses.unwrap()
    }

    /// The gradient of the summed losses with respect to one tensor, coordinate by coordinate.
    fn gradient(&self, batch: &GlobalBatch, tensor: usize) -> Vec<f64> {
        let derivative = |coordinate: usize| {
            let mut direction = vec![0.0; self.0[tensor].len()];
            direction[coordinate] = 1.0;
            let sweep = self.sweep(batch, tensor, &direction);
            let plateau = sweep.contract(&vec![1.0; sweep.components()]);
            assert!(plateau.uncertainty < 1e-10, "{plateau:?}");
            plateau.value
        };
        (0..self.0[tensor].len()).map(derivative).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Tokens, segments, position ids, and the positions whose predictions are supervised.
type Row<'a> = (&'a [u32], &'a [u32], &'a [u32], &'a [usize]);

fn batch(rows: &[Row<'_>]) -> GlobalBatch {
    let sequence = |&(tokens, segments, positions, supervised): &Row<'_>| {
        let mut labels = vec![IGNORE_INDEX; tokens.len()];
        for &position in supervised {
            labels[position + 1] = i64::from(tokens[position + 1]);
        }
        Sequence::from_fields(SequenceFields {
            input_ids: tokens.to_vec(),
            labels,
            segment_ids: segments.to_vec(),
            position_ids: positions.to_vec(),
            targets: vec![],
        })
        .unwrap()
    };
    let micro_batch = MicroBatch::new(rows.iter().map(sequence).collect()).unwrap();
    GlobalBatch::new(vec![Rank::new(vec![micro_batch]).unwrap()]).unwrap()
}

fn batches() -> Vec<GlobalBatch> {
    vec![
        batch(&[(&[0, 1, 2, 3], &[], &[], &[0, 1, 2]), (&[4, 1, 5], &[], &[], &[1])]),
        batch(&[(&[0, 1, 2, 3, 4, 5], &[], &[], &[3])]),
        batch(&[(&[3, 1, 2], &[], &[], &[0]), (&[2, 5], &[], &[], &[0])]),
        batch(&[(&[0, 1, 2, 3], &[1, 1, 2, 2], &[0, 1, 2, 3], &[0, 2])]),
        batch(&[(&[0, 1, 2, 3], &[1, 2, 1, 1], &[0, 5, 1, 2], &[2])]),
        batch(&[(&[5, 5, 0, 1, 2], &[0, 0, 1, 1, 1], &[5, 6, 0, 1, 2], &[2, 3])]),
        batch(&[(&[4, 4, 4, 2], &[], &[3, 3, 3, 3], &[2])]),
        batch(&[(&[4, 4, 4, 2], &[], &[3, 3, 2, 3], &[2])]),
        batch(&[(&[4, 4, 1, 2], &[], &[3, 3, 3, 3], &[2])]),
    ]
}

#[test]
fn a_block_is_structurally_zero_iff_its_finite_differences_vanish() {
    let model = Model::random(5);
    for (index, batch) in batches().iter().enumerate() {
        let blocks = gradient_blocks(batch, SHAPES.map(|(name, shape)| (name, shape, Role::of_name(name))));
        for (tensor, (name, _)) in SHAPES.iter().enumerate() {
            let gradient = model.gradient(batch, tensor);
            for block in blocks.iter().filter(|block| block.parameter == *name) {
                let norm = block.indices().map(|i| gradient[i].powi(2)).sum::<f64>().sqrt();
                let Block { label, structurally_zero, .. } = block;
                // Between rounding (1e-12) and the smallest generic gradient here (1e-4) lies a wide gap.
                assert_eq!(norm < 1e-9, *structurally_zero, "batch {index}, {name} {label}: {norm:e}");
            }
        }
    }
}

#[test]
fn directional_derivatives_agree_with_coordinates_and_catch_four_parts_in_a_million() {
    let model = Model::random(6);
    let batch = &batches()[0];
    for (tensor, (name, _)) in SHAPES.iter().enumerate() {
        let gradient = model.gradient(batch, tensor);
        let direction = rademacher(11, tensor as u64, &model.0[tensor]);
        let sweep = model.sweep(batch, tensor, &direction);
        let plateau = sweep.contract(&vec![1.0; sweep.components()]);
        let norm = |v: &[f64]| dot(v, v).sqrt();
        let error = |scale: f64| {
            let inner = scale * dot(&gradient, &direction);
            (plateau.value - inner).abs()
                / directional_bound(inner, norm(&gradient), norm(&direction), gradient.len())
        };
        assert!(error(1.0) < 1.0, "{name}: {}", error(1.0));
        assert!(error(1.0 + 4e-6) > 1.0, "{name}: {}", error(1.0 + 4e-6));
    }
}
