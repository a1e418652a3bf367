//! What an adapter or a recording may be made of: valid bytes with some changed. No reader of them panics.

use lossproof_process::{Adapter, Card, Message};
use proptest::prelude::*;
use std::io::Write as _;

/// A card as an adapter gives it.
const CARD: &str = r#"{"protocol":1,"name":"a","version":"1","framework":"b","dtypes":{"parameters":"f64",
"gradient":"f64","loss":"f32","accumulation":"f64"},"claims":{"reduction":"token-mean","scope":"global",
"micro_batches":"add","ranks":"add","label_smoothing":0.1},"limits":{"vocabulary":61,"positions":32,"lengths":[1,8],
"sequences":2,"micro_batches":[1,null]},"log_policy":"first-rank","parameters":[{"name":"wte.weight","shape":[61,8],
"tied_to":"lm_head.weight"}],"capabilities":["parameter-loading"]}"#;

/// A recording with one answer.
const RECORDING: &str = "{\"lossproof_recording\":1}\n{\"key\":\"00\",\"occurrence\":0}\n\
                         {\"id\":1,\"tensors\":4,\"answer\":{}}\nabcd";

/// Valid bytes with some replaced, some taken out, and an end cut off.
fn changed(valid: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((0..valid.len(), any::<u8>(), any::<bool>()), 0..6);
    (edits, 0..=valid.len()).prop_map(move |(edits, kept)| {
        let mut bytes = valid.as_bytes().to_vec();
        for (place, byte, take) in edits {
            match (take, place < bytes.len()) {
                (_, false) => {}
                (true, _) => drop(bytes.remove(place)),
                (false, _) => bytes[place] = byte,
            }
        }
        bytes.truncate(kept.max(1));
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_read_or_refused(bytes in changed("{\"id\":1,\"tensors\":4,\"answer\":{}}\nabcd")) {
        if let Ok(Some(message)) = Message::read(&mut &bytes[..], 64) {
            prop_assert!(message.tensors.len() <= 64);
        }
    }

    #[test]
    fn a_card_is_one_or_says_why_it_is_none(bytes in changed(CARD)) {
        if let Ok(card) = serde_json::from_slice::<Card>(&bytes)
            && let Ok((info, parameters)) = card.checked()
        {
            prop_assert!(info.limits.vocabulary > 0 && info.limits.lengths.least <= info.limits.lengths.most);
            prop_assert_eq!(parameters.len(), card.parameters.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_is_one_or_says_why_it_is_none(bytes in changed(RECORDING)) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&bytes).expect("it takes bytes");
        let error = Adapter::replayed(file.path()).map(drop).expect_err("it has no card").whole();
        prop_assert!(error.contains(&*file.path().to_string_lossy()), "{}", error);
    }
}

#[test]
fn the_card_that_is_changed_here_is_one() {
    let card: Card = serde_json::from_str(CARD).expect("it has the form of one");
    assert!(card.checked().is_ok());
}
