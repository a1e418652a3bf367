//! A model whose logits are known in closed form, and its gradient with them.

use crate::names::{BIAS, EMBEDDING, GAIN, head_of_its_own};
use lossproof_spec::{CompensatedSum, Role};
use lossproof_subject::{ParameterInfo, Tensor, TensorSet, TensorValues};

/// The logits of a model whose last activations are known, the same at every position.
///
/// Of a GPT-2 whose final gain is zero ([`impose`](Self::impose)) they are the final bias b, and the logits
/// are
/// `z = E·b`, the embedding E being the head. Nothing gets through a gain of zero, so of all parameters only
/// E, b and the gain itself have a gradient: with `∂L/∂z` summed over positions that of E is `∂L/∂z ⊗ b`, and
/// that of b is `Eᵀ·∂L/∂z`.
///
/// Of any transformer with a head of its own, normalisation in front of its blocks and declared roles
/// ([`impose_by_roles`](Self::impose_by_roles)) they are what its norms make of an embedding that is the same
/// for every token. The gradient of the head is `∂L/∂z ⊗ b` again.
///
/// No subject has to expose its logits for that.
#[derive(Clone, Debug)]
pub struct KnownLogits {
    /// The last activations.
    bias: Vec<f64>,
    /// Row-major, one row for each token: the head.
    embedding: Vec<f64>,
    logits: Vec<f64>,
    head: String,
    /// The parameter that the last activations are, where they are one.
    bias_name: Option<&'static str>,
}

/// The size of an embedding's elements beside which no ε of a norm has a digit, in f32 and in f64: its square
/// has 48 binary digits in front of the point.
const LARGE: f64 = 16_777_216.0;

/// The gradient of a model with known logits.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownGradient {
    /// That of the embedding, row-major.
    pub embedding: Vec<f64>,
    /// That of the final bias.
    pub bias: Vec<f64>,
}

impl KnownLogits {
    /// Replaces the final gain of `parameters` by zero and their final bias by this one. `None` where they
    /// are not those of a GPT-2 whose head is the embedding, the bias has another width, or the embedding has
    /// rows that are no tokens: what a padded vocabulary makes of their logits is not known.
    pub fn impose(parameters: &mut TensorSet, bias: Vec<f64>, vocabulary: usize) -> Option<Self> {
        // A head of its own has logits of its own.
        if head_of_its_own(parameters.keys()) {
            return None;
        }
        let width = bias.len();
        if parameters.get(EMBEDDING)?.shape().first() != Some(&vocabulary) {
            return None;
        }
        let replace = |parameters: &mut TensorSet, name: &str, values: Vec<f64>| {
            let shape = parameters.get(name)?.shape().to_vec();
            let tensor = Tensor::new(shape, TensorValues::F64(values)).ok()?;
            parameters.insert(name.to_owned(), tensor)
        };
        replace(parameters, GAIN, vec![0.0; width])?;
        replace(parameters, BIAS, bias.clone())?;
        let embedding = parameters.get(EMBEDDING)?.to_f64();
        Some(Self::of_head(EMBEDDING, embedding, bias, Some(BIAS)))
    }

    /// Makes a bigram model that knows no bigrams out of a transformer with a head of its own: what its
    /// blocks add to the residual stream is zero, positions and biases are, and every token is embedded as
    /// ±2²⁴ by turns. Of that a layer norm or a root mean square norm makes exactly ±1, and its gain these
    /// activations.
    ///
    /// `None` where the roles of the parameters do not say all of that, or the width is odd.
    pub fn impose_by_roles(
        parameters: &mut TensorSet,
        declared: &[ParameterInfo],
        activations: Vec<f64>,
        vocabulary: usize,
    ) -> Option<Self> {
        let width = activations.len();
        let of_role = |role: Role| declared.iter().filter(move |parameter| parameter.role == role);
        let (embedding, head) = (of_role(Role::TokenEmbedding).next()?, of_role(Role::Head).next()?);
        let tables = embedding.shape == [vocabulary, width] && head.shape == [vocabulary, width];
        let norms = declared.iter().filter(|parameter| parameter.role.is_gain());
        let norms_fit = norms.clone().count() > 0 && norms.clone().all(|norm| norm.shape == [width]);
        let tied = declared.iter().any(|parameter| parameter.tied_to.is_some());
        let writes = of_role(Role::BlockOutput).next().is_some();
        if !tables || !norms_fit || tied || !writes || !width.is_multiple_of(2) {
            return None;
        }
        let sign = |index: usize| if index.is_multiple_of(2) { 1.0 } else { -1.0 };
        for parameter in declared {
            let elements: usize = parameter.shape.iter().product();
            let gain = |index: usize| activations[index] * sign(index);
            let values: Vec<f64> = match parameter.role {
                Role::TokenEmbedding => (0..elements).map(|index| LARGE * sign(index)).collect(),
                Role::NormGain => (0..width).map(gain).collect(),
                Role::NormGainFromZero => (0..width).map(|index| gain(index) - 1.0).collect(),
                Role::BlockOutput | Role::PositionEmbedding => vec![0.0; elements],
                role if role.is_bias() => vec![0.0; elements],
                _ => continue,
            };
            let tensor = Tensor::new(parameter.shape.clone(), TensorValues::F64(values)).ok()?;
            parameters.insert(parameter.name.clone(), tensor)?;
        }
        let rows = parameters.get(&head.name)?.to_f64();
        Some(Self::of_head(&head.name, rows, activations, None))
    }

    fn of_head(head: &str, embedding: Vec<f64>, bias: Vec<f64>, bias_name: Option<&'static str>) -> Self {
        let product = |row: &[f64]| row.iter().zip(&bias).map(|(e, b)| e * b).collect::<CompensatedSum>();
        let logits = embedding.chunks_exact(bias.len().max(1)).map(|row| product(row).value()).collect();
        Self { bias, embedding, logits, head: head.to_owned(), bias_name }
    }

    /// Name of the parameter whose rows make logits of the last activations.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Name of the parameter that the last activations are; where they are one, nothing below the head has a
    /// gradient.
    #[must_use]
    pub fn bias_name(&self) -> Option<&str> {
        self.bias_name
    }

    /// The logits, the same at every position: one for each token of the vocabulary.
    #[must_use]
    pub fn logits(&self) -> &[f64] {
        &self.logits
    }

    /// The final bias b, which is the hidden state at every position.
    #[must_use]
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// The rows of the embedding, one for each token of the vocabulary.
    pub fn embedding_rows(&self) -> impl Iterator<Item = &[f64]> {
        self.embedding.chunks_exact(self.bias.len().max(1))
    }

    /// The gradient of embedding and bias from that by each logit, summed over positions.
    #[must_use]
    pub fn gradient(&self, by_logit: &[f64]) -> KnownGradient {
        let embedding = by_logit.iter().flat_map(|g| self.bias.iter().map(move |b| g * b)).collect();
        let mut bias = vec![0.0; self.bias.len()];
        for (row, g) in self.embedding_rows().zip(by_logit) {
            for (sum, e) in bias.iter_mut().zip(row) {
                *sum += g * e;
            }
        }
        KnownGradient { embedding, bias }
    }

    /// The gradient by each logit, summed over positions, from that of the embedding: the way back from
    /// [`gradient`](Self::gradient).
    #[must_use]
    pub fn by_logit(&self, embedding: &[f64]) -> Vec<f64> {
        let square: f64 = self.bias.iter().map(|b| b * b).sum();
        let along = |row: &[f64]| row.iter().zip(&self.bias).map(|(g, b)| g * b).sum::<f64>() / square;
        embedding.chunks_exact(self.bias.len().max(1)).map(along).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::new(shape.to_vec(), TensorValues::F64(values.to_vec())).expect("as many values")
    }

    fn parameters() -> TensorSet {
        TensorSet::from([
            (EMBEDDING.to_owned(), tensor(&[3, 2], &[1.0, 0.5, -2.0, 0.25, 0.0, 3.0])),
            (GAIN.to_owned(), tensor(&[2], &[1.0, 1.0])),
            (BIAS.to_owned(), tensor(&[2], &[0.0, 0.0])),
        ])
    }

    #[test]
    fn logits_are_the_embedding_times_the_bias() {
        let mut parameters = parameters();
        let known = KnownLogits::impose(&mut parameters, vec![2.0, -4.0], 3).expect("a GPT-2's parameters");
        assert_eq!(known.logits(), [0.0, -5.0, -12.0]);
        assert_eq!(parameters[GAIN].to_f64(), [0.0, 0.0]);
        assert_eq!(parameters[BIAS].to_f64(), [2.0, -4.0]);
    }

    #[test]
    fn the_gradient_by_logit_is_found_again() {
        let known = KnownLogits::impose(&mut parameters(), vec![2.0, -4.0], 3).expect("a GPT-2's parameters");
        let gradient = known.gradient(&[0.5, -0.25, -0.25]);
        assert_eq!(gradient.embedding, [1.0, -2.0, -0.5, 1.0, -0.5, 1.0]);
        assert_eq!(gradient.bias, [1.0, -0.5625]);
        assert_eq!(known.by_logit(&gradient.embedding), [0.5, -0.25, -0.25]);
    }

    #[test]
    fn what_is_no_gpt2_with_a_tied_head_has_no_known_logits() {
        let mut untied = parameters();
        untied.insert("lm_head.weight".to_owned(), tensor(&[3, 2], &[0.0; 6]));
        assert!(KnownLogits::impose(&mut untied, vec![2.0, -4.0], 3).is_none());
        assert!(KnownLogits::impose(&mut parameters(), vec![1.0; 3], 3).is_none(), "another width");
        let padded = KnownLogits::impose(&mut parameters(), vec![2.0, -4.0], 2);
        assert!(padded.is_none(), "a row that is no token");
        let mut without = parameters();
        without.remove(EMBEDDING);
        assert!(KnownLogits::impose(&mut without, vec![2.0, -4.0], 3).is_none());
    }
}
