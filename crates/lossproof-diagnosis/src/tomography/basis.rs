//! The gradients a weight vector refers to: one per unknown.

use super::{
    Precision, TomographyError,
    precision::{accumulated, checked},
};
use lossproof_numerics::Equations;
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, Prediction, Sequence, SequenceFields};
use lossproof_subject::{Collect, Subject, Tensor, TensorSet};
use std::{collections::BTreeSet, ops::Range};

/// One gradient per unknown, all of the same tensors, in f64: for small models.
///
/// The tensors are divided into *parts*, the units in which a residual is reported: a parameter, or the
/// query, key and value columns of a fused attention projection (`h.0.attn.c_attn.weight[key]`).
#[derive(Clone, Debug)]
pub struct Basis {
    columns: Vec<BasisColumn>,
    parts: Vec<TensorPart>,
    /// Bound on the relative error of a factor that all columns have in common.
    common_error: f64,
    undetermined: Vec<String>,
}

#[derive(Clone, Debug)]
struct BasisColumn {
    name: String,
    /// Bound on its error, relative to its norm in each parameter.
    error: f64,
    /// By part.
    values: Vec<Vec<f64>>,
}

/// Some columns of a parameter, seen as rows of its last dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorPart {
    pub(super) name: String,
    pub(super) parameter: String,
    shape: Vec<usize>,
    columns: Range<usize>,
}

/// The names of the parts of a fused projection.
const FUSED: [&str; 3] = ["query", "key", "value"];

impl TensorPart {
    fn of(parameter: &str, tensor: &Tensor) -> Vec<Self> {
        let shape = tensor.shape().to_vec();
        let width = shape.last().copied().unwrap_or(1);
        let fused = parameter.ends_with("attn.c_attn.weight") || parameter.ends_with("attn.c_attn.bias");
        let part = |name: String, columns: Range<usize>| Self {
            name,
            parameter: parameter.to_owned(),
            shape: shape.clone(),
            columns,
        };
        if !fused || width % FUSED.len() != 0 {
            return vec![part(parameter.to_owned(), 0..width)];
        }
        let third = width / FUSED.len();
        let parts = FUSED.iter().zip(0..);
        parts.map(|(kind, i)| part(format!("{parameter}[{kind}]"), i * third..(i + 1) * third)).collect()
    }

    fn gather(&self, tensor: &Tensor) -> Vec<f64> {
        let width = self.shape.last().copied().unwrap_or(1).max(1);
        let row = |start: usize| self.columns.clone().map(move |column| tensor.get(start + column));
        (0..tensor.elements()).step_by(width).flat_map(row).collect()
    }
}

/// How a prediction is called where it is an unknown: `prediction 3: sequence 1, position 0 -> token 17`.
pub(super) fn prediction_name(index: usize, prediction: &Prediction) -> String {
    let Prediction { sequence, position, target, .. } = prediction;
    format!("prediction {index}: sequence {sequence}, position {position} -> token {target}")
}

impl Basis {
    /// A basis of any named gradients. `error` bounds the error of each, relative to its norm in each
    /// parameter; for gradients computed by a subject that is [`Precision::gradient`].
    ///
    /// # Errors
    /// When there is no gradient, they have not all the same tensors, or one is not finite.
    pub(super) fn new(
        gradients: impl IntoIterator<Item = (String, TensorSet)>,
        error: f64,
    ) -> Result<Self, TomographyError> {
        let mut basis =
            Self { columns: Vec::new(), parts: Vec::new(), common_error: 0.0, undetermined: Vec::new() };
        for (name, gradient) in gradients {
            if basis.columns.is_empty() {
                basis.parts =
                    gradient.iter().flat_map(|(name, tensor)| TensorPart::of(name, tensor)).collect();
            }
            let values = basis.gather(&name, &gradient)?;
            basis.columns.push(BasisColumn { name, error, values });
        }
        if basis.columns.is_empty() || basis.parts.is_empty() {
            return Err(TomographyError::Nothing { what: "unknown", remedy: "give at least one gradient" });
        }
        Ok(basis)
    }

    /// The token losses of a batch, as a reference computes them: `∇ℓ_t` of every prediction, the ignored
    /// ones included with their `targets`. `spec` is the subject's; its label smoothing and z-loss are part
    /// of the token loss.
    ///
    /// The reference must hold the same parameters as the subject. Predictions that no batch can supervise
    /// (made from or about padding) have no column.
    ///
    /// A residual over this basis is the subject's own: see
    /// [`Tomogram::unexplained`](super::Tomogram::unexplained).
    ///
    /// # Errors
    /// When the reference fails, or the batch makes no prediction.
    pub fn of_reference(
        reference: &mut dyn Subject,
        spec: &LossSpec,
        batch: &GlobalBatch,
    ) -> Result<Self, TomographyError> {
        let gradients = token_gradients(reference, spec, batch)?;
        let precision = Precision::of(reference, batch, 0.0);
        Self::of_token_gradients(batch, gradients, precision.gradient)
    }

    /// The token losses of a batch from the gradients of all its predictions in order, as [`token_gradients`] computes
    /// them; `error` bounds the error of each, relative to its norm.
    ///
    /// # Errors
    /// When there is another number of them than of predictions, or they have not the same tensors.
    pub fn of_token_gradients(
        batch: &GlobalBatch,
        gradients: Vec<TensorSet>,
        error: f64,
    ) -> Result<Self, TomographyError> {
        let (singles, padding) = singles(batch);
        if singles.len() != gradients.len() {
            return Err(TomographyError::TokenGradients { found: gradients.len(), expected: singles.len() });
        }
        let named = singles.into_iter().zip(gradients).map(|(single, gradient)| (single.name, gradient));
        Ok(Self::new(named, error)?.leaving_open(padding))
    }

    /// Says in words what this basis cannot tell.
    pub(super) fn leaving_open(mut self, what: impl IntoIterator<Item = String>) -> Self {
        self.undetermined.extend(what);
        self
    }

    /// Number of unknowns.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The names of the unknowns.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// What this basis cannot tell, in words.
    pub(super) fn undetermined(&self) -> &[String] {
        &self.undetermined
    }

    /// Bound on the error of each column, relative to its norm.
    pub(super) fn errors(&self) -> Vec<f64> {
        self.columns.iter().map(|column| column.error).collect()
    }

    pub(super) fn parts(&self) -> &[TensorPart] {
        &self.parts
    }

    /// Divides every gradient by a factor that is known to a relative error.
    pub(super) fn over(mut self, factor: f64, error: f64) -> Self {
        for column in &mut self.columns {
            column.values.iter_mut().flatten().for_each(|value| *value /= factor);
        }
        self.common_error += error;
        self
    }

    pub(super) fn common_error(&self) -> f64 {
        self.common_error
    }

    /// `Σ_t w_t·∇ℓ_t ≈ g` over each part.
    pub(super) fn equations(&self, gradient: &TensorSet) -> Result<Vec<Equations>, TomographyError> {
        let right = self.gather("the gradient", gradient)?;
        let part = |(part, right): (usize, &Vec<f64>)| {
            let columns: Vec<_> = self.columns.iter().map(|column| &column.values[part]).collect();
            Ok(Equations::new(&columns, right)?)
        };
        right.iter().enumerate().map(part).collect()
    }

    /// The values of a gradient by part. A tensor without a part would go unexplained unseen.
    fn gather(&self, of: &str, gradient: &TensorSet) -> Result<Vec<Vec<f64>>, TomographyError> {
        let known: BTreeSet<&str> = self.parts.iter().map(|part| part.parameter.as_str()).collect();
        if let Some((name, tensor)) = gradient.iter().find(|(name, _)| !known.contains(name.as_str())) {
            let (parameter, shape) = (name.clone(), tensor.shape().to_vec());
            return Err(TomographyError::Tensor { of: "the basis".to_owned(), parameter, shape });
        }
        let values = |part: &TensorPart| {
            let tensor = gradient.get(&part.parameter).filter(|tensor| tensor.shape() == part.shape);
            let tensor = tensor.ok_or_else(|| TomographyError::Tensor {
                of: of.to_owned(),
                parameter: part.parameter.clone(),
                shape: part.shape.clone(),
            })?;
            let values = part.gather(tensor);
            if values.iter().all(|value| value.is_finite()) {
                return Ok(values);
            }
            let parameter = part.parameter.clone();
            Err(TomographyError::NotFinite { of: of.to_owned(), parameter })
        };
        self.parts.iter().map(values).collect()
    }
}

/// One prediction of a batch, and its sequence with that prediction alone supervised.
pub(super) struct Single {
    /// Its place among all predictions.
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) prediction: Prediction,
    pub(super) sequence: Sequence,
}

/// Every prediction of a batch that can be supervised alone, and in words those that cannot.
pub(super) fn singles(batch: &GlobalBatch) -> (Vec<Single>, Vec<String>) {
    let sequences: Vec<&Sequence> = batch.sequences().collect();
    let (mut singles, mut padding) = (Vec::new(), Vec::new());
    for (place, prediction) in batch.predictions().enumerate() {
        let name = prediction_name(place, &prediction);
        let whole = sequences[prediction.sequence];
        match supervising(whole, prediction.position, prediction.target) {
            Some(sequence) => singles.push(Single { place, name, prediction, sequence }),
            None => padding.push(format!("{name}: made from or about padding, it has no loss")),
        }
    }
    (singles, padding)
}

/// A sequence with one label, of the prediction made at `position`; `None` where that is or sees padding.
pub(super) fn supervising(sequence: &Sequence, position: usize, label: u32) -> Option<Sequence> {
    let mut fields = SequenceFields::from(sequence.clone());
    fields.labels.fill(IGNORE_INDEX);
    fields.labels[position + 1] = i64::from(label);
    fields.targets[position + 1] = label;
    Sequence::from_fields(fields).ok()
}

/// `∇ℓ_t` of every prediction of a batch that can be supervised alone, in order, as a reference computes them at its
/// parameters. The label smoothing and z-loss of `spec` are part of the token loss.
///
/// # Errors
/// When the reference fails.
pub fn token_gradients(
    reference: &mut dyn Subject,
    spec: &LossSpec,
    batch: &GlobalBatch,
) -> Result<Vec<TensorSet>, TomographyError> {
    let mut reference = checked(reference)?;
    let token_loss =
        LossSpec { label_smoothing: spec.label_smoothing, z_loss: spec.z_loss, ..LossSpec::sum() };
    reference.configure(&token_loss)?;
    let mut gradients = Vec::new();
    for Single { prediction, sequence, .. } in singles(batch).0 {
        gradients.push(one_token(&mut reference, prediction, sequence)?);
    }
    Ok(gradients)
}

/// `∇ℓ_t` of the one supervised prediction of a sequence, under the sum that is in force.
fn one_token(
    reference: &mut dyn Subject,
    prediction: Prediction,
    sequence: Sequence,
) -> Result<TensorSet, TomographyError> {
    let predictions = sequence.len() - 1;
    let batch = GlobalBatch::single(sequence);
    let Some(upstream) = reference.upstream_weights() else {
        return Ok(accumulated(reference, &batch)?.1);
    };
    let mut weights = vec![0.0; predictions];
    weights[prediction.position] = 1.0;
    let mut sink = Collect::default();
    upstream.backward(&batch, &weights, &mut sink)?;
    Ok(sink.into_tensors())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tomography::toy;
    use lossproof_subject::TensorValues;

    fn set(shape: &[usize], values: &[f64]) -> TensorSet {
        let tensor = Tensor::new(shape.to_vec(), TensorValues::F64(values.to_vec())).unwrap();
        TensorSet::from([("h.0.attn.c_attn.weight".to_owned(), tensor)])
    }

    #[test]
    fn a_fused_projection_has_three_parts() {
        let gradient = set(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let basis = Basis::new([("x".to_owned(), gradient)], 0.0).unwrap();
        let names: Vec<_> = basis.parts.iter().map(|part| part.name.rsplit('[').next().unwrap()).collect();
        assert_eq!(names, ["query]", "key]", "value]"]);
        assert_eq!(basis.columns[0].values, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    }

    #[test]
    fn gradients_that_do_not_belong_together_are_refused_by_name() {
        let (one, other) = (set(&[1, 3], &[1.0; 3]), set(&[1, 6], &[1.0; 6]));
        let named = |name: &str, set: &TensorSet| (name.to_owned(), set.clone());
        let error = Basis::new([named("a", &one), named("b", &other)], 0.0).unwrap_err();
        assert!(matches!(error, TomographyError::Tensor { of, .. } if of == "b"));
        let broken = set(&[1, 3], &[1.0, f64::NAN, 1.0]);
        let error = Basis::new([named("a", &one), named("c", &broken)], 0.0).unwrap_err();
        assert!(matches!(error, TomographyError::NotFinite { of, .. } if of == "c"));
        assert!(matches!(Basis::new([], 0.0), Err(TomographyError::Nothing { .. })));
    }

    #[test]
    fn a_tensor_that_one_gradient_alone_has_is_refused() {
        let few = set(&[1, 3], &[1.0, 2.0, 4.0]);
        let mut more = few.clone();
        more.insert("x".to_owned(), few["h.0.attn.c_attn.weight"].clone());
        let named = |name: &str, set: &TensorSet| (name.to_owned(), set.clone());
        let lacks = |error: TomographyError| match error {
            TomographyError::Tensor { of, parameter, .. } => {
                assert_eq!(parameter, "x");
                of
            }
            error => panic!("{error}"),
        };
        assert_eq!(lacks(Basis::new([named("a", &more), named("b", &few)], 0.0).unwrap_err()), "b");
        assert_eq!(lacks(Basis::new([named("a", &few), named("b", &more)], 0.0).unwrap_err()), "the basis");
        let basis = |set: &TensorSet| Basis::new([named("a", set)], 0.0).unwrap();
        assert_eq!(lacks(basis(&more).equations(&few).unwrap_err()), "the gradient");
        assert_eq!(lacks(basis(&few).equations(&more).unwrap_err()), "the basis");
        assert!(basis(&more).equations(&more).is_ok());
    }

    #[test]
    fn every_prediction_is_an_unknown_but_those_of_padding() {
        let batch = toy::batch([5, 3, 4, 2], |index, p| index == 0 && p == 2);
        let basis = Basis::of_reference(&mut toy::Toy::new(), &LossSpec::sum(), &batch).unwrap();
        assert_eq!(basis.len(), 10);
        let target = batch.sequences().next().unwrap().targets()[2];
        let name = format!("prediction 1: sequence 0, position 1 -> token {target}");
        assert_eq!(basis.names().nth(1), Some(name.as_str()));
        let fields = SequenceFields {
            input_ids: vec![1, 2, 3, 0],
            labels: vec![1, 2, 3, IGNORE_INDEX],
            segment_ids: vec![1, 1, 1, 0],
            ..SequenceFields::default()
        };
        let batch = GlobalBatch::single(Sequence::from_fields(fields).unwrap());
        let basis = Basis::of_reference(&mut toy::Toy::new(), &LossSpec::sum(), &batch).unwrap();
        assert_eq!((basis.len(), basis.undetermined().len()), (2, 1));
        assert!(basis.undetermined()[0].starts_with("prediction 2"), "{:?}", basis.undetermined());
    }
}
