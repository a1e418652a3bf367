//! Answers to an export, held to what is expected: the loss, every gradient, and what each token weighs in it.

use crate::{
    Answer, DumpError, DumpedLoss, Folder, FolderError, Manifest,
    gradients::{LOSS, coarser},
};
use lossproof_diagnosis::{
    inference::{BeyondLayout, explain_ratio},
    tomography::{Agreement, Basis, Precision, Scan},
};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch, LossSpec, TokenWeights, to_f64};
use lossproof_subject::TensorSet;
use std::collections::BTreeMap;

/// A loss beside the one that is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedLoss {
    /// What is expected.
    pub expected: f64,
    /// What was left.
    pub found: f64,
    /// Bound on their difference.
    pub bound: f64,
    /// What their quotient is on this layout, in words, where it has a name.
    pub explained: Option<String>,
    /// Whether it is the loss that the gradient is the gradient of: the token losses with the weights that were
    /// recovered. `None` where these are not known.
    pub of_the_gradient: Option<bool>,
}

impl CheckedLoss {
    /// Whether it is the one that is expected.
    #[must_use]
    pub fn agrees(&self) -> bool {
        (self.found - self.expected).abs() <= self.bound
    }
}

/// What became of a case.
#[derive(Debug)]
pub enum Outcome {
    /// There is no answer.
    Missing,
    /// The answer cannot be read.
    Unreadable(DumpError),
    /// It was held to what is expected.
    Checked {
        /// The answer.
        answer: Box<Answer>,
        /// The loss, where it was left.
        loss: Option<CheckedLoss>,
        /// The parameter whose gradient is furthest off, and by how much of its size.
        worst: Option<(String, f64)>,
        /// What the gradient shows, or why it shows nothing.
        scan: Box<Result<Scan, String>>,
    },
}

/// A case, and what became of it.
#[derive(Debug)]
pub struct CheckedCase {
    /// Its name.
    pub name: String,
    /// Its batch.
    pub batch: GlobalBatch,
    /// What became of it.
    pub outcome: Outcome,
}

impl CheckedCase {
    /// Whether the answer is what is expected; undecided where there is none.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        match &self.outcome {
            Outcome::Missing => Agreement::Undecided,
            Outcome::Unreadable(_) => Agreement::Disagrees,
            Outcome::Checked { answer, loss, scan, .. } => {
                let loss_off = loss.as_ref().is_some_and(|loss| !loss.agrees());
                match &**scan {
                    _ if loss_off || !answer.is_whole() => Agreement::Disagrees,
                    Err(_) => Agreement::Disagrees,
                    Ok(scan) => scan.agreement(),
                }
            }
        }
    }
}

/// Holds every answer in a folder to what is expected. The precision is that of the coarsest element type
/// that was left, or of `dtype`, for a trainer that computed in a coarser one.
///
/// # Errors
/// When the export itself cannot be read.
pub fn check(folder: &Folder, dtype: Option<Dtype>) -> Result<(Manifest, Vec<CheckedCase>), FolderError> {
    let manifest = folder.manifest()?;
    let mut cases = Vec::new();
    for name in &manifest.cases {
        let batch = folder.batch(name)?;
        let outcome = if folder.answer_file(name).exists() {
            Case::read(folder, &manifest, name, &batch)?.outcome(folder, dtype)
        } else {
            Outcome::Missing
        };
        cases.push(CheckedCase { name: name.clone(), batch, outcome });
    }
    Ok((manifest, cases))
}

/// A case with what is expected of it.
struct Case<'a> {
    name: &'a str,
    batch: &'a GlobalBatch,
    claim: LossSpec,
    model: ErrorModel,
    reference: String,
    loss: f64,
    token_losses: Vec<f64>,
    gradients: TensorSet,
    basis: Basis,
}

impl<'a> Case<'a> {
    fn read(
        folder: &Folder,
        manifest: &Manifest,
        name: &'a str,
        batch: &'a GlobalBatch,
    ) -> Result<Self, FolderError> {
        let path = folder.expected_file(name);
        let changed = |problem: String| FolderError::changed(&path, &problem);
        let mut expected = Folder::tensors(&path)?;
        let mut take =
            |name: &str| expected.remove(name).ok_or_else(|| changed(format!("it has no `{name}`")));
        let loss = take(LOSS)?.to_f64().first().copied();
        let loss = loss.ok_or_else(|| changed("its loss is empty".to_owned()))?;
        let token_losses = take("token_losses")?.to_f64();
        let count = batch.predictions().count();
        if token_losses.len() != count {
            return Err(changed(format!("{} token losses for {count} predictions", token_losses.len())));
        }
        let gradients: TensorSet = expected
            .into_iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("gradients/")?.to_owned(), tensor)))
            .collect();
        let sizes = &manifest.model;
        let model = ErrorModel::new(sizes.vocabulary, sizes.width, sizes.heads, sizes.layers, batch);
        let basis = basis(folder, name, batch, Precision::new(&model, Dtype::F64, 0.0).gradient)?;
        Ok(Self {
            name,
            batch,
            claim: manifest.claim,
            model,
            reference: manifest.reference.clone(),
            loss,
            token_losses,
            gradients,
            basis,
        })
    }

    fn outcome(&self, folder: &Folder, dtype: Option<Dtype>) -> Outcome {
        let answer = match Answer::read(&folder.answer_file(self.name), &self.gradients) {
            Ok(answer) => answer,
            Err(error) => return Outcome::Unreadable(error),
        };
        let dtype = dtype.map_or(answer.dtype, |given| coarser(given, answer.dtype));
        let precision = Precision::new(&self.model, dtype, 0.0);
        let scan = Scan::of_dump(
            self.batch,
            &self.claim,
            &self.basis,
            &answer.gradients,
            &precision,
            self.reference.clone(),
        );
        // A loss may have been written in a coarser type than the gradients.
        let of_loss = |loss: DumpedLoss| Precision::new(&self.model, coarser(dtype, loss.dtype), 0.0);
        let loss = answer.loss.map(|loss| self.loss(loss.value, &of_loss(loss), scan.as_ref().ok()));
        let scan = Box::new(scan.map_err(|error| error.to_string()));
        let worst = self.worst(&answer);
        Outcome::Checked { answer: Box::new(answer), loss, worst, scan }
    }

    /// The loss, held to the expected one within what rounding makes of `Σ_t |w_t|·max(ℓ_t, 1)`.
    fn loss(&self, found: f64, precision: &Precision, scan: Option<&Scan>) -> CheckedLoss {
        let weights = TokenWeights::new(&self.claim, &self.batch.layout());
        let mut scale = self.loss.abs();
        if let Ok(weights) = weights {
            scale = 0.0;
            for (prediction, loss) in self.batch.predictions().zip(&self.token_losses) {
                if prediction.supervised {
                    scale += to_f64(weights.of_sequence(prediction.sequence)).abs() * loss.max(1.0);
                }
            }
        }
        let bound = precision.loss * scale;
        let ratio = found / self.loss;
        let error = ratio.abs() * bound / self.loss.abs();
        let explained = (ratio.is_finite() && error.is_finite())
            .then(|| explain_ratio(&self.batch.layout(), BeyondLayout::default(), ratio, error))
            .flatten();
        let of_the_gradient = scan
            .and_then(|scan| self.loss_of(scan))
            .map(|(loss, error)| (found - loss).abs() <= error + bound + precision.loss * loss.abs());
        CheckedLoss { expected: self.loss, found, bound, explained, of_the_gradient }
    }

    /// The loss that has the weights of a gradient, and how far the truth may be from it. Smoothing and a z-loss are
    /// not in the token losses, and then it is not known.
    fn loss_of(&self, scan: &Scan) -> Option<(f64, f64)> {
        let reading = scan.gradient.as_ref().ok()?;
        reading.inference.as_ref()?;
        if self.claim.label_smoothing != 0.0 || self.claim.z_loss != 0.0 {
            return None;
        }
        let (mut loss, mut error) = (0.0, 0.0);
        for (weight, token_loss) in reading.measured.iter().zip(&self.token_losses) {
            loss += weight.value * token_loss;
            error += weight.error * token_loss.abs();
        }
        error.is_finite().then_some((loss, error))
    }

    /// The gradient that is furthest from the expected one, relative to its norm.
    fn worst(&self, answer: &Answer) -> Option<(String, f64)> {
        let mut worst: Option<(String, f64)> = None;
        for (name, expected) in &self.gradients {
            let (mut apart, mut size) = (0.0_f64, 0.0_f64);
            let found = answer.gradients.get(name)?;
            for index in 0..expected.elements() {
                apart = apart.hypot(found.get(index) - expected.get(index));
                size = size.hypot(expected.get(index));
            }
            // What is zero in theory is nothing to measure by.
            let error = if size > 0.0 { apart / size } else { apart };
            if worst.as_ref().is_none_or(|(_, most)| error > *most || error.is_nan()) {
                worst = Some((name.clone(), error));
            }
        }
        worst
    }
}

/// The token gradients of a case.
fn basis(folder: &Folder, case: &str, batch: &GlobalBatch, error: f64) -> Result<Basis, FolderError> {
    let path = folder.tokens_file(case);
    let changed = |problem: String| FolderError::changed(&path, &problem);
    let mut by_token: BTreeMap<usize, TensorSet> = BTreeMap::new();
    for (name, tensor) in Folder::tensors(&path)? {
        let (token, parameter) =
            name.split_once('/').ok_or_else(|| changed(format!("`{name}` has no token")))?;
        let token = token.parse().map_err(|_| changed(format!("`{name}` has no token")))?;
        by_token.entry(token).or_default().insert(parameter.to_owned(), tensor);
    }
    let gradients = by_token.into_values().collect();
    Basis::of_token_gradients(batch, gradients, error).map_err(|error| changed(error.to_string()))
}
