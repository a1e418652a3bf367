//! A model whose logits are known in closed form, and its gradient with them.

use crate::final_norm::FinalNorm;
use lossproof_numerics::vector;
use lossproof_spec::{CompensatedSum, Role};
use lossproof_subject::{ModelInfo, ParameterInfo, Tensor, TensorSet, TensorValues};

/// The logits of a model whose last activations are known, the same at every position.
///
/// Of a model with a bias behind its final gain, and the embedding E for a head, where that gain is zero
/// ([`behind_the_final_norm`](Self::behind_the_final_norm)), they are the final bias b, and the logits are
/// `z = E·b`. Nothing gets through a gain of zero, so of all parameters only E, b and the gain itself have a
/// gradient: with `∂L/∂z` summed over positions that of E is `∂L/∂z ⊗ b`, and that of b is `Eᵀ·∂L/∂z`.
///
/// Of any transformer with a head of its own and normalisation in front of its blocks
/// ([`of_one_embedding`](Self::of_one_embedding)) they are what its norms make of an embedding that is the
/// same for every token. The gradient of the head is `∂L/∂z ⊗ b` again.
///
/// Where the model scales its logits by s and caps them at c ([`ModelInfo`]) they are `c·tanh(s·z/c)` of these z,
/// and what is handed back to z is `s·(1 − tanh²(s·z/c))` of what reaches the logits.
///
/// No subject has to expose its logits for that.
#[derive(Clone, Debug)]
pub struct KnownLogits {
    /// The last activations.
    bias: Vec<f64>,
    /// Row-major, one row for each token: the head.
    embedding: Vec<f64>,
    logits: Vec<f64>,
    /// The derivative of each logit by the product that it is made of: 1 where that is the logit.
    slopes: Vec<f64>,
    /// None of them is larger.
    steepest: f64,
    head: String,
    /// Where the last activations are the bias of the final norm.
    final_norm: Option<FinalNorm>,
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
    /// Makes the logits known whatever the head: [`behind_the_final_norm`](Self::behind_the_final_norm) where that can
    /// be, and [`of_one_embedding`](Self::of_one_embedding) elsewhere.
    pub fn of_any_head(
        parameters: &mut TensorSet,
        declared: &[ParameterInfo],
        model: &ModelInfo,
        activations: Vec<f64>,
        vocabulary: usize,
    ) -> Option<Self> {
        let tied = Self::behind_the_final_norm(parameters, declared, model, activations.clone(), vocabulary);
        tied.or_else(|| Self::of_one_embedding(parameters, declared, model, activations, vocabulary))
    }

    /// Replaces the final gain of `parameters` by zero and their final bias by this one. `None` where the roles
    /// do not say which these are, where the embedding is not said to be tied or there is a head of its own, the
    /// bias has another width, or the embedding has rows that are no tokens: what a padded vocabulary makes of
    /// their logits is not known.
    pub fn behind_the_final_norm(
        parameters: &mut TensorSet,
        declared: &[ParameterInfo],
        model: &ModelInfo,
        bias: Vec<f64>,
        vocabulary: usize,
    ) -> Option<Self> {
        let width = bias.len();
        let mut all = declared.iter().chain(&model.frozen);
        // A head of its own has logits of its own.
        if all.any(|p| matches!(p.role, Role::Head | Role::HeadBias | Role::LogitScale)) {
            return None;
        }
        let norm = FinalNorm::of(declared)?;
        let tied = |p: &&ParameterInfo| p.role == Role::TokenEmbedding && p.tied_to.is_some();
        let embedding = declared.iter().find(tied)?;
        let shape = |name: &str| parameters.get(name).map(Tensor::shape);
        if shape(&embedding.name)? != [vocabulary, width]
            || shape(&norm.gain)? != [width]
            || shape(&norm.bias)? != [width]
        {
            return None;
        }
        let row = |values: Vec<f64>| Tensor::new(vec![width], TensorValues::F64(values)).ok();
        parameters.insert(norm.gain.clone(), row(vec![0.0; width])?);
        parameters.insert(norm.bias.clone(), row(bias.clone())?);
        let rows = parameters.get(&embedding.name)?.to_f64();
        Some(Self::of_head(&embedding.name, rows, bias, Some(norm), model))
    }

    /// Makes a bigram model that knows no bigrams out of a transformer with a head of its own: what its
    /// blocks add to the residual stream is zero, positions, biases and low-rank changes are, and every token
    /// is embedded as ±2²⁴ by turns. Of that a layer norm or a root mean square norm makes exactly ±1, and its
    /// gain these activations.
    ///
    /// `None` where the roles of the parameters do not say all of that, where one that would have to be
    /// replaced is frozen, or the width is odd.
    pub fn of_one_embedding(
        parameters: &mut TensorSet,
        declared: &[ParameterInfo],
        model: &ModelInfo,
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
        let in_the_way = model.frozen.iter().any(|frozen| !only_mixes(frozen.role));
        if !tables || !norms_fit || tied || !writes || in_the_way || !width.is_multiple_of(2) {
            return None;
        }
        let large = LARGE / model.embedding_scale;
        let sign = |index: usize| if index.is_multiple_of(2) { 1.0 } else { -1.0 };
        for parameter in declared {
            let elements: usize = parameter.shape.iter().product();
            let gain = |index: usize| activations[index] * sign(index);
            let values: Vec<f64> = match parameter.role {
                Role::TokenEmbedding => (0..elements).map(|index| large * sign(index)).collect(),
                Role::NormGain | Role::FinalNormGain => (0..width).map(gain).collect(),
                Role::NormGainFromZero => (0..width).map(|index| gain(index) - 1.0).collect(),
                Role::BlockOutput | Role::PositionEmbedding | Role::LowRankOut => vec![0.0; elements],
                role if role.is_scale() => vec![1.0; elements],
                role if role.is_bias() => vec![0.0; elements],
                _ => continue,
            };
            let tensor = Tensor::new(parameter.shape.clone(), TensorValues::F64(values)).ok()?;
            parameters.insert(parameter.name.clone(), tensor)?;
        }
        let rows = parameters.get(&head.name)?.to_f64();
        Some(Self::of_head(&head.name, rows, activations, None, model))
    }

    fn of_head(
        head: &str,
        embedding: Vec<f64>,
        bias: Vec<f64>,
        final_norm: Option<FinalNorm>,
        model: &ModelInfo,
    ) -> Self {
        let product = |row: &[f64]| row.iter().zip(&bias).map(|(e, b)| e * b).collect::<CompensatedSum>();
        let (mut logits, mut slopes) = (Vec::new(), Vec::new());
        for row in embedding.chunks_exact(bias.len().max(1)) {
            let mut logit = model.logit_scale * product(row).value();
            let mut slope = model.logit_scale;
            if let Some(cap) = model.logit_cap {
                let part = logit / cap;
                logit = cap * part.tanh();
                slope *= part.cosh().powi(-2);
            }
            logits.push(logit);
            slopes.push(slope);
        }
        let (head, steepest) = (head.to_owned(), model.logit_scale);
        Self { bias, embedding, logits, slopes, steepest, head, final_norm }
    }

    /// Name of the parameter whose rows make logits of the last activations.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The final norm whose bias the last activations are; where there is one, nothing below it has a gradient.
    #[must_use]
    pub fn final_norm(&self) -> Option<&FinalNorm> {
        self.final_norm.as_ref()
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

    /// By how much the gradient by a logit grows, at most, on its way to the product that the logit is made of.
    #[must_use]
    pub fn steepest(&self) -> f64 {
        self.steepest
    }

    /// The rows of the embedding, one for each token of the vocabulary.
    pub fn embedding_rows(&self) -> impl Iterator<Item = &[f64]> {
        self.embedding.chunks_exact(self.bias.len().max(1))
    }

    /// The gradient of embedding and bias from that by each logit, summed over positions.
    #[must_use]
    pub fn gradient(&self, by_logit: &[f64]) -> KnownGradient {
        let by_product: Vec<f64> = by_logit.iter().zip(&self.slopes).map(|(g, slope)| g * slope).collect();
        let mut embedding = Vec::with_capacity(by_product.len() * self.bias.len());
        for g in &by_product {
            embedding.extend_from_slice(&self.bias);
            let row = embedding.len() - self.bias.len();
            vector::scale(&mut embedding[row..], *g);
        }
        let mut bias = vec![0.0; self.bias.len()];
        for (row, g) in self.embedding_rows().zip(&by_product) {
            vector::add_scaled(&mut bias, *g, row);
        }
        KnownGradient { embedding, bias }
    }

    /// The gradient by each logit, summed over positions, from that of the embedding: the way back from
    /// [`gradient`](Self::gradient).
    #[must_use]
    pub fn by_logit(&self, embedding: &[f64]) -> Vec<f64> {
        let square = vector::dot(&self.bias, &self.bias);
        let along = |row: &[f64]| vector::dot(row, &self.bias) / square;
        let rows = embedding.chunks_exact(self.bias.len().max(1));
        rows.zip(&self.slopes).map(|(row, slope)| along(row) / slope).collect()
    }
}

/// Whether a parameter of a block plays no part where the blocks' outputs are zero: what is inside them, which
/// only they let out.
fn only_mixes(role: Role) -> bool {
    matches!(
        role,
        Role::Query
            | Role::Key
            | Role::QueryKeyValue
            | Role::QueryKeyValueBias
            | Role::QueryBias
            | Role::KeyBias
            | Role::ValueBias
            | Role::LowRankIn
            | Role::Weight
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::new(shape.to_vec(), TensorValues::F64(values.to_vec())).expect("as many values")
    }

    /// What stands at the two ends of a GPT-2, under names of its own.
    fn ends() -> Vec<ParameterInfo> {
        let one =
            |name: &str, role, shape: &[usize]| ParameterInfo { role, ..ParameterInfo::named(name, shape) };
        vec![
            ParameterInfo { tied_to: Some("head".to_owned()), ..one("table", Role::TokenEmbedding, &[3, 2]) },
            one("gain", Role::FinalNormGain, &[2]),
            one("shift", Role::FinalNormBias, &[2]),
        ]
    }

    fn parameters() -> TensorSet {
        TensorSet::from([
            ("table".to_owned(), tensor(&[3, 2], &[1.0, 0.5, -2.0, 0.25, 0.0, 3.0])),
            ("gain".to_owned(), tensor(&[2], &[1.0, 1.0])),
            ("shift".to_owned(), tensor(&[2], &[0.0, 0.0])),
        ])
    }

    fn sealed(
        parameters: &mut TensorSet,
        declared: &[ParameterInfo],
        vocabulary: usize,
    ) -> Option<KnownLogits> {
        let bias = vec![2.0, -4.0];
        KnownLogits::behind_the_final_norm(parameters, declared, &ModelInfo::default(), bias, vocabulary)
    }

    fn of_model(model: &ModelInfo) -> Option<KnownLogits> {
        KnownLogits::behind_the_final_norm(&mut parameters(), &ends(), model, vec![2.0, -4.0], 3)
    }

    #[test]
    fn logits_are_the_embedding_times_the_bias() {
        let mut parameters = parameters();
        let known = sealed(&mut parameters, &ends(), 3).expect("the ends of a GPT-2");
        assert_eq!(known.logits(), [0.0, -5.0, -12.0]);
        assert_eq!(parameters["gain"].to_f64(), [0.0, 0.0]);
        assert_eq!(parameters["shift"].to_f64(), [2.0, -4.0]);
    }

    #[test]
    fn the_gradient_by_logit_is_found_again() {
        let known = sealed(&mut parameters(), &ends(), 3).expect("the ends of a GPT-2");
        let gradient = known.gradient(&[0.5, -0.25, -0.25]);
        assert_eq!(gradient.embedding, [1.0, -2.0, -0.5, 1.0, -0.5, 1.0]);
        assert_eq!(gradient.bias, [1.0, -0.5625]);
        assert_eq!(known.by_logit(&gradient.embedding), [0.5, -0.25, -0.25]);
    }

    #[test]
    fn a_cap_bends_logits_and_what_reaches_the_head() {
        let model = ModelInfo { logit_cap: Some(10.0), ..ModelInfo::default() };
        let capped = of_model(&model).expect("the ends of a GPT-2");
        let expected = [0.0, -0.5, -1.2].map(|part: f64| 10.0 * part.tanh());
        assert_eq!(capped.logits(), expected);
        let by_logit = [0.5, -0.25, -0.25];
        let gradient = capped.gradient(&by_logit);
        // 1 − tanh²(½) of −¼·2.
        let slope = 1.0 - 0.5_f64.tanh().powi(2);
        assert!((gradient.embedding[2] + 0.5 * slope).abs() < 1e-15);
        for (found, due) in capped.by_logit(&gradient.embedding).iter().zip(by_logit) {
            assert!((found - due).abs() < 1e-15);
        }
    }

    #[test]
    fn a_scale_multiplies_logits_before_their_cap_and_what_reaches_the_head() {
        let scaled = ModelInfo { logit_scale: 0.125, ..ModelInfo::default() };
        let known = of_model(&scaled).expect("the ends of a GPT-2");
        assert_eq!(known.logits(), [0.0, -0.625, -1.5]);
        let gradient = known.gradient(&[0.5, -0.25, -0.25]);
        assert_eq!(gradient.embedding, [0.125, -0.25, -0.0625, 0.125, -0.0625, 0.125]);
        assert_eq!(gradient.bias, [0.125, -0.070_312_5]);
        assert_eq!(known.by_logit(&gradient.embedding), [0.5, -0.25, -0.25]);
        let capped = ModelInfo { logit_cap: Some(1.0), ..scaled };
        let known = of_model(&capped).expect("the ends of a GPT-2");
        assert_eq!(known.logits(), [0.0, -0.625_f64.tanh(), -1.5_f64.tanh()]);
        let slope = 0.125 * (1.0 - 1.5_f64.tanh().powi(2));
        assert!((known.gradient(&[0.0, 0.0, 1.0]).embedding[4] - 2.0 * slope).abs() < 1e-15);
    }

    /// A transformer with one block's output, and a head of its own.
    fn declared() -> Vec<ParameterInfo> {
        let mut all = Vec::new();
        for (name, shape) in [
            ("embed_tokens.weight", &[3, 2][..]),
            ("layers.0.self_attn.o_proj.weight", &[2, 2]),
            ("norm.weight", &[2]),
            ("lm_head.weight", &[3, 2]),
        ] {
            all.push(ParameterInfo::named(name, shape));
        }
        all
    }

    fn imposed(declared: &[ParameterInfo], model: &ModelInfo) -> Option<(TensorSet, KnownLogits)> {
        let ones = |p: &ParameterInfo| {
            (p.name.clone(), tensor(&p.shape, &vec![1.0; p.shape.iter().product::<usize>()]))
        };
        let mut parameters: TensorSet = declared.iter().map(ones).collect();
        let known = KnownLogits::of_one_embedding(&mut parameters, declared, model, vec![2.0, -4.0], 3)?;
        Some((parameters, known))
    }

    #[test]
    fn scales_and_low_rank_changes_are_taken_out_of_the_way() {
        let mut declared = declared();
        for (name, role, shape) in [
            ("factor", Role::EmbeddingScale, vec![]),
            ("sharpness", Role::LogitScale, vec![1]),
            ("layers.0.self_attn.o_proj.lora_B.weight", Role::LowRankOut, vec![2, 1]),
        ] {
            declared.push(ParameterInfo { role, ..ParameterInfo::named(name, &shape) });
        }
        let model = ModelInfo { embedding_scale: 4.0, ..ModelInfo::default() };
        let (parameters, known) = imposed(&declared, &model).expect("everything is declared");
        assert_eq!(known.logits(), [-2.0; 3]);
        let embedded = parameters["embed_tokens.weight"].to_f64();
        assert_eq!(embedded[..2], [LARGE / 4.0, -LARGE / 4.0]);
        assert_eq!(parameters["factor"].to_f64(), [1.0]);
        assert_eq!(parameters["sharpness"].to_f64(), [1.0]);
        assert_eq!(parameters["layers.0.self_attn.o_proj.lora_B.weight"].to_f64(), [0.0; 2]);
    }

    #[test]
    fn what_is_frozen_cannot_be_taken_out_of_the_way() {
        let frozen = |name: &str| {
            let frozen = vec![ParameterInfo::named(name, &[2, 2])];
            ModelInfo { frozen, ..ModelInfo::default() }
        };
        assert!(imposed(&declared(), &frozen("layers.0.self_attn.q_proj.weight")).is_some());
        assert!(imposed(&declared(), &frozen("layers.0.mlp.gate_proj.weight")).is_some());
        assert!(imposed(&declared(), &frozen("layers.0.mlp.down_proj.weight")).is_none());
        assert!(imposed(&declared(), &frozen("layers.0.mlp.gate_proj.bias")).is_none());
    }

    #[test]
    fn a_head_of_its_own_or_another_norm_says_nothing_of_the_final_bias() {
        let with = |name: &str, role: Role| {
            let mut declared = ends();
            declared.push(ParameterInfo { role, ..ParameterInfo::named(name, &[2]) });
            declared
        };
        assert!(sealed(&mut parameters(), &with("ln_1", Role::NormGain), 3).is_some());
        assert!(sealed(&mut parameters(), &with("out", Role::Head), 3).is_none());
        assert!(sealed(&mut parameters(), &with("out", Role::HeadBias), 3).is_none());
        assert!(sealed(&mut parameters(), &with("gain_2", Role::FinalNormGain), 3).is_none(), "which one?");
        assert!(sealed(&mut parameters(), &ends()[..2], 3).is_none(), "no bias");
        assert!(sealed(&mut parameters(), &ends(), 2).is_none(), "a row that is no token");
        let head = vec![ParameterInfo::named("lm_head.weight", &[3, 2])];
        assert!(of_model(&ModelInfo { frozen: head, ..ModelInfo::default() }).is_none(), "a frozen head");
        let (model, wide) = (ModelInfo::default(), vec![1.0; 3]);
        let known = KnownLogits::behind_the_final_norm(&mut parameters(), &ends(), &model, wide, 3);
        assert!(known.is_none(), "another width");
    }
}
