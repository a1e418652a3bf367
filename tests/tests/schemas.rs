//! The schemas of the protocol in fixtures/schemas are those of the code.

use lossproof_process::schemas;
use std::{fs, path::Path};

/// Set to write the files instead of comparing them.
const WRITE: &str = "LOSSPROOF_SCHEMAS";

#[test]
fn the_schemas_on_disk_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas");
    for (name, schema) in schemas() {
        let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        text.push('\n');
        let file = folder.join(name);
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(&folder).expect("the folder can be made");
            fs::write(&file, &text).expect("the file can be written");
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(found, text, "{name} is another: {WRITE}=1 writes it");
    }
}
