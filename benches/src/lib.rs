//! What the benches share: both implementations at the same parameters, and a batch for them.

use lossproof_gpt2::{Config, probe_initial, reference};
use lossproof_spec::{BatchError, Dtype, GlobalBatch, MicroBatch, Rank, Sequence};
use lossproof_subject::{Device, Subject, SubjectError};
use lossproof_torch::{Gpt2Config, libtorch};

/// A named subject.
pub type Named = (&'static str, Box<dyn Subject>);

/// Reference and libtorch at the same parameters.
///
/// # Errors
/// When one of them cannot be made.
pub fn both(config: Config, dtype: Dtype) -> Result<[Named; 2], SubjectError> {
    let named = Gpt2Config::named(config.name()).ok_or_else(|| SubjectError::Failed {
        subject: "libtorch".to_owned(),
        message: format!("there is no configuration {config}"),
    })?;
    let mut both = [
        ("reference", reference(config, dtype, Device::Cpu)?),
        ("libtorch", libtorch(&named, dtype, Device::Cpu)?),
    ];
    let parameters = probe_initial(config.shape(), 0);
    for (_, subject) in &mut both {
        if let Some(loader) = subject.parameter_loading() {
            loader.load(&parameters)?;
        }
    }
    Ok(both)
}

/// One micro-batch of `sequences` × `length` tokens, everything supervised.
///
/// # Errors
/// When a size is zero.
pub fn batch(config: Config, sequences: u32, length: u32) -> Result<GlobalBatch, BatchError> {
    let vocabulary = u32::try_from(config.shape().vocabulary).unwrap_or(u32::MAX);
    let row = |row: u32| {
        let tokens: Vec<u32> =
            (0..length).map(|position| (row * 8191 + position * 127) % vocabulary).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        Sequence::new(tokens, labels)
    };
    let rows = (0..sequences).map(row).collect::<Result<_, _>>()?;
    GlobalBatch::new(vec![Rank::new(vec![MicroBatch::new(rows)?])?])
}
