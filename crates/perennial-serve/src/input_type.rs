//! Whether inputs are queries or documents: the names that programs use for both. Only queries are improved by a dual query: documents are
//! compared with what is stored already, and are embedded as it was.

use perennial_encode::InputType;

/// Endings of model names that tell the type, for clients that can set nothing else.
const SUFFIXES: [(&str, InputType); 3] = [
    ("-query", InputType::Query),
    ("-passage", InputType::Document),
    ("-document", InputType::Document),
];

/// The type of a name that programs use for prompts.
pub(crate) fn of_prompt(name: &str) -> Option<InputType> {
    match name {
        "query" | "search_query" => Some(InputType::Query),
        "document" | "search_document" | "passage" => Some(InputType::Document),
        _ => None,
    }
}

/// A model's name without the ending that tells the type, and that type.
pub(crate) fn of_model(model: &str) -> Option<(&str, InputType)> {
    let mut suffixes = SUFFIXES.iter();
    suffixes.find_map(|(suffix, input_type)| {
        let name = model.strip_suffix(suffix)?;
        (!name.is_empty()).then_some((name, *input_type))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_programs_are_known() {
        for name in ["query", "search_query"] {
            assert_eq!(of_prompt(name), Some(InputType::Query));
            let json = format!("\"{name}\"");
            assert_eq!(
                serde_json::from_str::<InputType>(&json).unwrap(),
                InputType::Query
            );
        }
        for name in ["document", "search_document", "passage"] {
            assert_eq!(of_prompt(name), Some(InputType::Document));
            let json = format!("\"{name}\"");
            assert_eq!(
                serde_json::from_str::<InputType>(&json).unwrap(),
                InputType::Document
            );
        }
        assert_eq!(of_prompt("other"), None);
        assert_eq!(of_model("minilm-query"), Some(("minilm", InputType::Query)));
        assert_eq!(
            of_model("minilm-passage"),
            Some(("minilm", InputType::Document))
        );
        assert_eq!(of_model("minilm"), None);
        assert_eq!(of_model("-query"), None);
    }
}
