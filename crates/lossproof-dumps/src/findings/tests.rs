use super::*;
use lossproof_subject::{Tensor, TensorValues};

/// Gradients of a model of some blocks, each of the size that `scale` gives for it.
fn gradients(blocks: usize, scale: impl Fn(usize) -> f64) -> Gradients {
    let mut tensors = BTreeMap::new();
    let tensor = |seed: f64, scale: f64| {
        let values = (0..6).map(|index| scale * ((seed + 1.7 * f64::from(index)).sin() + 1.5)).collect();
        Tensor::new(vec![2, 3], TensorValues::F64(values)).unwrap()
    };
    for block in 0..blocks {
        for (index, kind) in ["ln.weight", "mlp.weight"].into_iter().enumerate() {
            let seed = (10 * block + index) as f64;
            tensors.insert(format!("h.{block}.{kind}"), tensor(seed, scale(block)));
        }
    }
    tensors.insert("wte.weight".to_owned(), tensor(0.5, 1.0));
    Gradients { tensors, dtypes: BTreeMap::new(), loss: None }
}

fn set(gradients: &mut Gradients, name: &str, values: Vec<f64>) {
    let tensor = Tensor::new(vec![2, 3], TensorValues::F64(values)).unwrap();
    gradients.tensors.insert(name.to_owned(), tensor);
}

fn findings(gradients: &Gradients) -> Vec<Finding> {
    inspect(gradients, None).findings
}

#[test]
fn blocks_that_are_alike_or_differ_more_and_more_are_in_order() {
    assert_eq!(findings(&gradients(6, |_| 1.0)), []);
    // A factor of two and a half from block to block is no mistake.
    assert_eq!(findings(&gradients(6, |block| 2.5_f64.powi(i32::try_from(block).unwrap()))), []);
    assert_eq!(inspect(&gradients(6, |_| 1.0), None).with_siblings, 12);
    assert_eq!(inspect(&gradients(2, |_| 1.0), None).with_siblings, 0);
}

#[test]
fn one_block_eight_times_as_large_is_out_of_line_with_its_factor() {
    let found = findings(&gradients(6, |block| if block == 2 { 8.0 } else { 1.0 }));
    let named: Vec<_> = found
        .iter()
        .map(|finding| match finding {
            Finding::OutOfLine { name, factor, siblings: 5, .. } => {
                assert!((7.0..9.0).contains(factor), "{factor}");
                name.as_str()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, ["h.2.ln.weight", "h.2.mlp.weight"]);
}

#[test]
fn numbers_that_are_none_are_counted_and_lead() {
    let mut gradients = gradients(4, |_| 1.0);
    set(&mut gradients, "h.1.ln.weight", vec![1.0, 0.0, f64::NAN, f64::INFINITY, 2.0, 2.0]);
    let found = findings(&gradients);
    let Finding::NotFinite { name, state } = &found[0] else { panic!("{found:?}") };
    assert_eq!(
        (name.as_str(), state.nans, state.infinities, state.first_not_finite),
        ("h.1.ln.weight", 1, 1, Some(2))
    );
    assert!((state.norm - 3.0).abs() < 1e-12 && found.len() == 1, "{found:?}");
}

#[test]
fn zero_gradients_are_told_by_kind_and_missing_ones_by_the_other_blocks() {
    let mut gradients = gradients(4, |_| 1.0);
    for block in [0, 2] {
        set(&mut gradients, &format!("h.{block}.mlp.weight"), vec![0.0; 6]);
    }
    gradients.tensors.remove("h.3.ln.weight");
    let found = findings(&gradients);
    let because = MissingBecause::OthersHaveTheLayer;
    let missing = Finding::Missing { name: "h.3.ln.weight".to_owned(), because };
    let names = vec!["h.0.mlp.weight".to_owned(), "h.2.mlp.weight".to_owned()];
    assert_eq!(found, [missing, Finding::Zero { names, of: 4 }]);
    let parameters: BTreeSet<String> = ["module.wte.weight", "lm_head.weight"].map(str::to_owned).into();
    let told = inspect(&gradients, Some(&parameters)).findings;
    let of_head =
        Finding::Missing { name: "lm_head.weight".to_owned(), because: MissingBecause::IsAParameter };
    assert!(told.contains(&of_head), "{told:?}");
}

#[test]
fn gradients_of_two_parameters_that_are_one_are_said_to_be() {
    let mut gradients = gradients(4, |_| 1.0);
    let tied = gradients.tensors["wte.weight"].clone();
    gradients.tensors.insert("lm_head.weight".to_owned(), tied);
    let names = vec!["lm_head.weight".to_owned(), "wte.weight".to_owned()];
    assert_eq!(findings(&gradients), [Finding::Equal { names, matrices: true }]);
}

#[test]
fn a_block_without_any_gradient_is_missing_and_a_layer_that_it_may_lack_is_a_remark() {
    let mut lost = gradients(6, |_| 1.0);
    lost.tensors.retain(|name, _| !name.starts_with("h.3."));
    let inspection = inspect(&lost, None);
    assert!(inspection.is_wrong() && inspection.findings.len() == 2, "{inspection:?}");
    let mut other = gradients(6, |_| 1.0);
    other.tensors.remove("h.0.ln.weight");
    let inspection = inspect(&other, None);
    assert!(!inspection.is_wrong() && inspection.findings.len() == 1, "{inspection:?}");
    // Where the parameters are known, they alone say it.
    let parameters = other.tensors.keys().cloned().collect();
    assert_eq!(inspect(&other, Some(&parameters)).findings, []);
    // A sequence whose layers are not alike leaves numbers out.
    let names = ["net.0.weight", "net.2.weight", "net.2.bias", "net.5.weight"];
    let tensors = names.map(|name| (name.to_owned(), other.tensors["wte.weight"].clone()));
    let sequence = Gradients { tensors: tensors.into(), dtypes: BTreeMap::new(), loss: None };
    let is_missing = |found: &Finding| matches!(found, Finding::Missing { .. });
    assert!(!findings(&sequence).iter().any(is_missing));
}

#[test]
fn two_blocks_that_are_out_of_line_do_not_hide_each_other_and_an_edge_may_differ_more() {
    let two = findings(&gradients(8, |block| if [2, 5].contains(&block) { 1000.0 } else { 1.0 }));
    assert_eq!(two.iter().filter(|found| matches!(found, Finding::OutOfLine { .. })).count(), 4, "{two:?}");
    assert_eq!(findings(&gradients(8, |block| if block == 0 { 12.0 } else { 1.0 })), []);
}
