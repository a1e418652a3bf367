//! The sum of the gradients of all ranks.

use crate::{Failure, Order, RankError, meetings::Meetings};
use lossproof_loop::added;
use lossproof_subject::{
    Tensor, TensorSet, TensorValues,
    safetensors::{decode, encode},
};

impl Meetings {
    pub(crate) fn sum(&mut self, gradient: TensorSet) -> Result<TensorSet, RankError> {
        let place = "the reduction of the gradient";
        if self.order == Order::Ranks {
            let own = encode(&gradient).map_err(|error| self.of_own(error.to_string()))?;
            let (mut sum, mut first) = (TensorSet::new(), None);
            for (rank, bytes) in self.meet(place, own)?.into_iter().enumerate() {
                let failure = |message: String| Failure::Garbage { message };
                let next = decode(&bytes).map_err(|error| self.loses(rank, failure(error.to_string())))?;
                let kind = kind_of(&next);
                if first.get_or_insert_with(|| kind.clone()) != &kind {
                    return Err(other_tensors(rank));
                }
                sum = added(sum, next);
            }
            return Ok(sum);
        }
        let kinds = self.meet(place, kind_of(&gradient))?;
        if let Some(rank) = kinds.iter().position(|kind| Some(kind) != kinds.first()) {
            return Err(other_tensors(rank));
        }
        self.all_reduce(gradient)
    }

    /// The engine's all-reduce: all tensors of an element type at once.
    fn all_reduce(&mut self, gradient: TensorSet) -> Result<TensorSet, RankError> {
        let (mut single, mut double) = (Vec::new(), Vec::new());
        for tensor in gradient.values() {
            match tensor.values() {
                TensorValues::F32(values) => single.extend_from_slice(values),
                TensorValues::F64(values) => double.extend_from_slice(values),
            }
        }
        let limit = self.limit;
        let mut summed = Ok(());
        if !single.is_empty() {
            summed = self.engine.sum_f32(&mut single, limit);
        }
        if summed.is_ok() && !double.is_empty() {
            summed = self.engine.sum_f64(&mut double, limit);
        }
        if let Err(error) = summed {
            return Err(self.of_own(error.to_string()));
        }
        let (mut single, mut double) = (single.into_iter(), double.into_iter());
        let mut sum = TensorSet::new();
        for (name, tensor) in gradient {
            let elements = tensor.elements();
            let values = match tensor.values() {
                TensorValues::F32(_) => TensorValues::F32(single.by_ref().take(elements).collect()),
                TensorValues::F64(_) => TensorValues::F64(double.by_ref().take(elements).collect()),
            };
            let tensor = Tensor::new(tensor.shape().to_vec(), values);
            sum.insert(name, tensor.map_err(|error| self.of_own(error.to_string()))?);
        }
        Ok(sum)
    }
}

/// The bytes by which gradients are held to be of one kind: names, shapes and element types.
fn kind_of(gradient: &TensorSet) -> Vec<u8> {
    let single = |tensor: &Tensor| matches!(tensor.values(), TensorValues::F32(_));
    let each =
        gradient.iter().map(|(name, tensor)| format!("{name} {:?} {}\n", tensor.shape(), single(tensor)));
    each.collect::<String>().into_bytes()
}

fn other_tensors(rank: usize) -> RankError {
    RankError { rank, failure: Failure::Differs { what: "a gradient of other tensors".to_owned() } }
}
