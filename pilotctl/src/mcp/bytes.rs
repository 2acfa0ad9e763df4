//! Owns the forms in which an agent gets and gives bytes: text, or base64.

use crate::mcp::arguments::{Arguments, invalid};
use crate::mcp::clean;
use data_encoding::BASE64;
use pilot_node::Failure;
use serde_json::{Map, Value};

/// Adds bytes to a result: as `text` when they are text, else as `base64`. What a text loses to [`clean::text`] is told.
pub(super) fn show(result: &mut Map<String, Value>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let cleaned = clean::text(text);
            if cleaned != text {
                result.insert("cleaned".into(), true.into());
            }
            result.insert("text".into(), cleaned.into());
        }
        Err(_) => {
            result.insert("base64".into(), BASE64.encode(bytes).into());
        }
    }
}

/// Takes the bytes that an agent gives, as `text` or as `base64`.
pub(super) fn take(arguments: &mut Arguments) -> Result<Vec<u8>, Failure> {
    match (arguments.text("text")?, arguments.text("base64")?) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(text)) => BASE64.decode(text.as_bytes()).map_err(|e| invalid(format!("base64: {e}"))),
        _ => Err(invalid("either text or base64 is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_are_text_or_base64() {
        let shown = |bytes: &[u8]| {
            let mut result = Map::new();
            show(&mut result, bytes);
            Value::Object(result)
        };
        assert_eq!(shown("é\n".as_bytes()), json!({"text": "é\n"}));
        assert_eq!(shown(b"a\x1bb"), json!({"text": "a b", "cleaned": true}));
        assert_eq!(shown(b"\xff\0"), json!({"base64": "/wA="}));
        let taken = |given: Value| {
            let known = json!({"text": {}, "base64": {}});
            take(&mut Arguments::new(Some(given), known.as_object().expect("an object"))?)
        };
        assert_eq!(taken(json!({"text": "a"})), Ok(b"a".to_vec()));
        assert_eq!(taken(json!({"base64": "/wA="})), Ok(b"\xff\0".to_vec()));
        for bad in [json!({}), json!({"text": "a", "base64": ""}), json!({"base64": "%"})] {
            assert!(taken(bad).is_err());
        }
    }
}
