//! Dropout whose masks depend on what is dropped, and on nothing else.
//!
//! An element is kept or dropped by [`philox`] of the seed, the epoch, the sample's place in the epoch, the site,
//! the layer, the head and the position. So the same sample meets the same mask however the batch is split,
//! padded, ordered or spread over ranks, when a pass is computed a second time, and after a resume.

use crate::philox;

/// Dropout of a GPT-2: how much is dropped where, and the seed of the masks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Seed of the masks.
    pub seed: u64,
    /// Probability that an element of the embedded input is dropped (Hugging Face's `embd_pdrop`).
    pub embedding: f64,
    /// Probability that an attention weight is dropped, after the softmax (`attn_pdrop`).
    pub attention: f64,
    /// Probability that an element of what a layer adds to the residual stream is dropped (`resid_pdrop`).
    pub residual: f64,
    /// Whether what is kept stays as it is. It is divided by 1 − p otherwise, so that a sum has the mean that it has
    /// in a validation.
    pub unscaled: bool,
}

/// Where a mask is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropoutSite {
    /// The sum of the token and position embeddings: one element per channel.
    Embedding,
    /// The attention weights: one element per key.
    Attention {
        /// The block, from 0.
        layer: u32,
        /// The head, from 0.
        head: u32,
    },
    /// What attention adds to the residual stream: one element per channel.
    AttentionOutput {
        /// The block, from 0.
        layer: u32,
    },
    /// What the feed-forward layer adds to it: one element per channel.
    FeedForwardOutput {
        /// The block, from 0.
        layer: u32,
    },
}

impl DropoutSite {
    /// Site, layer and head as one word of the counter.
    fn word(self) -> u32 {
        let (site, layer, head) = match self {
            Self::Embedding => (0, 0, 0),
            Self::Attention { layer, head } => (1, layer, head),
            Self::AttentionOutput { layer } => (2, layer, 0),
            Self::FeedForwardOutput { layer } => (3, layer, 0),
        };
        site << 24 | (layer & 0xFFF) << 12 | (head & 0xFFF)
    }
}

impl Dropout {
    /// No dropout.
    pub const NONE: Self = Self { seed: 0, embedding: 0.0, attention: 0.0, residual: 0.0, unscaled: false };

    /// The same probability at every site, as Hugging Face's GPT-2 has it.
    #[must_use]
    pub fn everywhere(probability: f64, seed: u64) -> Self {
        let (embedding, attention, residual) = (probability, probability, probability);
        Self { seed, embedding, attention, residual, unscaled: false }
    }

    /// Whether anything is dropped.
    #[must_use]
    pub fn drops(&self) -> bool {
        [self.embedding, self.attention, self.residual].iter().any(|&probability| probability > 0.0)
    }

    /// The probability at a site.
    #[must_use]
    pub fn probability(&self, site: DropoutSite) -> f64 {
        match site {
            DropoutSite::Embedding => self.embedding,
            DropoutSite::Attention { .. } => self.attention,
            DropoutSite::AttentionOutput { .. } | DropoutSite::FeedForwardOutput { .. } => self.residual,
        }
    }

    /// Writes the factors of one row of a mask, `0` or `1/(1 − p)` (`1` where it is unscaled): the elements along the
    /// last axis at `position` of the sample with this place in the epoch. An element is kept where its word is at
    /// least `p·2³²`.
    pub fn fill(&self, place: SamplePlace, site: DropoutSite, position: u32, factors: &mut [f64]) {
        let probability = self.probability(site);
        let keep = if self.unscaled { 1.0 } else { 1.0 / (1.0 - probability) };
        let threshold = probability * 4_294_967_296.0;
        let key = [low(self.seed), low(self.seed >> 32)];
        let at = [place.sample, place.epoch, site.word()];
        for (quad, factors) in (0_u32..).zip(factors.chunks_mut(4)) {
            let words = philox([at[0], at[1], at[2], position << 16 | (quad & 0xFFFF)], key);
            for (factor, word) in factors.iter_mut().zip(words) {
                *factor = if f64::from(word) >= threshold { keep } else { 0.0 };
            }
        }
    }
}

/// What is dropped of the rows of a padded batch in training mode.
#[derive(Clone, Debug)]
pub struct BatchDropout {
    dropout: Dropout,
    /// Which sample each row is.
    places: Vec<SamplePlace>,
    /// Positions of each row, padding included.
    width: usize,
}

impl BatchDropout {
    /// For rows of this width, the samples at these places.
    #[must_use]
    pub fn new(dropout: Dropout, places: &[SamplePlace], width: usize) -> Self {
        Self { dropout, places: places.to_vec(), width }
    }

    /// The factors of what a site has for every position, rows × width × `channels`; `None` where nothing is dropped.
    #[must_use]
    pub fn channels(&self, site: DropoutSite, channels: usize) -> Option<Vec<f64>> {
        if self.dropout.probability(site) <= 0.0 {
            return None;
        }
        let mut factors = vec![0.0; self.places.len() * self.width * channels];
        let mut rest = factors.chunks_exact_mut(channels);
        for &place in &self.places {
            for (position, factors) in (0..self.width).zip(&mut rest) {
                self.dropout.fill(place, site, number(position), factors);
            }
        }
        Some(factors)
    }

    /// The factors of the attention weights of a block, rows × `heads` × width × width; `None` where nothing is
    /// dropped.
    #[must_use]
    pub fn attention(&self, layer: u32, heads: usize) -> Option<Vec<f64>> {
        if self.dropout.attention <= 0.0 {
            return None;
        }
        let mut factors = vec![0.0; self.places.len() * heads * self.width * self.width];
        let mut rest = factors.chunks_exact_mut(self.width);
        for &place in &self.places {
            for head in 0..heads {
                let site = DropoutSite::Attention { layer, head: number(head) };
                for (query, factors) in (0..self.width).zip(&mut rest) {
                    self.dropout.fill(place, site, number(query), factors);
                }
            }
        }
        Some(factors)
    }
}

/// A position or a head as dropout counts them: none reaches 2³².
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Which sample of which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplePlace {
    /// The epoch, from 0.
    pub epoch: u32,
    /// The sample's place in the order of the epoch, over all ranks and with what is filled up.
    pub sample: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: DropoutSite = DropoutSite::Attention { layer: 1, head: 2 };

    fn row(dropout: &Dropout, place: SamplePlace, site: DropoutSite, position: u32) -> Vec<f64> {
        let mut factors = vec![f64::NAN; 64];
        dropout.fill(place, site, position, &mut factors);
        factors
    }

    #[test]
    fn a_row_is_the_same_whenever_it_is_asked_for_and_the_start_of_a_longer_one() {
        let dropout = Dropout::everywhere(0.25, 7);
        let place = SamplePlace { epoch: 1, sample: 5 };
        let long = row(&dropout, place, SITE, 3);
        assert_eq!(long, row(&dropout, place, SITE, 3));
        let mut short = [0.0; 7];
        dropout.fill(place, SITE, 3, &mut short);
        assert_eq!(short[..], long[..7]);
    }

    #[test]
    fn rows_differ_by_everything_that_names_them() {
        let dropout = Dropout::everywhere(0.5, 7);
        let place = SamplePlace { epoch: 1, sample: 5 };
        let base = row(&dropout, place, SITE, 3);
        let others = [
            row(&Dropout { seed: 7 << 32, ..dropout }, place, SITE, 3),
            row(&dropout, SamplePlace { epoch: 2, ..place }, SITE, 3),
            row(&dropout, SamplePlace { sample: 6, ..place }, SITE, 3),
            row(&dropout, place, DropoutSite::Attention { layer: 2, head: 1 }, 3),
            row(&dropout, place, DropoutSite::AttentionOutput { layer: 1 }, 3),
            row(&dropout, place, DropoutSite::FeedForwardOutput { layer: 1 }, 3),
            row(&dropout, place, DropoutSite::Embedding, 3),
            row(&dropout, place, SITE, 4),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "{index}");
        }
    }

    #[test]
    fn what_is_kept_is_scaled_so_that_the_mean_stays() {
        let dropout = Dropout::everywhere(0.25, 11);
        let mut sum = 0.0;
        let rows = 4096;
        for position in 0..rows {
            let factors = row(&dropout, SamplePlace::default(), SITE, position);
            assert!(factors.iter().all(|&factor| factor <= 0.0 || (factor - 4.0 / 3.0).abs() < 1e-15));
            sum += factors.iter().sum::<f64>();
        }
        // Of n independent factors the mean has a standard deviation of √(p/(1 − p)/n); six of them.
        let count = f64::from(rows) * 64.0;
        assert!((sum / count - 1.0).abs() < 6.0 * (1.0 / 3.0 / count).sqrt(), "{}", sum / count);
        assert!(row(&Dropout::NONE, SamplePlace::default(), SITE, 0).iter().all(|&f| f > 0.5 && f < 1.5));
    }
}
