//! A Llama in plain f64 loops over one sequence, without a batch, padding or tensors, and with mistakes to
//! choose from.

use crate::support::norm;
use lossproof_subject::TensorSet;
use lossproof_torch::LlamaConfig;

/// What is often got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Attention scores are not divided by √d.
    ScoresUnscaled,
    /// They are divided by √(C/H), which is not √d where the heads are wider or narrower than the model.
    ScaleOfTheWidth,
    /// ε is left out of the RMS norms.
    NoEpsilon,
    /// ε is added to the root of the mean square.
    EpsilonOutsideTheRoot,
    /// The rotary embedding turns features 2i and 2i + 1, as in the paper.
    NeighboursTurned,
    /// It turns the other way round for queries than for keys.
    TurnedApart,
    /// It turns values too.
    ValuesTurned,
    /// Keys and values are repeated as a whole: the heads that share one are K apart.
    KeysTiled,
    /// The sigmoid goes to the wrong one of the two linear layers.
    GateAndUpSwapped,
}

impl Mistake {
    pub(crate) const ALL: [Self; 9] = [
        Self::ScoresUnscaled,
        Self::ScaleOfTheWidth,
        Self::NoEpsilon,
        Self::EpsilonOutsideTheRoot,
        Self::NeighboursTurned,
        Self::TurnedApart,
        Self::ValuesTurned,
        Self::KeysTiled,
        Self::GateAndUpSwapped,
    ];
}

/// A Llama, right or with one mistake.
pub(crate) struct PlainLlama<'a> {
    pub(crate) config: &'a LlamaConfig,
    pub(crate) parameters: &'a TensorSet,
    pub(crate) mistake: Option<Mistake>,
}

/// One vector per position.
type Rows = Vec<Vec<f64>>;

impl PlainLlama<'_> {
    /// −log p of every next token of a sequence.
    pub(crate) fn token_losses(&self, tokens: &[u32]) -> Vec<f64> {
        let embedding = self.parameters["embed_tokens.weight"].to_f64();
        let width = self.config.width;
        let scale = self.config.embedding_scale;
        let row = |&token: &u32| embedding[token as usize * width..][..width].iter();
        let mut x: Rows =
            tokens.iter().map(|token| row(token).map(|value| scale * value).collect()).collect();
        for block in 0..self.config.layers {
            let name = |part: &str| format!("layers.{block}.{part}");
            let normal = self.rms_norm(&name("input_layernorm"), &x);
            add(&mut x, &self.attention(&normal, &name("self_attn")));
            let normal = self.rms_norm(&name("post_attention_layernorm"), &x);
            add(&mut x, &self.feed_forward(&normal, &name("mlp")));
        }
        let mut logits = self.linear("lm_head", &self.rms_norm("norm", &x));
        logits.iter_mut().flatten().for_each(|logit| *logit *= self.config.logit_scale);
        if let Some(cap) = self.config.logit_cap {
            logits.iter_mut().flatten().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        let loss = |(row, &next): (&Vec<f64>, &u32)| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            top + row.iter().map(|z| (z - top).exp()).sum::<f64>().ln() - row[next as usize]
        };
        logits.iter().zip(&tokens[1..]).map(loss).collect()
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let tensor = &self.parameters[&format!("{name}.weight")];
        let (weight, inputs) = (tensor.to_f64(), tensor.shape()[1]);
        x.iter().map(|row| weight.chunks(inputs).map(|weight| dot(weight, row)).collect()).collect()
    }

    /// A linear layer with its low-rank change, if it has one.
    fn adapted(&self, name: &str, x: &Rows) -> Rows {
        let mut y = self.linear(name, x);
        let Some(adapters) = self.config.adapters else { return y };
        if self.parameters.contains_key(&format!("{name}.lora_A.weight")) {
            let low = self.linear(&format!("{name}.lora_A"), x);
            let mut change = self.linear(&format!("{name}.lora_B"), &low);
            let scaling = adapters.alpha / adapters.rank as f64;
            change.iter_mut().flatten().for_each(|value| *value *= scaling);
            add(&mut y, &change);
        }
        y
    }

    fn rms_norm(&self, name: &str, x: &Rows) -> Rows {
        let gain = self.parameters[&format!("{name}.weight")].to_f64();
        let epsilon = self.config.rms_epsilon;
        let one = |row: &Vec<f64>| {
            let mean_square = norm(row).powi(2) / row.len() as f64;
            let scale = if self.is(Mistake::NoEpsilon) {
                mean_square.sqrt()
            } else if self.is(Mistake::EpsilonOutsideTheRoot) {
                mean_square.sqrt() + epsilon
            } else {
                (mean_square + epsilon).sqrt()
            };
            row.iter().zip(&gain).map(|(value, gain)| value / scale * gain).collect()
        };
        x.iter().map(one).collect()
    }

    fn attention(&self, x: &Rows, name: &str) -> Rows {
        let [query, key, value] = ["q", "k", "v"].map(|part| self.adapted(&format!("{name}.{part}_proj"), x));
        let LlamaConfig { heads, key_value_heads, head_size, width, .. } = *self.config;
        let divisor = if self.is(Mistake::ScoresUnscaled) {
            1.0
        } else if self.is(Mistake::ScaleOfTheWidth) {
            (width as f64 / heads as f64).sqrt()
        } else {
            (head_size as f64).sqrt()
        };
        let (direction, values_turned) =
            (if self.is(Mistake::TurnedApart) { -1.0 } else { 1.0 }, self.is(Mistake::ValuesTurned));
        let mut mixed: Rows = vec![Vec::new(); x.len()];
        for head in 0..heads {
            let shared = if self.is(Mistake::KeysTiled) {
                head % key_value_heads
            } else {
                head * key_value_heads / heads
            };
            let of = |rows: &Rows, head: usize, direction: f64| -> Rows {
                let own = |(position, row): (usize, &Vec<f64>)| {
                    self.turned(&row[head * head_size..][..head_size], direction * position as f64)
                };
                rows.iter().enumerate().map(own).collect()
            };
            let (query, key) = (of(&query, head, 1.0), of(&key, shared, direction));
            let value = of(&value, shared, if values_turned { 1.0 } else { 0.0 });
            for (position, query) in query.iter().enumerate() {
                let scores = key[..=position].iter().map(|key| dot(query, key) / divisor);
                let weights: Vec<f64> = scores.map(f64::exp).collect();
                let total: f64 = weights.iter().sum();
                mixed[position].extend((0..head_size).map(|feature| {
                    weights.iter().zip(&value).map(|(weight, row)| weight / total * row[feature]).sum::<f64>()
                }));
            }
        }
        self.linear(&format!("{name}.o_proj"), &mixed)
    }

    /// The features of one head, turned as at `position`; at 0 they stay as they are.
    fn turned(&self, features: &[f64], position: f64) -> Vec<f64> {
        let half = features.len() / 2;
        let mut turned = features.to_vec();
        for pair in 0..half {
            let (left, right) = if self.is(Mistake::NeighboursTurned) {
                (2 * pair, 2 * pair + 1)
            } else {
                (pair, pair + half)
            };
            let angle = position / self.config.rotary_base.powf(pair as f64 / half as f64);
            turned[left] = features[left] * angle.cos() - features[right] * angle.sin();
            turned[right] = features[right] * angle.cos() + features[left] * angle.sin();
        }
        turned
    }

    fn feed_forward(&self, x: &Rows, name: &str) -> Rows {
        let [mut gate, mut up] = ["gate", "up"].map(|part| self.linear(&format!("{name}.{part}_proj"), x));
        if self.is(Mistake::GateAndUpSwapped) {
            std::mem::swap(&mut gate, &mut up);
        }
        let hidden: Rows = gate
            .iter()
            .zip(&up)
            .map(|(gate, up)| {
                gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
            })
            .collect();
        self.linear(&format!("{name}.down_proj"), &hidden)
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn add(x: &mut Rows, more: &Rows) {
    for (row, more) in x.iter_mut().zip(more) {
        for (value, more) in row.iter_mut().zip(more) {
            *value += more;
        }
    }
}
