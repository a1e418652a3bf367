//! What is learnt from a block of tokens: which are labels, which are masked, and what sees what.
//!
//! All three objectives are labels and one number on the same model code: positions from the start that every position
//! sees.

use lossproof_spec::{BatchError, IGNORE_INDEX, Sequence};
use lossproof_subject::{Sample, SamplePlace, philox};
use serde::{Deserialize, Serialize};

/// What is learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The next token at every position.
    #[default]
    Causal,
    /// The tokens that were masked, all of the block being seen: of 15 % of the tokens 80 % become the
    /// vocabulary's last token, 10 % a random one, and 10 % stay (Devlin et al. 2019, §3.1; Hugging Face's
    /// collator).
    Masked,
    /// The second half of the block, its first half being seen by every position and not learnt (Raffel et
    /// al. 2020, §3.2.1).
    Prefix,
}

/// Probability that a token is learnt.
const MASKED: f64 = 0.15;
/// Of those, that it becomes the mask.
const REPLACED: f64 = 0.8;
/// Of the others, that it becomes a random token.
const RANDOM: f64 = 0.5;

/// The key of all masks, beside the seed: "mask".
const MASK_KEY: u32 = 0x6d61_736b;

impl Objective {
    /// Positions that a block of so many tokens takes.
    #[must_use]
    pub fn positions(self, block: usize) -> usize {
        block + usize::from(self == Self::Masked)
    }

    /// A block as a sample.
    ///
    /// # Errors
    /// When the block is empty.
    pub fn sample(
        self,
        block: &[u32],
        place: SamplePlace,
        vocabulary: u32,
        seed: u64,
    ) -> Result<Sample, BatchError> {
        let labels = || block.iter().copied().map(i64::from);
        match self {
            Self::Causal => {
                Ok(Sample { sequence: Sequence::new(block.to_vec(), labels().collect())?, place, prefix: 0 })
            }
            Self::Prefix => {
                let source = block.len() / 2;
                let labels =
                    labels().enumerate().map(|(at, label)| if at < source { IGNORE_INDEX } else { label });
                let sequence = Sequence::new(block.to_vec(), labels.collect())?;
                Ok(Sample { sequence, place, prefix: source })
            }
            Self::Masked => {
                let (input_ids, learnt) = mask(block, place, vocabulary, seed);
                Sample::masked(input_ids, learnt, place)
            }
        }
    }
}

/// The block with tokens masked, and the labels: a token where one is learnt.
fn mask(block: &[u32], place: SamplePlace, vocabulary: u32, seed: u64) -> (Vec<u32>, Vec<i64>) {
    let unit = |word: u32| f64::from(word) / 4_294_967_296.0;
    let [low, high] = [seed, seed >> 32].map(|half| u32::try_from(half & 0xFFFF_FFFF).unwrap_or_default());
    let key = [low, MASK_KEY];
    let (mut input_ids, mut labels) = (Vec::new(), Vec::new());
    for (position, &token) in (0..).zip(block) {
        let [learnt, replaced, random, other] = philox([place.sample, place.epoch, position, high], key);
        if unit(learnt) >= MASKED {
            input_ids.push(token);
            labels.push(IGNORE_INDEX);
            continue;
        }
        labels.push(i64::from(token));
        input_ids.push(if unit(replaced) < REPLACED {
            vocabulary - 1
        } else if unit(random) < RANDOM {
            other % vocabulary
        } else {
            token
        });
    }
    (input_ids, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: SamplePlace = SamplePlace { epoch: 1, sample: 3 };

    #[test]
    fn a_causal_sample_learns_every_token_but_the_first() {
        let sample = Objective::Causal.sample(&[3, 4, 5], PLACE, 8, 0).unwrap();
        assert_eq!((sample.sequence.supervised(), sample.prefix), (2, 0));
    }

    #[test]
    fn a_prefix_sample_learns_the_second_half() {
        let sample = Objective::Prefix.sample(&[3, 4, 5, 6], PLACE, 8, 0).unwrap();
        assert_eq!(sample.sequence.labels(), [IGNORE_INDEX, IGNORE_INDEX, 5, 6]);
        assert_eq!((sample.sequence.supervised(), sample.prefix), (2, 2));
    }

    /// Bernoulli counts within six standard deviations of 15 %, and of 80, 10 and 10 % of those.
    #[test]
    fn tokens_are_masked_as_often_as_declared() {
        let (mut all, mut learnt, mut replaced, mut kept) = (0_u32, 0_u32, 0_u32, 0_u32);
        for sample in 0..500 {
            let block = vec![5; 64];
            let (input_ids, labels) = mask(&block, SamplePlace { epoch: 0, sample }, 1000, 9);
            for (&input, &label) in input_ids.iter().zip(&labels) {
                all += 1;
                if label != IGNORE_INDEX {
                    learnt += 1;
                    replaced += u32::from(input == 999);
                    kept += u32::from(input == 5);
                }
            }
        }
        let within = |found: u32, of: u32, probability: f64| {
            let (found, of) = (f64::from(found), f64::from(of));
            let deviation = (of * probability * (1.0 - probability)).sqrt();
            assert!((found - of * probability).abs() < 6.0 * deviation, "{found} of {of}");
        };
        within(learnt, all, MASKED);
        within(replaced, learnt, REPLACED);
        within(kept, learnt, 0.1);
    }
}
