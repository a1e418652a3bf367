//! Every operation on the CPU's own slices: row by row in loops the compiler turns into vector instructions,
//! large tensors on all cores, and the backward pass written out.

use super::{
    Kernels, LAYER_NORM_EPSILON, Modified,
    slices::{add, add_rows, dot, largest, map, rows, sum},
};
use crate::Element;
use dfdx::{
    prelude::*,
    tensor::{Cpu, CpuError},
};
use std::{cell::OnceCell, rc::Rc};

impl<E: Element> Kernels<E> for Cpu
where
    Self: Device<E>,
{
    fn add_bias<C: Dim, T: Tape<E, Self>>(
        x: Tensor<(usize, C), E, Self, T>,
        bias: &Tensor<(C,), E, Self>,
    ) -> Result<Tensor<(usize, C), E, Self, T>, CpuError> {
        let (x, tape) = x.split_tape();
        let (shape, added, bias) = (*x.shape(), values(bias), bias.clone());
        let mut sums = values(&x);
        rows(&mut sums, shape.1.size(), |_, row| add(row, &added));
        differentiable(&x, Goes::HereAlone, tape, shape, sums, move |gradients, upstream| {
            add_rows(gradient_of(gradients, &bias)?, &upstream);
            Ok(upstream)
        })
    }

    fn gelu<S: Shape, T: Tape<E, Self>>(x: Tensor<S, E, Self, T>) -> Result<Tensor<S, E, Self, T>, CpuError> {
        let (x, tape) = x.split_tape();
        let (shape, before) = (*x.shape(), values(&x));
        let mut after = before.clone();
        rows(&mut after, ELEMENTWISE, |_, row| map(row, gelu));
        differentiable(&x, Goes::HereAlone, tape, shape, after, move |_, mut upstream| {
            rows(&mut upstream, ELEMENTWISE, |index, row| {
                for (gradient, &x) in row.iter_mut().zip(&before[index * ELEMENTWISE..]) {
                    *gradient *= gelu_slope(x);
                }
            });
            Ok(upstream)
        })
    }

    fn layer_norm<C: Dim, T: Tape<E, Self>>(
        x: Tensor<(usize, C), E, Self, T>,
        gain: &Tensor<(C,), E, Self>,
        bias: &Tensor<(C,), E, Self>,
    ) -> Result<Tensor<(usize, C), E, Self, T>, CpuError> {
        let (x, tape) = x.split_tape();
        let shape = *x.shape();
        let columns = shape.1.size();
        let count = E::round(columns as f64);
        let mut normed = values(&x);
        let inverse_deviations = rows(&mut normed, columns, |_, row| {
            let mean = sum(row) / count;
            map(row, |x| x - mean);
            let inverse = E::ONE / (dot(row, row) / count + E::round(LAYER_NORM_EPSILON)).sqrt();
            map(row, |x| x * inverse);
            inverse
        });
        let (gains, biases) = (values(gain), values(bias));
        let mut output = normed.clone();
        rows(&mut output, columns, |_, row| {
            for ((x, &gain), &bias) in row.iter_mut().zip(&gains).zip(&biases) {
                *x = *x * gain + bias;
            }
        });
        let (gain, bias) = (gain.clone(), bias.clone());
        differentiable(&x, Goes::Elsewhere, tape, shape, output, move |gradients, mut upstream| {
            add_rows(gradient_of(gradients, &bias)?, &upstream);
            let of_gain = gradient_of(gradients, &gain)?;
            for (upstream, normed) in upstream.chunks_exact(columns).zip(normed.chunks_exact(columns)) {
                for ((total, &upstream), &normed) in of_gain.iter_mut().zip(upstream).zip(normed) {
                    *total += upstream * normed;
                }
            }
            rows(&mut upstream, columns, |index, row| {
                let normed = &normed[index * columns..][..columns];
                row.iter_mut().zip(&gains).for_each(|(gradient, &gain)| *gradient *= gain);
                let (mean, along) = (sum(row) / count, dot(row, normed) / count);
                for (gradient, &normed) in row.iter_mut().zip(normed) {
                    *gradient = (*gradient - mean - normed * along) * inverse_deviations[index];
                }
            });
            Ok(upstream)
        })
    }

    fn attention_weights<H: Dim, T: Tape<E, Self>>(
        scores: Tensor<(usize, H, usize, usize), E, Self, T>,
        scale: f64,
        bias: &Tensor<(usize, usize, usize), E, Self>,
    ) -> Result<Tensor<(usize, H, usize, usize), E, Self, T>, CpuError> {
        let (scores, tape) = scores.split_tape();
        let shape = *scores.shape();
        let (_, heads, queries, keys) = shape;
        let (scale, bias) = (E::round(scale), values(bias));
        let mut weights = values(&scores);
        rows(&mut weights, keys, |index, row| {
            let bias_row = index / (heads.size() * queries) * queries + index % queries;
            for (score, &bias) in row.iter_mut().zip(&bias[bias_row * keys..]) {
                *score = *score * scale + bias;
            }
            let largest = largest(row);
            map(row, |score| (score - largest).exp());
            let share = E::ONE / sum(row);
            map(row, |weight| weight * share);
        });
        differentiable(&scores, Goes::HereAlone, tape, shape, weights.clone(), move |_, mut upstream| {
            rows(&mut upstream, keys, |index, row| {
                let weights = &weights[index * keys..][..keys];
                let mean = dot(row, weights);
                for (gradient, &weight) in row.iter_mut().zip(weights) {
                    *gradient = (*gradient - mean) * weight * scale;
                }
            });
            Ok(upstream)
        })
    }

    fn cross_entropy<V: Dim, T: Tape<E, Self>>(
        logits: Tensor<(usize, V), E, Self, T>,
        targets: Vec<usize>,
        Modified { label_smoothing, z_loss }: Modified,
    ) -> Result<Tensor<(usize,), E, Self, T>, CpuError> {
        let (logits, tape) = logits.split_tape();
        let columns = logits.shape().1.size();
        let vocabulary = E::round(columns as f64);
        let [kept, smoothing, z_loss] = [1.0 - label_smoothing, label_smoothing, z_loss].map(E::round);
        let mut probabilities = values(&logits);
        // The logits of one row become its probabilities; what is left of the row are its loss and log Σ exp z.
        let scored = rows(&mut probabilities, columns, |index, row| {
            let largest = largest(row);
            map(row, |logit| logit - largest);
            let (target, mean) = (row[targets[index]], sum(row) / vocabulary);
            map(row, E::exp);
            let total = sum(row);
            let share = E::ONE / total;
            map(row, |weight| weight * share);
            let (log_total, zero) = (total.ln(), E::default());
            let log_normaliser = log_total + largest;
            let mut loss = log_total - target;
            if smoothing > zero {
                loss = kept * loss + smoothing * (log_total - mean);
            }
            if z_loss > zero {
                loss += z_loss * log_normaliser * log_normaliser;
            }
            (loss, log_normaliser)
        });
        let (losses, log_normalisers): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        differentiable(&logits, Goes::HereAlone, tape, (losses.len(),), losses, move |_, upstream| {
            let mut gradient = probabilities;
            rows(&mut gradient, columns, |index, row| {
                let weight = upstream[index];
                let of_normaliser = weight * (E::ONE + (z_loss + z_loss) * log_normalisers[index]);
                let uniform = weight * smoothing / vocabulary;
                map(row, |probability| probability * of_normaliser - uniform);
                row[targets[index]] -= weight * kept;
            });
            Ok(gradient)
        })
    }

    fn passing_on<I: Shape, O: Shape, T: Tape<E, Self>>(
        x: Tensor<I, E, Self, T>,
        operation: impl FnOnce(Tensor<I, E, Self, T>) -> Result<Tensor<O, E, Self, T>, CpuError>,
    ) -> Result<Tensor<O, E, Self, T>, CpuError> {
        letting_go(x, operation)
    }

    fn with_gradient<S: Shape, R>(
        gradients: &mut Gradients<E, Self>,
        parameter: &Tensor<S, E, Self>,
        look: impl FnOnce(&[E]) -> R,
    ) -> Result<R, CpuError> {
        Ok(look(gradient_of(gradients, parameter)?))
    }

    fn put_gradient<S: Shape>(
        mut gradients: Gradients<E, Self>,
        parameter: &Tensor<S, E, Self>,
        values: &[E],
    ) -> Result<Gradients<E, Self>, CpuError> {
        gradient_of(&mut gradients, parameter)?.copy_from_slice(values);
        Ok(gradients)
    }
}

/// Elements of a large tensor that are one piece of work where rows do not matter.
const ELEMENTWISE: usize = 1 << 10;

/// The values of a contiguous tensor.
fn values<S: Shape, E: Element>(tensor: &Tensor<S, E, Cpu>) -> Vec<E> {
    let mut values = vec![E::default(); tensor.shape().num_elements()];
    tensor.copy_into(&mut values);
    values
}

/// The gradient of a tensor, as far as it is known.
fn gradient_of<'a, S: Shape, E: Element>(
    gradients: &'a mut Gradients<E, Cpu>,
    tensor: &Tensor<S, E, Cpu>,
) -> Result<&'a mut [E], CpuError> {
    Ok(gradients.get_or_alloc_mut(tensor)?)
}

/// The output of an operation of dfdx, whose gradient is let go of as soon as it was passed on.
fn letting_go<I: Shape, O: Shape, E: Element, T: Tape<E, Cpu>>(
    x: Tensor<I, E, Cpu, T>,
    operation: impl FnOnce(Tensor<I, E, Cpu, T>) -> Result<Tensor<O, E, Cpu, T>, CpuError>,
) -> Result<Tensor<O, E, Cpu, T>, CpuError> {
    let (x, mut tape) = x.split_tape();
    let of_output = Rc::new(OnceCell::new());
    let known_later = Rc::clone(&of_output);
    // Recorded before the operation, and so carried out after its backward pass.
    tape.add_backward_op(move |gradients| {
        if let Some(of_output) = known_later.get() {
            **gradients.get_or_alloc_mut(of_output)? = Vec::new();
        }
        Ok(())
    });
    let output = operation(x.put_tape(tape))?;
    // It was empty until now.
    let _ = of_output.set(output.ghost());
    Ok(output)
}

/// Where the input of an operation goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// Into this operation and nothing else: its gradient is what comes back from here.
    HereAlone,
    /// Into other operations, too, whose gradients are added.
    Elsewhere,
}

/// The output of an operation on `input`. `backward` is given the gradient of the output and returns that of
/// the input; what it owes to other tensors it adds itself.
fn differentiable<I: Shape, O: Shape, E: Element, T: Tape<E, Cpu>>(
    input: &Tensor<I, E, Cpu>,
    goes: Goes,
    mut tape: T,
    shape: O,
    output: Vec<E>,
    backward: impl 'static + FnOnce(&mut Gradients<E, Cpu>, Vec<E>) -> Result<Vec<E>, CpuError>,
) -> Result<Tensor<O, E, Cpu, T>, CpuError> {
    let output = input.device().try_tensor_from_vec(output, shape)?;
    let (of_input, of_output) = (input.ghost(), output.ghost());
    tape.add_backward_op(move |gradients| {
        // Every operation on the output has run its backward pass: nobody looks at this gradient again.
        let upstream = std::mem::take(&mut **gradients.get_or_alloc_mut(&of_output)?);
        let gradient = backward(gradients, upstream)?;
        let so_far = gradients.get_or_alloc_mut(&of_input)?;
        match goes {
            // Zeros are neither read nor added to: logits are the largest of all tensors.
            Goes::HereAlone => {
                let untouched = |so_far: &[E]| so_far.iter().all(|&value| value == E::default());
                assert!(!cfg!(test) || untouched(so_far), "the input goes elsewhere, too");
                **so_far = gradient;
            }
            Goes::Elsewhere => add(so_far, &gradient),
        }
        Ok(())
    });
    Ok(output.put_tape(tape))
}

/// `√(2/π)` and the cubic coefficient of the tanh form, doubled: `1 + tanh(a)` is `2/(1 + e^(−2a))`, where
/// nothing cancels.
const SLOPE: f64 = 2.0 * 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

/// `e^(−2a)` of the argument of tanh, and `1/(1 + e^(−2a))`.
#[inline]
fn gate<E: Element>(x: E) -> (E, E) {
    let doubled = E::round(SLOPE) * (x + E::round(CUBIC) * x * x * x);
    let decay = (E::default() - doubled).exp();
    (decay, E::ONE / (E::ONE + decay))
}

#[inline]
fn gelu<E: Element>(x: E) -> E {
    x * gate(x).1
}

#[inline]
fn gelu_slope<E: Element>(x: E) -> E {
    let (decay, gate) = gate(x);
    let doubled_slope = E::round(SLOPE) * (E::ONE + E::round(3.0 * CUBIC) * x * x);
    gate + x * gate * (decay * gate) * doubled_slope
}
