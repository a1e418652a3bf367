//! Numbers as bytes, and back.

/// Numbers, eight bytes for each.
pub(crate) fn bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The numbers of bytes; what is left at the end is no number.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes
        .chunks_exact(size_of::<f64>())
        .filter_map(|own| own.try_into().ok().map(f64::from_le_bytes))
        .collect()
}
