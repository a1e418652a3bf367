//! The model: the mean of the embeddings of all tokens so far and the embedding of the position, a layer norm,
//! and the embedding of tokens again as the head. Forward and backward are written out.

/// Tokens of the vocabulary.
pub const VOCABULARY: usize = 16;
/// Positions of a row.
pub const POSITIONS: usize = 16;
/// Width of the activations.
const WIDTH: usize = 4;

/// Names and shapes of the parameters, in their order.
pub const PARAMETERS: [(&str, &[usize]); 4] = [
    ("embedding", &[VOCABULARY, WIDTH]),
    ("positions", &[POSITIONS, WIDTH]),
    ("norm.gain", &[WIDTH]),
    ("norm.shift", &[WIDTH]),
];
const EMBEDDING: usize = 0;
const POSITION: usize = 1;
const GAIN: usize = 2;
const SHIFT: usize = 3;

/// One tensor for each parameter, in row-major order.
pub type Tensors = [Vec<f32>; 4];

/// Zeros in the shapes of the parameters.
pub fn zeros() -> Tensors {
    PARAMETERS.map(|(_, shape)| vec![0.0; shape.iter().product()])
}

/// A number between −0.5 and 0.5 that follows no pattern.
fn noise(mut bits: u32) -> f32 {
    for factor in [0x85eb_ca6b, 0xc2b2_ae35] {
        bits = (bits ^ (bits >> 15)).wrapping_add(1).wrapping_mul(factor);
    }
    (bits >> 8) as f32 / (1 << 24) as f32 - 0.5
}

pub struct Model {
    pub parameters: Tensors,
}

/// What a prediction computes on its way to the logits.
struct Activations {
    normed: [f32; WIDTH],
    /// One over the deviation that the norm divides by.
    inverse_deviation: f32,
    /// What the head sees.
    output: [f32; WIDTH],
    log_probabilities: [f32; VOCABULARY],
}

impl Model {
    pub fn new() -> Self {
        let mut parameters = zeros();
        for (index, values) in parameters.iter_mut().enumerate() {
            for (place, value) in values.iter_mut().enumerate() {
                let drawn = noise((100 * index + place) as u32);
                *value = if index == GAIN { 1.0 + 0.2 * drawn } else { drawn };
            }
        }
        Self { parameters }
    }

    fn row(&self, parameter: usize, row: usize) -> &[f32] {
        &self.parameters[parameter][row * WIDTH..][..WIDTH]
    }

    /// `read` are the tokens so far, in which the position is the last one.
    fn forward(&self, read: &[usize]) -> Activations {
        let place = self.row(POSITION, read.len() - 1);
        let input: [f32; WIDTH] = std::array::from_fn(|i| {
            let sum: f32 = read.iter().map(|&token| self.row(EMBEDDING, token)[i]).sum();
            sum / read.len() as f32 + place[i]
        });
        let mean = input.iter().sum::<f32>() / WIDTH as f32;
        let variance = input.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / WIDTH as f32;
        let inverse_deviation = 1.0 / (variance + 1e-5).sqrt();
        let normed = input.map(|x| (x - mean) * inverse_deviation);
        let (gain, shift) = (self.row(GAIN, 0), self.row(SHIFT, 0));
        let output: [f32; WIDTH] = std::array::from_fn(|i| gain[i] * normed[i] + shift[i]);

        let logits: [f32; VOCABULARY] = std::array::from_fn(|class| {
            self.row(EMBEDDING, class).iter().zip(&output).map(|(weight, x)| weight * x).sum()
        });
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = logits.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln();
        let log_probabilities = logits.map(|logit| logit - largest - log_sum);
        Activations { normed, inverse_deviation, output, log_probabilities }
    }

    /// The loss of predicting `label` behind the tokens that were read.
    pub fn loss(&self, read: &[usize], label: usize) -> f32 {
        -self.forward(read).log_probabilities[label]
    }

    /// The same, and adds `weight` times its gradient to `gradient`.
    pub fn backward(&self, read: &[usize], label: usize, weight: f32, gradient: &mut Tensors) -> f32 {
        let at = self.forward(read);
        let mut of_output = [0.0; WIDTH];
        for (class, log_probability) in at.log_probabilities.iter().enumerate() {
            let of_logit = weight * (log_probability.exp() - if class == label { 1.0 } else { 0.0 });
            for i in 0..WIDTH {
                gradient[EMBEDDING][class * WIDTH + i] += of_logit * at.output[i];
                of_output[i] += of_logit * self.row(EMBEDDING, class)[i];
            }
        }
        for i in 0..WIDTH {
            gradient[GAIN][i] += of_output[i] * at.normed[i];
            gradient[SHIFT][i] += of_output[i];
        }
        let gain = self.row(GAIN, 0);
        let of_normed: [f32; WIDTH] = std::array::from_fn(|i| of_output[i] * gain[i]);
        let mean = of_normed.iter().sum::<f32>() / WIDTH as f32;
        let slope = of_normed.iter().zip(&at.normed).map(|(d, x)| d * x).sum::<f32>() / WIDTH as f32;
        for i in 0..WIDTH {
            let of_input = at.inverse_deviation * (of_normed[i] - mean - at.normed[i] * slope);
            for token in read {
                gradient[EMBEDDING][token * WIDTH + i] += of_input / read.len() as f32;
            }
            gradient[POSITION][(read.len() - 1) * WIDTH + i] += of_input;
        }
        -at.log_probabilities[label]
    }
}
