//! femto-gpt's tensors under Hugging Face's names, shapes and layouts.

use crate::{Config, Head, trainer::Tensors};
use femto_gpt::tensor::{Tensor, TensorOps as _};
use lossproof_subject::ParameterInfo;

/// femto-gpt's name of the head's bias.
pub(crate) const HEAD_BIAS: &str = "head_map_bias";

/// One parameter, and where femto-gpt keeps it.
pub(crate) struct Parameter {
    pub(crate) info: ParameterInfo,
    /// Where there is more than one for an element, all hold the same value, and the gradient is the sum of theirs.
    pieces: Vec<Piece>,
}

/// A tensor of femto-gpt that is a range of a parameter's columns.
struct Piece {
    name: String,
    shape: Vec<usize>,
    first_column: usize,
    transposed: bool,
}

impl Piece {
    /// All columns, in the same layout.
    fn whole(name: String, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), first_column: 0, transposed: false }
    }

    /// Pairs of row-major indices: into a parameter with `width` columns, and into the tensor.
    fn places(&self, width: usize) -> impl Iterator<Item = (usize, usize)> {
        let (rows, columns) = match self.shape[..] {
            [rows, columns] => (rows, columns),
            _ => (1, self.shape.iter().product()),
        };
        let (transposed, first) = (self.transposed, self.first_column);
        (0..rows * columns).map(move |own| {
            let (row, column) = (own / columns, own % columns);
            let (row, column) = if transposed { (column, row) } else { (row, column) };
            (row * width + first + column, own)
        })
    }
}

impl Parameter {
    fn new(name: &str, shape: &[usize], pieces: Vec<Piece>) -> Self {
        Self { info: ParameterInfo::named(name, shape), pieces }
    }

    /// A parameter that femto-gpt keeps as it is.
    fn same(name: &str, shape: &[usize], own: String) -> Self {
        Self::new(name, shape, vec![Piece::whole(own, shape)])
    }

    pub(crate) fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }

    fn width(&self) -> usize {
        self.info.shape.last().copied().unwrap_or(1)
    }

    /// The values of the parameter; of what is kept twice, the first. `None` where a tensor is missing.
    pub(crate) fn values(&self, tensors: &Tensors) -> Option<Vec<f32>> {
        let mut values = vec![0.0; self.elements()];
        for piece in self.pieces.iter().rev() {
            let own = tensors.get(&piece.name)?.blob();
            for (place, index) in piece.places(self.width()) {
                values[place] = *own.get(index)?;
            }
        }
        Some(values)
    }

    /// The gradient of the parameter from those of the pieces. `None` where one is missing.
    pub(crate) fn gradient(&self, tensors: &Tensors) -> Option<Vec<f32>> {
        let mut gradient = vec![0.0; self.elements()];
        for piece in &self.pieces {
            let own = tensors.get(&piece.name)?.blob();
            for (place, index) in piece.places(self.width()) {
                gradient[place] += *own.get(index)?;
            }
        }
        Some(gradient)
    }

    /// The tensors that make these values the parameter's.
    pub(crate) fn tensors(&self, values: &[f32]) -> impl Iterator<Item = (String, Tensor<f32>)> {
        self.pieces.iter().filter_map(|piece| {
            let own = piece.places(self.width()).map(|(place, _)| values[place]).collect();
            Some((piece.name.clone(), Tensor::raw(&piece.shape, own).ok()?))
        })
    }
}

/// All parameters of a model, the token embedding first.
pub(crate) fn parameters(config: Config, head: Head) -> Vec<Parameter> {
    let Config { vocabulary: v, width: c, layers, heads, head_size, .. } = config;
    let embedding = Piece::whole("token_embedding".to_owned(), &[v, c]);
    let map =
        Piece { name: "head_map_weights".to_owned(), shape: vec![c, v], first_column: 0, transposed: true };
    let mut parameters = Vec::new();
    let mut of_head = Vec::new();
    match head {
        Head::Own => {
            parameters.push(Parameter::new("token_embedding", &[v, c], vec![embedding]));
            of_head.push(Parameter::new("lm_head.weight", &[v, c], vec![map]));
            of_head.push(Parameter::same("lm_head.bias", &[v], HEAD_BIAS.to_owned()));
        }
        Head::Tied { .. } => {
            let mut tied = Parameter::new("wte.weight", &[v, c], vec![embedding, map]);
            tied.info.tied_to = Some("lm_head.weight".to_owned());
            parameters.push(tied);
        }
    }
    for l in 0..layers {
        let mut add = |name: &str, shape: &[usize], own: String| {
            parameters.push(Parameter::same(&format!("h.{l}.{name}"), shape, own));
        };
        add("ln_1.weight", &[c], format!("norm_{l}_coeff"));
        add("ln_1.bias", &[c], format!("norm_{l}_bias"));
        add("attn.c_proj.weight", &[heads * head_size, c], format!("proj_{l}_weights"));
        add("attn.c_proj.bias", &[c], format!("proj_{l}_bias"));
        add("ln_2.weight", &[c], format!("atten_norm_{l}_coeff"));
        add("ln_2.bias", &[c], format!("atten_norm_{l}_bias"));
        add("mlp.c_fc.weight", &[c, 4 * c], format!("feedforward1_{l}_weights"));
        add("mlp.c_fc.bias", &[4 * c], format!("feedforward1_{l}_bias"));
        add("mlp.c_proj.weight", &[4 * c, c], format!("feedforward2_{l}_weights"));
        add("mlp.c_proj.bias", &[c], format!("feedforward2_{l}_bias"));
        // Scores are k·qᵀ: a row of them belongs to a k, which makes it the query.
        let of_heads = ["k", "q", "v"].into_iter().flat_map(|part| (0..heads).map(move |h| (part, h)));
        let pieces = of_heads.enumerate().map(|(index, (part, h))| Piece {
            name: format!("head_{l}_{h}_{part}"),
            shape: vec![c, head_size],
            first_column: index * head_size,
            transposed: false,
        });
        let name = format!("h.{l}.attn.c_attn.weight");
        parameters.push(Parameter::new(&name, &[c, 3 * heads * head_size], pieces.collect()));
    }
    parameters.push(Parameter::same("ln_f.weight", &[c], "head_norm_coeff".to_owned()));
    parameters.push(Parameter::same("ln_f.bias", &[c], "head_norm_bias".to_owned()));
    parameters.extend(of_head);
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const CONFIG: Config = Config { heads: 3, ..Config::PICO };

    #[test]
    fn every_tensor_of_femto_gpt_is_in_the_parameters_once() {
        let own = crate::trainer::Trainer::new(CONFIG).unwrap().parameters().unwrap();
        let pieces: Vec<Piece> =
            parameters(CONFIG, Head::Own).into_iter().flat_map(|parameter| parameter.pieces).collect();
        let names: BTreeSet<&str> = pieces.iter().map(|piece| piece.name.as_str()).collect();
        assert_eq!(names, own.keys().map(String::as_str).collect());
        assert_eq!(pieces.len(), own.len());
        for piece in &pieces {
            assert_eq!(piece.shape, own[&piece.name].shape(), "{}", piece.name);
        }
    }

    #[test]
    fn values_come_back_as_they_went() {
        for head in [Head::Own, Head::Tied { bias: 0.0 }] {
            for parameter in parameters(CONFIG, head) {
                let values: Vec<f32> = (0_u16..).map(f32::from).take(parameter.elements()).collect();
                let tensors: Tensors = parameter.tensors(&values).collect();
                assert_eq!(parameter.values(&tensors), Some(values), "{}", parameter.info.name);
            }
        }
    }

    #[test]
    fn what_is_kept_twice_has_the_sum_of_both_gradients() {
        let config = Config { vocabulary: 2, width: 3, ..CONFIG };
        let tied = parameters(config, Head::Tied { bias: 0.0 }).remove(0);
        let tensor = |shape: &[usize], values: &[f32]| Tensor::raw(shape, values.to_vec()).unwrap();
        let gradients = Tensors::from([
            ("token_embedding".to_owned(), tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
            ("head_map_weights".to_owned(), tensor(&[3, 2], &[10.0, 40.0, 20.0, 50.0, 30.0, 60.0])),
        ]);
        assert_eq!(tied.gradient(&gradients), Some(vec![11.0, 22.0, 33.0, 44.0, 55.0, 66.0]));
    }
}
