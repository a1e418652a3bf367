use super::*;
use crate::{inspect, llm_c::tests as states};
use lossproof_subject::{TensorSet, TensorValues, safetensors::encode};
use proptest::prelude::*;

fn safetensors() -> Vec<u8> {
    let tensor = |shape: Vec<usize>, values| Tensor::new(shape, TensorValues::F32(values)).unwrap();
    let set = TensorSet::from([
        ("h.0.ln.weight".to_owned(), tensor(vec![2], vec![1.0, 2.0])),
        (LOSS.to_owned(), tensor(vec![], vec![2.5])),
    ]);
    encode(&set).unwrap()
}

#[test]
fn the_loss_is_no_gradient_and_half_precision_is_widened() {
    let gradients = Gradients::of_bytes("a dump", &safetensors(), None).unwrap();
    let loss = DumpedLoss { value: 2.5, dtype: Dtype::F32 };
    assert_eq!((gradients.loss, gradients.tensors.len()), (Some(loss), 1));
    assert_eq!(gradients.coarsest(), Dtype::F32);
    let header = br#"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[1],"data_offsets":[4,6]}}"#;
    let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(header);
    // 1.5 and −2 in bfloat16, 0.5 in half precision.
    bytes.extend([0xc0, 0x3f, 0x00, 0xc0, 0x00, 0x38]);
    let gradients = Gradients::of_bytes("a dump", &bytes, None).unwrap();
    assert_eq!(gradients.tensors["a"].to_f64(), [1.5, -2.0]);
    assert_eq!(gradients.tensors["b"].to_f64(), [0.5]);
    assert_eq!((gradients.dtypes["a"], gradients.coarsest()), (Dtype::Bf16, Dtype::Bf16));
}

#[test]
fn what_is_no_dump_is_refused_by_name() {
    let error = Gradients::of_bytes("a dump", b"PK\x03\x04 a pickle", None).unwrap_err().to_string();
    assert_eq!(error, "a dump is neither safetensors nor a debug state of llm.c");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_changed_dump_is_read_or_refused(
        of_llm_c in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut bytes = if of_llm_c { states::state(&states::SMALL, 1, 2) } else { safetensors() };
        for (index, byte, kind) in changes {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        match Gradients::of_bytes("a dump", &bytes, Some(&states::SMALL)) {
            Ok(gradients) => {
                let elements: usize = gradients.tensors.values().map(Tensor::elements).sum();
                prop_assert!(elements <= bytes.len());
                let _ = inspect(&gradients, None);
            }
            Err(error) => prop_assert!(error.to_string().contains("a dump"), "{error}"),
        }
    }
}
