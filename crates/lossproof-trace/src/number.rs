//! Numbers and names in JSON. JSON has no NaN and no infinities: they are the strings `"NaN"`, `"inf"` and
//! `"-inf"`, and `null` is none of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A number that may be none.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, \"NaN\", \"inf\" or \"-inf\"")]
enum Number {
    Finite(f64),
    Other(NotFinite),
}

#[derive(Serialize, Deserialize)]
enum NotFinite {
    #[serde(rename = "NaN")]
    Nan,
    #[serde(rename = "inf")]
    Infinity,
    #[serde(rename = "-inf")]
    MinusInfinity,
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Finite(value)
        } else if value.is_nan() {
            Self::Other(NotFinite::Nan)
        } else if value > 0.0 {
            Self::Other(NotFinite::Infinity)
        } else {
            Self::Other(NotFinite::MinusInfinity)
        }
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(value) => value,
            Number::Other(NotFinite::Nan) => Self::NAN,
            Number::Other(NotFinite::Infinity) => Self::INFINITY,
            Number::Other(NotFinite::MinusInfinity) => Self::NEG_INFINITY,
        }
    }
}

/// One number.
pub mod any {
    use super::{Deserialize, Deserializer, Number, Serialize, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// When the format cannot.
    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        Number::from(*value).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Number::deserialize(from).map(f64::from)
    }
}

/// A list of numbers.
pub mod list {
    use super::{Deserialize, Deserializer, Number, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// When the format cannot.
    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|&value| Number::from(value)))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let numbers = Vec::<Number>::deserialize(from)?;
        Ok(numbers.into_iter().map(f64::from).collect())
    }
}

/// What is written as it is displayed and read as it is parsed.
pub mod by_name {
    use super::{Deserialize, Deserializer, Error, Serializer};
    use std::{fmt::Display, str::FromStr};

    /// Writes it.
    ///
    /// # Errors
    /// When the format cannot.
    pub fn serialize<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// An element type.
pub mod dtype {
    use super::{Deserialize, Deserializer, Error, Serializer};
    use lossproof_spec::Dtype;

    /// Writes it.
    ///
    /// # Errors
    /// When the format cannot.
    pub fn serialize<S: Serializer>(dtype: &Dtype, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(dtype)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Dtype, D::Error> {
        let name = String::deserialize(from)?;
        let known = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];
        let named = known.into_iter().find(|dtype| dtype.to_string() == name);
        named.ok_or_else(|| {
            D::Error::custom(format!("there is no dtype `{name}`: write f64, f32, f16 or bf16"))
        })
    }
}
