//! The variables of a model by their names, and their initial values.

use candle_core::{DType, Device, Result, Tensor, Var};
use std::collections::BTreeMap;

/// Variables by name, drawn from one seed.
pub struct Parameters {
    variables: BTreeMap<String, Var>,
    dtype: DType,
    /// State of the generator of initial values.
    state: u64,
}

impl Parameters {
    pub(super) fn new(dtype: DType, seed: u64) -> Self {
        Self { variables: BTreeMap::new(), dtype, state: seed }
    }

    /// A new variable with normally distributed values.
    pub(super) fn normal(&mut self, name: &str, shape: &[usize], deviation: f64) -> Result<Tensor> {
        let mut values = Vec::new();
        for _ in 0..shape.iter().product() {
            // Box and Muller's transform, with a radius that is never infinite.
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            values.push(deviation * radius * (std::f64::consts::TAU * self.uniform()).cos());
        }
        self.add(name, shape, values)
    }

    /// A new variable with one value everywhere.
    pub(super) fn constant(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Tensor> {
        self.add(name, shape, vec![value; shape.iter().product()])
    }

    fn add(&mut self, name: &str, shape: &[usize], values: Vec<f64>) -> Result<Tensor> {
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?;
        let variable = Var::from_tensor(&values)?;
        // It shares its storage with the variable, and changes with it.
        let tensor = variable.as_tensor().clone();
        self.variables.insert(name.to_owned(), variable);
        Ok(tensor)
    }

    /// The next number of `SplitMix64`, below 1.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / 2.0_f64.powi(53)
    }

    /// All of them in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Replaces the values of one, row-major, rounded to its element type.
    ///
    /// # Errors
    /// When there is no such variable, or the number of values is not its size.
    pub fn set(&self, name: &str, values: &[f64]) -> Result<()> {
        let Some(variable) = self.variables.get(name) else {
            candle_core::bail!("there is no parameter `{name}`");
        };
        let values = Tensor::from_slice(values, variable.shape(), &Device::Cpu)?;
        variable.set(&values.to_dtype(self.dtype)?)
    }

    /// Replaces the values of all of them by a checkpoint's, rounded to their element type.
    ///
    /// # Errors
    /// When a variable is missing, unknown, of another shape or not finite; then nothing has changed.
    pub fn load(&self, checkpoint: &BTreeMap<String, Tensor>) -> Result<()> {
        if let Some(name) = checkpoint.keys().find(|name| !self.variables.contains_key(*name)) {
            candle_core::bail!("the checkpoint has `{name}`, which is no parameter");
        }
        let mut rounded = Vec::new();
        for (name, variable) in &self.variables {
            let Some(values) = checkpoint.get(name) else {
                candle_core::bail!("the checkpoint has no `{name}`");
            };
            if values.dims() != variable.dims() {
                candle_core::bail!("`{name}` is {:?}, expected {:?}", values.dims(), variable.dims());
            }
            let values = values.to_dtype(self.dtype)?;
            if !values.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite() {
                candle_core::bail!("`{name}` is not finite");
            }
            rounded.push((variable, values));
        }
        for (variable, values) in rounded {
            variable.set(&values)?;
        }
        Ok(())
    }

    /// A copy of all values, by name.
    ///
    /// # Errors
    /// When candle cannot copy a variable.
    pub fn checkpoint(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut values = BTreeMap::new();
        for (name, variable) in &self.variables {
            values.insert(name.clone(), variable.copy()?.detach());
        }
        Ok(values)
    }
}
