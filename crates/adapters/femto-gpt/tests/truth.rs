//! femto-gpt 0.2.0 beside its architecture in f64, written from the crate's documentation: its forward pass,
//! every element of its gradient, and the names that its parameters are given.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lossproof_femto_gpt::{Config, Head, femto_gpt};
use lossproof_numerics::{CrossEntropy, ErrorModel, sweep};
use lossproof_spec::{Dtype, GlobalBatch, Sequence};
use lossproof_subject::{Collect, Tensor, TensorSet, probe_initial};
use std::{collections::BTreeMap, convert::Infallible};

const CONFIG: Config = Config::PICO;
const TOKENS: [u32; CONFIG.predictions + 1] = [3, 14, 1, 5, 14, 9, 2];

/// Rows of one width.
type Rows = Vec<Vec<f64>>;

/// Parameters by name, row-major.
type Parameters = BTreeMap<String, Vec<f64>>;

/// `x·w + b` with `w` of `b`'s width.
fn linear(x: &Rows, w: &[f64], b: &[f64]) -> Rows {
    let row = |x: &Vec<f64>| {
        let mut y = b.to_vec();
        for (x, w) in x.iter().zip(w.chunks_exact(b.len())) {
            y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
        }
        y
    };
    x.iter().map(row).collect()
}

fn layer_norm(x: &Rows, gain: &[f64], bias: &[f64]) -> Rows {
    let row = |x: &Vec<f64>| {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let normal = x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        normal.zip(gain.iter().zip(bias)).map(|(x, (gain, bias))| x * gain + bias).collect()
    };
    x.iter().map(row).collect()
}

fn add(one: &Rows, other: &Rows) -> Rows {
    one.iter().zip(other).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

/// Causal attention of all heads, beside each other, from query, key and value beside each other.
fn attention(qkv: &Rows) -> Rows {
    let (size, width) = (CONFIG.head_size, CONFIG.heads * CONFIG.head_size);
    let part = |row: usize, third: usize, head: usize| {
        let first = third * width + head * size;
        &qkv[row][first..first + size]
    };
    let row = |t: usize| {
        let mut out = Vec::new();
        for head in 0..CONFIG.heads {
            let score = |j: usize| -> f64 {
                let dot: f64 = part(t, 0, head).iter().zip(part(j, 1, head)).map(|(q, k)| q * k).sum();
                (dot / (size as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let total: f64 = scores.iter().sum();
            let value = |d: usize| -> f64 {
                scores.iter().enumerate().map(|(j, score)| score / total * part(j, 2, head)[d]).sum()
            };
            out.extend((0..size).map(value));
        }
        out
    };
    (0..qkv.len()).map(row).collect()
}

/// The fixed encoding of a position.
fn encoding(position: usize) -> Vec<f64> {
    let element = |column: usize| {
        let pair = (column / 2) as f64;
        let angle = position as f64 / 10_000_f64.powf(2.0 * pair / CONFIG.width as f64);
        if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }
    };
    (0..CONFIG.width).map(element).collect()
}

/// The loss of every token.
fn token_losses(parameters: &Parameters) -> Vec<f64> {
    let p = |name: &str| parameters[name].as_slice();
    let embedded = |(position, &token): (usize, &u32)| -> Vec<f64> {
        let row = p("token_embedding").chunks_exact(CONFIG.width).nth(token as usize).unwrap();
        row.iter().zip(encoding(position)).map(|(row, encoding)| row + encoding).collect()
    };
    let mut x: Rows = TOKENS.iter().take(CONFIG.predictions).enumerate().map(embedded).collect();
    let no_bias = vec![0.0; 3 * CONFIG.heads * CONFIG.head_size];
    for l in 0..CONFIG.layers {
        let h = |name: &str| p(&format!("h.{l}.{name}")).to_vec();
        let n = layer_norm(&x, &h("ln_1.weight"), &h("ln_1.bias"));
        let attended = attention(&linear(&n, &h("attn.c_attn.weight"), &no_bias));
        let attended = linear(&attended, &h("attn.c_proj.weight"), &h("attn.c_proj.bias"));
        let m = layer_norm(&add(&n, &attended), &h("ln_2.weight"), &h("ln_2.bias"));
        let mut inner = linear(&m, &h("mlp.c_fc.weight"), &h("mlp.c_fc.bias"));
        inner.iter_mut().flatten().for_each(|x| *x = gelu(*x));
        x = add(&m, &linear(&inner, &h("mlp.c_proj.weight"), &h("mlp.c_proj.bias")));
    }
    let x = layer_norm(&x, p("ln_f.weight"), p("ln_f.bias"));
    let logits = |x: &Vec<f64>| -> Vec<f64> {
        let rows = p("lm_head.weight").chunks_exact(CONFIG.width).zip(p("lm_head.bias"));
        rows.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
    };
    let labels = TOKENS.iter().skip(1).map(|&token| token as usize);
    x.iter().zip(labels).map(|(x, label)| CrossEntropy::default().loss(&logits(x), label).unwrap()).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn token_losses_and_every_gradient_are_those_of_its_architecture() {
    let labels = TOKENS.iter().map(|&token| i64::from(token)).collect();
    let batch = GlobalBatch::single(Sequence::new(TOKENS.to_vec(), labels).unwrap());
    let mut subject = femto_gpt(CONFIG, Head::Own).unwrap();
    let shapes: Vec<_> = subject.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
    let point: TensorSet = probe_initial(&shapes, 3);
    subject.parameter_loading().unwrap().load(&point).unwrap();
    let mut gradient = Collect::default();
    let observation = subject.accumulate(&batch, &mut gradient).unwrap();
    let gradient = gradient.into_tensors();

    let mut parameters: Parameters =
        point.iter().map(|(name, t)| (name.clone(), Tensor::to_f64(t))).collect();
    let model = ErrorModel::new(CONFIG.vocabulary, CONFIG.width, CONFIG.heads, CONFIG.layers, &batch);
    let right = token_losses(&parameters);
    let found = observation.token_losses.unwrap();
    for (found, right) in found.iter().zip(&right) {
        let bound = model.loss_bound(Dtype::F32) * right.max(1.0);
        assert!((found - right).abs() <= bound, "token loss {found}, expected {right}");
    }
    let mean = right.iter().sum::<f64>() / right.len() as f64;
    assert!((observation.loss - mean).abs() <= model.loss_bound(Dtype::F32) * mean.max(1.0));

    let weights = vec![1.0 / CONFIG.predictions as f64; CONFIG.predictions];
    for (name, _) in &shapes {
        let (mut derivatives, mut uncertainties) = (Vec::new(), Vec::new());
        for index in 0..parameters[name].len() {
            let value = parameters[name][index];
            let differences = sweep(0.03125, 8, |step| {
                parameters.get_mut(name).unwrap()[index] = value + step;
                Ok::<_, Infallible>(token_losses(&parameters))
            });
            parameters.get_mut(name).unwrap()[index] = value;
            let plateau = differences.unwrap().contract(&weights);
            derivatives.push(plateau.value);
            uncertainties.push(plateau.uncertainty);
        }
        let found = gradient[name].to_f64();
        let off: Vec<f64> = found.iter().zip(&derivatives).map(|(found, right)| found - right).collect();
        let bound = model.gradient_bound(Dtype::F32) * norm(&derivatives) + norm(&uncertainties);
        assert!(norm(&derivatives) > 1e-3, "{name}: nothing to see");
        assert!(norm(&off) <= bound, "{name}: off by {:.1e}, bound {bound:.1e}", norm(&off));
    }
}
