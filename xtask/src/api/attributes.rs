//! Which attributes others notice.

use super::text;
use proc_macro2::TokenStream;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// What changes what others may write, or what files look like. `must_use`, docs and lints do not.
const NOTICED: [&str; 7] = ["cfg_attr", "default", "deprecated", "from", "non_exhaustive", "repr", "serde"];

/// Whether it is left out of the documentation, and so promised to nobody.
pub(super) fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("doc")
            && attribute.parse_args::<Meta>().is_ok_and(|meta| meta.path().is_ident("hidden"))
    })
}

/// The attributes that others notice, each with a blank behind it; derives are implementations.
pub(super) fn noticed(attributes: &[Attribute]) -> String {
    format!("{}{}", with_blanks(&conditions(attributes)), noticed_but_conditions(attributes))
}

/// What others notice besides the conditions under which it is there.
pub(super) fn noticed_but_conditions(attributes: &[Attribute]) -> String {
    let mut noticed = String::new();
    for attribute in attributes {
        let is_noticed = NOTICED.iter().any(|name| attribute.path().is_ident(name));
        if is_noticed && conditional_derives(attribute).is_none() {
            noticed.push_str(&text::of(attribute));
            noticed.push(' ');
        }
    }
    noticed
}

/// Each with a blank behind it.
pub(super) fn with_blanks(conditions: &[String]) -> String {
    let mut before = String::new();
    for condition in conditions {
        before.push_str(condition);
        before.push(' ');
    }
    before
}

/// The conditions under which it is there.
pub(super) fn conditions(attributes: &[Attribute]) -> Vec<String> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).map(text::of).collect()
}

/// The traits that are derived, each behind the condition under which it is.
pub(super) fn derives(attributes: &[Attribute]) -> Vec<(String, String)> {
    let mut derives = Vec::new();
    for attribute in attributes {
        let derived = if attribute.path().is_ident("derive") {
            attribute.meta.require_list().ok().map(|list| (String::new(), list.tokens.clone()))
        } else {
            conditional_derives(attribute)
        };
        let Some((condition, derived)) = derived else { continue };
        let parsed = Punctuated::<syn::Path, Token![,]>::parse_terminated.parse2(derived);
        for derived in parsed.unwrap_or_default() {
            derives.push((condition.clone(), text::of(&derived)));
        }
    }
    derives
}

/// The condition, and what is derived, of `cfg_attr(condition, derive(…))`.
fn conditional_derives(attribute: &Attribute) -> Option<(String, TokenStream)> {
    if !attribute.path().is_ident("cfg_attr") {
        return None;
    }
    let parts = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let condition = format!("#[cfg({})] ", text::of(parts.first()?));
    parts.into_iter().skip(1).find_map(|part| match part {
        Meta::List(list) if list.path.is_ident("derive") => Some((condition.clone(), list.tokens)),
        _ => None,
    })
}
