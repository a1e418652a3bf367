//! What a trainer in a process of its own says: its card, its messages, and recordings of them.

use crate::{
    Made, Reader,
    reader::{folder, told, whole},
};
use lossproof_process::{Adapter, Card, Message};
use lossproof_spec::concise;
use std::{fs, path::Path};

/// Bytes of tensors that a message may have here.
const MOST_TENSORS: u64 = 1 << 20;

/// Every field, in one of its forms.
const FULL: &str = r#"{"protocol":1,"name":"a","version":"1","framework":"b","device":"cuda:1","dtypes":{"parameters":"f64",
"gradient":"f64","loss":"f32","accumulation":"f64"},"claims":{"reduction":"token-mean","scope":"global",
"micro_batches":"add","ranks":"add","label_smoothing":0.1},"limits":{"vocabulary":61,"positions":32,"lengths":[1,8],
"sequences":2,"micro_batches":[1,null],"ranks":[1,2],"segments":true},"log_policy":"first-rank","model":{"frozen":
[{"name":"h.0.ln.weight","shape":[8]}],"embedding_scale":2.5,"logit_cap":30.0},"parameters":[{"name":"wte.weight",
"shape":[61,8],"tied_to":"lm_head.weight","role":"token-embedding","block":-1,"dtype":"bf16"},{"name":"b","shape":[]}],
"capabilities":["parameter-loading","token-losses"]}"#;

/// As little as a card may say.
const SHORT: &str = r#"{"protocol":1,"name":"a","version":"1","framework":"b","claims":"any","limits":{"vocabulary":61,
"positions":32},"parameters":[]}"#;

/// Several losses.
const SEVERAL: &str = r#"{"protocol":1,"name":"a","version":"1","framework":"b","dtypes":"bf16","claims":[{"reduction":"sum",
"scope":"global","micro_batches":"add","ranks":"add"},{"reduction":"token-mean","scope":"micro-batch",
"micro_batches":"average","ranks":"average","empty":"zero-counted","z_loss":1e-4}],"limits":{"vocabulary":61,"positions":32,
"lengths":4},"parameters":[{"name":"wpe.weight","shape":[32,8]}]}"#;

/// A claim has one of several forms, so that it is a list of values of 32 bytes first, for each two bytes of text:
/// three times as much while the list grows. A card of parameters takes less.
const OF_A_CARD: usize = 64;

#[expect(clippy::unnecessary_wraps, reason = "made as every reader is")]
pub(super) fn card() -> Made {
    let valid = [FULL, SHORT, SEVERAL].map(|card| card.as_bytes().to_vec()).to_vec();
    Ok(Reader::of_bytes(OF_A_CARD, valid, |bytes| {
        let card: Card = serde_json::from_slice(bytes).map_err(|error| whole(&concise(error)))?;
        told(card.checked())
    }))
}

/// The bytes of a message are kept once, in vectors that grow by doubling.
pub(super) fn message() -> Made {
    let tensors = lossproof_subject::safetensors::encode(&super::tensors::small()?)?;
    let answer =
        format!("{{\"id\":7,\"tensors\":{},\"answer\":{{\"supervised_tokens\":3}}}}\n", tensors.len());
    let valid = vec![
        b"{\"id\":1,\"tensors\":4,\"answer\":{}}\nabcd{\"id\":2,\"answer\":{}}\n".to_vec(),
        [answer.as_bytes(), &tensors].concat(),
        b"{\"id\":3,\"error\":{\"kind\":\"refused\",\"message\":\"no\"}}\n".to_vec(),
        format!("{{\"id\":1,\"answer\":{}}}\n", FULL.replace('\n', "")).into_bytes(),
    ];
    Ok(Reader::of_bytes(8, valid, |mut bytes| {
        while Message::read(&mut bytes, MOST_TENSORS).map_err(|error| whole(&error))?.is_some() {}
        Ok(())
    }))
}

/// A recording of a trainer that says its card and takes its leave, as our own recorder writes it.
fn recorded(path: &Path, card: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let answer = path.with_extension("answer");
    fs::write(&answer, format!("{{\"id\":1,\"answer\":{}}}\n", card.replace('\n', "")))?;
    let script = format!("read q; cat {}; read q; echo '{{\"id\":2,\"answer\":{{}}}}'", answer.display());
    Adapter::recorded(&format!("sh -c \"{}\"", script.replace('"', "\\\"")), path)?.finish()?;
    fs::remove_file(answer)?;
    Ok(fs::read(path)?)
}

/// What the card may take, twice: it is a value of JSON first, and kept while it is checked.
pub(super) fn answers() -> Made {
    let folder = folder()?;
    let path = folder.path().join("a.recording");
    let mut valid = Vec::new();
    for card in [FULL, SHORT, SEVERAL] {
        valid.push(recorded(&path, card)?);
    }
    Ok(Reader::of_file(folder, "a.recording", 2 * OF_A_CARD, valid, |path| told(Adapter::replayed(path))))
}
